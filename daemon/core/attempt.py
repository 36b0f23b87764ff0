"""What workers tell the core: that they are there, what they fetch, that they are gone.

A report counts only if it comes from the worker that fills the slot now and speaks of the attempt that it was
given; anything else is a violation and ends that worker.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from fetchd.protocol import mailbox
from fetchd.protocol.errors import Code

from . import delivery, inputs
from .commands import AllowRestart, Kill, Log, Progress, Seal
from .job import Job, Moment
from .slot import Run, Slot
from .verbs import clean, give_back, job_of

if TYPE_CHECKING:
    from .core import Core


def ready(core: "Core", event: inputs.WorkerReady, now: Moment) -> None:
    """A worker has locked its room and asks for work."""
    slot = core.pool.get(event.slot, event.incarnation)
    if slot is None or slot.ready:
        return
    slot.ready = True
    slot.idle_since = now.mono
    if slot.run is not None:
        core.assign(slot, core.ledger.live[slot.run.job])


def gone(core: "Core", event: inputs.WorkerGone, now: Moment) -> None:
    """A worker is no more. Only a death by itself counts against its job."""
    slot = core.pool.get(event.slot, event.incarnation)
    if slot is None:
        return
    run = slot.run
    if event.cause in (inputs.Gone.DIED, inputs.Gone.SPAWN_FAILED):
        slot.crashed(now.mono)
        core.emit(
            Log("warning", f"worker {slot.index} {event.cause}: {event.detail}", run.job if run else None)
        )
    slot.run = None
    slot.stop_by = None
    slot.empty()
    if run is None:
        return
    job = job_of(core, run)
    if run.stop == "end":
        clean(core, run)
    elif run.stop == "drain" or event.cause in (inputs.Gone.SPAWN_FAILED, inputs.Gone.LEFT):
        give_back(core, run.job, now)
    elif job is not None:
        job = replace(job, bytes=max(run.bytes, job.bytes))
        if event.cause is inputs.Gone.DIED:
            job = replace(job, deaths=job.deaths + 1)
            core.lose(job, Code.WORKER_DIED, f"the worker died: {event.detail}", now)
        else:
            code = Code.WORKER_HUNG if event.cause is inputs.Gone.HUNG else Code.WORKER_KILLED
            core.lose(job, code, f"the worker was killed: {event.detail}", now)


def violation(core: "Core", event: inputs.Violation, _now: Moment) -> None:
    """Whoever breaks the protocol is not asked again."""
    slot = core.pool.get(event.slot, event.incarnation)
    if slot is not None:
        core.emit(Log("error", f"worker {slot.index} broke the protocol: {event.detail}"))
        core.emit(Kill(slot.index, slot.incarnation, f"protocol violation: {event.detail}"))


def refused(core: "Core", event: inputs.AssignRefused, now: Moment) -> None:
    """The worker never saw the job."""
    slot = core.pool.get(event.slot, event.incarnation)
    if slot is None or slot.run is None or (slot.run.job, slot.run.attempt) != (event.job, event.attempt):
        return
    run = slot.run
    core.free(slot, now)
    job = job_of(core, run)
    if run.stop == "end":
        clean(core, run)
    elif run.stop == "drain":
        give_back(core, run.job, now)
    elif job is not None:
        if event.code is Code.EXISTS and job.if_exists == "skip":
            delivery.satisfy(core, job, now)
            return
        core.lose(job, event.code, event.message, now)


def report(core: "Core", event: inputs.WorkerReport, now: Moment) -> None:
    """One report of a worker about its attempt."""
    slot = core.pool.get(event.slot, event.incarnation)
    if slot is None:
        return
    said = event.report
    run = slot.run
    if run is None or not run.assigned or (run.job, run.attempt) != (said.job, said.attempt):
        violation(
            core, inputs.Violation(slot.index, slot.incarnation, "a report about no attempt of its"), now
        )
        return
    REPORTS[type(said)](core, slot, run, job_of(core, run), said, now)


def _responded(
    core: "Core", slot: Slot, run: Run, job: Job | None, said: mailbox.Responded, _now: Moment
) -> None:
    slot.origins.update(said.origins)
    if job is None or run.stop is not None:
        return
    if said.generation != job.generation or run.responded:
        core.emit(Kill(slot.index, slot.incarnation, "protocol violation: a response out of turn"))
        return
    run.responded = True
    run.bytes, run.total = said.kept, said.total
    job = replace(
        job,
        etag=said.validator.etag,
        last_modified=said.validator.last_modified,
        total=said.total,
        bytes=said.kept,
    )
    core.ledger.note(job)
    delivery.choose_name(core, run, job, said.disposition, said.url)


def _restart(core: "Core", slot: Slot, run: Run, job: Job | None, said: mailbox.Restart, now: Moment) -> None:
    if job is None or run.stop is not None:
        return
    if said.generation != job.generation or run.responded:
        core.emit(Kill(slot.index, slot.incarnation, "protocol violation: a restart out of turn"))
        return
    job = replace(
        job, generation=job.generation + 1, synced=(), wasted=job.wasted + job.bytes, bytes=0, mark=0,
        etag=None, last_modified=None, total=None,
    )  # fmt: skip
    run.bytes = 0
    core.ledger.announce(job, "restarted", now)
    core.emit(AllowRestart(slot.index, slot.incarnation, job.id, job.attempt, job.generation))


def _progressed(
    core: "Core", slot: Slot, run: Run, job: Job | None, said: mailbox.Progressed, _now: Moment
) -> None:
    if job is not None and run.stop is None:
        run.bytes, run.total, run.speed = said.bytes, said.total, said.speed
        core.emit(Progress(job.id, job.attempt, said.bytes, said.total, said.speed))


def _synced(core: "Core", slot: Slot, run: Run, job: Job | None, said: mailbox.Synced, _now: Moment) -> None:
    if job is None or run.stop == "end":
        return
    ranges = tuple(said.ranges)
    ends = [edge for pair in ranges for edge in pair]
    if said.generation != job.generation or not run.responded or ends != sorted(set(ends)):
        core.emit(Kill(slot.index, slot.incarnation, "protocol violation: ranges that cannot be"))
        return
    on_hand = sum(end - start for start, end in ranges)
    core.ledger.put(replace(job, synced=ranges, bytes=max(on_hand, run.bytes)))


def _finished(
    core: "Core", slot: Slot, run: Run, job: Job | None, said: mailbox.Finished, now: Moment
) -> None:
    if job is not None and (not run.responded or (job.total is not None and said.size != job.total)):
        core.emit(Kill(slot.index, slot.incarnation, "protocol violation: a finish that cannot be"))
        return
    core.free(slot, now)
    if job is None or run.stop == "end":
        clean(core, run)
        return
    run.finished, run.stop = True, None
    run.bytes, run.speed = said.size, None
    algorithm = job.checksum.partition(":")[0] if job.checksum else next(iter(said.digests), None)
    digest = said.digests.get(algorithm) if algorithm else None
    job = replace(job, bytes=said.size, total=said.size, digest=f"{algorithm}:{digest}" if digest else None)
    core.ledger.note(job)
    core.emit(Seal(job, said.size))


def _failed(core: "Core", slot: Slot, run: Run, job: Job | None, said: mailbox.Failed, now: Moment) -> None:
    core.free(slot, now)
    if job is None or run.stop == "end":
        clean(core, run)
        return
    try:
        code = Code(said.code)
    except ValueError:
        code = Code.INTERNAL
    core.lose(replace(job, bytes=said.bytes), code, said.message, now, said.retry_after)


def _stopped(core: "Core", slot: Slot, run: Run, job: Job | None, said: mailbox.Stopped, now: Moment) -> None:
    if run.stop is None:
        core.emit(Kill(slot.index, slot.incarnation, "protocol violation: it stopped unasked"))
        return
    core.free(slot, now)
    if job is None or run.stop == "end":
        clean(core, run)
        return
    core.ledger.note(replace(job, bytes=said.bytes))
    give_back(core, run.job, now)


REPORTS: dict[type, Callable[["Core", Slot, Run, Job | None, Any, Moment], None]] = {
    mailbox.Responded: _responded,
    mailbox.Restart: _restart,
    mailbox.Progressed: _progressed,
    mailbox.Synced: _synced,
    mailbox.Finished: _finished,
    mailbox.Failed: _failed,
    mailbox.Stopped: _stopped,
}
