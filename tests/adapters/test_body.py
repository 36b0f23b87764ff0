"""Three ways for a body, with the same bytes and the same errors on each."""

import errno
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.content import pattern
from support.origin import Origin, Resource
from support.tls import Certificates

from fetchd.daemon.transfer.body import PATHS
from fetchd.daemon.transfer.http import Http
from fetchd.protocol.mailbox import Failed

from .attempts import Room, code
from .attempts import room as rooms

SIZE = 3_000_000
CONTENT = pattern(SIZE, 1)
FILE = Resource(size=SIZE, seed=1)
OK = "Finished"
Splice = Callable[..., int]


@pytest.fixture
def room() -> Iterator[Room]:
    with rooms() as made:
        yield made


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest, room: Room) -> str:
    """The way that the room's transfer prefers."""
    prefer(room, request.param)
    return str(request.param)


def prefer(room: Room, *paths: str) -> None:
    transfer = room.transfers.find("http:")
    assert isinstance(transfer, Http)
    transfer.paths = paths


def head(framing: str, body: bytes) -> bytes:
    """A whole response, to be sent in one piece."""
    match framing:
        case "length":
            return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        case "chunked":
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%b0\r\n\r\n" % chunk
        case _:
            return b"HTTP/1.1 200 OK\r\n\r\n" + body


FRAMINGS = ["length", "chunked", "close"]


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("size", [0, 1, 5000, 8192, 20_000, SIZE])
def test_every_framing_and_size(origin: Origin, room: Room, path: str, framing: Any, size: int) -> None:
    last = room.run(origin.add("/f", Resource(size=size, seed=1, framing=framing)))
    assert code(last) == OK, path
    assert room.data.read_bytes() == CONTENT[:size]


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("size", [0, 1, 3000, 8192, 9000, 100_000])
def test_a_body_that_comes_with_its_head(
    origin: Origin, room: Room, path: str, framing: str, size: int
) -> None:
    """What the library has read ahead is neither lost nor written twice."""
    url = origin.add("/f", FILE, "rubbish", data=head(framing, CONTENT[:size]))
    assert code(room.run(url)) == OK, path
    assert room.data.read_bytes() == CONTENT[:size]


@pytest.mark.parametrize("after", [0, 1, 5000, 9000, 1_000_000])
@pytest.mark.parametrize("behaviour", ["cut", "bad_chunk"])
def test_every_byte_before_the_end_is_kept(
    origin: Origin, room: Room, path: str, behaviour: str, after: int
) -> None:
    last = room.run(origin.add("/f", FILE, behaviour, after=after))
    assert isinstance(last, Failed)
    assert (last.code, last.bytes) == ("short_body", after), path
    assert room.data.read_bytes() == CONTENT[:after]
    assert room.ranges() == (((0, after),) if after else ())


@pytest.mark.parametrize("after", [0, 5000, 1_000_000])
def test_silence(origin: Origin, room: Room, path: str, after: int) -> None:
    last = room.run(origin.add("/f", FILE, "never", after=after), read_timeout=0.3)
    assert isinstance(last, Failed)
    assert (last.code, last.bytes) == ("timeout", after), path
    assert room.data.read_bytes() == CONTENT[:after]


def test_a_reset(origin: Origin, room: Room, path: str) -> None:
    last = room.run(origin.add("/f", FILE, "cut", after=1_000_000, reset=True))
    assert isinstance(last, Failed)
    assert last.code in ("reset", "short_body"), path
    assert CONTENT.startswith(room.data.read_bytes())
    assert len(room.data.read_bytes()) == last.bytes


def test_bytes_behind_the_body_are_not_of_it(origin: Origin, room: Room, path: str) -> None:
    for size in (100, 100_000):
        data = head("length", CONTENT[:size]) + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother"
        assert code(room.run(origin.add("/f", FILE, "rubbish", data=data))) == OK, path
        assert room.data.read_bytes() == CONTENT[:size]
        # and they are no answer to the next request
        assert code(room.run(origin.add("/f", FILE))) == OK
        assert room.data.read_bytes() == CONTENT


def test_a_stop_while_the_server_is_silent(origin: Origin, room: Room, path: str) -> None:
    gate = origin.gate()
    room.begin(origin.add("/f", FILE, "hold", after=100_000, gate=gate), read_timeout=60.0)
    gate.wait_arrived()
    assert room.attempt is not None
    room.attempt.stop(keep=True)
    assert code(room.end(5)) == "Stopped", path


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_the_connection_is_good_for_another_request(
    origin: Origin, room: Room, path: str, framing: Any
) -> None:
    """It waits for its head and body as a fresh one does: no time limit of the kernel is left on it."""
    gate = origin.gate()
    assert (
        code(room.run(origin.add("/f", Resource(size=SIZE, seed=1, framing=framing)), read_timeout=0.3)) == OK
    )
    url = origin.add("/g", FILE, "stall", gate=gate)
    room.begin(url, read_timeout=5.0)
    gate.wait_arrived()
    origin.wait_for(lambda: origin.active == 1)
    with pytest.raises(TimeoutError):
        # longer than the first attempt would have waited
        origin.wait_for(lambda: origin.active == 0, 0.5)
    gate.open()
    assert code(room.end()) == OK, path
    assert origin.connections == 1
    assert room.data.read_bytes() == CONTENT


@pytest.mark.parametrize("framing", FRAMINGS)
def test_encrypted(
    make_origin: Callable[..., Origin], certificates: Certificates, room: Room, path: str, framing: Any
) -> None:
    secure = make_origin(tls=certificates.server_context())
    url = secure.add("/f", Resource(size=SIZE, seed=1, framing=framing))
    bundle = str(certificates.authority)
    for _ in range(2):
        assert code(room.run(url, ca_bundle=bundle)) == OK, path
        assert room.data.read_bytes() == CONTENT
    assert secure.connections == (2 if framing == "close" else 1)
    last = room.run(secure.add("/f", FILE, "never", after=100_000), ca_bundle=bundle, read_timeout=0.3)
    assert (code(last), room.data.read_bytes()) == ("timeout", CONTENT[:100_000])
    last = room.run(secure.add("/f", FILE, "cut", after=100_000), ca_bundle=bundle)
    assert (code(last), room.data.read_bytes()) == ("short_body", CONTENT[:100_000])


# where splice(2) is not to be had


def refusing(refused: Callable[[bool, int], int | None]) -> tuple[Splice, list[int]]:
    """A splice that fails with what `refused(into the file, how many such calls before)` says."""
    counts = {True: 0, False: 0}
    moved: list[int] = []
    splice: Splice = os.splice

    def wrapped(source: int, target: int, count: int, **options: Any) -> int:
        writing = "offset_dst" in options
        number, counts[writing] = counts[writing], counts[writing] + 1
        if (code := refused(writing, number)) is not None:
            raise OSError(code, os.strerror(code))
        # in small pieces, so that the pipe is seldom emptied at once
        done = splice(source, target, min(count, 40_000) if writing else count, **options)
        if writing:
            moved.append(done)
        return done

    return wrapped, moved


@pytest.mark.parametrize("framing", ["length", "close"])
@pytest.mark.parametrize("others", [("direct",), ("buffered",), ()], ids=str)
@pytest.mark.parametrize("number", [0, 1, 7])
def test_a_file_system_that_cannot_splice(
    origin: Origin,
    room: Room,
    monkeypatch: pytest.MonkeyPatch,
    framing: Any,
    others: tuple[str, ...],
    number: int,
) -> None:
    """The bytes that are in the pipe by then are written all the same."""
    prefer(room, "splice", *others)
    splice, moved = refusing(lambda writing, count: errno.EINVAL if writing and count == number else None)
    monkeypatch.setattr(os, "splice", splice)
    url = origin.add("/f", Resource(size=SIZE, seed=1, framing=framing))
    assert code(room.run(url)) == OK
    assert room.data.read_bytes() == CONTENT
    assert len(moved) == number


@pytest.mark.parametrize("refusal", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
@pytest.mark.parametrize("number", [0, 2])
def test_a_socket_that_cannot_be_spliced(
    origin: Origin, room: Room, monkeypatch: pytest.MonkeyPatch, refusal: int, number: int
) -> None:
    """A sandbox or another kernel may not know it."""
    splice, _ = refusing(lambda writing, count: refusal if not writing and count >= number else None)
    monkeypatch.setattr(os, "splice", splice)
    assert code(room.run(origin.add("/f", FILE))) == OK
    assert room.data.read_bytes() == CONTENT


@pytest.mark.parametrize(("refusal", "wanted"), [(errno.ENOSPC, "disk_full"), (errno.EIO, "io_error")])
def test_a_disk_that_refuses_spliced_bytes(
    origin: Origin, room: Room, monkeypatch: pytest.MonkeyPatch, refusal: int, wanted: str
) -> None:
    splice, moved = refusing(lambda writing, count: refusal if writing and count >= 3 else None)
    monkeypatch.setattr(os, "splice", splice)
    last = room.run(origin.add("/f", FILE))
    assert isinstance(last, Failed)
    assert last.code == wanted
    assert room.data.read_bytes() == CONTENT[: last.bytes]
    assert last.bytes >= sum(moved)
    monkeypatch.undo()
    assert code(room.run(origin.add("/f", FILE), have=last.bytes, etag='"v1"', total=SIZE)) == OK
    assert room.data.read_bytes() == CONTENT
