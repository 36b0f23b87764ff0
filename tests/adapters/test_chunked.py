"""Chunked bodies, good and bad: the content, or a code, and never what is not of the content."""

import io
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetchd.daemon.transfer.api import TransferError
from fetchd.daemon.transfer.chunked import LINE, TRAILERS, Chunked
from fetchd.daemon.transfer.gate import Lines
from fetchd.protocol.errors import Code

SHORT, BAD = Code.SHORT_BODY, Code.BAD_RESPONSE


def read(body: bytes, room: int = 1 << 16) -> tuple[bytes, Code | None, bytes]:
    """The content, how it ended (None: well), and what of the connection was not read."""
    file = io.BufferedReader(io.BytesIO(body))
    chunked = Chunked(file, Lines(file, time.monotonic() + 60).readline)
    found, view = b"", memoryview(bytearray(room))
    try:
        while count := chunked.readinto(view):
            found += view[:count]
    except TransferError as error:
        assert not chunked.ended
        return found, error.code, file.read()
    assert chunked.ended
    assert chunked.readinto(view) == 0
    return found, None, file.read()


GOOD = [
    ("nothing", b"0\r\n\r\n", b""),
    ("one chunk", b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    ("several", b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", b"hello"),
    ("hexadecimal", b"a\r\n0123456789\r\n0B\r\n0123456789a\r\n0\r\n\r\n", b"01234567890123456789a"),
    ("leading zeros", b"0005\r\nhello\r\n0000\r\n\r\n", b"hello"),
    ("sixteen digits", b"0000000000000005\r\nhello\r\n0\r\n\r\n", b"hello"),
    ("an extension", b"5;a=b\r\nhello\r\n0;c\r\n\r\n", b"hello"),
    ("a quoted extension", b'5 ; a="x;y"\r\nhello\r\n0\r\n\r\n', b"hello"),
    ("space behind the size", b"5 \t\r\nhello\r\n0\r\n\r\n", b"hello"),
    ("trailers", b"5\r\nhello\r\n0\r\nX: 1\r\nDigest: y\r\n\r\n", b"hello"),
    ("most trailers", b"0\r\n" + b"X: 1\r\n" * (TRAILERS - 1) + b"\r\n", b""),
    ("bare line feeds", b"5\nhello\n0\n\n", b"hello"),
    ("line ends in the content", b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n"),
    ("a long extension", b"1;" + b"x" * (LINE - 4) + b"\r\na\r\n0\r\n\r\n", b"a"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "content"), [row[1:] for row in GOOD], ids=[row[0] for row in GOOD])
def test_a_good_body(body: bytes, content: bytes) -> None:
    for room in (1, 2, 3, 1 << 16):
        assert read(body + b"HTTP/1.1 200", room) == (content, None, b"HTTP/1.1 200")


@pytest.mark.parametrize(("body", "content"), [row[1:] for row in GOOD], ids=[row[0] for row in GOOD])
def test_a_good_body_cut_anywhere(body: bytes, content: bytes) -> None:
    for end in range(len(body)):
        found, code, _ = read(body[:end])
        assert code is SHORT
        assert content.startswith(found)


BEFORE = b"5\r\nhello\r\n"
SIZES = [
    b"", b" ", b" 5", b"+5", b"-5", b"-0", b"0x5", b"0X5", b"5_0", b"5h", b"5 5", b"5,", b"g", b"\xb2",
    "５".encode(), b"00000000000000005", b"5\r", b"\x005", b"5\t\x0b", b"5:a",
]  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
def test_sizes_that_are_none(size: bytes) -> None:
    """Python's `int` takes some of them, and http.client all that it takes."""
    found, code, _ = read(BEFORE + size + b"\r\nworld\r\n0\r\n\r\n")
    assert (found, code) == (b"hello", SHORT)


BROKEN = [
    ("no size", b"", SHORT),
    ("no end of the chunk", b"5\r\nworld0\r\n\r\n", SHORT),
    ("longer than announced", b"4\r\nworld\r\n0\r\n\r\n", SHORT),
    ("shorter than announced", b"7\r\nworld\r\n0\r\n\r\n", SHORT),
    ("half an end", b"5\r\nworld\rx0\r\n\r\n", SHORT),
    ("the largest size", b"f" * 16 + b"\r\nworld", BAD),
    ("beyond what JSON can say", b"20000000000001\r\nworld", BAD),
    ("a size that never comes", b"1fffffffffffff\r\nworld", SHORT),
    ("trailers without end", b"0\r\n" + b"X: 1\r\n" * TRAILERS + b"\r\n", BAD),
    ("an endless line", b"5;" + b"x" * LINE, BAD),
    ("an endless trailer", b"0\r\n" + b"x" * (LINE + 1), BAD),
    ("an endless end of a chunk", b"5\r\nworld" + b"\r" * (LINE + 1), BAD),
    ("the next response", b"HTTP/1.1 200 OK\r\n\r\n", SHORT),
]  # fmt: skip


@pytest.mark.parametrize(("rest", "code"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_a_broken_body(rest: bytes, code: Code) -> None:
    found, said, _ = read(BEFORE + rest)
    assert said is code
    assert b"helloworld\r\n0".startswith(found)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.integers(1, 50), st.data())
def test_any_content_in_any_pieces(pieces: list[bytes], room: int, data: st.DataObject) -> None:
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    assert read(body, room) == (b"".join(pieces), None, b"")
    at = data.draw(st.integers(0, len(body) - 1))
    broken = bytearray(body)
    broken[at] ^= 1 << data.draw(st.integers(0, 7))
    found, code, _ = read(bytes(broken), room)
    assert code in (None, SHORT, BAD)
    assert len(found) <= len(body)


@given(st.binary(max_size=200))
def test_rubbish_has_a_code(body: bytes) -> None:
    assert read(body)[1] in (None, SHORT, BAD)
