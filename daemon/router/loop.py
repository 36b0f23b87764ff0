"""The one loop: a poller over sockets and descriptors, timers, and the turn.

A callback takes what is ready and never blocks. After all callbacks of a turn, `after` runs once: that is
where the inputs that they fed become one batch.

A callback that raises is a fault of ours: it is logged, and the loop goes on, because everybody else's work
depends on it. Whose state may be broken by it has to see to that itself, as the engine does.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any

import zmq

logger = logging.getLogger("fetchd")

LONGEST_POLL = 30.0
TURNS = 4096
"""How many turns the latency figures look back."""

Source = Any
Callback = Callable[[], None]


def boot_time() -> int:
    """The boot-time clock in µs: it goes on while the machine sleeps and never jumps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


class Timer:
    """A callback at a boot time; `cancel` makes it do nothing."""

    __slots__ = ("_callback",)

    def __init__(self, callback: Callback) -> None:
        self._callback: Callback | None = callback

    def cancel(self) -> None:
        self._callback = None

    def fire(self) -> None:
        if self._callback is not None:
            self._callback()


class Loop:
    """Sources, timers, turns. `after` and `deadline` are set by whoever owns the turn."""

    def __init__(self) -> None:
        self._poller = zmq.Poller()
        self._callbacks: dict[Source, Callback] = {}
        self._timers: list[tuple[int, int, Timer]] = []
        self._numbers = count()
        self._running = True
        self.after: Callback = lambda: None
        self.deadline: Callable[[], int | None] = lambda: None
        self.turns: deque[float] = deque(maxlen=TURNS)
        self.last_turn = boot_time()

    def add(self, source: Source, callback: Callback) -> None:
        """Call back whenever a socket or descriptor can be read."""
        self._callbacks[source] = callback
        self._poller.register(source, zmq.POLLIN)

    def remove(self, source: Source) -> None:
        if self._callbacks.pop(source, None) is not None:
            self._poller.unregister(source)

    def at(self, when: int, callback: Callback) -> Timer:
        """Call back at a boot time in µs."""
        timer = Timer(callback)
        heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def every(self, period: int, callback: Callback) -> None:
        """Call back every `period` µs, as long as the loop runs."""

        def fire() -> None:
            self.at(boot_time() + period, fire)
            callback()

        self.at(boot_time() + period, fire)

    def stop(self) -> None:
        """End after this turn."""
        self._running = False

    def run(self) -> None:
        """Turn until stopped."""
        while self._running:
            self.turn(self._timeout())

    def turn(self, timeout: float) -> None:
        """Wait for up to `timeout` seconds, then take everything that is ready."""
        polled = self._poller.poll(int(timeout * 1000) if timeout <= 0 else max(1, int(timeout * 1000)))
        ready = [(source, self._callbacks.get(source)) for source, _ in polled]
        began = time.perf_counter()
        self.last_turn = boot_time()
        for source, callback in ready:
            # an earlier callback of this turn may have removed it, and another may have its number by now
            if callback is not None and self._callbacks.get(source) is callback:
                _call(callback)
        self._fire(boot_time())
        _call(self.after)
        self.turns.append(time.perf_counter() - began)

    def percentile(self, share: float) -> float:
        """The turn time in seconds that this share of the recent turns stayed below."""
        ordered = sorted(self.turns)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0

    def _fire(self, now: int) -> None:
        while self._timers and self._timers[0][0] <= now:
            _call(heappop(self._timers)[2].fire)

    def _timeout(self) -> float:
        times = [self._timers[0][0]] if self._timers else []
        if (wanted := self.deadline()) is not None:
            times.append(wanted)
        if not times:
            return LONGEST_POLL
        return max(0.0, min(LONGEST_POLL, (min(times) - boot_time()) / 1e6))


def _call(callback: Callback) -> None:
    try:
        callback()
    except Exception:
        logger.exception("a fault in the supervisor; it goes on")
