"""The chunked transfer coding (RFC 9112 section 7.1), read strictly.

`http.client` takes sizes as Python's `int` does (signs, underscores, `0x`), and reads trailers without end.
Broken framing counts as a body that ended early: what was read up to there is good, and may be gone on from.
"""

import re
from typing import Any

from fetchd.protocol.codec import MAX_INT
from fetchd.protocol.errors import Code

from .api import TransferError

LINE = 8192
"""Longest line, chunk extensions included."""

TRAILERS = 128
"""Most trailer lines; they are read over."""

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]*)?\r?\n\Z")


class Chunked:
    """Reads the content of a chunked body from a buffered file. `ended`: all of it has been read.

    `line(limit)` reads one line of the connection within its time.
    """

    def __init__(self, file: Any, line: Any) -> None:
        self._file = file
        self._line = line
        self._left = 0
        self._first = True
        self.ended: bool = False

    def readinto(self, view: memoryview) -> int:
        """Some bytes of the content; 0 at its end, which raises `short_body` where it comes too early."""
        if self.ended:
            return 0
        if not self._left:
            self._begin()
            if not self._left:
                return 0
        count: int = self._file.readinto1(view[: min(len(view), self._left)])
        if not count:
            raise TransferError(Code.SHORT_BODY, "the connection ended in a chunk")
        self._left -= count
        return count

    def _begin(self) -> None:
        if not self._first and self._read() not in (b"\r\n", b"\n"):
            raise TransferError(Code.SHORT_BODY, "a chunk is longer than it announced")
        self._first = False
        match = _SIZE.match(self._read())
        if match is None:
            raise TransferError(Code.SHORT_BODY, "a chunk size that is none")
        self._left = int(match[1], 16)
        if self._left > MAX_INT:
            raise TransferError(Code.BAD_RESPONSE, "a chunk size beyond all bounds")
        if not self._left:
            self._end()

    def _end(self) -> None:
        for _ in range(TRAILERS):
            if self._read() in (b"\r\n", b"\n"):
                self.ended = True
                return
        raise TransferError(Code.BAD_RESPONSE, "the trailers do not end")

    def _read(self) -> bytes:
        line: bytes = self._line(LINE + 1)
        if len(line) > LINE:
            raise TransferError(Code.BAD_RESPONSE, "a line of the chunked coding that is too long")
        if not line.endswith(b"\n"):
            raise TransferError(Code.SHORT_BODY, "the connection ended between chunks")
        return line
