"""What requests need from the slow rooms, asked without the loop waiting: the store, the file system, pages.

Part of the composition root: it knows the store and the supervision, and hands the router plain callbacks.
"""

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from fetchd.daemon.core.job import Job
from fetchd.protocol.control import List, Replay
from fetchd.protocol.errors import Code, FetchdError

from .router.loop import Loop
from .service import entry
from .service.lock import StateLock
from .store.database import Database
from .store.reader import Reader
from .store.thread import Store
from .supervise.area import Areas
from .supervise.helpers import Helpers
from .supervise.removal import remove_tree
from .supervise.roots import Roots
from .supervise.spawn import Child, Spawner
from .supervise.workspace import survey

logger = logging.getLogger("fetchd")


class Sources:
    """Look-ups for `router.requests.Outside`; every `then` runs in the loop, later."""

    def __init__(
        self, *, store: Store, areas: Areas, helpers: Helpers, spawner: Spawner, loop: Loop, lock: StateLock,
        roots: Roots,
    ) -> None:  # fmt: skip
        self._roots = roots
        self._store = store
        self._areas = areas
        self._helpers = helpers
        self._spawner = spawner
        self._loop = loop
        self._lock = lock
        self._child: Child | None = None
        self.reader: Reader

    def look_up(
        self,
        owner: str | None,
        req: str,
        ids: Sequence[str],
        names: list[tuple[str, str]],
        then: Callable[..., None],
    ) -> None:
        def read(database: Database) -> tuple[Any, dict[str, Job], dict[str, str], frozenset[str]]:
            reply = None if owner is None else database.reply(owner, req)
            by_directory: dict[str, list[str]] = {}
            for directory, name in names:
                by_directory.setdefault(directory, []).append(name)
            paths = {
                f"{directory.rstrip('/')}/{name}": job
                for directory, group in by_directory.items()
                for name, job in database.reserved(directory, group).items()
            }
            jobs = database.by_ids(ids)
            secret = [job.id for job in jobs.values() if job.secret]
            return reply, jobs, paths, database.with_secrets(secret) if secret else frozenset()

        def done(result: Any, error: BaseException | None) -> None:
            then(*(result if error is None else (None, {}, {}, frozenset())), error)

        self._store.call(read, done)

    def resolve(self, key: str, owner: str, directories: set[str], then: Callable[..., None]) -> None:
        def find() -> dict[str, tuple[str, str]]:
            paths = {directory: self._roots.resolve(directory, owner) for directory in directories}
            return {directory: self._areas.for_directory(path) for directory, path in paths.items()}

        def resolved(places: dict[str, tuple[str, str]], error: BaseException | None) -> None:
            if error is not None:
                known = isinstance(error, FetchdError)
                then({}, error if known else FetchdError(Code.DESTINATION, str(error)))
                return
            for _, area in places.values():
                if area != self._areas.default:
                    wall = time.time_ns() // 1000
                    add = partial(Database.add_area, path=area, mount=self._areas.point(area), wall=wall)
                    self._store.call(add, _noted)
            then(places, None)

        self._helpers.run(f"directories {key}", find, resolved)

    # workspaces

    def survey(self, then: Callable[..., None]) -> None:
        self._helpers.run("survey", lambda: survey(self._areas.known(), time.time()), then)

    def discard(self, job: str, path: str) -> None:
        """Delete a workspace of no job; under the job's key, so that a new job of that name comes after."""
        self._helpers.run(job, partial(remove_tree, path), lambda _none, _error: None)

    # the reading helper

    def page(self, scope: str | None, query: List, then: Callable[..., None]) -> None:
        self.reader.ask(scope, then, page=query)

    def replay(self, scope: str | None, query: Replay, then: Callable[..., None]) -> None:
        self.reader.ask(scope, then, replay=query)

    def start_reader(self, endpoint: str) -> None:
        database, lock = str(self._store.path), str(self._lock.workers_file)

        def start() -> Child:
            return self._spawner.spawn(entry.READER, lambda parent: (database, endpoint, parent, lock))

        def started(child: Child, error: BaseException | None) -> None:
            if error is not None:
                logger.error("the reading helper does not start: %s", error)
                self.reader.lost()
                return
            self._child = child
            self._loop.add(child.sentinel, partial(self._reader_died, child))

        self._helpers.run("reader", start, started)

    def _reader_died(self, child: Child) -> None:
        self._loop.remove(child.sentinel)
        child.reap()
        self._child = None
        self.reader.lost()

    def close(self) -> bool:
        """End the reading helper; whether there is none any more. The next one to ask starts another."""
        if self._child is not None:
            self._child.kill()
        return self._child is None


def _noted(_result: None, error: BaseException | None) -> None:
    if error is not None:
        # the area is remembered again at its next use; until then only a crash could leave something there
        logger.warning("a staging area could not be noted: %s", error)
