"""What happens after every input: waits that are over, stops that are late, jobs for free slots, spares."""

from typing import TYPE_CHECKING

from msgspec.structs import replace

from fetchd.protocol.job import State

from . import allowances, deadlines, disk, ending, repeats
from .commands import AssignJob, DropGate, Exit, Kill, Log, Spawn
from .job import Job, Moment
from .machine import Cause
from .slot import Run, Slot

if TYPE_CHECKING:
    from .core import Core


def turn(core: "Core", now: Moment) -> None:
    """Do what the present asks for. Costs nothing for what has not changed."""
    _wake_waiting(core, now)
    _open_gates(core, now)
    disk.turn(core, now)
    repeats.turn(core, now.mono)
    for job_id in core.deadlines.due(now.mono):
        deadlines.expire(core, core.ledger.live[job_id], now)
    for slot in core.pool.overdue(now.mono):
        if slot.ready:
            doom(core, slot, "did not stop in time", now)
        else:
            core.emit(Log("warning", f"worker {slot.index} does not come up", worker=slot.index))
            core.pool.crashed(slot, now.mono)
            doom(core, slot, "did not come up in time", now)
    if core.draining:
        allowances.turn(core, now)
        _finish_drain(core, now)
    else:
        for host in core.pool.hosts.take_freed():
            core.schedule.release(("host", host))
        for owner in core.pool.owners.take_freed():
            core.schedule.release(("owner", owner))
        for slot in core.pool.outdated():
            doom(core, slot, "outdated", now)
        _dispatch(core, now)
        _keep_spare(core, now)


def next_deadline(core: "Core", now: int) -> int | None:
    """Boot time (µs) of the next thing that `turn` has to do by itself, or None."""
    if core.exited:
        return None
    times = [core.waiting.next(), core.gates.next(), core.pool.next_late(), core.deadlines.next(),
             core.disks.next(), core.repeats.next(), allowances.next_look(core)]  # fmt: skip
    if core.draining:
        times.append(core.drain_by + core.settings.stop_grace)
    else:
        times.append(core.pool.wake(now))
        if (slot := core.pool.surplus()) is not None:
            times.append(slot.idle_since + core.settings.idle_timeout)
    return min((time for time in times if time is not None), default=None)


def assign(core: "Core", slot: Slot, job: Job) -> None:
    """Hand the attempt in this slot to its worker, which is ready."""
    assert slot.run is not None
    slot.run.assigned = True
    run = slot.run
    core.emit(AssignJob(slot.index, slot.incarnation, job, run.connections, run.rate))


def doom(core: "Core", slot: Slot, why: str, now: Moment) -> None:
    """Kill a worker. Its attempt is over when it is gone; without one nobody waits for that."""
    if slot.doomed:
        return
    core.emit(Kill(slot.index, slot.incarnation, why))
    run = slot.run
    if run is not None and run.assigned:
        slot.doomed = True
        slot.stop_by = None
        return
    core.pool.vacate(slot)
    if run is not None:
        ending.over(core, run, now)


def broke(core: "Core", slot: Slot, detail: str, now: Moment) -> None:
    """The worker here has broken the protocol: it is not asked again."""
    run = slot.run
    job, attempt = (run.job, run.attempt) if run else (None, None)
    core.emit(Log("error", f"worker {slot.index} broke the protocol: {detail}", job, slot.index, attempt))
    core.pool.crashed(slot, now.mono)
    doom(core, slot, f"protocol violation: {detail}", now)


def _wake_waiting(core: "Core", now: Moment) -> None:
    for due, job_id in core.waiting.due(now.mono):
        job = core.ledger.live.get(job_id)
        if job is not None and job.state is State.WAITING and job.wait_until == due:
            if deadlines.over(job, now):
                deadlines.expire(core, job, now)
                continue
            cleared = replace(job, reason=None, wait_since=0, wait_for=0, wait_until=0)
            core.enqueue(core.ledger.change(cleared, Cause.DUE, now))


def _open_gates(core: "Core", now: Moment) -> None:
    if opened := core.gates.due(now.mono):
        for key in opened:
            core.emit(DropGate(key))
        core.schedule.release()


def _dispatch(core: "Core", now: Moment) -> None:
    begun = []
    while core.pool.free() and (job := core.schedule.head(core.held)) is not None:
        if deadlines.over(job, now):
            deadlines.expire(core, job, now)
            continue
        slot = core.pool.choose(job, now.mono)
        if slot is None:
            break
        core.schedule.discard(job)
        job = core.ledger.change(
            job, Cause.DISPATCH, now, attempt=job.attempt + 1, reason=None, started=job.started or now.wall
        )
        run = core.runs[job.id] = Run(job.id, job.attempt, slot.index)
        run.bytes, run.total, run.expires = job.bytes, job.total, job.expires
        core.deadlines.add(run)
        disk.watch(core, job.area)
        disk.watch(core, "")
        if not (slot.filled and slot.fits(job)):
            _fill(core, slot, frozenset({core.pool.default_area, job.area}), now)
        core.pool.start(slot, job, run)
        if run.total is not None:
            core.pool.owners.weigh(run, max(0, run.total - run.bytes))
        if slot.ready:
            begun.append((slot, job))
    # what each may take depends on how many have begun
    allowances.turn(core, now)
    for slot, job in begun:
        assign(core, slot, job)


def _fill(core: "Core", slot: Slot, areas: frozenset[str], now: Moment) -> None:
    if slot.filled:
        core.emit(Kill(slot.index, slot.incarnation, "replaced"))
    core.pool.fill(slot, areas, now.mono + core.settings.start_timeout)
    core.emit(Spawn(slot.index, slot.incarnation, areas))


def _keep_spare(core: "Core", now: Moment) -> None:
    while (slot := core.pool.surplus()) and now.mono >= slot.idle_since + core.settings.idle_timeout:
        doom(core, slot, "idle", now)
    if (slot := core.pool.bare(now.mono)) is not None:
        _fill(core, slot, frozenset({core.pool.default_area}), now)


def _finish_drain(core: "Core", now: Moment) -> None:
    late = now.mono >= core.drain_by + core.settings.stop_grace
    # a step that waits for its disk is done by the next daemon
    withheld = all(job_id in core.repeats for job_id in core.runs)
    if late or (withheld and core.pool.busy() == 0):
        core.exited = True
        core.emit(Exit())
