"""What a user does to one job. Each verb is idempotent and total over states."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec.structs import replace

from fetchd.protocol.errors import Code
from fetchd.protocol.job import Reason, State

from . import ending, failing, inputs, quotas
from .commands import DropSecrets
from .job import Job, Moment, emptied
from .machine import Cause, allows
from .rights import may_unpark

if TYPE_CHECKING:
    from .core import Core

Verdict = tuple[Job | None, Code | None]
"""The job afterwards (None: forgotten) and why nothing was done, if so."""


def lacks_secrets(job: Job) -> bool:
    """Whether the job cannot be retried, because its secrets are deleted or on their way there.

    Those of a failed job are kept as long as its workspace may be.
    """
    return job.secret and job.terminal and not job.kept_until


def cancel(core: "Core", job: Job, now: Moment) -> Verdict:
    """Final for every job that is not yet being published or finished."""
    job = _take_back(core, job, now)
    if allows(job.state, Cause.CANCEL):
        return ending.close(core, job, Cause.CANCEL, now, reason=None), None
    return job, None if job.state is State.CANCELLED else Code.TOO_LATE


def pause(core: "Core", job: Job, now: Moment) -> Verdict:
    """Hold a job, keeping its bytes; one whose download is complete already is not held up."""
    run = core.runs.get(job.id)
    if job.state is State.PAUSED:
        return job, None
    if not allows(job.state, Cause.PAUSE) or (run is not None and run.finished):
        return job, Code.TOO_LATE
    core.schedule.discard(job)
    job = core.ledger.change(
        job, Cause.PAUSE, now, reason=Reason.USER, wait_since=0, wait_for=0, wait_until=0
    )  # fmt: skip
    if run is None or run.slot is None:
        core.ledger.release(job)
    elif run.stop != "pause":
        core.stop(core.pool.slots[run.slot], now, "pause")
    return job, None


def resume(core: "Core", job: Job, now: Moment) -> Verdict:
    """Let a paused job go on. Behind a closed queue it is still held, but no longer by itself."""
    if job.state is State.PAUSED:
        job = core.ledger.change(job, Cause.RESUME, now, reason=None)
        core.enqueue(job)
        return job, None
    if job.terminal or job.state is State.PUBLISHING:
        return job, Code.TOO_LATE
    if job.state is State.QUEUED and core.gates.paused(job.lane):
        return job, Code.QUEUE_PAUSED
    return job, None


def retry(core: "Core", job: Job, now: Moment) -> Verdict:
    """Queue a failed or cancelled job again; a waiting one need not wait any longer, nor its parked host.

    It begins anew with all its sources, and without a deadline: that of an earlier life may be over.
    """
    revives = allows(job.state, Cause.RETRY)
    if (job.state in (State.QUEUED, State.WAITING) or revives) and may_unpark(core.settings.shared):
        failing.unpark(core, job.host)
    if job.state is State.WAITING:
        due = replace(job, reason=None, wait_since=0, wait_for=0, wait_until=0)
        job = core.ledger.change(due, Cause.DUE, now)
        core.enqueue(job)
        return job, None
    if not revives:
        return job, Code.TOO_LATE if job.terminal or job.state is State.PUBLISHING else None
    if quotas.room(core, job.owner) == 0:
        return job, Code.BUSY
    wrong = job.error_code == Code.CHECKSUM_MISMATCH
    if job.state is State.CANCELLED or not job.kept_until or wrong:
        job = emptied(job)
    job = core.ledger.change(
        job, Cause.RETRY, now, reason=None, failures=0, deaths=0, mark=job.bytes, name=None, finished=None,
        error_code=None, error_message=None, kept_until=0, deadline=0, expires=0, source=0, refused=0,
        mismatches=0, alone=False, restarts=0, warning_code=None, warning_message=None,
    )  # fmt: skip
    core.enqueue(job)
    return job, None


def remove(core: "Core", job: Job, now: Moment) -> Verdict:
    """Cancel what is live, then forget it. A delivered file stays."""
    if not job.terminal:
        job = _take_back(core, job, now)
        if not allows(job.state, Cause.CANCEL):
            return job, Code.TOO_LATE
        job = ending.close(core, job, Cause.CANCEL, now, reason=None)
    elif job.kept_until:
        ending.clean(core, job)
        if job.secret:
            core.emit(DropSecrets(job.id))
    _forget(core, job, now)
    return None, None


def _forget(core: "Core", job: Job, now: Moment) -> None:
    # all totals are of the jobs that are known, as they are when they are counted anew at a start
    if job.state is State.COMPLETED:
        core.account(job.owner, -job.size)
    core.ledger.forget(job, now)


def _take_back(core: "Core", job: Job, now: Moment) -> Job:
    """A publish that was refused and is to be repeated need not be: the job may still be cancelled."""
    if job.state is not State.PUBLISHING or job.id not in core.repeats:
        return job
    return core.ledger.change(job, Cause.YIELD, now)


VERBS: dict[inputs.VerbName, Callable[["Core", Job, Moment], Verdict]] = {
    "cancel": cancel,
    "pause": pause,
    "resume": resume,
    "retry": retry,
    "remove": remove,
}


def expired(core: "Core", event: inputs.Expired, now: Moment) -> None:
    """Delete workspaces that were kept for a retry that did not come, and then the secrets.

    A workspace may be given up before its time; the secrets of a failed job stay until then.
    """
    for row in event.rows:
        job = core.ledger.lookup(row.id, {row.id: row})
        if job is None or not row.kept_until or (job.seq, job.kept_until) != (row.seq, row.kept_until):
            continue
        failed = job.state is State.FAILED
        early = failed and job.secret and now.wall < job.kept_until
        ending.clean(core, job)
        job = emptied(job) if failed else job
        core.ledger.put(job if early else replace(job, kept_until=0))
        if job.secret and not early:
            core.emit(DropSecrets(job.id))


def outdated(core: "Core", event: inputs.Outdated, now: Moment) -> None:
    """Forget finished jobs. One that was retried meanwhile, or that bytes are kept of, is left alone."""
    for job in core.ledger.current(event.rows):
        if job.terminal and not job.kept_until:
            _forget(core, job, now)
