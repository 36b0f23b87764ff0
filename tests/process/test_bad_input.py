"""Input that cannot be: a clear code at once, or a failed job with one; never a crash, never a traceback."""

import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq
from support.daemon import DaemonProcess
from support.net import refused_port
from support.origin import Origin, Resource
from support.raw import Raw

from fetchd.client import Client
from fetchd.protocol.codec import MAX_MESSAGE, encode
from fetchd.protocol.errors import FetchdError
from fetchd.protocol.paths import ipc_path


@pytest.fixture
def raw(daemon: DaemonProcess) -> Iterator[Raw]:
    peer = Raw(daemon.endpoint.control)
    yield peer
    peer.context.destroy(0)
    with daemon.client() as client:
        assert client.status().pid == daemon.pid, "the daemon must be as it was"
    assert "Traceback" not in daemon.log()


def spec(downloads: Path, **fields: object) -> dict[str, object]:
    return {"jobs": [{"spec": {"url": "http://127.0.0.1:9/f", "directory": str(downloads)} | fields}]}


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"url": "gopher://host/f"}, "unsupported_scheme"),
        ({"url": "file:///etc/passwd"}, "unsupported_scheme"),
        ({"url": "/no/scheme"}, "invalid_url"),
        ({"url": "http://"}, "invalid_url"),
        ({"url": "http://host:99999/"}, "invalid_url"),
        ({"url": "http://[::1/"}, "invalid_url"),
        ({"url": "http://host/a b"}, "invalid_url"),
        ({"url": "http://host/\r\nX: y"}, "invalid_url"),
        ({"checksum": "sha256"}, "invalid_checksum"),
        ({"checksum": "sha256:abc"}, "invalid_checksum"),
        ({"checksum": "crc32:00000000"}, "invalid_checksum"),
        ({"directory": "relative"}, "invalid_directory"),
        ({"directory": "/proc/nope"}, "destination"),
        ({"directory": "/etc/passwd/x"}, "destination"),
        ({"name": "../x"}, "invalid_name"),
        ({"name": ".."}, "invalid_name"),
        ({"name": "a" * 256}, "invalid_name"),
        ({"headers": {"X": "a\nb"}}, "bad_request"),
        ({"headers": {"Host": "other"}}, "bad_request"),
        ({"priority": 101}, "bad_request"),
        ({"if_exists": "maybe"}, "bad_request"),
        ({"umask": -1}, "bad_request"),
        ({"unheard": 1}, "unsupported_field"),
    ],
)
def test_a_specification_that_cannot_be(
    raw: Raw, downloads: Path, fields: dict[str, object], code: str
) -> None:
    header, body = raw.request("submit", spec(downloads, **fields))
    assert not header["ok"]
    assert body["code"] == code, body
    assert body["message"]
    assert os.listdir(downloads) == []


def test_one_bad_job_refuses_all(raw: Raw, daemon: DaemonProcess, downloads: Path) -> None:
    good = {"spec": {"url": "http://127.0.0.1:9/f", "directory": str(downloads)}, "id": "good"}
    bad = {"spec": {"url": "nonsense", "directory": str(downloads)}, "id": "bad"}
    header, body = raw.request("submit", {"jobs": [good, bad]})
    assert (header["ok"], body["code"], body["details"]["job"]) == (False, "invalid_url", "bad")
    with daemon.client() as client, pytest.raises(FetchdError):
        client.get("good").snapshot()


def test_garbage_gets_an_error_or_nothing(raw: Raw, daemon: DaemonProcess) -> None:
    assert raw.ask(b"")[1]["code"] == "bad_request"
    assert raw.ask(b"x", b"y")[1]["code"] == "bad_request"
    assert raw.ask(b"\xc1", b"\xc1", b"\xc1", b"\xc1")[1]["code"] == "bad_request"
    assert raw.ask(secrets.token_bytes(100_000), secrets.token_bytes(100_000))[1]["code"] == "bad_request"
    assert raw.request("unheard", {})[1]["code"] == "unknown_type"
    assert raw.request("hello", {}, v=99)[1]["code"] == "unsupported_version"
    assert raw.request("hello", {}, req="short")[1]["code"] == "bad_request"
    assert raw.request("get", {"ids": []})[1]["code"] == "bad_request"
    assert raw.request("get", {"ids": ["x"] * 1001})[1]["code"] == "bad_request"
    assert raw.request("wait", {"ids": ["x"], "timeout": 31})[1]["code"] == "bad_request"
    header, body = raw.request("hello", {"unknown": "ignored"})
    assert header["ok"], body


def test_the_empty_frame_of_a_req_socket_is_echoed(raw: Raw) -> None:
    head = msgpack.packb({"v": 1, "type": "hello", "req": secrets.token_hex(16)})
    raw.socket.send_multipart([b"", head, msgpack.packb({})])
    frames = raw.socket.recv_multipart()
    assert frames[0] == b""
    assert msgpack.unpackb(frames[1])["ok"]


def test_an_oversized_message_ends_only_its_connection(daemon: DaemonProcess) -> None:
    peer = Raw(daemon.endpoint.control)
    peer.socket.setsockopt(zmq.RCVTIMEO, 300)
    peer.socket.send_multipart([b"x" * (MAX_MESSAGE + 1), b""])
    with pytest.raises(zmq.Again):
        peer.socket.recv_multipart()
    peer.context.destroy(0)
    with daemon.client() as client:
        client.status()


def test_bytes_that_are_not_even_zeromq(daemon: DaemonProcess) -> None:
    path = ipc_path(daemon.endpoint.control)
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(path))
        peer.sendall(secrets.token_bytes(4096))
        peer.shutdown(socket.SHUT_WR)
        peer.settimeout(10)
        try:
            while peer.recv(4096):
                pass
        except ConnectionError:
            pass
    with daemon.client() as client:
        client.status()


def test_the_same_request_is_answered_not_done_again(raw: Raw, downloads: Path) -> None:
    req = secrets.token_hex(16)
    first = raw.request("submit", spec(downloads), req=req)
    again = raw.request("submit", spec(downloads), req=req)
    assert first == again
    assert first[0]["ok"]
    other = raw.request("submit", spec(downloads, name="other"), req=req)
    assert other[1]["code"] == "conflict"


def test_the_same_id(raw: Raw, downloads: Path) -> None:
    job = {"spec": {"url": "http://127.0.0.1:9/f", "directory": str(downloads)}, "id": "mine"}
    assert not raw.request("submit", {"jobs": [job]})[1]["jobs"][0]["duplicate"]
    assert raw.request("submit", {"jobs": [job]})[1]["jobs"][0]["duplicate"]
    assert (
        raw.request("submit", {"jobs": [job | {"id": "mine"}, job | {"id": "x" * 65}]})[1]["code"]
        == "bad_request"
    )
    changed = job | {"spec": {"url": "http://127.0.0.1:9/g", "directory": str(downloads)}}
    assert raw.request("submit", {"jobs": [changed]})[1]["code"] == "conflict"
    assert raw.request("submit", {"jobs": [job | {"id": "no dots."}]})[1]["code"] == "invalid_id"


def failure(client: Client, url: str, directory: Path, **options: Any) -> str:
    error = client.submit(url, directory=directory, **options).exception(timeout=30)
    assert error is not None
    assert error.message
    return error.code


@pytest.mark.parametrize(
    ("status", "code"),
    [(404, "not_found"), (403, "forbidden"), (410, "gone"), (401, "unauthorized"), (418, "http_error")],
)
def test_a_status_that_no_retry_mends(
    daemon: DaemonProcess, origin: Origin, downloads: Path, status: int, code: str
) -> None:
    url = origin.add("/f", Resource(size=10), "status", code=status)
    with daemon.client() as client:
        assert failure(client, url, downloads) == code
    assert len(origin.requests) == 1
    assert os.listdir(downloads) == []


def test_codes_that_a_retry_may_mend(daemon: DaemonProcess, origin: Origin, downloads: Path) -> None:
    with daemon.client() as client, refused_port() as port:
        assert failure(client, f"http://127.0.0.1:{port}/f", downloads, retries=0) == "connect"
        assert failure(client, "http://does-not-exist.invalid/f", downloads, retries=0) == "dns"
        dropped = origin.add("/d", Resource(size=10), "drop")
        assert failure(client, dropped, downloads, retries=0) == "reset"
        short = origin.add("/s", Resource(size=1000), "cut", after=500)
        assert failure(client, short, downloads, retries=0) == "short_body"
        broken = origin.add("/b", Resource(size=1000), "status", code=500)
        assert failure(client, broken, downloads, retries=0) == "server_error"
        loop = origin.add("/l", Resource(size=0), "redirect_loop")
        assert failure(client, loop, downloads) == "redirect_loop"
        length = origin.add("/n", Resource(size=10), "raw_length", value="-1")
        assert failure(client, length, downloads) == "bad_response"
    assert os.listdir(downloads) == []


def test_a_destination_that_cannot_be_written(daemon: DaemonProcess, origin: Origin, downloads: Path) -> None:
    """The directory is fine at the submit and a file stands in its place when the download is done."""
    gate = origin.gate()
    url = origin.add("/f", Resource(size=10), "stall", gate=gate)
    with daemon.client() as client:
        job = client.submit(url, directory=downloads / "later")
        gate.wait_arrived()
        (downloads / "later").write_text("in the way")
        gate.open()
        error = job.exception(timeout=20)
    assert error is not None
    assert error.code == "destination"


def test_unknown_ids(daemon: DaemonProcess) -> None:
    with daemon.client() as client:
        with pytest.raises(FetchdError) as caught:
            client.get("nobody").snapshot()
        assert caught.value.code == "no_such_job"
        assert client.cancel(["nobody"])[0].code == "no_such_job"


def test_encoding_is_stable() -> None:
    """A guard for this file's own peer: what it sends is what the library would send."""
    assert encode({"a": [1, "b", None]}) == msgpack.packb({"a": [1, "b", None]})
