"""Connections: which are used again, which have gone stale, and answers that want to hold one for ever."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from support.content import pattern
from support.origin import Origin, Resource
from support.serving import Peer, Talker
from support.tls import Certificates

from fetchd.daemon.transfer import gate
from fetchd.daemon.transfer.connect import HOSTED
from fetchd.daemon.transfer.exchange import Exchange
from fetchd.daemon.transfer.http import Http

from .attempts import Room, code
from .attempts import room as rooms

SIZE = 300_000
CONTENT = pattern(SIZE, 1)
FILE = Resource(size=SIZE, seed=1)
OK = "Finished"
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


def say(*answers: bytes) -> Callable[[Peer], None]:
    """One answer to each request of a connection, then its end."""

    def talk(peer: Peer) -> None:
        for answer in answers:
            peer.read()
            peer.send(answer)

    return talk


# stale ones


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_all_idle_connections_are_stale(
    talker: Talkers, certificates: Certificates, room: Room, tls: bool
) -> None:
    """The server gives up each of them when it is used: not one of them counts as a failure."""

    def talk(peer: Peer) -> None:
        peer.read()
        peer.send(HELLO)
        peer.read()

    server = talker(talk, certificates.server_context() if tls else None)
    ca = certificates.authority.read_text()
    assert code(room.run(server.url(), ca=ca)) == OK
    transfer = room.transfers.find(server.url())
    assert isinstance(transfer, Http)
    assert room.attempt is not None
    exchange = Exchange(room.attempt, transfer._managers)
    with ExitStack() as stack:
        for _ in range(HOSTED):
            answer = stack.enter_context(exchange.ask(server.url(), {}))
            answer.raw.read()
            answer.reusable = True
    before = server.connections
    for _ in range(HOSTED):
        room.reports.clear()
        assert code(room.run(server.url(), ca=ca)) == OK
        assert room.data.read_bytes() == b"hello"
    assert server.connections - before <= HOSTED


@pytest.mark.parametrize(
    "first", [b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", HELLO]
)
def test_a_new_connection_is_never_stale(talker: Talkers, room: Room, first: bytes) -> None:
    """Also where the library makes it anew in the place of one that has ended."""

    def talk(peer: Peer) -> None:
        peer.read()
        if peer.number == 1:
            peer.send(first)

    server = talker(talk)
    assert code(room.run(server.url())) == OK
    server.wait_for(lambda: server.open_connections == 0)
    room.reports.clear()
    assert code(room.run(server.url())) == "reset"
    assert server.connections == 2


# used again


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("path", ["splice", "direct", "buffered"])
@pytest.mark.parametrize("behaviour", ["plain", "chunked"])
def test_one_connection_for_all_attempts(
    make_origin: Callable[..., Origin], certificates: Certificates, room: Room, tls: bool, path: str,
    behaviour: str,
) -> None:  # fmt: skip
    server = make_origin(tls=certificates.server_context() if tls else None)
    urls = [server.add(f"/{seed}", Resource(size=SIZE, seed=seed), behaviour) for seed in (1, 2, 3)]
    transfer = room.transfers.find(urls[0])
    assert isinstance(transfer, Http)
    transfer.paths = (path,)
    for seed, url in enumerate(urls, 1):
        room.reports.clear()
        assert code(room.run(url, ca_bundle=str(certificates.authority))) == OK
        assert room.data.read_bytes() == pattern(SIZE, seed)
    assert server.connections == 1


@pytest.mark.parametrize(
    ("behaviour", "options"),
    [
        ("cut", {"after": 1000}), ("until_close", {}), ("bad_chunk", {"after": 1000}),
        ("never", {"after": 1000}), ("status", {"code": 404}), ("lying_length", {"by": -10}),
    ],
)  # fmt: skip
def test_what_is_not_used_again(origin: Origin, room: Room, behaviour: str, options: dict[str, Any]) -> None:
    """What comes behind a body that was not read to its end could be taken for another answer."""
    code(room.run(origin.add("/f", FILE, behaviour, **options), read_timeout=0.5))
    room.reports.clear()
    assert code(room.run(origin.add("/g", FILE))) == OK
    assert room.data.read_bytes() == CONTENT
    assert origin.connections == 2


def test_a_body_that_is_longer_than_it_said(talker: Talkers, room: Room) -> None:
    """The rest is no answer to the next request."""
    evil = HELLO + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"

    def talk(peer: Peer) -> None:
        while True:
            peer.read()
            peer.send(evil if peer.number == 1 else HELLO)

    server = talker(talk)
    for _ in range(2):
        room.reports.clear()
        assert code(room.run(server.url())) == OK
        assert room.data.read_bytes() == b"hello"


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncONNECTION: Close\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200\r\nConnection: close\r\n\r\n",
    ],
)
def test_servers_that_close(talker: Talkers, room: Room, head: bytes) -> None:
    server = talker(say(head + b"hello"))
    for _ in range(2):
        room.reports.clear()
        assert code(room.run(server.url())) == OK
        assert room.data.read_bytes() == b"hello"
    assert server.connections == 2


def test_an_old_server_that_keeps_the_connection(talker: Talkers, room: Room) -> None:
    answer = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello"
    server = talker(say(answer, answer))
    for _ in range(2):
        room.reports.clear()
        assert code(room.run(server.url())) == OK
    assert server.connections == 1


# heads


@pytest.mark.parametrize(
    "before",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n" * 5,
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 7\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 199 What\r\nX: y\r\n\r\n",
    ],
)
def test_interim_answers(talker: Talkers, room: Room, before: bytes) -> None:
    server = talker(say(before + HELLO, before + HELLO))
    for _ in range(2):
        room.reports.clear()
        assert code(room.run(server.url())) == OK
        assert room.data.read_bytes() == b"hello"
    assert server.connections == 1


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 O\0K\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX: a\rContent-Length: 2\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX: a\r\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 -20 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 600 + b"\r\n",
        b"\r\n\r\n",
    ],
    ids=lambda head: repr(head[:40]),
)
def test_heads_that_are_none(talker: Talkers, room: Room, head: bytes) -> None:
    server = talker(say(head))
    assert code(room.run(server.url())) == "bad_response"
    assert server.connections == 1


def test_interim_answers_without_end(talker: Talkers, room: Room) -> None:
    def talk(peer: Peer) -> None:
        peer.read()
        while True:
            peer.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)

    assert code(room.run(talker(talk).url())) == "bad_response"


DRIPS = {
    "a long line": b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 60_000,
    "status line": b"H" * 60_000,
    "short lines": b"HTTP/1.1 200 OK\r\n" + b"A:\r\n" * 400,
    "lines at once": b"",
    "interim answers": b"HTTP/1.1 100\r\n\r\n" * 200,
}


@pytest.mark.parametrize("through", ["direct", "tunnel"])
@pytest.mark.parametrize("kind", DRIPS)
def test_a_head_that_drips(talker: Talkers, room: Room, kind: str, through: str) -> None:
    """Each piece is in time, all of them together are not."""

    def talk(peer: Peer) -> None:
        peer.read()
        if kind == "lines at once":
            peer.send(b"HTTP/1.1 200 OK\r\n")
            while not peer.gone(0.1):
                peer.send(b"X-Filler: y\r\n")
            return
        peer.drip(DRIPS[kind], 0.02)

    server = talker(talk)
    began = time.monotonic()
    if through == "direct":
        last = room.run(server.url(), read_timeout=0.25)
    else:
        last = room.run("https://a.test/f", proxy=server.url(""), read_timeout=0.25, connect_timeout=0.25)
    assert code(last) in ("timeout",) if through == "direct" else ("timeout", "proxy"), last
    assert time.monotonic() - began < gate.TIMES * 0.25 + 2
    assert server.connections == 1
