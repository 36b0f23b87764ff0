"""The store's thread: it alone touches the writing connection, and answers strictly in order.

That order matters beyond politeness: the core relies on an answer never being older than a commit that was
reported before it (`core/ledger`).
"""

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from fetchd.daemon.service.ballast import Ballast

from .damage import is_damage
from .database import Batch, Database

T = TypeVar("T")
Then = Callable[[Any, BaseException | None], None]

CHECKPOINT_IDLE = 500
CHECKPOINT_BUSY = 8000
"""Commands since the last checkpoint after which another is made: with nothing to do, and in any case."""

NO_ROOM = 1 << 20
"""Free bytes below which a failed write is taken for one that found no room."""


class Store:
    """Calls on the database whose answers come back through `answers`, to be taken by the loop.

    `wake` is a descriptor that becomes readable when there are answers. `full` is called in the loop when a
    commit found no room, after the ballast was given up for it.
    """

    def __init__(self, state: Path, ballast: Ballast | None = None) -> None:
        self._state = state
        self._ballast = ballast
        self.full: Callable[[], None] = lambda: None
        self._database = Database(state)
        self._calls: SimpleQueue[tuple[Callable[[Database], Any], Then] | None] = SimpleQueue()
        self._answers: SimpleQueue[tuple[Then, Any, BaseException | None]] = SimpleQueue()
        self.wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)

    @property
    def database(self) -> Database:
        """The connection itself, while the thread is not running yet."""
        assert not self._thread.is_alive()
        return self._database

    @property
    def path(self) -> Path:
        return self._database.path

    def start(self) -> None:
        self._thread.start()

    def call(
        self, function: Callable[[Database], T], then: Callable[[T, BaseException | None], None]
    ) -> None:
        """Run `function` in the thread; `then(result, error)` runs in the loop."""
        self._calls.put((function, then))

    def commit(self, batch: Batch, then: Callable[[None, BaseException | None], None]) -> None:
        """Commit a batch; `then` runs in the loop when it is on disk, or with the error that prevented it."""
        self.call(lambda database: self._apply(database, batch), then)

    def take(self) -> None:
        """Run the continuations of all answers that are there."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.wake)
        while not self._answers.empty():
            then, result, error = self._answers.get()
            try:
                then(result, error)
            except BaseException:
                # the others are still to be taken
                os.eventfd_write(self.wake, 1)
                raise

    def close(self) -> None:
        """Finish what was asked, then close the databases."""
        if self._thread.is_alive():
            self._calls.put(None)
            self._thread.join()
        self._database.close()
        os.close(self.wake)

    def _apply(self, database: Database, batch: Batch) -> None:
        try:
            database.apply(batch)
        except sqlite3.Error as error:
            if self._ballast is None or not _is_full(error, self._state) or not self._ballast.release():
                raise
            self._answers.put((lambda _none, _error: self.full(), None, None))
            # nothing of the batch is there: it is rolled back, or its pages are written again
            database.apply(batch)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            function, then = call
            result, error = None, None
            try:
                result = function(self._database)
            except BaseException as caught:
                error = caught
                if is_damage(caught):
                    self._database.suspect(caught)
            self._answers.put((then, result, error))
            os.eventfd_write(self.wake, 1)
            # between answers, so that a checkpoint never delays one that is ready
            limit = CHECKPOINT_IDLE if self._calls.empty() else CHECKPOINT_BUSY
            if self._database.unchecked > limit:
                self._checkpoint()

    def _checkpoint(self) -> None:
        # a checkpoint that fails costs nothing but a longer log; the next one tries again
        with contextlib.suppress(sqlite3.Error):
            self._database.checkpoint()


def _is_full(error: sqlite3.Error, state: Path) -> bool:
    """Whether a commit failed for want of room. SQLite says FULL only of some of the calls that need it."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_IOERR:
        room = os.statvfs(state)
        return room.f_bavail * room.f_frsize < NO_ROOM
    return bool(code == sqlite3.SQLITE_FULL)
