"""Staging areas: where workspaces lie, so that publishing is a rename.

An area is `<directory on the destination's mount>/.fetchd/<instance>/` with `jobs/` and `rooms/` in it. The
state directory's own area serves every destination on its mount; others are made on demand beside the
destination and removed when empty.

An area belongs to the mount point that it was made on. While that is not mounted the area is gone: what lies
under a mount point is another file system, and nothing is made or looked for there. A disk that was pulled
and is back has lost what the kernel had not written to it yet: only what was synced is believed then.
"""

import contextlib
import fcntl
import os
import re
import stat
import threading
from collections.abc import Mapping
from pathlib import Path

from fetchd.daemon.service.faults import code_of
from fetchd.protocol.errors import Code, FetchdError

from .mounts import mount_of, mounts, nearest
from .untrusted import staged
from .workspace import distrust, empty_rooms

HIDDEN = ".fetchd"

_INSTANCE = re.compile(r"[0-9a-f]{32}")


class Areas:
    """The staging areas of one daemon. Used from helper threads; each call stands alone.

    Of the areas `known` from earlier lives (with their mount points, '' where those are not known) those are
    opened that are still there and that no other daemon has; what lies in the others is not ours to touch.
    """

    def __init__(self, state: Path, instance: str, known: Mapping[str, str]) -> None:
        self._instance = instance
        self._locks: dict[str, int] = {}
        self._mounts: dict[str, str] = {}
        self._points = dict(known)
        self._ordered: set[str] = set()
        self.recovered = False
        self._guard = threading.RLock()
        self.default = os.path.join(os.path.realpath(state), HIDDEN, instance)
        try:
            self.open(self.default)
            for area in known:
                if os.path.isdir(area):
                    with contextlib.suppress(FetchdError, OSError):
                        self.open(area)
        except BaseException:
            self._unlock_all()
            raise

    def point(self, area: str) -> str:
        """The mount point that an area belongs to."""
        return self._points.get(area, "")

    def check(self, area: str) -> None:
        """Raise `disk_gone` where the file system of an area is not mounted. Touches nothing on it.

        The state directory's own is in use as long as this daemon is.
        """
        point = self._points.get(area, "")
        if area == self.default or not point:
            return
        now = mount_of(area)
        if now.point != point:
            with self._guard:
                # a mount that was detached while it was in use ends when nobody uses it any more
                self._unlock(area)
            # a longer one was mounted over it
            longer = len(now.point) > len(point)
            why = f"{now.point} hides it" if longer else f"{point} is not mounted"
            raise FetchdError(Code.DISK_GONE, f"{why}, which {area} lies on")
        if now.id != self._mounts.get(area, now.id):
            # the lock keeps the mount that it was taken on, so that this one cannot have its number
            with self._guard:
                self._unlock(area)
                self.open(area)

    def known(self) -> list[str]:
        """The areas that are open, the default one first."""
        with self._guard:
            return list(self._locks)

    def put_in_order(self, area: str) -> None:
        """The recovery at start has been here, as far as anything could be changed."""
        if os.access(f"{area}/rooms", os.W_OK):
            self._ordered.add(area)

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
            base = nearest(canonical)
            if not os.path.isdir(base):
                raise FetchdError(Code.DESTINATION, f"{base} is not a directory")
            if not os.access(base, os.W_OK | os.X_OK):
                raise FetchdError(Code.DESTINATION, f"{base} is not writable")
            among = mounts()
            mount = mount_of(base, among)
            for area in self.known():
                here = mount_of(area, among) == mount and self.point(area) in ("", mount.point)
                if here and os.path.isdir(area):
                    return canonical, area
            area = os.path.join(base, HIDDEN, self._instance)
            self.open(area)
            self._points[area] = mount.point
        except OSError as error:
            if code_of(error) is Code.EXHAUSTED:
                raise FetchdError(Code.BUSY, f"{directory}: {error.strerror}", retry_after=1.0) from None
            raise FetchdError(Code.DESTINATION, f"{directory}: {error.strerror}") from None
        except FetchdError as error:
            raise FetchdError(Code.DESTINATION, error.message) from None
        return canonical, area

    def open(self, area: str) -> None:
        """Make an area if need be, and lock it against a copy of this state directory that runs elsewhere.

        Raises `disk_gone` where its file system is not mounted.
        """
        if area == self.default and area in self._locks and _whole(area):
            # nobody removes this one, so that it need not wait for a slow mount that another call is at
            return
        with self._guard:
            self.check(area)
            for part in (os.path.dirname(area), area, f"{area}/jobs", f"{area}/rooms"):
                os.makedirs(part, mode=0o700, exist_ok=True)
                _check_ours(part)
            if area in self._locks and not _is_open(f"{area}/lock", self._locks[area]):
                # somebody has removed it, or another file system is mounted there now
                self._unlock(area)
            if area not in self._locks:
                self._locks[area] = _lock(area)
                self._mounts[area] = mount_of(area).id
                if self.recovered:
                    distrust(area)
            if self.recovered and area not in self._ordered and os.access(f"{area}/rooms", os.W_OK):
                # it was out of reach or read-only when this daemon began, and comes too late for the recovery
                self._ordered.add(area)
                empty_rooms(area)

    def drop_empty(self, area: str) -> None:
        """Remove an area that nothing lies in, unless it is the default one."""
        with self._guard:
            if area == self.default or area not in self._locks or _occupied(area):
                return
            # whoever comes in between finds a directory missing, and `open` makes it again
            with contextlib.suppress(OSError, FetchdError):
                # where something is parked it ends here
                removals = (
                    ("parked", os.rmdir),
                    ("rooms", os.rmdir),
                    ("jobs", os.rmdir),
                    ("lock", os.unlink),
                )
                for part, remove in removals:
                    # an earlier try may have come so far
                    with contextlib.suppress(FileNotFoundError), staged(f"{area}/{part}") as place:
                        remove(place.name, dir_fd=place.directory)
                self._unlock(area)
                with staged(area) as place:
                    os.rmdir(place.name, dir_fd=place.directory)
                os.rmdir(os.path.dirname(area))

    def close(self) -> None:
        for area in self.known():
            self.drop_empty(area)
        self._unlock_all()

    def _unlock(self, area: str) -> None:
        self._mounts.pop(area, None)
        fd = self._locks.pop(area, None)
        if fd is not None:
            os.close(fd)

    def _unlock_all(self) -> None:
        for area in list(self._locks):
            self._unlock(area)


def _is_open(path: str, fd: int) -> bool:
    """Whether a descriptor is of the file that the path leads to now."""
    try:
        found, held = os.lstat(path), os.fstat(fd)
    except FileNotFoundError:
        return False
    return (found.st_dev, found.st_ino) == (held.st_dev, held.st_ino)


def _lock(area: str) -> int:
    # not for writing: an area does not keep its file system from being made read-only
    fd = os.open(f"{area}/lock", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
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


def _whole(area: str) -> bool:
    return os.path.isdir(f"{area}/rooms") and os.path.isdir(f"{area}/jobs")


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
