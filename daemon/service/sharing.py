"""Which group may reach the sockets: the modes of their directory and of their files.

They are made for us alone. The state directory is never shared.
"""

import os
from pathlib import Path


class Sharing:
    """The sockets in one directory. A private daemon leaves everything as it was made."""

    def __init__(self, runtime: Path) -> None:
        self._runtime = runtime
        self._gid: int | None = None
        self._paths: set[Path] = set()

    def share(self, gid: int | None) -> None:
        """Let a group reach what is added, now and later; None: nobody but us."""
        if gid == self._gid:
            return
        self._gid = gid
        _set(self._runtime, gid, 0o750 if gid is not None else 0o700)
        for path in self._paths:
            self._apply(path)

    def add(self, path: Path) -> None:
        """A socket that has just been bound."""
        self._paths.add(path)
        if self._gid is not None:
            self._apply(path)

    def drop(self, path: Path) -> None:
        """A socket that is gone."""
        self._paths.discard(path)

    def _apply(self, path: Path) -> None:
        _set(path, self._gid, 0o660 if self._gid is not None else 0o600)


def _set(path: Path, gid: int | None, mode: int) -> None:
    os.chown(path, -1, os.getegid() if gid is None else gid)
    path.chmod(mode)
