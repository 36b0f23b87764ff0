"""What goes wrong with parts: of another length, cut, limited, refused, or in another form than asked for."""

from dataclasses import replace

from support.content import Blob
from support.exchange import Exchange, Reply, Resource, honest

from .status import status
from .table import behaviour


def _span(reply: Reply, start: int, stop: int) -> None:
    """Make a 206 one of these bytes, and have its headers say so."""
    reply.start, reply.stop = start, stop
    reply.set("Content-Range", f"bytes {start}-{stop - 1}/{reply.content.size}")
    reply.set("Content-Length", str(reply.length))


@behaviour
def short_206(exchange: Exchange, resource: Resource, *, most: int = 1 << 20) -> None:
    """To a Range, at most `most` bytes from its start, and Content-Range says so, as is allowed."""
    reply = honest(exchange.request, resource)
    if reply.status == 206:
        _span(reply, reply.start, min(reply.start + most, reply.stop))
    exchange.send(reply)


@behaviour
def long_206(exchange: Exchange, resource: Resource, *, by: int = 70_000) -> None:
    """To a Range, `by` bytes more than were asked for (up to the end), and Content-Range says so."""
    reply = honest(exchange.request, resource)
    if reply.status == 206:
        _span(reply, reply.start, min(reply.stop + by, reply.content.size))
    exchange.send(reply)


@behaviour
def overlong_206(exchange: Exchange, resource: Resource, *, by: int = 1) -> None:
    """To a Range, a right Content-Range, but a Content-Length and a body that are `by` bytes longer."""
    reply = honest(exchange.request, resource)
    if reply.status == 206:
        body = b"".join(reply.content.pieces(reply.start, reply.stop))
        reply.content, reply.start, reply.stop = Blob(body + b"?" * by), 0, len(body) + by
        reply.set("Content-Length", str(reply.length))
    exchange.send(reply)


@behaviour
def cut_206(exchange: Exchange, resource: Resource, *, after: int = 100_000) -> None:
    """To a Range, a right head, `after` bytes of the body, and the end. The whole is served in full."""
    reply = honest(exchange.request, resource)
    if reply.status != 206:
        exchange.send(reply)
        return
    exchange.hang_up()
    exchange.begin(reply)
    exchange.body(reply, 0, after)


@behaviour
def other_total(exchange: Exchange, resource: Resource, *, by: int = 7, visit: int = 1) -> None:
    """To a Range, from this visit on, the right part and a Content-Range whose total is `by` too large (or
    `*`, where `by` is 0)."""
    reply = honest(exchange.request, resource)
    if reply.status == 206 and exchange.request.visit >= visit:
        total = reply.content.size + by if by else "*"
        reply.set("Content-Range", f"bytes {reply.start}-{reply.stop - 1}/{total}")
    exchange.send(reply)


@behaviour
def multipart_206(exchange: Exchange, resource: Resource) -> None:
    """To a Range, a multipart/byteranges answer with the one part in it (RFC 9110 section 14.6)."""
    reply = honest(exchange.request, resource)
    if reply.status == 206:
        span = f"bytes {reply.start}-{reply.stop - 1}/{reply.content.size}"
        body = b"".join(reply.content.pieces(reply.start, reply.stop))
        head = f"--edge\r\nContent-Type: {resource.content_type}\r\nContent-Range: {span}\r\n\r\n"
        reply.content = Blob(head.encode() + body + b"\r\n--edge--\r\n")
        reply.start, reply.stop = 0, reply.content.size
        reply.drop("Content-Range")
        reply.set("Content-Type", "multipart/byteranges; boundary=edge")
        reply.set("Content-Length", str(reply.length))
    exchange.send(reply)


@behaviour
def bare_416(exchange: Exchange, resource: Resource) -> None:
    """416 without a Content-Range to every Range; without a Range the file."""
    if exchange.request.range is None:
        exchange.send(honest(exchange.request, resource))
    else:
        exchange.head(416, [("Content-Length", "0")])


@behaviour
def refuse_visit(exchange: Exchange, resource: Resource, *, visit: int = 2, code: int = 403) -> None:
    """An error to this one visit, whatever it asks for; the others are served."""
    if exchange.request.visit == visit:
        status(exchange, resource, code=code)
    else:
        exchange.send(honest(exchange.request, resource))


@behaviour
def connection_limit(exchange: Exchange, resource: Resource, *, most: int = 2, code: int = 503) -> None:
    """An error to whoever comes while `most` requests are being answered."""
    if exchange.request.concurrent > most:
        status(exchange, resource, code=code)
    else:
        exchange.send(honest(exchange.request, resource))


@behaviour
def forgets_validators(exchange: Exchange, resource: Resource) -> None:
    """To a Range, the right part without ETag and Last-Modified; whole answers have them."""
    reply = honest(exchange.request, resource)
    if reply.status == 206:
        reply.drop("ETag")
        reply.drop("Last-Modified")
    exchange.send(reply)


@behaviour
def weak_parts(exchange: Exchange, resource: Resource) -> None:
    """A weak ETag, and parts all the same, whatever If-Range says."""
    weak = replace(resource, etag="W/" + (resource.etag or '"v1"'))
    exchange.send(honest(exchange.request, weak, blind=True))
