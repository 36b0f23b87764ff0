"""The frontier file: it never covers bytes that are not in the data file, and reading it never fails."""

import os
import random
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.wait import read_line

from fetchd.protocol import journal
from fetchd.protocol.journal import Content, Frontier, Journal
from fetchd.protocol.mailbox import Validator

BOOT = "01234567-89ab-cdef-0123-456789abcdef"
CONTENT = Content(validator=Validator(etag='"v1"'), total=1000)

WRITER = """
import os, sys
from fetchd.protocol.journal import Content, Journal
from fetchd.protocol.mailbox import Validator

data, frontier = (os.open(path, os.O_RDWR) for path in sys.argv[1:3])
journal = Journal(frontier, "01234567-89ab-cdef-0123-456789abcdef")
generation = 0
print("ready", flush=True)
while True:
    # each content has a byte of its own, so that bytes of two contents are told apart
    generation += 1
    byte = bytes([generation % 251 + 1])
    content = Content(validator=Validator(etag=f'"{generation}"' * (generation % 50 + 1)), total=generation)
    journal.begin(generation, content, ((0, 0),))
    os.ftruncate(data, 0)
    position = 0
    for step in range(1, 40):
        position += os.pwrite(data, byte * (step * 97), position)
        journal.extend(0, 0, position)
"""


def new_frontier(directory: Path) -> Path:
    path = directory / "frontier"
    path.write_bytes(journal.blank())
    return path


def opened(path: Path) -> Journal:
    fd = os.open(path, os.O_RDWR)
    try:
        return Journal(fd, BOOT)
    finally:
        os.close(fd)


def test_what_was_written_is_read(downloads: Path) -> None:
    path = new_frontier(downloads)
    assert journal.read(path.read_bytes()) is None
    made = opened(path)
    made.begin(3, CONTENT, ((0, 100), (200, 300)))
    made.extend(0, 0, 150)
    # no close, no sync: this is what a kill leaves
    assert journal.read(path.read_bytes()) == Frontier(
        boot_id=BOOT, generation=3, ranges=((0, 150), (200, 300)), content=CONTENT
    )
    made.begin(4, Content(validator=Validator(), total=None), ((0, 0),))
    assert journal.read(path.read_bytes()) == Frontier(
        boot_id=BOOT, generation=4, ranges=(), content=Content(validator=Validator(), total=None)
    )
    made.close()


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_writer_never_leaves_more_than_it_wrote(downloads: Path, seed: int) -> None:
    """`kill -9` at random moments: every frontier is of bytes of its own content that are really there."""
    chance = random.Random(seed)
    found = set()
    for _ in range(8):
        data, frontier = downloads / "data", new_frontier(downloads)
        data.write_bytes(b"")
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(data), str(frontier)], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert read_line(process.stdout.fileno(), 10) == b"ready\n"
            # busy until the kill: a moment of no fixed length
            for _ in range(chance.randrange(300)):
                frontier.read_bytes()
            process.kill()
        read = journal.read(frontier.read_bytes())
        if read is None:
            continue
        end = read.ranges[0][1] if read.ranges else 0
        written = data.read_bytes()
        assert len(written) >= end, "the frontier claims bytes that were never written"
        assert set(written[:end]) <= {read.generation % 251 + 1}, "bytes of another content"
        assert read.content.total == read.generation
        found.add(read.generation)
    assert found


def made(
    blob: bytes, *, count: int = 0, ranges: tuple[tuple[int, int], ...] = (), length: int | None = None
) -> bytes:
    """A file with a valid checksum around any content."""
    data = bytearray(journal.SIZE)
    struct.pack_into("<8s16sQQ", data, 0, journal.MAGIC, b"b" * 16, 1, count)
    for index, pair in enumerate(ranges):
        struct.pack_into("<QQ", data, journal.RANGES + 16 * index, *pair)
    room = journal.SIZE - journal.HEAD - 8
    blob = blob[:room]
    struct.pack_into("<II", data, journal.HEAD, len(blob) if length is None else length, zlib.crc32(blob))
    data[journal.HEAD + 8 : journal.HEAD + 8 + len(blob)] = blob
    return bytes(data)


GOOD = msgspec.msgpack.encode(CONTENT)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        journal.blank()[:-1],
        journal.blank() + b"\0",
        made(GOOD, count=journal.MAX_RANGES + 1),
        made(GOOD, count=2**64 - 1),
        made(GOOD, length=2**32 - 1),
        made(b"\xc1"),
        made(b"\x91" * 6000),
        made(b"\x81\xa1q" + b"\x91" * 6000),
        made(GOOD.replace(b"v1", b"\xff\xff")),
        made(msgspec.msgpack.encode({"validator": {}, "total": -1})),
        made(msgspec.msgpack.encode({"validator": {}, "total": 2**60})),
        made(GOOD, count=1, ranges=((5, 1),)),
        made(GOOD, count=2, ranges=((0, 9), (5, 20))),
        made(GOOD, count=1, ranges=((0, 2**60),)),
    ],
    ids=[
        "empty", "short", "long", "many ranges", "endless ranges", "long content", "no content", "deep",
        "deep and unknown", "not UTF-8", "negative total", "total too large", "backwards", "overlapping",
        "range too large",
    ],
)  # fmt: skip
def test_what_is_no_frontier_is_none(data: bytes) -> None:
    assert journal.read(data) is None


def test_a_good_one_passes_the_same_way() -> None:
    read = journal.read(made(GOOD, count=2, ranges=((0, 9), (10, 20))))
    assert read is not None
    assert (read.ranges, read.content) == (((0, 9), (10, 20)), CONTENT)


@settings(max_examples=500, deadline=None)
@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5) | st.binary(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    ).map(msgspec.msgpack.encode),
    st.integers(0, 70),
    st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)), max_size=5).map(tuple),
    st.lists(st.tuples(st.integers(0, journal.SIZE - 1), st.integers(0, 255)), max_size=5),
)
@example(GOOD, 1, ((0, 5),), [])
def test_hostile_files_never_raise(
    blob: bytes, count: int, ranges: tuple[tuple[int, int], ...], flips: list[tuple[int, int]]
) -> None:
    data = bytearray(made(blob, count=count, ranges=ranges))
    for at, value in flips:
        data[at] = value
    read = journal.read(bytes(data))
    if read is not None:
        edges = [edge for pair in read.ranges for edge in pair]
        assert edges == sorted(set(edges))
        assert all(0 <= edge < 2**53 for edge in edges)
        assert read.content.total is None or 0 <= read.content.total < 2**53


def test_a_writer_that_was_killed_while_it_began_has_said_nothing(downloads: Path) -> None:
    path = new_frontier(downloads)
    begun = opened(path)
    begun.begin(3, CONTENT, ((0, 100),))
    begun.close()
    data = bytearray(path.read_bytes())
    data[journal.COUNT : journal.COUNT + 8] = bytes(8)
    assert journal.read(bytes(data)) is None


def test_ranges_in_any_order_and_touching_ones() -> None:
    """As several writers leave them, who divide what one of them had to fetch."""
    found = journal.read(made(GOOD, count=4, ranges=((30, 40), (0, 9), (9, 20), (25, 25))))
    assert found is not None
    assert found.ranges == ((0, 20), (30, 40))
