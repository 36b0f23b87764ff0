"""How much room there is: on the file systems of staging areas, and on that of the state directory.

What is told: free bytes, the reserve that is to stay free of them, and in words why nothing can be written at
all. What is done about it is the core's to decide.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from fetchd.daemon.core import commands, inputs
from fetchd.daemon.core.job import Job
from fetchd.daemon.service.ballast import Ballast
from fetchd.protocol.errors import Code, FetchdError

from .helpers import Helpers

logger = logging.getLogger("fetchd")

RESERVE = 256 << 20
SHARE = 100
"""What stays free where nothing is configured: so many bytes, or that part of a smaller file system."""

BLOCK = 512
"""stat(2): the unit of st_blocks, whatever the file system's is."""


class Room(Struct, frozen=True):
    """Bytes of a file system: free ones for this user, and those of them that are to stay free."""

    free: int
    reserve: int
    read_only: bool = False


def look(path: str, min_free: int | None) -> Room:
    """The room on the file system of a path, or of the nearest directory above it that exists.

    Raises OSError. May take as long as the file system does: not for the loop.
    """
    while True:
        try:
            found = os.statvfs(path)
        except (FileNotFoundError, NotADirectoryError):
            path = os.path.dirname(path)
        else:
            break
    unit = found.f_frsize
    reserve = min(RESERVE, found.f_blocks * unit // SHARE) if min_free is None else min_free
    return Room(found.f_bavail * unit, reserve, bool(found.f_flag & os.ST_RDONLY))


class Space:
    """Answers the core's questions about room, and refuses attempts that there is none for.

    `check_mount` raises `disk_gone` for an area whose file system is not mounted. `min_free` (in bytes, None
    for the usual reserve) may change at any time.
    """

    def __init__(
        self,
        state: Path,
        ballast: Ballast,
        helpers: Helpers,
        check_mount: Callable[[str], None],
        min_free: int | None,
    ) -> None:
        self._state = str(state)
        self._ballast = ballast
        self._helpers = helpers
        self._check_mount = check_mount
        self._asked: set[str] = set()
        self.min_free = min_free
        self.feed: Callable[[inputs.Input], None]

    def check(self, command: commands.CheckSpace) -> None:
        """Measure, in a helper.

        A file system that does not answer holds one of them, however often it is asked for.
        """
        area = command.area
        if area in self._asked:
            return
        self._asked.add(area)

        def done(found: inputs.SpaceFound, error: BaseException | None) -> None:
            self._asked.discard(area)
            self.feed(found if error is None else inputs.SpaceFound(area, 0, 0, str(error)))

        self._helpers.run(f"space {area}", lambda: self.measure(area), done)

    def full(self) -> None:
        """A commit found no room, and the ballast was given up for it."""
        self.feed(inputs.SpaceFound("", 0, self._ballast.size, "the state directory's file system is full"))

    def measure(self, area: str) -> inputs.SpaceFound:
        """What there is now. The state directory has enough room only while its ballast is there."""
        try:
            if area:
                self._check_mount(area)
            room = look(area or self._state, self.min_free)
            if room.read_only:
                return inputs.SpaceFound(area, room.free, room.reserve, "the file system is read-only")
            return inputs.SpaceFound(area, room.free, room.reserve) if area else self._with_ballast(room)
        except FetchdError as error:
            return inputs.SpaceFound(area, 0, 0, error.message)
        except OSError as error:
            return inputs.SpaceFound(area, 0, 0, error.strerror or str(error))

    def _with_ballast(self, room: Room) -> inputs.SpaceFound:
        """Take the ballast where it leaves the reserve free; while it is missing there is too little room."""
        if self._ballast.held:
            return inputs.SpaceFound("", room.free, room.reserve)
        wanted = room.reserve + self._ballast.size
        if room.free < wanted:
            return inputs.SpaceFound("", room.free, wanted)
        if not self._ballast.restore():
            return inputs.SpaceFound("", room.free, wanted, "its ballast cannot be made")
        room = look(self._state, self.min_free)
        return inputs.SpaceFound("", room.free, room.reserve)

    def fit(self, job: Job, data: str) -> None:
        """Raise `disk_full` (or `disk_gone`) where an attempt that goes on with this file has no room.

        `details["alone"]` says that the job itself is too large, though the file system is not full.
        """
        room = look(os.path.dirname(data), self.min_free)
        place = f"the file system of {job.directory}"
        if room.read_only:
            raise FetchdError(Code.DISK_GONE, f"{place} is read-only")
        if room.free < room.reserve:
            raise FetchdError(
                Code.DISK_FULL,
                f"{place}: {shown(room.free)} are free, and {shown(room.reserve)} are to stay free",
            )
        if job.total is None:
            return
        try:
            # what a worker has reserved counts too, and the holes of a sparse file do not
            kept = os.lstat(data).st_blocks * BLOCK
        except FileNotFoundError:
            kept = 0
        needed = max(0, job.total - kept)
        if needed > room.free - room.reserve:
            text = f"{place}: {shown(needed)} are needed, {shown(room.free - room.reserve)} are free"
            raise FetchdError(Code.DISK_FULL, text, alone=True)


def shown(size: int) -> str:
    """A number of bytes for people: `1.5 GB`."""
    amount, units = float(size), ["bytes", "kB", "MB", "GB", "TB"]
    while amount >= 1000 and len(units) > 1:
        amount, units = amount / 1000, units[1:]
    return f"{amount:.0f} {units[0]}" if units[0] == "bytes" else f"{amount:.1f} {units[0]}"
