"""The keys that may come in over TCP, as `authorized_keys` has them from moment to moment.

A file that cannot be used changes nothing: the keys before stay in force, and at the start there are none.
"""

import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

from fetchd.protocol.errors import FetchdError
from fetchd.protocol.inotify import CHANGE, Watch, steps
from fetchd.protocol.keys import read_authorized

from .access import Access, Who

logger = logging.getLogger("fetchd")


class Keyring:
    """Tells `access` of the keys. `revoked` is called with those for whom a key does not stand any more.

    `watch` is there where changes come into force at once, else at `read`. `trouble` says what is wrong with
    the file.
    """

    def __init__(self, path: Path, access: Access) -> None:
        self._path = path
        self._access = access
        self._keys: dict[str, Who] = {}
        self.revoked: Callable[[frozenset[Who]], None] = lambda _lost: None
        self.trouble: str | None = None
        self.watch: Watch | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.watch = Watch(path.parent, (path.name,), CHANGE)
        except OSError as error:
            logger.warning("%s cannot be watched, a reload reads it: %s", path.parent, error.strerror)

    def take(self) -> None:
        """Read the file, if something has happened to it."""
        if self.watch is not None and self.watch.changed():
            self.read()

    def read(self) -> None:
        """From now on as the file says, and as what it is a link to says later."""
        for directory, name in steps(os.path.abspath(self._path)):
            if self.watch is not None:
                with contextlib.suppress(OSError):
                    self.watch.add(Path(directory), (name,), CHANGE)
        try:
            entries = read_authorized(self._path)
        except (FetchdError, OSError) as error:
            told = error.message if isinstance(error, FetchdError) else f"{self._path}: {error.strerror}"
            self.trouble = told
            logger.error("the keys stay as they were: %s", told)
            return
        self.trouble = None
        before = self._keys
        self._keys = {entry.key: Who(f"key:{entry.name}", entry.admin) for entry in entries}
        if self._keys == before:
            return
        logger.info("keys that may come in over TCP: %d", len(self._keys))
        self._access.trust(self._keys)
        lost = frozenset(who for key, who in before.items() if self._keys.get(key) != who)
        if lost:
            self.revoked(lost)

    def close(self) -> None:
        if self.watch is not None:
            self.watch.close()
