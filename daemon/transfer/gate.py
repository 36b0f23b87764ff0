"""The header gate: what the standard library lets pass in the head of a response, and we do not.

`http.client` takes the end of the connection for the end of the head, so that a server which dies there has
delivered an empty file; it skips any number of interim responses, and takes those other than 100 for final
ones; it keeps NUL in values; and it waits for a line as long as a byte comes now and then.
"""

import http.client
import time
from typing import Any

LINES = 512
"""Most lines of a head, those of interim responses (1xx) included."""

TIMES = 4.0
"""Longest time for a head, as a multiple of the read timeout, which is for each of its pieces."""

SWITCHING = 101


class Lines:
    """Lines of a buffered file, each in its time: `until` is on the monotonic clock."""

    def __init__(self, file: Any, until: float) -> None:
        self._file = file
        self._until = until

    def readline(self, limit: int) -> bytes:
        """A line of up to `limit` bytes; without its end where the connection ends."""
        line = bytearray()
        while len(line) < limit:
            waiting: bytes = self._file.peek(1)
            if not waiting:
                break
            if time.monotonic() > self._until:
                raise TimeoutError("it comes too slowly to ever end")
            end = waiting.find(b"\n", 0, limit - len(line)) + 1
            line += self._file.read(end or min(len(waiting), limit - len(line)))
            if end:
                break
        return bytes(line)


class Response(http.client.HTTPResponse):
    """A response whose head is read through the gate, within `seconds`."""

    fp: Any
    seconds = 120.0

    def begin(self) -> None:
        """Read and check status line and headers."""
        file = self.fp
        self.fp = _Gate(file, time.monotonic() + self.seconds)
        try:
            super().begin()
        finally:
            # it is None where there is no body
            if isinstance(self.fp, _Gate):
                self.fp = file

    def guard(self) -> None:
        """Read what comes through the gate from now on: for the answer of a proxy to CONNECT."""
        self.fp = _Gate(self.fp, time.monotonic() + self.seconds)

    def _read_status(self) -> tuple[str, int, str]:
        # any interim response but a switch of protocols is read over (RFC 9110 section 15.2)
        version, status, reason = super()._read_status()  # type: ignore[misc]
        interim = 100 <= status < 200 and status != SWITCHING
        return version, http.client.CONTINUE if interim else status, reason

    def lines(self, seconds: float) -> Lines:
        """Lines of the body, which must have come within so many seconds from now."""
        return Lines(self.fp, time.monotonic() + seconds)


class _Gate:
    """Lines of a head, each of them checked."""

    def __init__(self, file: Any, until: float) -> None:
        self._file = file
        self._lines = Lines(file, until)
        self._count = 0

    def readline(self, limit: int) -> bytes:
        line = self._lines.readline(limit)
        self._count += 1
        if b"\0" in line:
            raise http.client.HTTPException("NUL in the head of a response")
        if b"\r" in line[:-2]:
            # to the parser of headers it ends a line, to other readers it does not (RFC 9112 section 2.2)
            raise http.client.HTTPException("a bare CR in the head of a response")
        if self._count > LINES:
            raise http.client.HTTPException("the head of the response does not end")
        if not line.endswith(b"\n") and len(line) < limit and (line or self._count > 1):
            raise http.client.RemoteDisconnected("the connection ended in the head of the response")
        return line

    def flush(self) -> None:
        """Nothing is written."""

    def close(self) -> None:
        self._file.close()
