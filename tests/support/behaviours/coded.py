"""Contents that come compressed although nobody asked, and digests that are announced with them."""

import gzip
import hashlib
from base64 import b64encode
from dataclasses import replace
from functools import lru_cache

from support.content import Content
from support.exchange import Exchange, Resource, honest

from .table import behaviour

_HASHES = {"sha-256": "sha256", "sha-512": "sha512", "md5": "md5"}


@lru_cache(maxsize=8)
def packed(content: Content) -> bytes:
    """A content compressed by gzip, the same bytes every time."""
    return gzip.compress(b"".join(content.pieces(0, content.size)), mtime=0)


@lru_cache(maxsize=4)
def bomb(size: int) -> bytes:
    """A thousandth of `size` bytes that gzip makes `size` zeros of."""
    return gzip.compress(bytes(size), mtime=0)


@behaviour
def gzip_length(exchange: Exchange, resource: Resource, *, ranges: bool = False) -> None:
    """Content-Encoding: gzip whatever was accepted, with its length and a strong ETag of its own (`ranges`:
    and parts of the compressed bytes)."""
    made = replace(resource, body=packed(resource.content), etag='"packed"', ranges=ranges)
    reply = honest(exchange.request, made)
    reply.set("Content-Encoding", "gzip")
    exchange.send(reply)


@behaviour
def gzip_bomb(exchange: Exchange, resource: Resource, *, size: int = 64 << 20) -> None:
    """Content-Encoding: gzip with a small body that would be `size` zeros."""
    reply = honest(exchange.request, replace(resource, body=bomb(size), etag=None, ranges=False))
    reply.set("Content-Encoding", "gzip")
    exchange.send(reply)


@behaviour
def announced_digest(
    exchange: Exchange,
    resource: Resource,
    *,
    header: str = "Repr-Digest",
    algorithm: str = "sha-256",
    right: bool = True,
) -> None:
    """The digest of the whole file in `Repr-Digest` (RFC 9530) or `Digest` (RFC 3230); not `right`: of
    another. For an algorithm that nobody knows there are a few bytes."""
    digest = hashlib.new(_HASHES.get(algorithm.lower(), "md5"))
    for piece in resource.content.pieces(0, resource.content.size):
        digest.update(piece)
    if not right:
        digest.update(b"?")
    text = b64encode(digest.digest()).decode()
    reply = honest(exchange.request, resource)
    reply.set(header, f"{algorithm}=:{text}:" if header == "Repr-Digest" else f"{algorithm}={text}")
    exchange.send(reply)
