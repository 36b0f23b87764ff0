"""The speed of an attempt: not more than its rate, not less than its minimum. Shared by its connections."""

import threading
import time

from fetchd.protocol.errors import Code

from .api import TransferError

SLICE = 0.05
"""Seconds of the rate that are handed out at once, and how much of a pause may be caught up."""

LEAST = 2048
"""Bytes that are handed out at least, however low the rate is: less would cost more than it smooths."""


class Bucket:
    """The arithmetic of a rate in bytes a second, None: no limit. Times are in seconds of one clock."""

    def __init__(self, rate: int | None, now: float) -> None:
        self.rate = rate
        self._next = now

    def wait(self, now: float) -> float:
        """Seconds until something may be taken."""
        return 0.0 if self.rate is None else max(0.0, self._next - now)

    def take(self, now: float, wanted: int) -> int:
        """How many of `wanted` bytes may be received, where there is nothing to wait for."""
        if self.rate is None:
            return wanted
        count = min(wanted, max(LEAST, int(self.rate * SLICE)))
        self._next = max(self._next, now - SLICE) + count / self.rate
        return count

    def put_back(self, count: int) -> None:
        """So many of the bytes did not come."""
        if self.rate is not None:
            self._next -= count / self.rate

    def set(self, now: float, rate: int | None) -> None:
        """Another rate. What was let go at the old one is waited for as the new one has it, within reason:
        servers hang up on who pauses for long.
        """
        ahead = 0.0 if self.rate is None else self.wait(now) * self.rate
        self._next = now if rate is None else now + min(ahead, max(LEAST, rate)) / rate
        self.rate = rate


class Pace:
    """Hands out leave to receive bytes, to any number of threads."""

    def __init__(self, rate: int | None) -> None:
        self._condition = threading.Condition()
        self._bucket = Bucket(rate, time.monotonic())
        self._ended = False

    @property
    def rate(self) -> int | None:
        return self._bucket.rate

    def set(self, rate: int | None) -> None:
        """Another rate, at once."""
        with self._condition:
            self._bucket.set(time.monotonic(), rate)
            self._condition.notify_all()

    def end(self) -> None:
        """Nobody waits any more."""
        with self._condition:
            self._ended = True
            self._condition.notify_all()

    def take(self, wanted: int) -> int:
        """Wait for leave; how many of `wanted` bytes may be received now, at least one."""
        if self._bucket.rate is None:
            return wanted
        with self._condition:
            while not self._ended:
                now = time.monotonic()
                seconds = self._bucket.wait(now)
                if not seconds:
                    return self._bucket.take(now, wanted)
                self._condition.wait(seconds)
        return wanted

    def put_back(self, count: int) -> None:
        """So many of the bytes did not come."""
        if count and self._bucket.rate is not None:
            with self._condition:
                self._bucket.put_back(count)
                # whoever waits for them need not
                self._condition.notify()


class Floor:
    """Watches that at least `least` bytes a second come over `span` seconds (least 0: whatever comes).

    The first span begins with the first bytes: how long the answer took is what timeouts are for.
    """

    def __init__(self, least: int, span: float) -> None:
        self._least = least
        self._span = span
        self._lock = threading.Lock()
        self._since: float | None = None
        self._count = 0

    def received(self, count: int, rate: int | None) -> None:
        """So many bytes have come, under this limit. Raises `too_slow`."""
        if not self._least:
            return
        with self._lock:
            now = time.monotonic()
            if self._since is None:
                self._since = now
            self._count += count
            if now - self._since < self._span:
                return
            least = self._least if rate is None else min(self._least, rate / 2)
            speed = self._count / (now - self._since)
            self._since, self._count = now, 0
        if speed < least:
            text = f"{speed:.0f} bytes a second over {self._span:g} s, at least {self._least} are wanted"
            raise TransferError(Code.TOO_SLOW, text)
