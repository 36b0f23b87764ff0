"""Files outside of a worker's room that it may read: the resolver's, the authorities. They are watched.

A rule of Landlock holds for the file that was there when the room was made, and what a worker has read it
does not read again: when another file takes the place of one, workers are replaced.
"""

import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from fetchd.protocol.inotify import REPLACEMENT, Watch, steps

from . import member

logger = logging.getLogger("fetchd")

REST = 1_000_000
"""µs after a change in which further ones are only gathered: replacing a worker takes a while."""

Identity = tuple[int, int, int, int]


class Surroundings:
    """`changed` hears which files are other ones now: of the first at once, of those that follow together.

    `later` calls back after so many µs.
    """

    def __init__(
        self,
        loop: member.Watch,
        later: Callable[[int, Callable[[], None]], object],
        changed: Callable[[list[str]], None],
    ) -> None:
        self._loop = loop
        self._later = later
        self._changed = changed
        self._known: dict[str, Identity | None] = {}
        self._watch: Watch | None = None
        self._resting = False
        self._unwatched: dict[str, str] = {}

    def watch(self, paths: Iterable[str]) -> None:
        """These files from now on. What has changed of those that were watched before is told."""
        self._known = {path: self._known.get(path) or _identity(path) for path in sorted(paths)}
        self._look()

    def close(self) -> None:
        if self._watch is not None:
            self._loop.remove(self._watch.fd)
            self._watch.close()
        self._watch = None

    def _happened(self) -> None:
        assert self._watch is not None
        if self._watch.changed() and not self._resting:
            self._look()

    def _look(self) -> None:
        # watched before it is looked at: no file becomes another one in between
        self._begin()
        changed = []
        for path, known in self._known.items():
            # one that is missing harms no worker; the next one does
            found = _identity(path) or known
            if found != known:
                changed.append(path)
                self._known[path] = found
        if changed:
            self._resting = True
            self._later(REST, self._rested)
            self._changed(changed)

    def _rested(self) -> None:
        # in any case: a link may have become another one while it was followed
        self._resting = False
        self._look()

    def _begin(self) -> None:
        places: dict[str, set[str]] = {}
        for path in self._known:
            for directory, name in steps(path):
                places.setdefault(directory, set()).add(name)
        self.close()
        failed = {}
        for directory, names in places.items():
            try:
                if self._watch is None:
                    self._watch = Watch(Path(directory), names, REPLACEMENT)
                    self._loop.add(self._watch.fd, self._happened)
                else:
                    self._watch.add(Path(directory), names, REPLACEMENT)
            except OSError as error:
                failed[directory] = error.strerror or "?"
        for directory, why in failed.items():
            if directory not in self._unwatched:
                text = "workers may not learn of other files in %s, until a reload: %s"
                logger.warning(text, directory, why)
        self._unwatched = failed


def _identity(path: str) -> Identity | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
