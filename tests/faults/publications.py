"""A reader that hashes every file that appears under a final name, as it appears.

It looks at the file through inotify at the moment of the rename, so that what is wrong only for a moment is
seen too. A directory is watched by a thread of its own.
"""

import re
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

from support.content import sha256_file
from support.wait import IN_CLOSE_WRITE, IN_CREATE, IN_MOVED_TO, Watch

END = ".end"
NUMBERED = re.compile(r" \(\d+\)(?=\.bin$|$)")


def asked_name(name: str) -> str:
    """The name that was asked for, without the number that `rename` may have added."""
    return NUMBERED.sub("", name)


class Publications:
    """What has appeared below some directories. `known` says which digests a name may have."""

    def __init__(self, directories: list[Path], known: Callable[[str], frozenset[str]]) -> None:
        self._known = known
        self.seen: Counter[Path] = Counter()
        self.digests: dict[Path, list[str]] = defaultdict(list)
        self.wrong: list[str] = []
        self._threads = []
        self._directories = directories
        for directory in directories:
            watch = Watch(directory, mask=IN_MOVED_TO | IN_CREATE | IN_CLOSE_WRITE)
            thread = threading.Thread(target=self._read, args=(directory, watch), name=f"reader {directory}")
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        """Look at everything that has appeared so far, and at nothing later."""
        for directory in self._directories:
            (directory / END).touch()
        for thread in self._threads:
            thread.join(60)
        for directory in self._directories:
            (directory / END).unlink()

    def _read(self, directory: Path, watch: Watch) -> None:
        with watch:
            while True:
                for mask, name in watch.next(3600):
                    if name == END:
                        return
                    if name and not name.startswith("."):
                        self._look(directory / name, mask)

    def _look(self, path: Path, mask: int) -> None:
        if mask & IN_MOVED_TO:
            self.seen[path] += 1
        else:
            self.wrong.append(f"{path}: not put there by a rename (inotify {mask:#x})")
        try:
            digest = sha256_file(path)
        except OSError as error:
            self.wrong.append(f"{path}: {error}")
            return
        self.digests[path].append(digest)
        if digest not in self._known(asked_name(path.name)):
            self.wrong.append(f"{path}: a content that its URL never had, {path.stat().st_size} bytes")
