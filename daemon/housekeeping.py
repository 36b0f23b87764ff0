"""What is done once a minute: what is old leaves the database and the disk, a bounded number at a time.

Part of the composition root. Whatever the core has to know goes through it, so that memory and store agree.
"""

import time
from collections.abc import Callable

from fetchd.daemon.core import inputs
from fetchd.daemon.core.job import Job

from .config import History
from .queries import Failed, loaded
from .router.engine import Engine
from .router.loop import Loop, boot_time
from .store.thread import Store

AT_ONCE = 500
"""Rows in one transaction."""

BREATH = 10_000
"""µs between two such transactions, for what others have to commit."""


class Housekeeping:
    """`history` says how long finished jobs are known."""

    def __init__(
        self, *, engine: Engine, store: Store, loop: Loop, failed: Failed, history: Callable[[], History]
    ) -> None:
        self._engine = engine
        self._store = store
        self._loop = loop
        self._failed = failed
        self._history = history

    def do(self) -> None:
        """Everything that is due now."""
        wall = time.time_ns() // 1000
        self._engine.feed(inputs.Overdue((), more=True))
        self._store.call(lambda database: database.prune(wall), loaded(lambda _none: None, self._failed))
        self._store.call(
            lambda database: database.expired(wall, AT_ONCE),
            loaded(
                lambda rows: self._engine.feed(inputs.Expired(tuple(rows))) if rows else None, self._failed
            ),
        )
        self._forget()

    def _forget(self) -> None:
        keep = self._history()
        before = time.time_ns() // 1000 - int(keep.age * 1e6) if keep.age else 0

        def found(rows: list[Job]) -> None:
            if rows:
                self._engine.feed(inputs.Outdated(tuple(rows)))
            if len(rows) == AT_ONCE:
                # the next ones are looked for when these are gone
                self._loop.at(boot_time() + BREATH, lambda: self._engine.after(self._forget))

        self._store.call(
            lambda database: database.outdated(before, keep.count, AT_ONCE), loaded(found, self._failed)
        )
