"""What each worker takes: memory and processor time, measured now and then in the helper pool.

A worker over its limit is ended; its job is tried again, and only it is to blame.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import psutil
from msgspec import Struct

from .helpers import Helpers

PERIOD = 2_000_000
"""µs between two looks."""

Key = tuple[int, int]


class Usage(Struct, frozen=True):
    """Resident memory in bytes, and the share of one processor since the look before."""

    memory: int
    cpu: float


class Watch:
    """`look` measures all workers of `pids`; `over(slot, incarnation)` hears of those above `limit()` bytes.

    `told` is called after each look.
    """

    def __init__(
        self,
        helpers: Helpers,
        pids: Callable[[], Mapping[Key, int]],
        limit: Callable[[], int],
        over: Callable[[int, int], None],
    ) -> None:
        self._helpers = helpers
        self._pids = pids
        self._limit = limit
        self._over = over
        self._looking = False
        self._spent: dict[Key, tuple[float, float]] = {}
        self.usage: dict[Key, Usage] = {}
        self.told: Callable[[], None] = lambda: None

    def look(self) -> None:
        """Measure, unless the measurement before is still on its way."""
        pids = dict(self._pids())
        if self._looking:
            return
        if not pids:
            self.usage = {}
            self.told()
            return
        self._looking = True
        self._helpers.run("usage", lambda: _measure(pids), self._measured)

    def _measured(self, found: dict[Key, tuple[int, float, float]], error: BaseException | None) -> None:
        self._looking = False
        if error is not None:
            return
        before, self._spent = self._spent, {}
        self.usage = {}
        for key, (memory, spent, when) in found.items():
            self._spent[key] = (spent, when)
            then = before.get(key)
            cpu = 0.0 if then is None else max(0.0, spent - then[0]) / max(1e-6, when - then[1])
            self.usage[key] = Usage(memory, cpu)
            limit = self._limit()
            if limit and memory > limit:
                self._over(*key)
        self.told()

    def of(self, slot: int, incarnation: int) -> dict[str, Any]:
        """What is known of a worker, as fields of its status."""
        usage = self.usage.get((slot, incarnation))
        return {} if usage is None else {"memory": usage.memory, "cpu": usage.cpu}


def _measure(pids: dict[Key, int]) -> dict[Key, tuple[int, float, float]]:
    """(resident bytes, processor seconds, time of the look) of each process that is still there."""
    found = {}
    for key, pid in pids.items():
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                times = process.cpu_times()
                memory = process.memory_info().rss
        except psutil.Error:
            continue
        found[key] = (memory, times.user + times.system, time.monotonic())
    return found
