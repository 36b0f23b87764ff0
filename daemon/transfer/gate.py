"""The header gate: what the standard library lets pass in the head of a response, and we do not.

`http.client` takes the end of the connection for the end of the head, so that a server which dies there has
delivered an empty file; it skips any number of interim responses; and it keeps NUL in values.
"""

import http.client
import time
from typing import Any

LINES = 512
"""Most lines of a head, those of interim responses (1xx) included."""

SECONDS = 120.0
"""Longest time for a head, in seconds. The time for one line is bounded by the read timeout of each piece."""


class Response(http.client.HTTPResponse):
    """A response whose head is read through the gate."""

    fp: Any

    def begin(self) -> None:
        """Read and check status line and headers."""
        file = self.fp
        self.fp = _Gate(file)
        try:
            super().begin()
        finally:
            # it is None where there is no body
            if isinstance(self.fp, _Gate):
                self.fp = file


class _Gate:
    """Lines of a file, each of them checked."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._lines = 0
        self._until = time.monotonic() + SECONDS

    def readline(self, limit: int) -> bytes:
        line: bytes = self._file.readline(limit)
        self._lines += 1
        if b"\0" in line:
            raise http.client.HTTPException("NUL in the head of a response")
        if self._lines > LINES or time.monotonic() > self._until:
            raise http.client.HTTPException("the head of the response does not end")
        if not line.endswith(b"\n") and len(line) < limit and (line or self._lines > 1):
            raise http.client.RemoteDisconnected("the connection ended in the head of the response")
        return line

    def close(self) -> None:
        self._file.close()
