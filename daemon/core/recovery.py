"""What becomes of the workspaces that an earlier life of the daemon left behind: findings to actions, purely.

Every workspace gets one action. What is parked already is left alone: only its owner may say that it can go.
The actions can be carried out in part and planned again; they come to the same end.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from msgspec import Struct

from fetchd.protocol.ids import is_correlation_id
from fetchd.protocol.job import State

from .job import Job

Where = Literal["jobs", "rooms", "parked"]
"""At home, in the room of a dead worker, or put aside."""


class Noted(Struct, frozen=True, kw_only=True):
    """What a frontier file says."""

    boot_id: str
    generation: int
    bytes: int


class Finding(Struct, frozen=True, kw_only=True):
    """A workspace as it lies there. `size` is that of its data (None: it has none), `path` where it is.

    A sound one is a directory with plain files of ours. `frontier` is looked at where there are several of a
    name, and None where it cannot be read.
    """

    area: str
    where: Where
    name: str
    path: str
    sound: bool = True
    size: int | None = None
    inode: int = 0
    mtime_ns: int = 0
    frontier: Noted | None = None


class Action(Struct, frozen=True, kw_only=True):
    """What to do with a finding, and why. A `surprising` one is told about."""

    job: str
    found: Finding | None
    why: str
    surprising: bool = False


class Adopt(Action, frozen=True):
    """Bring it home; its job goes on from it."""


class Park(Action, frozen=True):
    """Put it aside: nobody knows it, and the database cannot say that nobody wants it."""


class Republish(Action, frozen=True):
    """Bring it home, if it is there, and publish it once more."""


class Sweep(Action, frozen=True):
    """Delete it."""


def plan(
    found: Iterable[Finding], jobs: Mapping[str, Job], boot_id: str, *, restored: bool
) -> Iterator[Action]:
    """One action for each finding that is not parked, those to delete first of every name.

    `jobs` are the stored jobs of these names, and those in publishing. With `restored` the database is not
    the one that these workspaces were made under: it is older, or new.
    """
    copies: dict[tuple[str, str], list[Finding]] = {}
    for one in found:
        if one.where != "parked":
            copies.setdefault((one.area, one.name), []).append(one)
    for (area, name), group in copies.items():
        job = jobs.get(name)
        yield from _of_one(name, group, job if job is not None and job.area == area else None,
                           boot_id, restored)  # fmt: skip
    for job in jobs.values():
        if job.state is State.PUBLISHING and not any(map(_usable, copies.get((job.area, job.id), ()))):
            why = "its file is gone from the workspace: it may have been published before the end"
            yield Republish(job=job.id, found=None, why=why)


def _of_one(
    name: str, group: list[Finding], job: Job | None, boot_id: str, restored: bool
) -> Iterator[Action]:
    """What becomes of the workspaces of one name in one area; `job` is None where none is staged there."""
    good = [one for one in group if _usable(one)]
    for one in group:
        if not one.sound:
            yield Sweep(job=name, found=one, why="it is not as the supervisor makes them", surprising=True)
        elif one.size is None:
            yield Sweep(job=name, found=one, why="there is nothing in it")
    if job is None and restored and is_correlation_id(name):
        for one in good:
            why = "the database, which is not the one that it was made under, knows no job of it"
            yield Park(job=name, found=one, why=why, surprising=True)
    elif job is None or not _wants(job, restored):
        why = "no job is known of it" if job is None else f"its job is {job.state}"
        for one in good:
            yield Sweep(job=name, found=one, why=why)
    elif good:
        good.sort(key=lambda one: _worth(one, job, boot_id), reverse=True)
        for one in good[1:]:
            why = f"the one at {good[0].path} is the better of {len(good)} of this name"
            yield Sweep(job=name, found=one, why=why, surprising=True)
        if job.state is State.PUBLISHING:
            yield Republish(job=name, found=good[0], why="it was about to be published")
        else:
            why = "its job goes on from it" if job.has_workspace else "it is newer than the database"
            yield Adopt(job=name, found=good[0], why=why, surprising=not job.has_workspace)


def _usable(found: Finding) -> bool:
    return found.sound and found.size is not None


def _wants(job: Job, restored: bool) -> bool:
    """Whether the job may go on from it. A row that is older than the workspace does not know of it yet."""
    return job.has_workspace or (restored and not job.terminal)


def _worth(found: Finding, job: Job, boot_id: str) -> tuple[bool, bool, bool, int]:
    """Of several: the sealed file, the content of the job, the one at home, the one with more bytes.

    A workspace that is lent to a worker is not at home meanwhile: what lies in a room beside it may have been
    made by the worker there, and only one of the job's content beats one that is not.
    """
    sealed = (found.inode, found.size, found.mtime_ns) == (job.inode, job.size, job.mtime_ns)
    noted = found.frontier
    same = noted is not None and noted.generation == job.generation
    kept = noted.bytes if noted is not None and noted.boot_id == boot_id else 0
    return job.state is State.PUBLISHING and sealed, same, found.where == "jobs", kept
