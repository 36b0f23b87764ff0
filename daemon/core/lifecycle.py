"""The verbs: what a user does to jobs, one by one or in bulk. Each is idempotent and total over states."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec.structs import replace

from fetchd.protocol.control import Outcome, Outcomes
from fetchd.protocol.errors import Code
from fetchd.protocol.job import Reason, State

from . import ending, inputs
from .commands import Clean, DropGate, DropIntent, DropSecrets, LoadChunk, SaveGate, SaveIntent
from .gates import Gate, GateKey
from .intents import CHUNK, Intent
from .job import Job, Moment
from .machine import Cause, allows
from .verbs import answer, repeated

if TYPE_CHECKING:
    from .core import Core

Verdict = tuple[Job | None, Code | None]
"""The job afterwards (None: forgotten) and why nothing was done, if so."""


def verb(core: "Core", event: inputs.Verb, now: Moment) -> None:
    """A verb for jobs by their IDs."""
    if repeated(core, event.request):
        return
    outcomes = []
    for job_id in event.ids:
        job = core.ledger.lookup(job_id, event.known)
        if job is None or job.owner != event.request.owner:
            outcomes.append(Outcome(id=job_id, state=None, revision=0, code=Code.NO_SUCH_JOB))
            continue
        if event.verb == "retry" and _needs_secrets(job) and job.id not in event.secrets:
            outcomes.append(
                Outcome(id=job_id, state=job.state, revision=job.revision, code=Code.SECRETS_GONE)
            )
            continue
        after, code = VERBS[event.verb](core, job, now)
        shown = None if after is None else core.gates.shown(after)[0]
        revision = core.ledger.revision if after is None else after.revision
        outcomes.append(Outcome(id=job_id, state=shown, revision=revision, code=code))
    answer(core, event.request, Outcomes(jobs=outcomes), now)


def _needs_secrets(job: Job) -> bool:
    return job.secret and job.state in (State.FAILED, State.CANCELLED)


def cancel(core: "Core", job: Job, now: Moment) -> Verdict:
    """Final for every job that is not yet being published or finished."""
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
        return job, None
    if run.stop != "pause":
        core.stop(core.pool.slots[run.slot], now, "pause")
    return job, None


def resume(core: "Core", job: Job, now: Moment) -> Verdict:
    """Let a paused job go on."""
    gate = core.gates.holding(job.lane)
    if not job.terminal and gate is not None and gate.key.reason is Reason.USER:
        return job, Code.QUEUE_PAUSED
    if job.state is State.PAUSED:
        job = core.ledger.change(job, Cause.RESUME, now, reason=None)
        core.enqueue(job)
        return job, None
    return job, Code.TOO_LATE if job.terminal or job.state is State.PUBLISHING else None


def retry(core: "Core", job: Job, now: Moment) -> Verdict:
    """Queue a failed or cancelled job again; a waiting one need not wait any longer."""
    if job.state is State.WAITING:
        due = replace(job, reason=None, wait_since=0, wait_for=0, wait_until=0)
        job = core.ledger.change(due, Cause.DUE, now)
        core.enqueue(job)
        return job, None
    if not allows(job.state, Cause.RETRY):
        return job, Code.TOO_LATE if job.terminal or job.state is State.PUBLISHING else None
    if job.state is State.CANCELLED or not job.kept_until:
        job = replace(
            job, synced=(), bytes=0, total=None, etag=None, last_modified=None, generation=job.generation + 1
        )  # fmt: skip
    job = core.ledger.change(
        job, Cause.RETRY, now, reason=None, failures=0, deaths=0, mark=job.bytes, name=None, finished=None,
        error_code=None, error_message=None, kept_until=0,
    )  # fmt: skip
    core.enqueue(job)
    return job, None


def remove(core: "Core", job: Job, now: Moment) -> Verdict:
    """Cancel what is live, then forget it. A delivered file stays."""
    if not job.terminal:
        if not allows(job.state, Cause.CANCEL):
            return job, Code.TOO_LATE
        job = ending.close(core, job, Cause.CANCEL, now, reason=None)
    elif job.kept_until:
        core.emit(Clean(job))
        if job.secret:
            core.emit(DropSecrets(job.id))
    core.ledger.forget(job, now)
    return None, None


VERBS: dict[inputs.VerbName, Callable[["Core", Job, Moment], Verdict]] = {
    "cancel": cancel,
    "pause": pause,
    "resume": resume,
    "retry": retry,
    "remove": remove,
}


def bulk(core: "Core", event: inputs.Bulk, now: Moment) -> None:
    """A verb for all jobs of an owner: a gate, or an intent that is carried out in chunks."""
    request = event.request
    if repeated(core, request):
        return
    core.last_intent += 1
    gate = GateKey("owner", request.owner, Reason.USER)
    if event.verb == "pause":
        closed = Gate(key=gate, since=now.wall)
        core.gates.close(closed)
        core.emit(SaveGate(closed))
        for job_id in list(core.runs):
            job = core.ledger.live[job_id]
            if job.owner == request.owner:
                pause(core, job, now)
    else:
        if event.verb == "resume" and core.gates.open(gate):
            core.emit(DropGate(gate))
            core.schedule.release()
        begin(
            core,
            Intent(
                number=core.last_intent, owner=request.owner, verb=event.verb, failed=event.failed,
                upto=core.ledger.next_seq,
            ),
        )  # fmt: skip
    answer(core, request, Outcomes(jobs=[], intent=core.last_intent), now)


def begin(core: "Core", intent: Intent) -> None:
    """Take an intent, or its next step, in hand."""
    core.intents[intent.number] = intent
    core.emit(SaveIntent(intent))
    core.emit(LoadChunk(intent, CHUNK))


def chunk_loaded(core: "Core", event: inputs.ChunkLoaded, now: Moment) -> None:
    """Do the verb to a chunk of its jobs, as memory knows them, and go on to the next."""
    intent = core.intents.get(event.number)
    if intent is None:
        return
    for row in event.rows:
        job = core.ledger.lookup(row.id, {row.id: row})
        if job is None or job.seq != row.seq or (intent.states and job.state not in intent.states):
            continue
        if intent.verb == "retry" and _needs_secrets(job) and not job.kept_until:
            continue
        VERBS[intent.verb](core, job, now)
    following = intent.after(event.rows[-1].seq if event.rows else None, event.more)
    if following is not None:
        begin(core, following)
        return
    del core.intents[event.number]
    core.emit(DropIntent(event.number))
    core.schedule.release()


def expired(core: "Core", event: inputs.Expired, _now: Moment) -> None:
    """Delete workspaces and secrets that were kept for a retry that did not come."""
    for row in core.ledger.current(event.rows):
        if row.terminal and row.kept_until:
            core.ledger.put(replace(row, kept_until=0))
            core.emit(Clean(row))
            if row.secret:
                core.emit(DropSecrets(row.id))
