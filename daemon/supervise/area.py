"""Staging areas: where workspaces lie, so that publishing is a rename.

An area is `<directory on the destination's mount>/.fetchd/<instance>/` with `jobs/` and `rooms/` in it. The
state directory's own area serves every destination on its mount; others are made on demand beside the
destination and removed when empty.
"""

import contextlib
import fcntl
import os
import re
from pathlib import Path

from fetchd.protocol.errors import Code, FetchdError

HIDDEN = ".fetchd"

_OCTAL = re.compile(r"\\([0-7]{3})")


class Areas:
    """The staging areas of one daemon. Used from helper threads; each call stands alone."""

    def __init__(self, state: Path, instance: str, known: list[str]) -> None:
        self._instance = instance
        self._locks: dict[str, int] = {}
        self.default = str(state / HIDDEN / instance)
        self._known = [self.default, *(path for path in known if path != self.default)]
        self.open(self.default)

    def known(self) -> list[str]:
        return list(self._known)

    def for_directory(self, directory: str) -> tuple[str, str]:
        """(canonical directory, area) for a destination, or `destination` where nothing can be put there."""
        try:
            canonical = os.path.realpath(directory)
            base = _nearest(canonical)
            if not os.path.isdir(base):
                raise FetchdError(Code.DESTINATION, f"{base} is not a directory")
            if not os.access(base, os.W_OK | os.X_OK):
                raise FetchdError(Code.DESTINATION, f"{base} is not writable")
            mounts = _mounts()
            mount = _mount_of(base, mounts)
            for area in self._known:
                if _mount_of(area, mounts) == mount and os.path.isdir(area):
                    return canonical, area
            area = os.path.join(base, HIDDEN, self._instance)
            self.open(area)
        except OSError as error:
            raise FetchdError(Code.DESTINATION, f"{directory}: {error.strerror}") from None
        return canonical, area

    def open(self, area: str) -> None:
        """Make an area if need be, and lock it against a copy of this state directory that runs elsewhere."""
        for part in (os.path.dirname(area), area, f"{area}/jobs", f"{area}/rooms"):
            os.makedirs(part, mode=0o700, exist_ok=True)
        if area not in self._locks:
            fd = os.open(f"{area}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                raise FetchdError(Code.DESTINATION, f"{area} is in use by another daemon") from None
            self._locks[area] = fd
        if area not in self._known:
            self._known.append(area)

    def drop_empty(self, area: str) -> None:
        """Remove an area that nothing lies in, unless it is the default one."""
        if area == self.default or area not in self._locks:
            return
        with contextlib.suppress(OSError):
            os.rmdir(f"{area}/jobs")
            os.rmdir(f"{area}/rooms")
            os.unlink(f"{area}/lock")
            os.rmdir(area)
            os.close(self._locks.pop(area))
            self._known.remove(area)
            os.rmdir(os.path.dirname(area))

    def close(self) -> None:
        for area in list(self._locks):
            self.drop_empty(area)
        for fd in self._locks.values():
            os.close(fd)
        self._locks.clear()


def _nearest(path: str) -> str:
    """The path itself, or the nearest of its parents that exists."""
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return path


def _mounts() -> list[tuple[str, str]]:
    """(mount point, mount ID), longest mount point first (proc(5), mountinfo)."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = line.split(" ")
            found.append((_OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4]), fields[0]))
    # of two mounts on one point the later one is on top
    found.reverse()
    return sorted(found, key=lambda entry: -len(entry[0]))


def _mount_of(path: str, mounts: list[tuple[str, str]]) -> str:
    """The ID of the mount that a canonical path lies on. A rename across mounts fails even on one device."""
    for point, mount in mounts:
        if path == point or path.startswith(point.rstrip("/") + "/"):
            return mount
    return ""
