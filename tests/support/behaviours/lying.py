"""Servers that lie: about lengths, about ranges, about what content they have."""

from support.content import Blob
from support.exchange import Exchange, Resource, honest

from .table import behaviour


@behaviour
def lying_length(exchange: Exchange, resource: Resource, *, by: int) -> None:
    """A Content-Length that is `by` bytes too long (negative: too short), the whole body, then the end."""
    reply = honest(exchange.request, resource)
    reply.set("Content-Length", str(reply.length + by))
    exchange.hang_up()
    exchange.send(reply)


@behaviour
def raw_length(exchange: Exchange, resource: Resource, *, value: str) -> None:
    """A Content-Length with this text, whatever it is: `-1`, `0x10`, `12, 12`, a number of 400 digits."""
    reply = honest(exchange.request, resource)
    reply.set("Content-Length", value)
    exchange.hang_up()
    exchange.send(reply)


@behaviour
def double_length(exchange: Exchange, resource: Resource, *, by: int = 1) -> None:
    """Two Content-Length headers, the right one and one that differs by `by`."""
    reply = honest(exchange.request, resource)
    reply.headers.append(("Content-Length", str(reply.length + by)))
    exchange.hang_up()
    exchange.send(reply)


@behaviour
def extra_headers(exchange: Exchange, resource: Resource, *, headers: list[tuple[str, str]]) -> None:
    """Honest, with these headers set instead of its own ones of the same name (later ones are added)."""
    reply = honest(exchange.request, resource)
    for name, _ in headers:
        reply.drop(name)
    reply.headers.extend(headers)
    exchange.send(reply)


@behaviour
def ignore_range(exchange: Exchange, resource: Resource) -> None:
    """Promises `Accept-Ranges: bytes` and answers a Range by 200 with everything."""
    exchange.send(honest(exchange.request, resource, asked=None))


@behaviour
def shifted_206(exchange: Exchange, resource: Resource, *, by: int, admit: bool = True) -> None:
    """To a Range, a part that starts `by` bytes later (negative: earlier) than asked. `admit`: Content-Range
    tells so; else it claims the start that was asked for, and the length fits the claim."""
    reply = honest(exchange.request, resource)
    if reply.status == 206:
        asked, length, size = reply.start, reply.length, reply.content.size
        reply.start = min(max(0, asked + by), size)
        if admit:
            reply.set("Content-Range", f"bytes {reply.start}-{reply.stop - 1}/{size}")
        else:
            shifted = b"".join(reply.content.pieces(reply.start, min(reply.start + length, size)))
            reply.content = Blob(shifted.ljust(length, b"\0"))
            reply.start, reply.stop = 0, length
        reply.set("Content-Length", str(reply.length))
    exchange.send(reply)


@behaviour
def wrong_range(exchange: Exchange, resource: Resource, *, content_range: str | None) -> None:
    """To a Range, a proper 206 whose Content-Range has this text, or is missing."""
    reply = honest(exchange.request, resource)
    if reply.status == 206:
        reply.drop("Content-Range")
        if content_range is not None:
            reply.set("Content-Range", content_range)
    exchange.send(reply)


@behaviour
def unasked_206(exchange: Exchange, resource: Resource, *, start: int = 0) -> None:
    """206 from `start` to every request, a Range or not."""
    exchange.send(honest(exchange.request, resource, asked=f"bytes={start}-", blind=True))


@behaviour
def answer_416(exchange: Exchange, resource: Resource, *, total: int | None = None) -> None:
    """416 to every Range, with `*/total` (by default the true size); without a Range the file."""
    if exchange.request.range is None:
        exchange.send(honest(exchange.request, resource))
        return
    size = resource.content.size if total is None else total
    headers = [("Content-Range", f"bytes */{size}"), ("Content-Length", "0")]
    exchange.head(416, headers)


@behaviour
def blind_206(exchange: Exchange, resource: Resource) -> None:
    """Ranges without looking at If-Range: parts of whatever content there is now."""
    exchange.send(honest(exchange.request, resource, blind=True))
