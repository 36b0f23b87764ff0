"""The end of attempts that were asked to stop, and of what belongs to a job that is over.

While a worker still holds the workspace of a job that was ended or paused, the job is not run again: it is
deferred, and goes into its lane when the attempt is really over.
"""

from typing import TYPE_CHECKING, Any

from fetchd.protocol.errors import Code
from fetchd.protocol.job import State

from .commands import Clean, DropSecrets
from .job import Job, Moment, emptied
from .machine import Cause
from .slot import Run

if TYPE_CHECKING:
    from .core import Core


def job_of(core: "Core", run: Run) -> Job | None:
    """The job that an attempt still works for, or None where it was ended meanwhile."""
    return None if run.stop == "end" else core.ledger.live.get(run.job)


def over(core: "Core", run: Run, now: Moment) -> None:
    """An attempt is over that was asked to stop, or that never began."""
    if run.stop == "end":
        core.ending.pop(run.job, None)
        if run.ended is not None and not run.keep:
            core.emit(Clean(run.ended))
        go_on(core, run.job)
    elif run.stop == "pause":
        core.runs.pop(run.job, None)
        job = core.ledger.live.get(run.job)
        if job is not None:
            core.ledger.put(job)
            if job.state is State.PAUSED:
                core.ledger.release(job)
        go_on(core, run.job)
    else:
        give_back(core, run.job, now)


def go_on(core: "Core", job_id: str) -> None:
    """Let a job into its lane that was queued while an earlier attempt of it was still stopping."""
    job = core.ledger.live.get(job_id)
    if job is not None and job.state is State.QUEUED:
        core.enqueue(job)


def give_back(core: "Core", job_id: str, now: Moment) -> None:
    """Put a running job back into the queue; its place there is the old one."""
    core.runs.pop(job_id, None)
    job = core.ledger.live.get(job_id)
    if job is not None and job.state is State.RUNNING:
        core.enqueue(core.ledger.change(job, Cause.YIELD, now, reason=None))


def close(core: "Core", job: Job, cause: Cause, now: Moment, **fields: Any) -> Job:
    """Bring a job to a terminal state and drop what belongs to it."""
    core.schedule.discard(job)
    run = core.runs.pop(job.id, None)
    slot = None if run is None or run.slot is None else core.pool.slots[run.slot]
    held = run is not None and slot is not None and slot.run is run
    code = fields.get("error_code")
    keep = job.attempt > 0 and (not held or code == Code.DEADLINE) and _keeps(core, job, cause, code)
    if keep or (cause is Cause.FAIL and job.secret):
        fields["kept_until"] = now.wall + core.settings.keep_failed
    if cause is Cause.FAIL and not keep:
        job = emptied(job)
    job = core.ledger.change(
        job, cause, now, finished=now.wall, wait_since=0, wait_for=0, wait_until=0, **fields
    )
    core.ledger.release(job)
    if job.secret and cause is not Cause.FAIL:
        core.emit(DropSecrets(job.id))
    if run is not None and slot is not None and held:
        # the workspace is still in the worker's hands
        run.ended, run.keep = job, keep
        core.ending[job.id] = run
        core.stop(slot, now, "end")
    elif job.attempt and not keep:
        clean(core, job)
    return job


def clean(core: "Core", job: Job) -> None:
    """Delete the workspace of a job; where a worker still has it, that is done when the attempt is over."""
    if (run := core.ending.get(job.id)) is not None:
        run.keep = False
    else:
        core.emit(Clean(job))


def _keeps(core: "Core", job: Job, cause: Cause, code: str | None) -> bool:
    """Whether the workspace stays when the job ends so."""
    if cause is Cause.FAIL:
        delete = job.cleanup_failure if job.cleanup_failure is not None else core.settings.cleanup_failure
        return not delete if delete is not None else _resumable(job, code)
    if cause in (Cause.PUBLISH, Cause.SATISFY):
        return not (job.cleanup_success if job.cleanup_success is not None else core.settings.cleanup_success)
    return False


def _resumable(job: Job, code: str | None) -> bool:
    proven = job.etag is not None or job.last_modified is not None or job.checksum is not None
    return job.bytes > 0 and proven and code not in (Code.CHECKSUM_MISMATCH, Code.EXISTS, Code.IO_ERROR)
