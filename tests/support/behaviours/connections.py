"""What happens on a connection before, between and beside the answers."""

from support.exchange import Exchange, Resource, honest

from .table import behaviour


@behaviour
def stale_connection(exchange: Exchange, resource: Resource) -> None:
    """A connection serves one request and is kept; the next request on it gets no answer but the end."""
    if exchange.first(exchange.request.connection):
        exchange.send(honest(exchange.request, resource))
    else:
        exchange.hang_up()


@behaviour
def silent_close(exchange: Exchange, resource: Resource) -> None:
    """The file, as on a connection that is kept, and then it ends all the same."""
    exchange.send(honest(exchange.request, resource))
    exchange.keep = False


@behaviour
def extra_bytes(exchange: Exchange, resource: Resource, *, data: bytes = b"?") -> None:
    """The file in its right length, and bytes behind it on a connection that is kept."""
    reply = honest(exchange.request, resource)
    exchange.send(reply)
    exchange.raw(data)


@behaviour
def dripped_body(
    exchange: Exchange, resource: Resource, *, after: int = 0, interval: float = 0.05, size: int = 1
) -> None:
    """The head and `after` bytes of the body, and then `size` bytes every `interval` seconds."""
    reply = honest(exchange.request, resource)
    exchange.begin(reply)
    exchange.body(reply, 0, after)
    for at in range(after, reply.length, size):
        exchange.pause(interval)
        exchange.body(reply, at, at + size)
    exchange.end(reply)


@behaviour
def cut_until_close(exchange: Exchange, resource: Resource, *, after: int) -> None:
    """Neither length nor chunks, `after` bytes of the body, the end: without a checksum nobody can tell."""
    reply = honest(exchange.request, resource)
    reply.drop("Content-Length")
    reply.framing = "close"
    exchange.begin(reply)
    exchange.body(reply, 0, after)


@behaviour
def wait_first(exchange: Exchange, resource: Resource, *, seconds: float = 0.2) -> None:
    """Silence for so long, and then the file."""
    exchange.pause(seconds)
    exchange.send(honest(exchange.request, resource))
