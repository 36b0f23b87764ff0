"""Crowds of connections that are of no use: downloads go on, and everybody has an answer."""

from contextlib import ExitStack
from pathlib import Path

import pytest
from support.content import sha256_file, sha256_of
from support.daemon import DaemonProcess
from support.keyed import Keyed
from support.origin import Origin, Resource
from support.wait import read_line

from .crowds import MEMORY, crowd, grown, limit, run, show

SIZE = 100_000
FEW = 1024
"""Descriptors, a usual limit of old."""


@pytest.mark.parametrize(
    ("kind", "count"), [("silent", 3000), ("idle", 3000), ("half", 3000), ("garbage", 500), ("http", 500)]
)
def test_downloads_beside_a_crowd(
    daemon: DaemonProcess,
    origin: Origin,
    downloads: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    count: int,
) -> None:
    """Of more connections than there may be at once. The campaign is the same with more of them."""
    found = run(daemon, origin, downloads / kind, kind=kind, count=count, files=10)
    with capsys.disabled():
        print()
        show(kind, found)
    assert grown(found) < MEMORY
    assert daemon.log().count("who has most loses the oldest") <= 1


@pytest.mark.parametrize(("kind", "count"), [("mixed", 3000), ("stranger", 500)])
def test_downloads_beside_a_crowd_over_tcp(
    make_daemon: type[DaemonProcess],
    origin: Origin,
    downloads: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    count: int,
) -> None:
    """A client with a key has its answers, and the log says little."""
    keyed = Keyed(make_daemon, tmp_path).start()
    keyed.authorize(keyed.line("honest"))
    found = run(keyed.daemon, origin, downloads / kind, kind=kind, count=count, files=10, keyed=keyed)
    with capsys.disabled():
        print()
        show(kind, found)
    assert grown(found) < MEMORY
    if kind == "stranger":
        assert "refused: 127.0.0.1 with the key" in keyed.daemon.log()
    assert len(keyed.daemon.log().splitlines()) < 100


@pytest.mark.parametrize("kind", ["silent", "idle"])
def test_a_crowd_and_few_descriptors(
    make_daemon: type[DaemonProcess], origin: Origin, downloads: Path, kind: str
) -> None:
    """Twice as many connections as descriptors; a client asks now and then, so that the loop has turned."""
    daemon = limit(make_daemon(), FEW).start()
    pid = daemon.pid
    gate = origin.gate()
    with daemon.client() as client, ExitStack() as stack:
        url = origin.add("/held", Resource(size=SIZE, seed=1), "hold", times=1, after=SIZE // 2, gate=gate)
        job = client.submit(url, directory=downloads)
        gate.wait_arrived()
        for _ in range(2 * FEW // 100):
            (process,) = stack.enter_context(crowd(daemon.endpoint.control, kind, 100))
            assert process.stdout is not None
            assert read_line(process.stdout.fileno(), 60, "the crowd") == b"there\n"
            with daemon.client() as another:
                assert another.status().sockets["control"]
        gate.open()
        assert sha256_file(job.result(timeout=60).path) == sha256_of(SIZE, 1)
    assert daemon.is_running
    assert daemon.pid == pid
