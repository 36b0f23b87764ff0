"""The HTTP transfer against an origin that does anything: the right bytes, or the right code."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.behaviours import BEHAVIOURS
from support.content import pattern, sha256_of
from support.net import refused_port, silent_port
from support.nginx import Nginx
from support.origin import Origin, Resource
from support.tls import Certificates, make_certificates

from fetchd.protocol.mailbox import Finished, Responded, Restart

from .attempts import Room, code
from .attempts import room as rooms
from .cases import CASES

SIZE = 300_000
CONTENT = pattern(SIZE, 1)
FILE = Resource(size=SIZE, seed=1)
OK = "Finished"


@pytest.fixture
def room() -> Iterator[Room]:
    with rooms() as made:
        yield made


FRESH: list[tuple[str, dict[str, Any], str]] = [
    ("plain", {}, OK),
    ("chunked", {}, OK),
    ("until_close", {}, OK),
    ("no_ranges", {}, OK),
    ("paced", {"rate": 3_000_000.0}, OK),
    ("ignore_range", {}, OK),
    ("no_if_range", {}, OK),
    ("blind_206", {}, OK),
    ("shifted_206", {"by": 5}, OK),
    ("wrong_range", {"content_range": None}, OK),
    ("answer_416", {}, OK),
    ("refuse_ranges", {}, OK),
    ("cut_at", {"offset": SIZE + 1}, OK),
    ("redirect_chain", {"hops": 20}, OK),
    ("redirect_chain", {"hops": 3, "code": 308}, OK),
    ("redirect_chain", {"hops": 21}, "redirect_loop"),
    ("redirect_loop", {}, "redirect_loop"),
    ("redirect", {"to": "ftp://a.test/f"}, "redirect_refused"),
    ("redirect", {"to": "file:///etc/passwd"}, "redirect_refused"),
    ("redirect", {"to": "http://[::1"}, "bad_response"),
    ("redirect", {"to": "http://"}, "redirect_loop"),
    ("redirect", {"to": "/" + "x" * 60_000}, "bad_response"),
    ("cut", {"after": 1000}, "short_body"),
    ("cut", {"after": 1000, "reset": True}, "reset"),
    ("cut_head", {}, "reset"),
    ("drop", {}, "reset"),
    ("drop", {"reset": True}, "reset"),
    ("rubbish", {}, "bad_response"),
    ("endless_headers", {}, "bad_response"),
    ("bad_chunk", {"after": 1000}, "short_body"),
    ("lying_length", {"by": 10}, "short_body"),
    ("raw_length", {"value": "-1"}, "bad_response"),
    ("raw_length", {"value": "0x10"}, "bad_response"),
    ("raw_length", {"value": "12, 12"}, "bad_response"),
    ("raw_length", {"value": "9" * 400}, "bad_response"),
    ("raw_length", {"value": "9" * 5000}, "bad_response"),
    ("double_length", {}, "bad_response"),
    ("unasked_206", {"start": 5}, "bad_response"),
    ("status", {"code": 404}, "not_found"),
    ("status", {"code": 410}, "gone"),
    ("status", {"code": 401}, "unauthorized"),
    ("status", {"code": 403}, "forbidden"),
    ("status", {"code": 429}, "rate_limited"),
    ("status", {"code": 500}, "server_error"),
    ("status", {"code": 503}, "unavailable"),
    ("status", {"code": 418}, "http_error"),
    ("status", {"code": 204}, "bad_response"),
    ("status", {"code": 304}, "bad_response"),
    ("status", {"code": 300}, "bad_response"),
    ("status", {"code": 416}, "bad_response"),
    ("extra_headers", {"headers": [("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT (" + "x" * 5000)]}, OK),
    ("extra_headers", {"headers": [("ETag", '"' + "x" * 5000 + '"')]}, OK),
    ("extra_headers", {"headers": [("Content-Disposition", "attachment; filename=" + "x" * 9000)]}, OK),
    ("extra_headers", {"headers": [("Content-Disposition", "\x80\xff")]}, OK),
    ("extra_headers", {"headers": [("X-Nul", "a\0b")]}, "bad_response"),
    ("extra_headers", {"headers": [("Transfer-Encoding", "gzip, chunked")]}, "bad_response"),
    ("extra_headers", {"headers": [("Transfer-Encoding", "identity")]}, OK),
    ("rubbish", {"data": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"}, "reset"),
    ("rubbish", {"data": b"HTTP/1.1 200"}, "reset"),
    ("rubbish", {"data": b"HTTP/1.1 100 Continue\r\n\r\n" * 9}, "reset"),
    ("rubbish", {"data": b"HTTP/1.1 100 Continue\r\n\r\n" * 9000}, "bad_response"),
    ("rubbish", {"data": b"HTTP/1.1 102 Processing\r\n\r\n"}, "reset"),
    ("rubbish", {"data": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n"}, "bad_response"),
    ("rubbish", {"data": b"ICY 200 OK\r\n\r\n"}, "bad_response"),
]  # fmt: skip


@pytest.mark.parametrize(("behaviour", "options", "wanted"), FRESH, ids=lambda value: str(value)[:60])
def test_a_first_attempt(
    origin: Origin, room: Room, behaviour: str, options: dict[str, Any], wanted: str
) -> None:
    url = origin.add("/f", FILE, behaviour, **options)
    last = room.run(url)
    assert code(last) == wanted, last
    if isinstance(last, Finished):
        assert last.size == SIZE
        assert room.data.read_bytes() == CONTENT
    else:
        on_hand = room.data.read_bytes()
        assert CONTENT.startswith(on_hand)
        assert room.ranges() == (((0, len(on_hand)),) if on_hand else ())


RESUMED: list[tuple[str, dict[str, Any], str, int]] = [
    # behaviour, options, end, restarts
    ("plain", {}, OK, 0),
    ("blind_206", {}, OK, 0),
    ("shifted_206", {"by": -500}, OK, 0),
    ("shifted_206", {"by": 500}, OK, 1),
    ("wrong_range", {"content_range": None}, OK, 1),
    ("wrong_range", {"content_range": "bytes 0-9/10"}, OK, 1),
    ("no_ranges", {}, OK, 1),
    ("ignore_range", {}, OK, 1),
    ("no_if_range", {}, OK, 1),
    ("answer_416", {}, OK, 1),
    ("answer_416", {"total": 5}, OK, 1),
    ("chunked", {}, OK, 0),
    ("refuse_ranges", {}, "forbidden", 0),
    ("cut_at", {"offset": 250_000}, "short_body", 0),
]


@pytest.mark.parametrize(
    ("behaviour", "options", "wanted", "restarts"), RESUMED, ids=lambda value: str(value)[:40]
)
def test_a_resumed_attempt(
    origin: Origin, room: Room, behaviour: str, options: dict[str, Any], wanted: str, restarts: int
) -> None:
    room.keep(CONTENT[:200_000])
    url = origin.add("/f", FILE, behaviour, **options)
    last = room.run(url, have=200_000, etag='"v1"', total=SIZE)
    assert code(last) == wanted, last
    assert len(room.of(Restart)) == restarts
    assert CONTENT.startswith(room.data.read_bytes())
    if wanted == OK:
        assert room.data.read_bytes() == CONTENT


def test_every_behaviour_is_tried() -> None:
    matrix = {case.behaviour for case in CASES}
    elsewhere = {"hold", "stall", "hold_then_cut"} | {n for n in BEHAVIOURS if n.startswith("lane_")}
    assert {row[0] for row in FRESH} | {row[0] for row in RESUMED} | matrix | elsewhere == set(BEHAVIOURS)


@pytest.mark.parametrize("behaviour", ["plain", "blind_206", "ignore_range"])
@pytest.mark.parametrize(
    ("old", "new", "kept"),
    [
        ({"etag": '"old"'}, {"etag": '"new"'}, {"etag": '"old"'}),
        ({"etag": '"old"'}, {"etag": 'W/"new"'}, {"etag": '"old"'}),
        (
            {"etag": None, "last_modified": "Mon, 01 Jan 2024 00:00:00 GMT"},
            {"etag": None, "last_modified": "Tue, 02 Jan 2024 00:00:00 GMT"},
            {"last_modified": "Mon, 01 Jan 2024 00:00:00 GMT"},
        ),
        (
            {"etag": None, "last_modified": "Mon, 01 Jan 2024 00:00:00 GMT"},
            {"etag": None, "last_modified": "Tue, 02 Jan 2024 00:00:00 GMT",
             "date": "Tue, 02 Jan 2024 00:00:01 GMT"},
            {"last_modified": "Mon, 01 Jan 2024 00:00:00 GMT"},
        ),
    ],
    ids=["etag", "weak etag", "date", "changed a second ago"],
)  # fmt: skip
def test_a_changed_file_is_never_mixed(
    origin: Origin, room: Room, behaviour: str, old: dict[str, Any], new: dict[str, Any], kept: dict[str, Any]
) -> None:
    """Of the same size, from a server that may know nothing of If-Range."""
    room.keep(pattern(SIZE, 7)[:200_000])
    url = origin.add("/f", Resource(size=SIZE, seed=1, **new), behaviour)
    assert code(room.run(url, have=200_000, total=SIZE, **kept)) == OK
    assert room.data.read_bytes() == CONTENT
    assert len(room.of(Restart)) == 1


def test_nothing_is_overwritten_before_the_new_content_is_on_disk(origin: Origin, room: Room) -> None:
    room.obeys = False
    room.keep(b"o" * 1000)
    url = origin.add("/f", FILE, "ignore_range")
    room.begin(url, have=1000, etag='"v1"')
    room.wait(Restart)
    assert room.data.read_bytes() == b"o" * 1000
    assert room.attempt is not None
    room.attempt.proceed(1)
    assert code(room.end()) == OK
    assert room.of(Responded)[0].generation == 1


def test_a_complete_file_is_not_fetched_again(origin: Origin, room: Room) -> None:
    room.keep(CONTENT)
    url = origin.add("/f", FILE)
    checksum = f"sha256:{sha256_of(SIZE, 1)}"
    last = room.run(url, have=SIZE, etag='"v1"', total=SIZE, checksum=checksum)
    assert isinstance(last, Finished)
    assert last.digests == {"sha256": sha256_of(SIZE, 1)}
    assert origin.bytes_sent() == 0


def test_a_checksum_that_does_not_match(origin: Origin, room: Room) -> None:
    last = room.run(origin.add("/f", FILE), checksum="sha256:" + "0" * 64)
    assert code(last) == "checksum_mismatch"
    assert last.bytes == SIZE  # type: ignore[union-attr]


def test_compressed_all_the_same(origin: Origin, room: Room) -> None:
    """Stored as it came, and never resumed."""
    url = origin.add("/f", FILE, "gzip")
    last = room.run(url)
    assert code(last) == OK
    assert room.data.read_bytes()[:2] == b"\x1f\x8b"
    assert room.of(Responded)[0].validator.etag is None
    assert origin.requests[0].header("accept-encoding") == "identity"


def test_an_empty_file(origin: Origin, room: Room) -> None:
    last = room.run(origin.add("/f", Resource(size=0)))
    assert isinstance(last, Finished)
    assert (last.size, room.data.read_bytes()) == (0, b"")


def test_what_the_server_asks_to_wait(origin: Origin, room: Room) -> None:
    last = room.run(origin.add("/f", FILE, "status", code=503, retry_after=7))
    assert (code(last), last.retry_after) == ("unavailable", 7.0)  # type: ignore[union-attr]


# connections


def test_addresses_that_fail(room: Room) -> None:
    with refused_port() as port:
        assert code(room.run(f"http://127.0.0.1:{port}/f")) == "connect"
    with silent_port() as port:
        assert code(room.run(f"http://127.0.0.1:{port}/f", read_timeout=0.3)) == "timeout"
    assert code(room.run("http://no-such-host.invalid/f")) == "dns"
    assert code(room.run("http://" + "a" * 70 + ".test/f")) == "dns"
    assert code(room.run("gopher://a.test/f")) == "unsupported_scheme"


def test_a_server_that_falls_silent(origin: Origin, room: Room) -> None:
    url = origin.add("/f", FILE, "never", after=5000)
    assert code(room.run(url, read_timeout=0.3)) == "timeout"
    assert room.ranges() == ((0, 5000),)


@pytest.mark.parametrize("trusted", [True, False])
def test_certificates(
    make_origin: Callable[..., Origin], certificates: Certificates, room: Room, trusted: bool
) -> None:
    secure = make_origin(tls=certificates.server_context())
    url = secure.add("/f", FILE)
    last = room.run(url, ca_bundle=str(certificates.authority) if trusted else "")
    assert code(last) == (OK if trusted else "tls_cert")


def test_a_certificate_of_another_host(
    make_origin: Callable[..., Origin], certificates: Certificates, downloads: Path, room: Room
) -> None:
    other = make_certificates(downloads, names="DNS:other.test")
    secure = make_origin(tls=other.server_context())
    last = room.run(secure.add("/f", FILE), ca_bundle=str(other.authority))
    assert code(last) == "tls_cert"


def test_no_encryption_where_it_was_promised(nginx: Nginx, room: Room) -> None:
    (nginx.www / "f").write_bytes(CONTENT)
    assert code(room.run(nginx.url("f").replace("http:", "https:"))) == "tls"


def test_a_missing_bundle_is_told_in_words(origin: Origin, room: Room) -> None:
    last = room.run(origin.add("/f", FILE).replace("http:", "https:"), ca_bundle="/does/not/exist.pem")
    assert "exist.pem" in last.message  # type: ignore[union-attr]
