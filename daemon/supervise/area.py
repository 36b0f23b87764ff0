"""Staging areas: where workspaces lie, so that publishing is a rename.

An area is `<directory on the destination's mount>/.fetchd/<instance>/` with `jobs/` and `rooms/` in it. The
state directory's own area serves every destination on its mount; others are made on demand beside the
destination and removed when empty.
"""

import contextlib
import fcntl
import os
import re
import stat
import threading
from pathlib import Path

from fetchd.protocol.errors import Code, FetchdError

HIDDEN = ".fetchd"

_INSTANCE = re.compile(r"[0-9a-f]{32}")
_OCTAL = re.compile(r"\\([0-7]{3})")


class Areas:
    """The staging areas of one daemon. Used from helper threads; each call stands alone.

    Of the areas `known` from earlier lives those are opened that are still there and that no other daemon
    has; what lies in the others is not ours to touch.
    """

    def __init__(self, state: Path, instance: str, known: list[str]) -> None:
        self._instance = instance
        self._locks: dict[str, int] = {}
        self._guard = threading.RLock()
        self.default = os.path.join(os.path.realpath(state), HIDDEN, instance)
        try:
            self.open(self.default)
            for area in known:
                if os.path.isdir(area):
                    with contextlib.suppress(FetchdError, OSError):
                        self.open(area)
        except BaseException:
            self._unlock()
            raise

    def known(self) -> list[str]:
        """The areas that are open, the default one first."""
        with self._guard:
            return list(self._locks)

    def mend(self, area: str) -> bool:
        """Make what is missing of an area; whether it is open, or out of reach for now."""
        with contextlib.suppress(FetchdError, OSError):
            self.open(area)
            return True
        return False

    def take_strays(self) -> None:
        """Open the areas that a lost database had in the state directory, under another instance.

        What another daemon has made there is left alone while it runs, and where it is not private to us.
        """
        hidden = os.path.dirname(self.default)
        for name in os.listdir(hidden):
            area = os.path.join(hidden, name)
            if _INSTANCE.fullmatch(name) and os.path.isdir(f"{area}/jobs"):
                self.mend(area)

    def for_directory(self, directory: str) -> tuple[str, str]:
        """(canonical directory, area) for a destination, or `destination` where nothing can be put there."""
        try:
            canonical = os.path.realpath(directory)
            if _undecodable(canonical):
                raise FetchdError(Code.DESTINATION, f"{directory} leads to a path that is not UTF-8")
            base = _nearest(canonical)
            if not os.path.isdir(base):
                raise FetchdError(Code.DESTINATION, f"{base} is not a directory")
            if not os.access(base, os.W_OK | os.X_OK):
                raise FetchdError(Code.DESTINATION, f"{base} is not writable")
            mounts = _mounts()
            mount = _mount_of(base, mounts)
            for area in self.known():
                if _mount_of(area, mounts) == mount and os.path.isdir(area):
                    return canonical, area
            area = os.path.join(base, HIDDEN, self._instance)
            self.open(area)
        except OSError as error:
            raise FetchdError(Code.DESTINATION, f"{directory}: {error.strerror}") from None
        return canonical, area

    def open(self, area: str) -> None:
        """Make an area if need be, and lock it against a copy of this state directory that runs elsewhere."""
        if area == self.default and area in self._locks and os.path.isdir(f"{area}/rooms"):
            # nobody removes this one, so that it need not wait for a slow mount that another call is at
            return
        with self._guard:
            for part in (os.path.dirname(area), area, f"{area}/jobs", f"{area}/rooms"):
                os.makedirs(part, mode=0o700, exist_ok=True)
                _check_ours(part)
            if area not in self._locks:
                self._locks[area] = _lock(area)

    def drop_empty(self, area: str) -> None:
        """Remove an area that nothing lies in, unless it is the default one."""
        with self._guard:
            if area == self.default or area not in self._locks or _occupied(area):
                return
            # whoever comes in between finds a directory missing, and `open` makes it again
            with contextlib.suppress(OSError):
                # where something is parked it ends here
                if os.path.lexists(f"{area}/parked"):
                    os.rmdir(f"{area}/parked")
                os.rmdir(f"{area}/rooms")
                os.rmdir(f"{area}/jobs")
                os.unlink(f"{area}/lock")
                os.close(self._locks.pop(area))
                os.rmdir(area)
                os.rmdir(os.path.dirname(area))

    def close(self) -> None:
        for area in self.known():
            self.drop_empty(area)
        self._unlock()

    def _unlock(self) -> None:
        for fd in self._locks.values():
            os.close(fd)
        self._locks.clear()


def _lock(area: str) -> int:
    fd = os.open(f"{area}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise FetchdError(Code.DESTINATION, f"{area} is in use by another daemon") from None
    return fd


def _check_ours(directory: str) -> None:
    """A destination may be open to others: whoever owns a directory above a workspace owns the workspace."""
    found = os.lstat(directory)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise FetchdError(Code.DESTINATION, f"{directory} is not a private directory of this user")


def _occupied(area: str) -> bool:
    """Whether a workspace or a room lies in the area."""
    for part in ("jobs", "rooms"):
        with contextlib.suppress(OSError), os.scandir(f"{area}/{part}") as entries:
            if next(entries, None) is not None:
                return True
    return False


def _undecodable(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return True
    return False


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


def same_mount(one: str, other: str) -> bool:
    """Whether two canonical paths lie on one mount, so that a rename between them is possible."""
    mounts = _mounts()
    return _mount_of(one, mounts) == _mount_of(other, mounts)


def _mount_of(path: str, mounts: list[tuple[str, str]]) -> str:
    """The ID of the mount that a canonical path lies on. A rename across mounts fails even on one device."""
    for point, mount in mounts:
        if path == point or path.startswith(point.rstrip("/") + "/"):
            return mount
    return ""
