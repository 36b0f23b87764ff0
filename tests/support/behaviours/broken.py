"""Connections that break and answers that never come or never end."""

from support.exchange import Exchange, Resource, honest
from support.gate import Gate

from .table import behaviour


@behaviour
def cut(
    exchange: Exchange, resource: Resource, *, after: int, reset: bool = False, blind: bool = False
) -> None:
    """Announce everything, send the first `after` bytes of the body, end the connection (`reset`: by RST, and
    then the client may not see all of them; `blind`: whatever If-Range says)."""
    reply = honest(exchange.request, resource, blind=blind)
    exchange.hang_up(reset=reset)
    exchange.begin(reply)
    exchange.body(reply, 0, after)


@behaviour
def cut_at(exchange: Exchange, resource: Resource, *, offset: int) -> None:
    """Like `cut`, at an offset of the file: a resumed request that starts behind it is served in full."""
    reply = honest(exchange.request, resource)
    if reply.status != 416 and reply.start < offset < reply.stop:
        cut(exchange, resource, after=offset - reply.start)
    else:
        exchange.send(reply)


@behaviour
def cut_head(exchange: Exchange, resource: Resource, *, reset: bool = False) -> None:
    """Half a head, then the end of the connection."""
    exchange.hang_up(reset=reset)
    exchange.raw(b"HTTP/1.1 200 OK\r\nContent-Len")


@behaviour
def drop(exchange: Exchange, resource: Resource, *, reset: bool = False) -> None:
    """No answer: the connection ends at once."""
    exchange.hang_up(reset=reset)


@behaviour
def never(exchange: Exchange, resource: Resource, *, after: int | None = None) -> None:
    """Nothing (or head and `after` bytes), and then silence until the client goes away."""
    if after is not None:
        reply = honest(exchange.request, resource)
        exchange.begin(reply)
        exchange.body(reply, 0, after)
    exchange.wait_gone()


@behaviour
def hold_then_cut(exchange: Exchange, resource: Resource, *, after: int, gate: Gate) -> None:
    """Head and the first `after` bytes, wait at the gate, end the connection."""
    reply = honest(exchange.request, resource)
    exchange.hang_up()
    exchange.begin(reply)
    exchange.body(reply, 0, after)
    exchange.wait(gate)


@behaviour
def endless_headers(exchange: Exchange, resource: Resource) -> None:
    """A head that does not end."""
    exchange.hang_up()
    exchange.raw(b"HTTP/1.1 200 OK\r\n")
    number = 0
    while True:
        lines = (b"X-Filler-%d: %b\r\n" % (number + i, b"x" * 64) for i in range(100))
        exchange.raw(b"".join(lines))
        number += 100


@behaviour
def endless_body(exchange: Exchange, resource: Resource) -> None:
    """A body without a length that does not end: the content again and again."""
    reply = honest(exchange.request, resource)
    reply.drop("Content-Length")
    reply.framing = "close"
    exchange.begin(reply)
    while reply.length and exchange.request.method != "HEAD":
        exchange.body(reply)


@behaviour
def bad_chunk(exchange: Exchange, resource: Resource, *, after: int) -> None:
    """Chunked: `after` good bytes, then a chunk size that is rubbish."""
    reply = honest(exchange.request, Resource(resource.size, resource.seed, resource.body, framing="chunked"))
    exchange.hang_up()
    exchange.begin(reply)
    exchange.body(reply, 0, after)
    exchange.raw(b"zzz\r\nwhat?\r\n")


@behaviour
def rubbish(
    exchange: Exchange, resource: Resource, *, data: bytes = b"\x00\xff SSH-2.0 hello\r\n\r\n"
) -> None:
    """Bytes that are not HTTP (or any you give), then the end."""
    exchange.hang_up()
    exchange.raw(data)
