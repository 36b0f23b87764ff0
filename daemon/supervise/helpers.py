"""The helper pool: a few threads for work that may block, so that the loop never does.

Calls with the same key run one after the other in the order they were made; results come back to the loop.
What may take minutes (copying, syncing, deleting) has threads of its own: no worker's start waits for it.
"""

import contextlib
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
Then = Callable[[Any, BaseException | None], None]

THREADS = 8
LONG = 4
"""Threads for what is short, and for what may take long."""


class Helpers:
    """`run` from the loop, `take` in the loop when `wake` is readable."""

    def __init__(self, threads: int = THREADS) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="helper")
        self._long = ThreadPoolExecutor(LONG, thread_name_prefix="long")
        self._results: SimpleQueue[tuple[str, Then, Any, BaseException | None]] = SimpleQueue()
        self._queues: dict[str, deque[tuple[ThreadPoolExecutor, Callable[[], Any], Then]]] = {}
        self.wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def run(
        self,
        key: str,
        function: Callable[[], T],
        then: Callable[[T, BaseException | None], None],
        *,
        long: bool = False,
    ) -> None:
        """Call `function` in a helper; `then(result, error)` runs in the loop."""
        queue = self._queues.setdefault(key, deque())
        queue.append((self._long if long else self._pool, function, then))
        if len(queue) == 1:
            self._begin(key)

    def _begin(self, key: str) -> None:
        pool, function, then = self._queues[key][0]
        pool.submit(self._call, key, function, then)

    def take(self) -> None:
        """Run the continuations of everything that is done."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.wake)
        while not self._results.empty():
            key, then, result, error = self._results.get()
            queue = self._queues[key]
            queue.popleft()
            if queue:
                self._begin(key)
            else:
                del self._queues[key]
            try:
                then(result, error)
            except BaseException:
                # the others are still to be taken
                os.eventfd_write(self.wake, 1)
                raise

    def idle(self) -> bool:
        return not self._queues

    def close(self) -> None:
        """Wait for what runs; what has not begun is dropped."""
        for pool in (self._pool, self._long):
            pool.shutdown(wait=True, cancel_futures=True)
        os.close(self.wake)

    def _call(self, key: str, function: Callable[[], Any], then: Then) -> None:
        result, error = None, None
        try:
            result = function()
        except BaseException as caught:
            error = caught
        self._results.put((key, then, result, error))
        os.eventfd_write(self.wake, 1)
