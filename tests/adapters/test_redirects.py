"""Redirects, conditions and addresses: where a request really goes, and what it asks for."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from support.content import pattern
from support.origin import Origin, Resource, Step
from support.proxy import HttpProxy
from support.serving import Peer, Talker

from fetchd.protocol.mailbox import NotModified, Options, Responded

from .attempts import Room, code
from .attempts import room as rooms

SIZE = 300_000
FILE = Resource(size=SIZE, seed=1)
OK = "Finished"
OLD = "Mon, 01 Jan 2024 00:00:00 GMT"
OLD_US = 1_704_067_200_000_000
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@pytest.fixture
def room() -> Iterator[Room]:
    with rooms() as made:
        yield made


@pytest.fixture
def talker() -> Iterator[Callable[..., Talker]]:
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(Talker(*args, **options))


Talkers = Callable[..., Talker]


# redirects


def test_two_places_that_are_one(origin: Origin, room: Room) -> None:
    to = origin.add("/g", FILE)
    headers = [("Location", to), ("Location", to)]
    assert code(room.run(origin.add("/f", FILE, "status", code=302, headers=headers))) == OK
    room.reports.clear()
    headers = [("Location", to), ("Location", to + "?other")]
    assert code(room.run(origin.add("/f", FILE, "status", code=302, headers=headers))) == "bad_response"


def test_a_redirect_whose_body_does_not_end(talker: Talkers, origin: Origin, room: Room) -> None:
    sent = [0]
    to = origin.add("/g", FILE)

    def talk(peer: Peer) -> None:
        peer.read()
        peer.send(f"HTTP/1.1 302 Found\r\nLocation: {to}\r\n\r\n".encode())
        while True:
            peer.send(b"x" * 65536)
            sent[0] += 65536

    server = talker(talk)
    assert code(room.run(server.url())) == OK
    server.wait_for(lambda: server.open_connections == 0)
    assert sent[0] < 64 << 20


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/a file", "/a%20file"), (" /g ", "/g"), ("g?x=1 2", "/d/g?x=1%202"), ("?x", "/d/f?x"),
        ("/caf\xc3\xa9", "/caf%C3%A9"), ("/%7euser", "/%7Euser"), ("../../up", "/up"), ("/g#part", "/g"),
        ("/a%2Fb%20c", "/a%2Fb%20c"), ("/q?u=http://a.test/?b", "/q?u=http://a.test/?b"),
    ],
)  # fmt: skip
def test_where_redirects_lead(origin: Origin, room: Room, location: str, target: str) -> None:
    url = origin.add("/d/f", FILE, "status", code=302, headers=[("Location", location)])
    if target.startswith("/d/f"):
        origin.script("/d/f", Step(FILE, "status", code=302, headers=[("Location", location)]), Step(FILE))
    else:
        origin.add(target.partition("?")[0], FILE)
    last = room.run(url)
    assert code(last) == OK, last
    assert [request.target for request in origin.requests] == ["/d/f", target]


def test_a_redirect_without_a_place(origin: Origin, room: Room) -> None:
    assert code(room.run(origin.add("/f", FILE, "status", code=302))) == "bad_response"


SEGMENTED: dict[str, Any] = {"options": Options(segments=4), "connections": 4}
BIG = Resource(size=8 << 20, seed=9)


def test_redirects_are_followed_once(make_origin: Callable[..., Origin], room: Room) -> None:
    first, second = make_origin(), make_origin()
    url = first.add("/f", BIG, "redirect", to=second.add("/signed", BIG))
    assert code(room.run(url, **SEGMENTED)) == OK
    assert room.data.read_bytes() == pattern(8 << 20, 9)
    assert len(first.requests) == 1
    assert len(second.requests) >= 4


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_an_end_that_expires(make_origin: Callable[..., Origin], room: Room, status: int) -> None:
    """Followed anew, once for each connection that finds it expired; the new end is remembered."""
    first, second = make_origin(), make_origin()
    end, other = second.add("/signed1", BIG), second.add("/signed2", BIG)
    second.script("/signed1", Step(BIG), Step(BIG, "status", code=status))
    url = first.script("/f", Step(BIG, "redirect", to=end), Step(BIG, "redirect", to=other))
    assert code(room.run(url, **SEGMENTED)) == OK
    assert room.data.read_bytes() == pattern(8 << 20, 9)
    assert 2 <= len(first.requests) <= 8
    assert {request.range for request in second.requests_for("/signed2")} != {None}


def test_an_end_that_stays_expired(make_origin: Callable[..., Origin], room: Room) -> None:
    first, second = make_origin(), make_origin()
    end = second.script("/signed", Step(BIG, "cut", after=3 << 20), Step(BIG, "status", code=403))
    url = first.add("/f", BIG, "redirect", to=end)
    last = room.run(url, **SEGMENTED)
    assert code(last) in ("forbidden", "short_body"), last
    assert len(first.requests) < 12


# only what is newer


def test_not_modified(origin: Origin, room: Room) -> None:
    url = origin.add("/f", FILE, "status", code=304)
    last = room.run(url, newer_than=OLD_US)
    assert isinstance(last, NotModified)
    assert last.origins == [origin.url("")]
    assert origin.requests[0].header("if-modified-since") == OLD
    room.reports.clear()
    assert code(room.run(origin.add("/g", FILE), newer_than=OLD_US)) == OK
    assert origin.connections == 1


@pytest.mark.parametrize(
    ("modified", "wanted"),
    [(OLD, "NotModified"), ("Sun, 31 Dec 2023 23:59:59 GMT", "NotModified"),
     ("Mon, 01 Jan 2024 00:00:01 GMT", OK), ("nonsense", OK), (None, OK)],
)  # fmt: skip
def test_a_server_that_knows_no_conditions(
    origin: Origin, room: Room, modified: str | None, wanted: str
) -> None:
    url = origin.add("/f", Resource(size=50 << 20, seed=1, last_modified=modified))
    last = room.run(url, newer_than=OLD_US)
    assert code(last) == wanted
    if wanted != OK:
        assert room.of(Responded) == []
        assert origin.bytes_sent() < 50 << 20


def test_304_to_no_condition(origin: Origin, room: Room) -> None:
    assert code(room.run(origin.add("/f", FILE, "status", code=304))) == "bad_response"


def test_newer_behind_a_redirect(make_origin: Callable[..., Origin], room: Room) -> None:
    first, second = make_origin(), make_origin()
    url = first.add("/f", FILE, "redirect", to=second.add("/g", FILE, "status", code=304))
    last = room.run(url, newer_than=OLD_US)
    assert isinstance(last, NotModified)
    assert last.origins == [first.url(""), second.url("")]


# addresses


def test_an_ipv6_address(room: Room) -> None:
    heads: list[str] = []

    def talk(peer: Peer) -> None:
        heads.append(peer.read())
        peer.send(HELLO)

    try:
        server = Talker(talk, address="::1")
    except OSError:
        pytest.skip("this machine has no ::1")
    with server:
        assert code(room.run(f"http://[::1]:{server.port}/f")) == OK
        assert f"\r\nHost: [::1]:{server.port}\r\n" in heads[0]
        assert room.of(Responded)[0].origins == [f"http://[::1]:{server.port}"]


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("host", "wanted"),
    [("b\xfccher.test", "xn--bcher-kva.test"), ("xn--bcher-kva.test", "xn--bcher-kva.test"),
     ("\u4f8b\u3048.test", "xn--r8jz45g.test"), ("B\xdcCHER.test", "xn--bcher-kva.test")],
)  # fmt: skip
def test_names_that_are_not_ascii(origin: Origin, room: Room, host: str, wanted: str, scheme: str) -> None:
    """Through a proxy, since nobody resolves them here."""
    with HttpProxy(to=origin.port, refuse=502 if scheme == "https" else None) as between:
        origin.add("/f", FILE)
        last = room.run(f"{scheme}://{host}/f", proxy=between.url())
        if scheme == "http":
            assert code(last) == OK, last
            assert origin.requests[0].header("host") == wanted
        else:
            assert between.seen[0].target == f"{wanted}:443"


@pytest.mark.parametrize(
    ("path", "target"),
    [("/caf\xe9", "/caf%C3%A9"), ("/\u4f8b?q=\xe9", "/%E4%BE%8B?q=%C3%A9"), ("/a%20b", "/a%20b"),
     ("/a+b;c=1,d!$&'()*", "/a+b;c=1,d!$&'()*"), ("", "/"), ("?q", "/?q"), ("/a//b/./c", None),
     ("/f#\xe9", "/f")],
)  # fmt: skip
def test_paths(origin: Origin, room: Room, path: str, target: str | None) -> None:
    for known in ("/caf%C3%A9", "/%E4%BE%8B", "/a%20b", "/a+b;c=1,d!$&'()*", "/", "/f", "/a//b/c"):
        origin.add(known, FILE)
    last = room.run(origin.url("").rstrip("/") + path)
    assert code(last) == OK, last
    assert target is None or origin.requests[0].target == target
