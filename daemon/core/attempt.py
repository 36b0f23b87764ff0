"""What workers tell the core: that they are there, what they fetch, that they are gone.

A report counts only if it comes from the worker that fills the slot now and speaks of the attempt that it was
given; anything else is a violation and ends that worker. A worker that was killed is not heard any more.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from fetchd.protocol import mailbox
from fetchd.protocol.errors import Code

from . import allowances, delivery, disk, dispatch, ending, failing, inputs, results
from .commands import AllowRestart, Log, Progress
from .job import Job, Moment, Ranges, emptied
from .retry import Failure
from .slot import Run, Slot

if TYPE_CHECKING:
    from .core import Core

KILLED = {inputs.Gone.HUNG: Code.WORKER_HUNG, inputs.Gone.GREEDY: Code.WORKER_MEMORY}
"""Why the supervisor has ended a worker, where it has a name of its own."""

RESTARTS = 3
"""An attempt may begin anew so often; the kept bytes can turn out to be wrong only once."""

WARNINGS = 64
"""An attempt may warn so often: of every mirror, and some more."""


def ready(core: "Core", event: inputs.WorkerReady, now: Moment) -> None:
    """A worker has locked its room and asks for work."""
    slot = core.pool.get(event.slot, event.incarnation)
    if slot is None or slot.ready or slot.doomed:
        return
    core.pool.ready(slot, now.mono)
    if slot.run is not None:
        dispatch.assign(core, slot, core.ledger.live[slot.run.job])


def gone(core: "Core", event: inputs.WorkerGone, now: Moment) -> None:
    """A worker is no more. Only a death by itself counts against its job."""
    slot = core.pool.get(event.slot, event.incarnation)
    if slot is None:
        return
    run = slot.run
    cause = event.cause
    if cause is inputs.Gone.LEFT and run is not None and run.assigned:
        # nobody asked it to leave with a job in its hands
        cause = inputs.Gone.DIED
    if cause in (inputs.Gone.DIED, inputs.Gone.SPAWN_FAILED):
        core.pool.crashed(slot, now.mono)
        text = f"worker {slot.index} {event.cause}: {event.detail}"
        core.emit(Log("warning", text, run.job if run else None, slot.index, run.attempt if run else None))
    core.pool.vacate(slot)
    if run is None:
        return
    job = ending.job_of(core, run)
    if run.stop is not None or not run.assigned:
        ending.over(core, run, now)
    elif job is not None:
        job = replace(job, bytes=max(run.bytes, job.bytes))
        if cause is inputs.Gone.DIED:
            job = replace(job, deaths=job.deaths + 1)
            died = Failure(code=Code.WORKER_DIED, message=f"the worker died: {event.detail}")
            failing.lose(core, job, died, now)
        else:
            code = KILLED.get(cause, Code.WORKER_KILLED)
            killed = Failure(code=code, message=f"the worker was killed: {event.detail}")
            failing.lose(core, job, killed, now)


def violation(core: "Core", event: inputs.Violation, now: Moment) -> None:
    """Whoever breaks the protocol is not asked again, and nothing that it says counts any more."""
    slot = core.pool.get(event.slot, event.incarnation)
    if slot is not None and not slot.doomed:
        dispatch.broke(core, slot, event.detail, now)


def refused(core: "Core", event: inputs.AssignRefused, now: Moment) -> None:
    """The worker never saw the job."""
    slot = core.pool.get(event.slot, event.incarnation)
    if slot is None or slot.run is None or slot.doomed:
        return
    if not slot.run.assigned or (slot.run.job, slot.run.attempt) != (event.job, event.attempt):
        return
    run = slot.run
    core.pool.end(slot, now.mono)
    job = ending.job_of(core, run)
    if run.stop is not None:
        ending.over(core, run, now)
    elif job is not None:
        if event.code is Code.EXISTS and job.if_exists == "skip":
            delivery.satisfy(core, job, now)
            return
        failure = Failure(code=event.code, message=event.message)
        if event.alone and event.code is Code.DISK_FULL:
            failing.wait_for_room(core, job, failure, now)
        else:
            failing.lose(core, job, failure, now)


def report(core: "Core", event: inputs.WorkerReport, now: Moment) -> None:
    """One report of a worker about its attempt."""
    slot = core.pool.get(event.slot, event.incarnation)
    if slot is None or slot.doomed:
        return
    said = event.report
    run = slot.run
    if run is None or not run.assigned or (run.job, run.attempt) != (said.job, said.attempt):
        dispatch.broke(core, slot, "a report about no attempt of its", now)
        return
    slot.origins.update(getattr(said, "origins", ()))
    REPORTS[type(said)](core, slot, run, ending.job_of(core, run), said, now)


def _responded(
    core: "Core", slot: Slot, run: Run, job: Job | None, said: mailbox.Responded, now: Moment
) -> None:
    if job is None:
        return
    if said.generation != job.generation or run.responded:
        dispatch.broke(core, slot, "a response out of turn", now)
        return
    edges = [edge for pair in said.have for edge in pair]
    beyond = said.total is not None and edges and edges[-1] > said.total
    if edges != sorted(set(edges)) or beyond or sum(end - start for start, end in said.have) != said.kept:
        dispatch.broke(core, slot, "a response that cannot be", now)
        return
    run.responded = True
    allowances.show(core, run, now)
    run.bytes, run.total = said.kept, said.total
    core.pool.owners.weigh(run, max(0, (said.total or 0) - said.kept))
    synced = _both(job.synced, tuple(said.have))
    # what is about to be overwritten is not vouched for any more
    save = core.ledger.note if synced == job.synced else core.ledger.put
    job = replace(
        job,
        etag=said.validator.etag,
        last_modified=said.validator.last_modified,
        total=said.total,
        bytes=said.kept,
        synced=synced,
        modified=said.modified or 0,
    )
    save(job)
    if run.stop != "pause":
        delivery.choose_name(core, run, job, said.disposition, said.url)


def _both(synced: Ranges, kept: Ranges) -> Ranges:
    """What of the synced ranges is kept; the rest is about to be overwritten."""
    pairs = ((max(a, c), min(b, d)) for a, b in synced for c, d in kept)
    return tuple(pair for pair in pairs if pair[0] < pair[1])


def _restart(core: "Core", slot: Slot, run: Run, job: Job | None, said: mailbox.Restart, now: Moment) -> None:
    if job is None or run.stop is not None:
        return
    if said.generation != job.generation:
        dispatch.broke(core, slot, "a restart out of turn", now)
        return
    run.restarts += 1
    run.responded = False
    if run.restarts > RESTARTS:
        dispatch.broke(core, slot, "too many restarts", now)
        return
    job = replace(emptied(job), restarts=job.restarts + 1)
    run.bytes = 0
    core.ledger.announce(job, "restarted", now)
    core.emit(AllowRestart(slot.index, slot.incarnation, job.id, job.attempt, job.generation))


def _progressed(
    core: "Core", slot: Slot, run: Run, job: Job | None, said: mailbox.Progressed, _now: Moment
) -> None:
    if job is not None and run.stop is None:
        run.bytes, run.total, run.speed = said.bytes, said.total, said.speed
        core.emit(Progress(job.id, job.attempt, said.bytes, said.total, said.speed, job.owner))


def _synced(core: "Core", slot: Slot, run: Run, job: Job | None, said: mailbox.Synced, now: Moment) -> None:
    if job is None or run.stop == "end" or said.generation < job.generation:
        # a sync takes its time: what was synced may have been dropped by a restart meanwhile
        return
    ranges = tuple(said.ranges)
    ends = [edge for pair in ranges for edge in pair]
    beyond = job.total is not None and ends and ends[-1] > job.total
    if said.generation != job.generation or not run.responded or ends != sorted(set(ends)) or beyond:
        dispatch.broke(core, slot, "ranges that cannot be", now)
        return
    on_hand = sum(end - start for start, end in ranges)
    if on_hand > sum(end - start for start, end in job.synced):
        disk.progressed(core, job.area, now)
    core.ledger.put(replace(job, synced=ranges, bytes=max(on_hand, run.bytes)))


def _warned(core: "Core", slot: Slot, run: Run, job: Job | None, said: mailbox.Warned, now: Moment) -> None:
    if job is not None and run.stop is None:
        run.warnings += 1
        if run.warnings > WARNINGS:
            dispatch.broke(core, slot, "too many warnings", now)
            return
        core.emit(Log("warning", f"{job.id}: {said.message}", job.id, slot.index, run.attempt))
        job = replace(job, warning_code=said.code, warning_message=said.message)
        core.ledger.announce(job, "warning", now)


REPORTS: dict[type, Callable[["Core", Slot, Run, Job | None, Any, Moment], None]] = {
    mailbox.Responded: _responded,
    mailbox.Restart: _restart,
    mailbox.Progressed: _progressed,
    mailbox.Synced: _synced,
    mailbox.Warned: _warned,
    mailbox.Finished: results.finished,
    mailbox.NotModified: results.not_modified,
    mailbox.Failed: results.failed,
    mailbox.Stopped: results.stopped,
}
