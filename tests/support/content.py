"""Deterministic content of any size that need not be kept in memory.

A `Pattern` is made of 64 KiB blocks, each a different window of pseudo-random bytes with the block's number
in front, so that bytes merged at a wrong place always change the digest, however far they were shifted.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

BLOCK = 1 << 16
_MARK = 16


class Content(Protocol):
    """Bytes that are read in pieces."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from `start` up to `stop`, in order, in pieces of at most `BLOCK` bytes."""

    def __hash__(self) -> int:
        """Contents do not change, so what is made of them may be kept."""


@dataclass(frozen=True)
class Pattern:
    """`size` pseudo-random bytes that follow from `seed`, made on demand."""

    size: int
    seed: int = 0

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from `start` up to `stop`, in order, block by block."""
        stop = min(stop, self.size)
        while start < stop:
            index, offset = divmod(start, BLOCK)
            piece = _block(self.seed, index)[offset : min(BLOCK, stop - index * BLOCK)]
            yield piece
            start += len(piece)


@dataclass(frozen=True)
class Blob:
    """Content given as bytes."""

    data: bytes

    @property
    def size(self) -> int:
        """Length in bytes."""
        return len(self.data)

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from `start` up to `stop`, in order, in pieces of at most `BLOCK` bytes."""
        for at in range(start, min(stop, self.size), BLOCK):
            yield self.data[at : min(at + BLOCK, stop)]


def pattern(size: int, seed: int = 0) -> bytes:
    """The whole of a `Pattern`, for small ones."""
    return b"".join(Pattern(size, seed).pieces(0, size))


def digest_of(content: Content) -> str:
    """SHA-256 of a content as hex, without keeping it in memory."""
    digest = hashlib.sha256()
    for piece in content.pieces(0, content.size):
        digest.update(piece)
    return digest.hexdigest()


@lru_cache(maxsize=64)
def sha256_of(size: int, seed: int = 0) -> str:
    """SHA-256 of `pattern(size, seed)` as hex."""
    return digest_of(Pattern(size, seed))


def sha256_file(path: Path) -> str:
    """SHA-256 of a file as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_content(path: Path, content: Content) -> None:
    """Write a content to a file."""
    with path.open("wb") as file:
        file.writelines(content.pieces(0, content.size))


def first_difference(path: Path, content: Content) -> int | None:
    """Offset of the first byte at which the file is not the content, or None where they are equal."""
    at = 0
    with path.open("rb") as file:
        for piece in content.pieces(0, content.size):
            got = file.read(len(piece))
            if got != piece:
                same = (i for i, (a, b) in enumerate(zip(got, piece, strict=False)) if a != b)
                return at + next(same, min(len(got), len(piece)))
            at += len(piece)
        return at if file.read(1) else None


@lru_cache(maxsize=32)
def _base(seed: int) -> bytes:
    return hashlib.shake_256(b"fetchd pattern %d" % seed).digest(2 * BLOCK)


def _block(seed: int, index: int) -> bytes:
    at = index * 7919 % BLOCK  # another window for each block: a shift by whole blocks shows everywhere
    return b"%016x" % index + _base(seed)[at : at + BLOCK - _MARK]
