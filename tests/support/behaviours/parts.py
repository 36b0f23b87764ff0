"""Servers that treat one of several connections differently from the others."""

from support.exchange import Exchange, Resource, honest
from support.gate import Gate

from .basic import paced
from .status import status
from .table import behaviour


@behaviour
def lane_slow(exchange: Exchange, resource: Resource, *, visit: int, rate: float) -> None:
    """One visit is answered at `rate` bytes a second, the others honestly."""
    if exchange.request.visit == visit:
        paced(exchange, resource, rate=rate)
    else:
        exchange.send(honest(exchange.request, resource))


@behaviour
def lane_limited(exchange: Exchange, resource: Resource, *, most: int, rate: float, code: int = 503) -> None:
    """An error to whoever comes while `most` requests are answered already; these at `rate`."""
    if exchange.request.concurrent > most:
        status(exchange, resource, code=code)
    else:
        paced(exchange, resource, rate=rate)


@behaviour
def lane_late_error(exchange: Exchange, resource: Resource, *, gate: Gate, code: int = 404) -> None:
    """Nothing before the gate opens, and then an error."""
    exchange.wait(gate)
    status(exchange, resource, code=code)


@behaviour
def lane_cut(exchange: Exchange, resource: Resource, *, visit: int, after: int) -> None:
    """One visit ends after so many bytes of its body, the others are served honestly."""
    reply = honest(exchange.request, resource)
    if exchange.request.visit != visit:
        exchange.send(reply)
        return
    exchange.hang_up()
    exchange.begin(reply)
    exchange.body(reply, 0, after)


@behaviour
def lane_short(exchange: Exchange, resource: Resource, *, most: int) -> None:
    """Of every range at most so many bytes, properly told in Content-Range."""
    reply = honest(exchange.request, resource)
    if reply.status == 206:
        reply.stop = min(reply.stop, reply.start + most)
        reply.set("Content-Range", f"bytes {reply.start}-{reply.stop - 1}/{reply.content.size}")
        reply.set("Content-Length", str(reply.length))
    exchange.send(reply)
