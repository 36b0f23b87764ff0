"""Heads that do not end, that say two things at once, or that are of another HTTP."""

from typing import NoReturn

from support.exchange import Exchange, Resource, honest

from .table import behaviour


def drip(exchange: Exchange, data: bytes, interval: float) -> NoReturn:
    """These bytes again and again, one every `interval` seconds, until the client goes away."""
    while True:
        for byte in data:
            exchange.raw(bytes([byte]))
            exchange.pause(interval)


@behaviour
def dripped_head(exchange: Exchange, resource: Resource, *, interval: float = 0.05) -> None:
    """A status line, and then a header of one byte every `interval` seconds whose line never ends."""
    exchange.hang_up()
    exchange.raw(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    drip(exchange, b"x", interval)


@behaviour
def endless_interim(exchange: Exchange, resource: Resource, *, code: int = 103) -> None:
    """Interim responses (1xx) without end and no final one."""
    exchange.hang_up()
    while True:
        exchange.raw(b"HTTP/1.1 %d Wait\r\n\r\n" % code * 100)


@behaviour
def interim_first(exchange: Exchange, resource: Resource, *, code: int = 103, count: int = 3) -> None:
    """A few interim responses with a header each, as RFC 9110 section 15.2 allows, and then the file."""
    exchange.raw(b"HTTP/1.1 %d Wait\r\nLink: </style.css>\r\n\r\n" % code * count)
    exchange.send(honest(exchange.request, resource))


@behaviour
def only_interim(exchange: Exchange, resource: Resource, *, code: int = 102) -> None:
    """One interim response, and then the end: no final one."""
    exchange.hang_up()
    exchange.raw(b"HTTP/1.1 %d Processing\r\n\r\n" % code)


@behaviour
def nul_head(exchange: Exchange, resource: Resource) -> None:
    """The file, and a NUL in the value of a header."""
    reply = honest(exchange.request, resource)
    reply.headers.append(("X-Nul", "a\0b"))
    exchange.send(reply)


@behaviour
def http10(exchange: Exchange, resource: Resource, *, length: bool = True) -> None:
    """HTTP/1.0: no ranges, no Connection header, the end of the connection behind the body (`length` False:
    and no Content-Length)."""
    size = resource.content.size
    exchange.hang_up()
    exchange.raw(b"HTTP/1.0 200 OK\r\n")
    exchange.raw(b"Content-Length: %d\r\n\r\n" % size if length else b"\r\n")
    for piece in resource.content.pieces(0, size):
        exchange.piece(piece)


@behaviour
def http09(exchange: Exchange, resource: Resource) -> None:
    """HTTP/0.9: the bytes of the file without any head, then the end."""
    exchange.hang_up()
    for piece in resource.content.pieces(0, resource.content.size):
        exchange.piece(piece)


@behaviour
def head_only(exchange: Exchange, resource: Resource, *, reset: bool = False) -> None:
    """A proper head, and the end of the connection exactly behind it."""
    exchange.hang_up(reset=reset)
    exchange.begin(honest(exchange.request, resource))
