"""The workspaces of jobs: made, moved into a worker's room and out of it, sealed, deleted.

A workspace is a directory with two files that the supervisor makes: `data`, the bytes, and `frontier`, how
far they reach. While an attempt runs it lies in the worker's room, otherwise in `jobs/` of its staging area.
What a worker leaves in it is not trusted.
"""

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from fetchd.daemon.core import names
from fetchd.daemon.core.job import Job
from fetchd.protocol import journal
from fetchd.protocol.errors import Code, FetchdError
from fetchd.protocol.ids import is_correlation_id
from fetchd.protocol.mailbox import Validator

from .beneath import open_directory
from .modes import BY_UMASK, Modes
from .moving import Place, create, rename
from .removal import remove_surely, remove_tree
from .untrusted import FILES, entered, home, is_plain, open_plain, opened, staged

DAY = 86_400_000_000

_PASS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Prepared(Struct, frozen=True, kw_only=True):
    """A workspace in a worker's room, and what in it may be kept."""

    path: str
    have: tuple[tuple[int, int], ...]
    validator: Validator
    total: int | None
    newer_than: int | None = None


class Seal(Struct, frozen=True, kw_only=True):
    """What identifies a finished file."""

    size: int
    inode: int
    mtime_ns: int


class RoomGoneError(Exception):
    """The worker's room is not there any more, and the worker is of no use without it."""


class Workspaces:
    """Where each workspace is. Calls for one job never overlap; the helper pool sees to that.

    `check` raises `disk_gone` for an area whose file system is not mounted: what lies in it is not lost.
    `fit` raises `disk_full` for a job that has no room, given the data file that it goes on with.
    """

    def __init__(
        self,
        boot_id: str,
        check: Callable[[str], None] = lambda _area: None,
        fit: Callable[[Job, str], None] = lambda _job, _data: None,
    ) -> None:
        self._boot_id = boot_id
        self._check = check
        self._fit = fit
        self._rooms: dict[str, str] = {}
        self._dead: set[str] = set()

    def path(self, job: Job) -> str:
        """Where the job's workspace is now, or would be."""
        return self._rooms.get(job.id) or home(job)

    def prepare(self, job: Job, room: str) -> Prepared:
        """Make the workspace if need be, find out what may be kept, and move it into the room.

        Raises `RoomGoneError` where there is no such room any more; nothing is lost then.
        """
        self._check(job.area)
        here = self.path(job)
        if not os.path.isdir(os.path.dirname(here)):
            # somebody has removed the staging directory, or a room in it
            here = home(job)
        if not _is_sound(here):
            # an earlier worker has left what no worker of ours leaves
            remove_surely(here)
        self._fit(job, os.path.join(here, "data"))
        with contextlib.suppress(FileExistsError), staged(here) as place:
            os.mkdir(place.name, 0o700, dir_fd=place.directory)
        with entered(here) as workspace:
            _drop_torn(workspace)
            for name, content in (("data", b""), ("frontier", journal.blank())):
                _make(name, content, workspace)
            have, validator, total = self._kept(job, workspace)
        newer_than = _modified(job) if job.options.if_newer else None
        target = os.path.join(room, job.id)
        if here != target:
            _enter(here, target)
        self._rooms[job.id] = target
        if here not in (target, home(job)):
            # the room of an earlier worker, which may be dead since
            self._left(here)
        return Prepared(path=target, have=have, validator=validator, total=total, newer_than=newer_than)

    def _kept(self, job: Job, workspace: int) -> tuple[tuple[tuple[int, int], ...], Validator, int | None]:
        """Within one boot the frontier file is the truth; after a power cut only what was synced is.

        A frontier of an older content than the row's has not been written since: nothing but what was synced.
        """
        with open(open_plain("frontier", workspace), "rb") as file:
            frontier = journal.read(file.read(journal.SIZE + 1))
        size = os.stat("data", dir_fd=workspace, follow_symlinks=False).st_size
        if frontier is not None and (frontier.boot_id, frontier.generation) == (
            self._boot_id,
            job.generation,
        ):
            have, validator, total = frontier.ranges, frontier.content.validator, frontier.content.total
        else:
            have, total = job.synced, job.total
            validator = Validator(etag=job.etag, last_modified=job.last_modified)
        # the row is from an older backup: what it says was synced has been overwritten since
        newer = frontier is not None and frontier.generation > job.generation
        most = size if total is None else min(size, total)
        if newer or any(end > most for _, end in have):
            if job.synced:
                # bytes of another try would be taken for these after a power cut: it has to begin from zero
                raise FetchdError(Code.IO_ERROR, "bytes that were synced are gone")
            return (), Validator(), None
        return have, validator, total

    def retrieve(self, job: Job) -> None:
        """Take the workspace out of the worker's room."""
        inside = self._rooms.get(job.id)
        if inside is None:
            return
        self._check(job.area)
        with contextlib.ExitStack() as stack:
            try:
                place = stack.enter_context(staged(inside))
            except FileNotFoundError:
                # with its room
                pass
            else:
                if place.is_directory():
                    rename(place, stack.enter_context(staged(home(job))))
        del self._rooms[job.id]
        self._left(inside)

    def seal(self, job: Job, size: int, modes: Modes = BY_UMASK) -> Seal:
        """Take a finished file from its worker, check it, and make sure that it is on the disk."""
        self._check(job.area)
        self.retrieve(job)
        with entered(home(job)) as workspace, opened(workspace) as fd:
            found = os.fstat(fd)
            if found.st_size != size:
                raise FetchdError(
                    Code.IO_ERROR, f"the file has {found.st_size} bytes, the worker said {size}"
                )
            os.fchmod(fd, modes.of_file(job.umask))
            if job.options.keep_time and 0 < job.modified <= _latest():
                os.utime(fd, ns=(job.modified * 1000, job.modified * 1000))
                found = os.fstat(fd)
            try:
                os.fsync(fd)
            except OSError:
                # it is told once, and the next sync says that all is well: nobody is to resume from this
                with contextlib.suppress(OSError):
                    os.unlink("frontier", dir_fd=workspace)
                raise
            return Seal(size=found.st_size, inode=found.st_ino, mtime_ns=found.st_mtime_ns)

    def clean(self, job: Job) -> None:
        """Delete the workspace, wherever it is."""
        inside = self._rooms.pop(job.id, None)
        for path in (inside, home(job)):
            if path is not None:
                remove_tree(path)
        if inside is not None:
            self._left(inside)

    def vacate(self, room: str) -> None:
        """Remove the room of a dead worker, once the last workspace that somebody still wants is out."""
        self._dead.add(room)
        wanted = set(self._rooms.values())
        for entry in os.scandir(room) if os.path.isdir(room) else ():
            if entry.path not in wanted:
                remove_tree(entry.path)
        self._drop(room)

    def _left(self, inside: str) -> None:
        room = os.path.dirname(inside)
        if room in self._dead:
            self._drop(room)

    def _drop(self, room: str) -> None:
        # not empty: what is in it is still to be taken out, and then this is tried again
        with contextlib.suppress(OSError, FetchdError), staged(room) as place:
            os.rmdir(place.name, dir_fd=place.directory)
            self._dead.discard(room)

    def forget_rooms(self) -> None:
        """Nothing is in a room any more: all workers are dead and their rooms have been swept."""
        self._rooms.clear()
        self._dead.clear()


def _enter(here: str, target: str) -> None:
    with staged(here) as old:
        try:
            with staged(target) as new:
                rename(old, new)
        except FileNotFoundError:
            if os.path.isdir(os.path.dirname(target)):
                raise
            raise RoomGoneError from None


def _latest() -> int:
    """The latest modification time in µs that is believed: clocks of servers may be wrong by so much."""
    return time.time_ns() // 1000 + DAY


def _modified(job: Job) -> int | None:
    """When the file that a newer one is to replace was modified, in µs, or None where there is none."""
    name = job.name or job.wanted or names.choose(None, job.url, job.id)
    try:
        directory = open_directory("/", job.directory)
        try:
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        finally:
            os.close(directory)
    except (OSError, FetchdError):
        return None
    return found.st_mtime_ns // 1000 if stat.S_ISREG(found.st_mode) else None


def _is_sound(here: str) -> bool:
    """Whether a workspace is missing, or as the supervisor makes it: plain files of our own in a directory.

    A link or a device in it would be written to by the next worker, a FIFO would hold whoever opens it.
    """
    with staged(here) as place:
        if place.look() is None:
            return True
        if not place.is_directory():
            return False
        workspace = os.open(place.name, _PASS, dir_fd=place.directory)
    try:
        among = (Place(workspace, name).look() for name in FILES)
        return all(found is None or is_plain(found) for found in among)
    finally:
        os.close(workspace)


def _drop_torn(workspace: int) -> None:
    """Remove a frontier file that was not written in full, so that it is made anew."""
    with contextlib.suppress(FileNotFoundError):
        if os.stat("frontier", dir_fd=workspace, follow_symlinks=False).st_size != journal.SIZE:
            os.unlink("frontier", dir_fd=workspace)


def _make(name: str, content: bytes, workspace: int) -> None:
    """Make a file with its content, or nothing at all where there is no room for it."""
    try:
        fd = create(Place(workspace, name))
    except FileExistsError:
        return
    try:
        if os.write(fd, content) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
    except BaseException:
        os.unlink(name, dir_fd=workspace)
        raise
    finally:
        os.close(fd)


def distrust(area: str) -> None:
    """Forget how far the data in an area reaches: only what the rows know to be synced is there."""
    for workspace in (*Path(area).glob("jobs/*"), *Path(area).glob("rooms/*/*")):
        with contextlib.suppress(OSError, FetchdError), staged(f"{workspace}/frontier") as frontier:
            frontier.unlink()


def empty_rooms(area: str) -> None:
    """Bring workspaces of dead workers home and drop their rooms."""
    rooms = Path(area, "rooms")
    for room in list(rooms.iterdir()) if rooms.is_dir() else []:
        # its worker may have done anything to it; what cannot be brought home is lost, and the start goes on
        with contextlib.suppress(OSError, FetchdError):
            unlock(str(room))
            for name in os.listdir(room):
                _bring_home(f"{room}/{name}", f"{area}/jobs/{name}")
        remove_tree(str(room))


def _bring_home(workspace: str, target: str) -> None:
    with staged(workspace) as old, staged(target) as new:
        if old.is_directory() and new.look() is None:
            unlock(workspace)
            if os.path.lexists(f"{workspace}/data"):
                rename(old, new)


def unlock(path: str) -> None:
    """Let ourselves in: a worker may have closed it, and a closed directory can be neither read nor moved."""
    with contextlib.suppress(OSError, FetchdError), staged(path) as place:
        if place.is_directory():
            # no worker is left that could put a link in its place
            os.chmod(place.name, 0o700, dir_fd=place.directory)


def survey(areas: list[str], now: float) -> list[tuple[str, str, int, float, bool]]:
    """(job, path, bytes, age in seconds, whether it is parked) of every workspace, less what vanishes."""
    found = []
    for area in areas:
        homes = [Path(area, "jobs"), *Path(area, "rooms").glob("*"), Path(area, "parked")]
        for entry in (entry for place in homes if place.is_dir() for entry in place.iterdir()):
            if not is_correlation_id(entry.name):
                continue
            with contextlib.suppress(OSError):
                files = [file.stat(follow_symlinks=False) for file in entry.iterdir()]
                size = sum(file.st_size for file in files)
                newest = max((file.st_mtime for file in files), default=entry.stat().st_mtime)
                parked = entry.parent == homes[-1]
                found.append((entry.name, str(entry), size, max(0.0, now - newest), parked))
    return found
