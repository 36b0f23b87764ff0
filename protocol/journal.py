"""The frontier file of a workspace: which ranges of which content have been written, readable after a crash.

The worker maps it into memory, so that an update costs no system call and survives the death of any process.
It says nothing about what survives a power cut: that is `Synced`. Private, changed in lockstep.

Layout, little-endian: magic (8 bytes), boot ID (16), generation (8), count (8), up to 120 ranges of two
8-byte numbers in any order, then from `HEAD` the length (4), CRC-32 (4) and MessagePack of the validator and
the total.
"""

import mmap
import struct
import zlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import msgspec

from .mailbox import Validator

SIZE = 8192
MAGIC = b"fetchdJ1"
MAX_RANGES = 120
COUNT = 32
RANGES = 40
HEAD = 2048

_FIXED = struct.Struct("<8s16sQQ")
_RANGE = struct.Struct("<QQ")
_NUMBER = struct.Struct("<Q")
_BLOB = struct.Struct("<II")


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What is being written: enough to ask the server for the rest of it."""

    validator: Validator
    total: int | None


class Frontier(msgspec.Struct, frozen=True, kw_only=True):
    """A frontier as it was found on disk. Ranges are `[start, end)`, ascending, not touching each other."""

    boot_id: str
    generation: int
    ranges: tuple[tuple[int, int], ...]
    content: Content


@cache
def boot_id() -> str:
    """The ID of this boot (random(4)): page cache written under it is still there while it lasts."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def blank() -> bytes:
    """The content of a new frontier file; written in full, so that mapping it can never meet a hole."""
    return bytes(SIZE)


class Journal:
    """The writer's side: one per attempt."""

    def __init__(self, fd: int, boot: str) -> None:
        self._map = mmap.mmap(fd, SIZE)
        self._boot = bytes.fromhex(boot.replace("-", ""))

    def begin(self, generation: int, content: Content, ranges: tuple[tuple[int, int], ...]) -> None:
        """Start describing a content. While this runs, the file says that nothing is there."""
        blob = msgspec.msgpack.encode(content)
        # first no ranges, then the rest, then the count: a crash in between loses bytes, never mixes them.
        # The count has a statement of its own, because one copy may be stored in any order
        _NUMBER.pack_into(self._map, COUNT, 0)
        self._map[:COUNT] = _FIXED.pack(MAGIC, self._boot, generation, 0)[:COUNT]
        self._map[HEAD : HEAD + _BLOB.size] = _BLOB.pack(len(blob), zlib.crc32(blob))
        self._map[HEAD + _BLOB.size : HEAD + _BLOB.size + len(blob)] = blob
        ranges = ranges or ((0, 0),)
        for index, pair in enumerate(ranges):
            self.extend(index, *pair)
        self.count(len(ranges))

    def count(self, ranges: int) -> None:
        """How many ranges there are from now on; a new one has been set by `extend` before."""
        _NUMBER.pack_into(self._map, COUNT, ranges)

    def extend(self, index: int, start: int, end: int) -> None:
        """Range `index` is now `[start, end)`; called after the bytes have been written.

        Little-endian numbers that grow are stored byte by byte from the low end: one that is cut off by a
        kill is between the old and the new one.
        """
        _RANGE.pack_into(self._map, RANGES + 16 * index, start, end)

    def close(self) -> None:
        self._map.close()


def merged(pairs: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...] | None:
    """Ascending ranges with those that touch made one; None where they overlap or are none."""
    found: list[tuple[int, int]] = []
    for start, end in pairs:
        if start >= end or (found and start < found[-1][1]):
            return None
        if found and start == found[-1][1]:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return tuple(found)


def read(data: bytes) -> Frontier | None:
    """A frontier from the file's bytes, or None where they are not one. The file's writer is not trusted."""
    if len(data) != SIZE:
        return None
    magic, boot, generation, count = _FIXED.unpack_from(data)
    # no range at all: the writer was killed while it began, and what is there belongs to two contents
    if magic != MAGIC or not 0 < count <= MAX_RANGES:
        return None
    length, crc = _BLOB.unpack_from(data, HEAD)
    blob = data[HEAD + _BLOB.size : HEAD + _BLOB.size + length]
    if length > SIZE - HEAD - _BLOB.size or zlib.crc32(blob) != crc:
        return None
    try:
        content = msgspec.msgpack.decode(blob, type=Content)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    if content.total is not None and not 0 <= content.total < 2**53:
        return None
    pairs = sorted(_RANGE.unpack_from(data, RANGES + 16 * index) for index in range(count))
    ranges = merged(pair for pair in pairs if pair[0] != pair[1])
    if ranges is None or (ranges and ranges[-1][1] >= 2**53):
        return None
    text = boot.hex()
    spelt = f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
    return Frontier(boot_id=spelt, generation=generation, ranges=ranges, content=content)
