"""A client that is let in, and sends a message that does not end."""

import socket
from contextlib import suppress
from pathlib import Path

import pytest
from support import zmtp
from support.content import sha256_file, sha256_of
from support.daemon import DaemonProcess
from support.origin import Origin, Resource

SIZE = 100_000
MOST = 3 << 30


@pytest.mark.parametrize(("kind", "part"), [("control", 65536), ("events", 4096)])
def test_it_is_cut_off(daemon: DaemonProcess, origin: Origin, downloads: Path, kind: str, part: int) -> None:
    """No worker is to blame, and whoever else is there is answered."""
    gate = origin.gate()
    url = origin.add("/f", Resource(size=SIZE), "hold", after=SIZE // 2, gate=gate)
    with daemon.client() as client:
        job = client.submit(url, directory=downloads)
        gate.wait_arrived()
        with zmtp.connect(getattr(daemon.endpoint, kind)) as peer:
            zmtp.shake(peer, b"DEALER" if kind == "control" else b"SUB")
            flood(peer, part)
        assert client.status().pid == daemon.pid
        gate.open()
        result = job.result(timeout=60)
        assert (sha256_file(result.path), job.snapshot().attempt) == (sha256_of(SIZE), 1)
    assert "cut off" in daemon.log()


def flood(peer: socket.socket, size: int) -> None:
    """Send long frames that are not the last one (ZMTP 3.1, RFC 37) until the connection ends."""
    frames = (b"\x03" + size.to_bytes(8, "big") + bytes(size)) * (65536 // size)
    with suppress(ConnectionError):
        for _ in range(MOST // len(frames)):
            peer.sendall(frames)
        pytest.fail(f"{MOST >> 20} MiB were taken")
