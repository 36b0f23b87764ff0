"""Disks that are full or gone: a gate holds every job that is staged there, until there is room again.

Nothing fails because of them. Attempts are stopped, keep their bytes and queue behind the gate. Whether there
is room is asked for at computed times: while a gate is closed, and while attempts run. `''` stands for the
file system of the state directory, whose gate holds everything.

What is found does not tell of quotas and inodes: a gate that closes again and again opens later and later.
"""

from typing import TYPE_CHECKING

from fetchd.protocol.errors import Code
from fetchd.protocol.job import Reason

from . import inputs, repeats
from .commands import CheckSpace, DropGate, SaveGate
from .gates import Gate, GateKey
from .job import Job, Moment
from .machine import Cause
from .slot import Run
from .waits import SECOND

if TYPE_CHECKING:
    from .core import Core

CODES = (Code.DISK_FULL, Code.DISK_GONE)
"""The errors that close a gate."""

LONGEST_CHECK = 30 * SECOND
LONGEST_BACKOFF = 60 * SECOND
STEADY = 10 * SECOND
"""A gate that has been open for so long may be forgiven by what goes on behind it."""

FASTEST = 1 << 30
"""Bytes a second that attempts may write at most; room for less than a second is looked at every second."""


class Area:
    """What is known of a file system. Times are boot-time µs.

    `due` is when it is looked at next (None: the answer is on its way), `wait` the last time between two
    looks at a closed gate. It closed `closings` times without progress, and opens at `not_before` or later.
    """

    __slots__ = ("closings", "due", "not_before", "opened", "wait")

    def __init__(self) -> None:
        self.due: int | None = None
        self.wait = self.closings = self.not_before = self.opened = 0


class Disks:
    """The file systems on which attempts run or that are held, and the jobs that did not fit."""

    def __init__(self) -> None:
        self.areas: dict[str, Area] = {}
        self.waits: dict[str, int] = {}

    def next(self) -> int | None:
        """Boot time (µs) of the next look at one, or None."""
        return min((area.due for area in self.areas.values() if area.due is not None), default=None)


def key_of(area: str) -> GateKey:
    """The gate of an area."""
    return GateKey("area", area, Reason.DISK) if area else GateKey("daemon", "", Reason.DISK)


def closed(core: "Core", area: str) -> bool:
    """Whether what is staged in an area is held, by its own disk or by that of the state directory."""
    return any(core.gates.get(key_of(name)) is not None for name in (area, ""))


def start(core: "Core") -> None:
    """Look at once at what an earlier life has found to be full."""
    for gate in core.gates:
        if gate.key.reason is Reason.DISK:
            watch(core, gate.key.name).closings = 1


def watch(core: "Core", name: str) -> Area:
    """Begin to look at a file system, if nobody does yet."""
    area = core.disks.areas.get(name)
    if area is None:
        area = core.disks.areas[name] = Area()
        core.emit(CheckSpace(name))
    return area


def turn(core: "Core", now: Moment) -> None:
    """Look at what is due; what neither is held nor has attempts is forgotten."""
    for name, area in list(core.disks.areas.items()):
        if area.due is None or now.mono < area.due:
            continue
        forgiven = area.not_before + LONGEST_BACKOFF if area.closings else 0
        if core.gates.get(key_of(name)) is not None or _runs(core, name):
            _look(core, name, area)
        elif now.mono < forgiven:
            area.due = forgiven
        else:
            del core.disks.areas[name]


def space_found(core: "Core", event: inputs.SpaceFound, now: Moment) -> None:
    """What was found out about the room on a file system."""
    area = core.disks.areas.get(event.area)
    if area is None:
        if event.area or not (event.trouble or event.free < event.reserve):
            return
        # nobody asked: the database has found no room
        area = watch(core, "")
    area.due = now.mono + SECOND
    headroom = event.free - event.reserve
    if core.gates.get(key_of(event.area)) is None:
        if event.trouble or headroom < 0:
            _close(core, event.area, _detail(event), now)
        else:
            area.due = now.mono + min(LONGEST_CHECK, max(SECOND, headroom * SECOND // FASTEST))
    elif event.trouble or headroom < event.reserve // 4:
        area.wait = min(LONGEST_CHECK, max(SECOND, 2 * area.wait))
        area.due = now.mono + area.wait
    elif now.mono < area.not_before:
        area.due = area.not_before
    else:
        _open(core, event.area, area, now)


def hold(core: "Core", job: Job, code: Code, message: str, now: Moment) -> None:
    """An attempt found the disk full or gone: its job queues behind the gate, with all that it has."""
    fields = {"reason": None, "error_code": str(code), "error_message": message}
    job = core.ledger.change(job, Cause.YIELD, now, **fields)
    core.enqueue(job)
    close(core, job, code, message, now)


def close(core: "Core", job: Job, code: Code, message: str, now: Moment) -> None:
    """Close the gate of a job's area, because of what was said of it."""
    _close(core, job.area, f"{code}: {message or job.area}", now)
    _look(core, job.area, core.disks.areas[job.area])


def progressed(core: "Core", name: str, now: Moment, *, published: bool = False) -> None:
    """Something was written for good: the next gate that closes opens as soon as there is room.

    Synced bytes count only when a gate has been open for a while: a job that has to begin anew each time may
    sync the same ones again and again.
    """
    for area in (core.disks.areas.get(name), core.disks.areas.get("")):
        if area is not None and (published or now.mono >= area.opened + STEADY):
            area.closings = 0


def _close(core: "Core", name: str, detail: str, now: Moment) -> None:
    area = watch(core, name)
    if core.gates.get(key_of(name)) is None:
        gate = Gate(key=key_of(name), since=now.wall, detail=detail)
        core.gates.close(gate)
        core.emit(SaveGate(gate))
        backoff = SECOND << min(area.closings - 1, 6) if area.closings else 0
        area.closings += 1
        area.not_before = now.mono + min(LONGEST_BACKOFF, backoff)
        area.wait = 0
    for run in _runs(core, name):
        slot = None if run.slot is None else core.pool.slots[run.slot]
        if slot is not None and slot.run is run and run.stop is None:
            core.stop(slot, now, "yield")


def _open(core: "Core", name: str, area: Area, now: Moment) -> None:
    core.gates.open(key_of(name))
    core.emit(DropGate(key_of(name)))
    core.schedule.release()
    area.opened, area.wait = now.mono, 0
    repeats.go_on(core, name)


def _look(core: "Core", name: str, area: Area) -> None:
    """Ask, unless an answer is on its way."""
    if area.due is not None:
        area.due = None
        core.emit(CheckSpace(name))


def _runs(core: "Core", name: str) -> list[Run]:
    """The attempts on a file system, those among them whose file is finished."""
    runs = core.runs.items()
    return [run for job_id, run in runs if not name or core.ledger.live[job_id].area == name]


def _detail(event: inputs.SpaceFound) -> str:
    if event.trouble:
        return f"{Code.DISK_GONE}: {event.trouble}"
    free, reserve = event.free // 10**6, event.reserve // 10**6
    return f"{Code.DISK_FULL}: {free} MB are free, and {reserve} MB are to stay free"
