"""What an earlier life of the daemon left in a staging area: looked at, and put where the core wants it.

Nobody works in the area while this runs. Workers may have left anything: links, FIFOs, closed directories,
thousands of entries; none of it stops a start, is followed, or is opened unless it is a plain file.
"""

import contextlib
import itertools
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Literal

from msgspec.structs import replace

from fetchd.daemon.core.recovery import Action, Adopt, Finding, Noted, Park, Republish, Sweep, Where
from fetchd.protocol import journal
from fetchd.protocol.errors import FetchdError

from .moving import rename
from .removal import remove_tree
from .untrusted import LostError, entered, is_plain, staged
from .workspace import unlock

logger = logging.getLogger("fetchd")

ROOM_LIMIT = 64
"""Workspaces that are looked for in one room: the supervisor puts in far fewer."""

LONGEST_NAME = 64


def collect(area: str) -> list[Finding]:
    """Everything in the homes and rooms of an area that may be a workspace."""
    found = [_look(area, "jobs", entry) for entry in _entries(f"{area}/jobs")]
    for room in _entries(f"{area}/rooms"):
        if room.is_dir(follow_symlinks=False):
            unlock(room.path)
            inside = (entry for entry in _entries(room.path) if entry.is_dir(follow_symlinks=False))
            found += [_look(area, "rooms", entry) for entry in itertools.islice(inside, ROOM_LIMIT)]
    names = Counter(one.name for one in found)
    # which of several is the right one is in their frontiers; nobody else's is read
    return [one if names[one.name] == 1 else replace(one, frontier=_noted(one)) for one in found]


def carry_out(area: str, actions: Iterable[Action]) -> None:
    """Do what was planned for an area, then drop its rooms. What fails stays, and the next start finds it."""
    stuck = set()
    parked = False
    for action in actions:
        found = action.found
        if found is None:
            continue
        try:
            match action:
                case Adopt() | Republish() if found.where == "rooms":
                    _shift(found.path, f"{area}/jobs/{found.name}")
                case Park():
                    parked = True
                    _park(area, found)
                case Sweep():
                    remove_tree(found.path)
        except (OSError, FetchdError) as error:
            logger.warning("the workspace %r cannot be put in order: %s", found.path, error)
            stuck.add(os.path.dirname(found.path))
    if parked:
        with contextlib.suppress(OSError, FetchdError, LostError), entered(f"{area}/parked") as directory:
            # the next start may know the database again, and would sweep what is not there yet
            os.fsync(directory)
    for room in _entries(f"{area}/rooms"):
        if room.path not in stuck:
            remove_tree(room.path)


def _park(area: str, found: Finding) -> None:
    directory = f"{area}/parked"
    with contextlib.suppress(FileExistsError), staged(directory) as parked:
        os.mkdir(parked.name, 0o700, dir_fd=parked.directory)
    names = (found.name, *(f"{found.name[: LONGEST_NAME - 6]}-{number}" for number in range(2, 10_000)))
    free = next(name for name in names if not os.path.lexists(f"{directory}/{name}"))
    _shift(found.path, f"{directory}/{free}")


def _shift(workspace: str, target: str) -> None:
    unlock(workspace)
    with staged(workspace) as old, staged(target) as new:
        rename(old, new)


def _entries(directory: str) -> Iterator[os.DirEntry[str]]:
    """What is in a directory; nothing where it cannot be read."""
    try:
        with os.scandir(directory) as entries:
            yield from list(entries)
    except FileNotFoundError:
        pass
    except OSError as error:
        logger.warning("%r cannot be looked through: %s", directory, error)


def _look(area: str, where: Where, entry: os.DirEntry[str]) -> Finding:
    found = Finding(area=area, where=where, name=entry.name, path=entry.path, sound=False)
    if not entry.is_dir(follow_symlinks=False):
        return found
    try:
        data, frontier = _plain(f"{entry.path}/data"), _plain(f"{entry.path}/frontier")
    except PermissionError:
        unlock(entry.path)
        try:
            data, frontier = _plain(f"{entry.path}/data"), _plain(f"{entry.path}/frontier")
        except OSError:
            return found
    except OSError:
        return found
    if data is False or frontier is False:
        return found
    if data is None:
        return replace(found, sound=True)
    return replace(
        found, sound=True, size=data.st_size, inode=data.st_ino, mtime_ns=data.st_mtime_ns
    )  # fmt: skip


def _plain(path: str) -> os.stat_result | Literal[False] | None:
    """A plain file of ours alone; None where there is nothing, False where there is something else."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    return found if is_plain(found) else False


def _noted(found: Finding) -> Noted | None:
    if not found.sound:
        return None
    try:
        fd = os.open(f"{found.path}/frontier", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with open(fd, "rb") as file, contextlib.suppress(OSError):
        frontier = journal.read(file.read(journal.SIZE + 1))
        if frontier is not None:
            size = sum(end - start for start, end in frontier.ranges)
            return Noted(boot_id=frontier.boot_id, generation=frontier.generation, bytes=size)
    return None
