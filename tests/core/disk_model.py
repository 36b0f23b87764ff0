"""A model of one file system: what the page cache shows, and what is on the platter.

It is as unkind as ext4 with data=ordered may be. Of what was not synced any part may be there after a power
cut, torn blocks among it. Changes of directories are there in their order, up to any of them. A sync that
fails drops the pages that it did not write, tells of it once, and says "fine" the next time. Syncing a new
file brings its name along, as journalling file systems do; a name that is changed later needs its directory.
"""

from dataclasses import dataclass, field
from itertools import count
from random import Random

HOLE, TORN = 0, -1
"""What a block may hold instead of a version of the source."""


@dataclass(eq=False, slots=True)
class File:
    """An inode. A block holds the version of the source that it came from; `note` is a file's other content.

    `low` is the least length that it was cut to and that is not synced, `made` the change that named it.
    """

    number: int
    made: int
    cache: list[int] = field(default_factory=list)
    disk: list[int] = field(default_factory=list)
    dirty: set[int] = field(default_factory=set)
    low: int | None = None
    note: object = None
    disk_note: object = None
    failed: bool = False

    def write(self, block: int, version: int) -> None:
        self.cache += [HOLE] * (block + 1 - len(self.cache))
        self.cache[block] = version
        self.dirty.add(block)

    def truncate(self, length: int) -> None:
        if length < len(self.cache):
            self.low = length if self.low is None else min(length, self.low)
        self.cache[length:] = []
        self.cache += [HOLE] * (length - len(self.cache))
        self.dirty = {block for block in self.dirty if block < length}

    def write_back(self, rng: Random, part: float) -> None:
        """Let a part of what is dirty reach the platter, in any order; a block may be torn."""
        if rng.random() < part:
            self.disk_note = self.note
        if self.low is not None and rng.random() < part:
            self._cut()
        for block in sorted(self.dirty):
            # what lies behind a cut is written after the cut
            if rng.random() < part and (self.low is None or block < self.low):
                self._put(block, self.cache[block])
                self.dirty.discard(block)
            elif part < 1 and rng.random() < 0.1 and block < len(self.disk) and self.low is None:
                # an old block and a new one of the same content cannot be told apart
                self.disk[block] = self.cache[block] if self.disk[block] == self.cache[block] else TORN

    def lose(self, rng: Random) -> None:
        """A write-back fails: what is left dirty is dropped and still to be read, and the next sync tells."""
        self.write_back(rng, 0.5)
        self._cut()
        self.dirty.clear()
        self.failed = True

    def sync(self) -> bool:
        """fsync(2); False where it failed, which is told once."""
        failed, self.failed = self.failed, False
        if failed:
            return False
        self._cut()
        for block in self.dirty:
            self._put(block, self.cache[block])
        self.dirty.clear()
        self.disk_note = self.note
        return True

    def forget_cache(self) -> None:
        """The cache is empty: what is read comes from the platter."""
        self.cache, self.note = list(self.disk), self.disk_note
        self.dirty.clear()
        self.low, self.failed = None, False

    def _cut(self) -> None:
        if self.low is not None:
            self.disk[self.low :] = []
            self.low = None

    def _put(self, block: int, version: int) -> None:
        self.disk += [HOLE] * (block + 1 - len(self.disk))
        self.disk[block] = version


class Disk:
    """Names of files, as they are seen and as they are on the platter. A directory is a path's first part."""

    def __init__(self) -> None:
        self.boot = 1
        self.names: dict[str, File] = {}
        self.durable: dict[str, File] = {}
        self._log: list[dict[str, File | None]] = []
        self._logged = 0
        self._numbers = count(1)

    def make(self, path: str) -> File:
        """A new, empty file; the one that is there where there is one."""
        if path not in self.names:
            self.change({path: File(next(self._numbers), self._logged + len(self._log))})
        return self.names[path]

    def move(self, moves: dict[str, str]) -> None:
        """Rename, in one step."""
        files = {old: self.names[old] for old in moves if old in self.names}
        self.change({**dict.fromkeys(files), **{moves[old]: file for old, file in files.items()}})

    def remove(self, *paths: str) -> None:
        """Unlink, one after the other."""
        for path in paths:
            if path in self.names:
                self.change({path: None})

    def change(self, names: dict[str, File | None]) -> None:
        """Change names in one step that is seen at once, and on the platter later."""
        if names:
            _apply(self.names, names)
            self._log.append(names)

    def sync_directory(self, directory: str) -> None:
        """fsync(2) of a directory: its names are on the platter, and all changes before the last of them."""
        for index in reversed(range(len(self._log))):
            if any(path.rpartition("/")[0] == directory for path in self._log[index]):
                self._flush(index + 1)
                break

    def sync(self, file: File) -> bool:
        """fsync(2) of a file, and of the name that it was made under."""
        if not file.sync():
            return False
        self._flush(file.made + 1 - self._logged)
        return True

    def power_cut(self, rng: Random) -> None:
        """All that is not on the platter is gone, and there is another boot."""
        self._flush(rng.randint(0, len(self._log)))
        self._log.clear()
        self.names = dict(self.durable)
        part = rng.choice([0.0, 0.3, 0.9])
        for file in set(self.names.values()):
            file.write_back(rng, part)
            file.forget_cache()
            file.made = -1
        self.boot += 1

    def evict(self, rng: Random) -> None:
        """Memory is short: clean blocks are dropped, to be read again from the platter."""
        for file in self.names.values():
            for block in range(len(file.cache)):
                if block not in file.dirty and file.low is None and rng.random() < 0.5:
                    file.cache[block] = file.disk[block] if block < len(file.disk) else HOLE

    def _flush(self, changes: int) -> None:
        for names in self._log[: max(0, changes)]:
            _apply(self.durable, names)
            self._logged += 1
        del self._log[: max(0, changes)]


def _apply(names: dict[str, File], change: dict[str, File | None]) -> None:
    for path, file in change.items():
        if file is None:
            names.pop(path, None)
        else:
            names[path] = file
