"""Backups and the check of the database, each in a process of its own, which only reads.

Part of the composition root. One task at a time: the check once after the start, then a backup whenever one
is due and something has changed. A failed one is said in the log and costs nothing else.
"""

import contextlib
import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from .router.loop import Loop, Timer, boot_time
from .service import entry
from .service.lock import StateLock
from .store import backup, damage
from .store.schema import DamagedError
from .supervise.helpers import Helpers
from .supervise.spawn import Child, Spawner

logger = logging.getLogger("fetchd")


class Keeper:
    """`revision` is what the store had last, `damaged` hears of a database that is to be opened anew."""

    def __init__(
        self,
        *,
        state: Path,
        spawner: Spawner,
        helpers: Helpers,
        loop: Loop,
        lock: StateLock,
        revision: Callable[[], int],
        damaged: Callable[[BaseException], None],
    ) -> None:
        self._state = state
        self._spawner = spawner
        self._helpers = helpers
        self._loop = loop
        self._lock = lock
        self._revision = revision
        self._damaged = damaged
        self._interval = 0
        self._saved: int | None = None
        self._timer: Timer | None = None
        self._child: Child | None = None
        self._busy = self._ending = False

    def start(self, interval: float) -> None:
        """Check the database now, and make backups from then on."""
        self._interval = int(interval * 1e6)
        self._begin("check")

    def configure(self, interval: float) -> None:
        """Another interval in seconds; 0: no backups."""
        self._interval = int(interval * 1e6)
        if not self._busy:
            self._plan(self._first())

    def end(self) -> bool:
        """End a task that runs; whether none does any more."""
        if self._child is not None:
            self._ending = True
            self._child.kill()
        return not self._busy

    def _first(self) -> int:
        """µs until the first backup is due: so long after the newest one, also over restarts."""
        made = backup.found(self._state)
        age = time.time_ns() // 1000 - made[-1].time if made else self._interval
        # whatever the wall clock did, no longer than the interval
        return min(self._interval, max(0, self._interval - age))

    def _plan(self, wait: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._interval:
            self._timer = self._loop.at(boot_time() + wait, self._due)

    def _due(self) -> None:
        if self._saved == self._revision():
            self._plan(self._interval)
        else:
            self._begin("backup")

    def _begin(self, task: backup.Task) -> None:
        self._busy, self._ending = True, False
        state, lock, revision = str(self._state), str(self._lock.workers_file), self._revision()

        def start() -> Child:
            return self._spawner.spawn(entry.BACKUP, lambda parent: (state, task, parent, lock))

        def started(child: Child, error: BaseException | None) -> None:
            if error is not None:
                self._over(task, str(error))
                return
            self._child = child
            self._loop.add(child.sentinel, partial(self._ended, child, task, revision))

        self._helpers.run("backup", start, started)

    def _ended(self, child: Child, task: backup.Task, revision: int) -> None:
        self._loop.remove(child.sentinel)
        self._child = None
        how = child.reap()
        if how == "exit status 0":
            if task == "backup":
                self._saved = revision
            self._over(task, None)
            return
        with contextlib.suppress(OSError):
            how = (backup.directory(self._state) / backup.TROUBLE).read_text(errors="replace").strip() or how
        self._over(task, how)

    def _over(self, task: backup.Task, trouble: str | None) -> None:
        self._busy = False
        # one that did not work is not repeated before the next is due
        self._plan(self._first() if task == "check" else self._interval)
        if (reason := damage.marked(self._state)) is not None:
            self._damaged(DamagedError(reason))
        elif trouble is not None and not self._ending:
            logger.warning("the %s of the database did not work: %s", task, trouble)
