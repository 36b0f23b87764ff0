"""The speed of an attempt: not more than its rate, not less than its minimum. Shared by its connections."""

import threading
import time

from fetchd.protocol.errors import Code

from .api import TransferError

SLICE = 0.05
"""Seconds of the rate that are handed out at once, and how much of a pause may be caught up."""

LEAST = 2048
"""Bytes that are handed out at least, however low the rate is: less would cost more than it smooths."""


class Pace:
    """Hands out leave to receive bytes. `rate` in bytes a second, None: no limit."""

    def __init__(self, rate: int | None) -> None:
        self._rate = rate
        self._condition = threading.Condition()
        self._next = time.monotonic()
        self._ended = False

    @property
    def rate(self) -> int | None:
        return self._rate

    def set(self, rate: int | None) -> None:
        """Another rate, at once."""
        with self._condition:
            if self._rate is not None and rate is not None:
                # what waits for bytes that were let go at the old rate waits as the new one has it
                now = time.monotonic()
                self._next = now + max(0.0, self._next - now) * self._rate / rate
            else:
                self._next = time.monotonic()
            self._rate = rate
            self._condition.notify_all()

    def end(self) -> None:
        """Nobody waits any more."""
        with self._condition:
            self._ended = True
            self._condition.notify_all()

    def take(self, wanted: int) -> int:
        """Wait for leave; how many of `wanted` bytes may be received now, at least one."""
        if self._rate is None:
            return wanted
        with self._condition:
            while self._rate is not None and not self._ended:
                now = time.monotonic()
                if self._next <= now:
                    count = min(wanted, max(LEAST, int(self._rate * SLICE)))
                    self._next = max(self._next, now - SLICE) + count / self._rate
                    return count
                self._condition.wait(self._next - now)
        return wanted

    def put_back(self, count: int) -> None:
        """So many of the bytes did not come."""
        with self._condition:
            if count and self._rate is not None:
                self._next -= count / self._rate


class Floor:
    """Watches that at least `least` bytes a second come over `span` seconds (least 0: whatever comes)."""

    def __init__(self, least: int, span: float) -> None:
        self._least = least
        self._span = span
        self._lock = threading.Lock()
        self._since = time.monotonic()
        self._count = 0

    def received(self, count: int, rate: int | None) -> None:
        """So many bytes have come, under this limit. Raises `too_slow`."""
        if not self._least:
            return
        with self._lock:
            self._count += count
            now = time.monotonic()
            if now - self._since < self._span:
                return
            least = self._least if rate is None else min(self._least, rate / 2)
            speed = self._count / (now - self._since)
            self._since, self._count = now, 0
        if speed < least:
            text = f"{speed:.0f} bytes a second over {self._span:g} s, at least {self._least} are wanted"
            raise TransferError(Code.TOO_SLOW, text)
