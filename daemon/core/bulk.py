"""Bulk verbs: a gate, or an intent that is carried out in chunks.

Whoever deals with a job that an intent still covers carries out the intent on it first (`catch_up`): so all
verbs look as if each had been done at once, in the order in which they were acknowledged. The one that cannot
is a retry while all jobs are being cancelled or removed, because the job that it revives would be among them;
it is refused until that is done.
"""

from typing import TYPE_CHECKING

from fetchd.protocol.control import Outcomes
from fetchd.protocol.errors import Code
from fetchd.protocol.job import Reason

from . import failing, inputs, lifecycle
from .answers import answer, repeated
from .commands import DropGate, DropIntent, LoadChunk, Refuse, SaveGate, SaveIntent
from .gates import Gate, GateKey
from .intents import CHUNK, Intent
from .job import Job, Moment
from .rights import is_of, may_unpark

if TYPE_CHECKING:
    from .core import Core


def bulk(core: "Core", event: inputs.Bulk, now: Moment) -> None:
    """A verb for all jobs of whoever asks, admins too, or for all failed ones."""
    request = event.request
    if repeated(core, request) or refused(core, request, event.verb):
        return
    number = core.intents.number(core.ledger.revision)
    gate = GateKey("owner", request.owner, Reason.USER)
    if event.verb == "pause":
        _pause(core, gate, now)
    else:
        if event.verb == "resume" and core.gates.open(gate):
            core.emit(DropGate(gate))
            core.schedule.release()
        if event.verb == "retry" and not event.failed and may_unpark(core.settings.shared, request):
            failing.unpark_all(core, request.owner)
        intent = Intent(
            number=number, owner=request.owner, verb=event.verb, failed=event.failed,
            upto=core.ledger.next_seq,
        )  # fmt: skip
        if intent.clears:
            _supersede(core, request.owner)
        begin(core, intent)
        if intent.clears:
            # no report of a worker that is on its way may come before it
            for job in _running(core, request.owner):
                catch_up(core, job, now)
    answer(core, request, Outcomes(jobs=[], intent=number), now)


def refused(core: "Core", request: inputs.Request, verb: inputs.VerbName) -> bool:
    """Refuse what would be undone by an intent that is older."""
    if verb != "retry" or not core.intents.clearing(request.owner):
        return False
    core.emit(
        Refuse(request.token, Code.BUSY, "all jobs are being cancelled or removed; try again after that")
    )
    return True


def _pause(core: "Core", key: GateKey, now: Moment) -> None:
    gate = Gate(key=key, since=now.wall)
    core.gates.close(gate)
    core.emit(SaveGate(gate))
    for running in _running(core, key.name):
        if (job := catch_up(core, running, now)) is not None:
            lifecycle.pause(core, job, now)


def _running(core: "Core", owner: str) -> list[Job]:
    jobs = (core.ledger.live[job_id] for job_id in core.runs)
    return [job for job in jobs if job is not None and is_of(job, owner)]


def _supersede(core: "Core", owner: str) -> None:
    """What was to be revived is not, since all is to end."""
    for intent in core.intents.of(owner):
        if intent.verb in ("resume", "retry"):
            core.intents.drop(intent)
            core.emit(DropIntent(intent.number))


def begin(core: "Core", intent: Intent) -> None:
    """Take an intent, or its next step, in hand."""
    core.intents.put(intent)
    core.emit(SaveIntent(intent))
    core.emit(LoadChunk(intent, CHUNK))


def catch_up(core: "Core", job: Job, now: Moment, before: int | None = None) -> Job | None:
    """The job after the intents (those before a number) that cover it; None: it is forgotten."""
    for intent in core.intents.of(job.owner):
        if before is not None and intent.number >= before:
            break
        after = carry_out(core, intent, job, now)
        if after is None:
            return None
        job = after
    return job


def carry_out(core: "Core", intent: Intent, job: Job, now: Moment) -> Job | None:
    """Do the verb of an intent to a job, if it is for this one."""
    if not intent.covers(job) or (intent.verb == "retry" and lifecycle.lacks_secrets(job)):
        return job
    return lifecycle.VERBS[intent.verb](core, job, now)[0]


def chunk_loaded(core: "Core", event: inputs.ChunkLoaded, now: Moment) -> None:
    """Do the verb to a chunk of its jobs, as memory knows them, and go on to the next."""
    intent = core.intents.get(event.number)
    if intent is None:
        return
    for row in event.rows:
        job = core.ledger.lookup(row.id, {row.id: row})
        if job is None or job.seq != row.seq:
            continue
        job = catch_up(core, job, now, before=intent.number)
        if job is not None:
            carry_out(core, intent, job, now)
    following = intent.after(event.rows[-1].seq if event.rows else None, event.more)
    if following is not None:
        begin(core, following)
        return
    core.intents.drop(intent)
    core.emit(DropIntent(event.number))
    if intent.clears:
        core.schedule.release()
