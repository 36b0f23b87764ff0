"""Starting anew from the database, while the daemon runs, after it could not be written or read.

Part of the composition root. Nothing of a batch that failed was done: whoever asked is told, the core is
given up with all workers, and a new one is loaded once nobody acts for the old one any more.
"""

import logging
from collections.abc import Callable

from fetchd.daemon.core.core import Loaded

from .router.engine import Engine
from .router.loop import Loop, boot_time
from .store.damage import is_damage
from .store.database import Database
from .store.thread import Store
from .supervise.crew import Crew
from .supervise.helpers import Helpers

logger = logging.getLogger("fetchd")

PAUSE = 1_000_000
LONGEST = 30_000_000
"""µs between a fault of the store and the attempt to start anew from it; doubled while it lasts."""


class Renewal:
    """`load` runs in the store's thread, `begin` in the loop with what it has loaded.

    `quiet` ends the processes that read the database and says whether they are gone: the files that they have
    open may be put aside.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        crew: Crew,
        helpers: Helpers,
        loop: Loop,
        store: Store,
        quiet: Callable[[], bool],
        load: Callable[[Database], Loaded],
        begin: Callable[[Loaded], None],
    ) -> None:
        self._engine = engine
        self._crew = crew
        self._helpers = helpers
        self._loop = loop
        self._store = store
        self._quiet = quiet
        self._load = load
        self._begin = begin
        self._failures = 0
        self._going_on = False

    def failed(self, error: BaseException) -> None:
        """The database did not do what it was asked for."""
        if self._going_on:
            return
        self._going_on = True
        logger.error("the database is in trouble, starting anew from it: %s", error)
        self._engine.abandon()
        self._crew.kill_all()
        self._failures += 1
        pause = min(LONGEST, PAUSE << min(self._failures - 1, 10))
        self._loop.at(boot_time() + pause, self._reload)

    def _reload(self) -> None:
        """Load the core from the store, once no worker and no helper acts for the old one."""
        if not (self._quiet() and self._crew.empty and self._helpers.idle()):
            self._loop.at(boot_time() + PAUSE // 10, self._reload)
            return

        def loaded(found: Loaded, error: BaseException | None) -> None:
            self._going_on = False
            if error is not None:
                self.failed(error)
                return
            self._failures = 0
            logger.info("started anew from the database at revision %d", found.revision)
            self._begin(found)

        self._store.call(lambda database: anew(database, self._load), loaded)


def anew(database: Database, load: Callable[[Database], Loaded]) -> Loaded:
    """Open the database again, and load from it: pages that a failed sync may have lost are not believed."""
    database.reopen()
    return sound(database, load)


def sound(database: Database, load: Callable[[Database], Loaded]) -> Loaded:
    """Load from the database; where that shows damage, from what takes its place."""
    try:
        return load(database)
    except Exception as error:
        if not is_damage(error):
            raise
        database.suspect(error)
    database.reopen()
    return load(database)
