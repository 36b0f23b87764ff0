"""Servers that keep the rules: whole, in parts, slow, waiting for the test, compressed."""

import gzip as zlib_gzip
import time
from dataclasses import replace

from support.content import BLOCK, Blob
from support.exchange import Exchange, Resource, honest
from support.gate import Gate

from .table import behaviour


@behaviour
def plain(exchange: Exchange, resource: Resource) -> None:
    """What the resource says, by the rules."""
    exchange.send(honest(exchange.request, resource))


@behaviour
def chunked(exchange: Exchange, resource: Resource) -> None:
    """Chunked transfer coding, so no length is known."""
    plain(exchange, replace(resource, framing="chunked"))


@behaviour
def until_close(exchange: Exchange, resource: Resource) -> None:
    """Neither length nor chunks: the body ends with the connection."""
    plain(exchange, replace(resource, framing="close"))


@behaviour
def no_ranges(exchange: Exchange, resource: Resource) -> None:
    """A server that does not know ranges: 200 with everything to every request."""
    plain(exchange, replace(resource, ranges=False))


@behaviour
def hold(exchange: Exchange, resource: Resource, *, after: int, gate: Gate) -> None:
    """Head and the first `after` bytes of the body, then wait at the gate, then the rest."""
    reply = honest(exchange.request, resource)
    exchange.begin(reply)
    exchange.body(reply, 0, after)
    exchange.wait(gate)
    exchange.body(reply, after)
    exchange.end(reply)


@behaviour
def stall(exchange: Exchange, resource: Resource, *, gate: Gate) -> None:
    """Accept the request and send nothing before the gate opens."""
    exchange.wait(gate)
    plain(exchange, resource)


@behaviour
def paced(exchange: Exchange, resource: Resource, *, rate: float) -> None:
    """The body at `rate` bytes a second, in pieces of at most 1/20 s."""
    reply = honest(exchange.request, resource)
    exchange.begin(reply)
    piece = max(1, min(BLOCK, int(rate / 20)))
    started = time.monotonic()
    for at in range(0, reply.length, piece):
        exchange.pause(started + at / rate - time.monotonic())
        exchange.body(reply, at, at + piece)
    exchange.end(reply)


@behaviour
def gzip(exchange: Exchange, resource: Resource) -> None:
    """Content-Encoding: gzip whatever was accepted: chunked, weak ETag, no ranges, as nginx does."""
    packed = zlib_gzip.compress(b"".join(resource.content.pieces(0, resource.content.size)), mtime=0)
    weak = None if resource.etag is None else "W/" + resource.etag.removeprefix("W/")
    reply = honest(exchange.request, replace(resource, ranges=False, framing="chunked", etag=weak))
    reply.content, reply.start, reply.stop = Blob(packed), 0, len(packed)
    reply.set("Content-Encoding", "gzip")
    exchange.send(reply)
