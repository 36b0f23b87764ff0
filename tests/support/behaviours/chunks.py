"""Chunked bodies (RFC 9112 section 7.1): legal ones that are rare, and others that break the rules."""

from dataclasses import replace

from support.exchange import Exchange, Reply, Resource, honest

from .heads import drip
from .table import behaviour


def _begun(exchange: Exchange, resource: Resource) -> Reply:
    """The head of a chunked answer has been sent."""
    reply = honest(exchange.request, replace(resource, framing="chunked"))
    exchange.begin(reply)
    return reply


@behaviour
def tiny_chunks(exchange: Exchange, resource: Resource, *, size: int = 999) -> None:
    """Chunked, in chunks of `size` bytes."""
    reply = _begun(exchange, resource)
    for at in range(0, reply.length, size):
        exchange.body(reply, at, at + size)
    exchange.end(reply)


@behaviour
def trailers(exchange: Exchange, resource: Resource) -> None:
    """Chunked, with two trailers behind the last chunk, as is allowed."""
    exchange.body(_begun(exchange, resource))
    exchange.raw(b"0\r\nExpires: 0\r\nX-Trailer: yes\r\n\r\n")


@behaviour
def endless_trailers(exchange: Exchange, resource: Resource) -> None:
    """Chunked, the whole body, and behind the last chunk trailers that do not end."""
    exchange.hang_up()
    exchange.body(_begun(exchange, resource))
    exchange.raw(b"0\r\n")
    while True:
        exchange.raw((b"X-Trailer: " + b"x" * 64 + b"\r\n") * 100)


@behaviour
def dripped_trailers(exchange: Exchange, resource: Resource, *, interval: float = 0.05) -> None:
    """Chunked, the whole body, and behind the last chunk a trailer of one byte every `interval` seconds."""
    exchange.hang_up()
    exchange.body(_begun(exchange, resource))
    exchange.raw(b"0\r\nX-Trailer: ")
    drip(exchange, b"x", interval)


@behaviour
def chunk_extensions(exchange: Exchange, resource: Resource, *, size: int = 4096) -> None:
    """Chunked, every chunk with extensions, plain and quoted, as is allowed."""
    reply = _begun(exchange, resource)
    for piece in reply.content.pieces(reply.start, reply.stop):
        for at in range(0, len(piece), size):
            part = piece[at : at + size]
            exchange.raw(b'%X;name=value;flag;quoted="a;b \\" c"\r\n' % len(part))
            exchange.piece(part)
            exchange.raw(b"\r\n")
    exchange.raw(b"0;last\r\n\r\n")


@behaviour
def endless_extension(exchange: Exchange, resource: Resource) -> None:
    """Chunked: the first chunk's size has an extension that does not end."""
    exchange.hang_up()
    _begun(exchange, resource)
    exchange.raw(b"10;name=")
    while True:
        exchange.raw(b"x" * 4096)


@behaviour
def chunk_size(exchange: Exchange, resource: Resource, *, text: str) -> None:
    """Chunked: the first chunk's size is this text, and as many bytes follow as Python's `int(text, 16)`
    makes of it (`0x10`, `+5`, `-5`, ` 5`, `1_0`: none of them is one by the RFC); then the rest, properly."""
    reply = _begun(exchange, resource)
    count = abs(int(text, 16))
    exchange.raw(text.encode() + b"\r\n")
    for piece in reply.content.pieces(reply.start, min(reply.start + count, reply.stop)):
        exchange.piece(piece)
    exchange.raw(b"\r\n")
    exchange.body(reply, count)
    exchange.end(reply)


@behaviour
def huge_chunk(exchange: Exchange, resource: Resource, *, size: str = "f" * 15) -> None:
    """Chunked: one chunk of `size` bytes is announced; the body comes, then the end of the connection."""
    exchange.hang_up()
    reply = _begun(exchange, resource)
    exchange.raw(size.encode() + b"\r\n")
    for piece in reply.content.pieces(reply.start, reply.stop):
        exchange.piece(piece)


@behaviour
def joined_chunks(exchange: Exchange, resource: Resource) -> None:
    """Chunked, without the line end behind each chunk."""
    reply = _begun(exchange, resource)
    for piece in reply.content.pieces(reply.start, reply.stop):
        exchange.raw(b"%x\r\n" % len(piece))
        exchange.piece(piece)
    exchange.raw(b"0\r\n\r\n")


@behaviour
def no_last_chunk(exchange: Exchange, resource: Resource, *, cut: int = 0) -> None:
    """Chunked, all but the last `cut` bytes of the body, in whole chunks; the end comes without the last
    chunk that would say so."""
    exchange.hang_up()
    reply = _begun(exchange, resource)
    exchange.body(reply, 0, reply.length - cut)


@behaviour
def chunked_with_length(exchange: Exchange, resource: Resource, *, by: int = 0) -> None:
    """Chunked, and a Content-Length too, that is `by` bytes too long. By RFC 9112 section 6.3 the chunks
    count, and it ought to be handled as an error."""
    reply = honest(exchange.request, replace(resource, framing="chunked"))
    reply.set("Content-Length", str(reply.length + by))
    exchange.hang_up()
    exchange.send(reply)
