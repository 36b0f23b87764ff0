"""What clients tell the core: submits, verbs for single jobs, stopping."""

from typing import TYPE_CHECKING

from fetchd.protocol.control import Accepted, Outcome, Outcomes, Submitted
from fetchd.protocol.errors import Code
from fetchd.protocol.job import Policy, Reason, State

from . import bulk, failing, inputs, lifecycle, quotas
from .answers import answer, repeated
from .commands import Exit, Refuse, SaveSecrets
from .intake import Intake
from .job import Job, Moment
from .machine import Cause
from .rights import is_of, may_govern, may_see, may_touch, may_unpark

if TYPE_CHECKING:
    from .core import Core


def submit(core: "Core", event: inputs.Submit, now: Moment) -> None:
    """All jobs or none."""
    request = event.request
    if repeated(core, request):
        return
    if core.draining:
        core.emit(Refuse(request.token, Code.DRAINING))
        return
    fresh: dict[str, Job] = {}
    claimed: dict[str, str] = {}
    for intake in event.jobs:
        known = core.ledger.lookup(intake.id, event.known)
        if known is not None:
            # an ID that a bulk verb is going to free is free
            known = bulk.catch_up(core, known, now)
        known = known or fresh.get(intake.id)
        if known is not None:
            if not is_of(known, request.owner) or known.spec_hash != intake.spec_hash:
                core.emit(_conflict(request, known))
                return
            continue
        job = _new_job(intake, request.owner, now)
        path = job.path
        if path is not None:
            holder = claimed.get(path) or _holder(core, path, event.paths)
            if holder is not None and job.if_exists == "fail":
                core.emit(_reserved(core, request, intake.id, path, holder))
                return
            claimed.setdefault(path, job.id)
        fresh[job.id] = job
    room = quotas.room(core, request.owner)
    if room is not None and len(fresh) > room:
        text = f"you may queue {core.settings.max_queued} jobs, and there is room for {room} more"
        core.emit(Refuse(request.token, Code.BUSY, text, retry_after=quotas.RETRY_AFTER))
        return
    results = []
    for intake in event.jobs:
        new = fresh.pop(intake.id, None)
        if new is not None:
            path = new.path
            taken = path is not None and (
                claimed[path] != new.id or _holder(core, path, event.paths) is not None
            )
            job = _admit(core, new, intake, now, skip=taken)
        else:
            known = core.ledger.lookup(intake.id, event.known)
            assert known is not None, "a job that is not new was found above"
            job = known
        results.append(Accepted(id=job.id, state=job.state, revision=job.revision, duplicate=new is None))
    answer(core, request, Submitted(jobs=results), now)


def _conflict(request: inputs.Request, known: Job) -> Refuse:
    """An ID is taken. Of somebody else's job there is no more to say."""
    if not may_see(request, known.owner):
        return Refuse(request.token, Code.CONFLICT)
    return Refuse(request.token, Code.CONFLICT, f"{known.id} is the ID of another job", {"job": known.id})


def _reserved(core: "Core", request: inputs.Request, job: str, path: str, holder: str) -> Refuse:
    """A path is taken; by which job is told to whom that job exists."""
    known = core.ledger.find(holder)
    if may_govern(request) or (known is not None and may_see(request, known.owner)):
        details: dict[str, object] = {"job": job, "holder": holder}
        return Refuse(request.token, Code.PATH_RESERVED, f"{path} will be published by job {holder}", details)
    return Refuse(request.token, Code.PATH_RESERVED, f"another job will publish {path}", {"job": job})


def _holder(core: "Core", path: str, stored: dict[str, str]) -> str | None:
    """The live job that has reserved a path; what the store says of it may have changed in memory."""
    if (holder := core.ledger.paths.get(path)) is not None:
        return holder
    holder = stored.get(path)
    if holder is None or holder in core.ledger.forgotten:
        return None
    known = core.ledger.find(holder)
    return None if known is not None and (known.terminal or known.path != path) else holder


def _admit(core: "Core", job: Job, intake: Intake, now: Moment, *, skip: bool) -> Job:
    if intake.secrets is not None and not skip:
        core.emit(SaveSecrets(job.id, intake.secrets))
    job = core.ledger.add(job, now)
    if skip:
        return core.close(job, Cause.SATISFY, now, reason=Reason.EXISTS)
    core.enqueue(job)
    return job


def _new_job(intake: Intake, owner: str, now: Moment) -> Job:
    spec = intake.spec
    allowed = None if spec.deadline is None else max(1, int(spec.deadline * 1e6))
    # a newer file replaces the one under its name
    if_exists: Policy = "overwrite" if spec.if_newer else spec.if_exists
    reserve = spec.name is not None and if_exists in ("fail", "skip")
    return Job(
        seq=0,
        id=intake.id,
        owner=owner,
        host=intake.host,
        area=intake.area,
        url=intake.url,
        directory=intake.directory,
        spec_hash=intake.spec_hash,
        created=now.wall,
        priority=spec.priority,
        secret=intake.secrets is not None,
        name=spec.name if reserve else None,
        wanted=spec.name,
        checksum=intake.checksum,
        if_exists=if_exists,
        retries=spec.retries,
        labels=spec.labels,
        umask=spec.umask,
        cleanup_success=spec.cleanup.success,
        cleanup_failure=spec.cleanup.failure,
        options=intake.options,
        limit_rate=spec.limit_rate or 0,
        deadline=0 if allowed is None else now.wall + allowed,
        expires=0 if allowed is None else now.mono + allowed,
    )


def verb(core: "Core", event: inputs.Verb, now: Moment) -> None:
    """A verb for jobs by their IDs."""
    request = event.request
    if repeated(core, request) or bulk.refused(core, request, event.verb):
        return
    outcomes = [_do(core, event, job_id, now) for job_id in event.ids]
    answer(core, request, Outcomes(jobs=outcomes), now)


def _do(core: "Core", event: inputs.Verb, job_id: str, now: Moment) -> Outcome:
    job = core.ledger.lookup(job_id, event.known)
    if job is not None and may_touch(event.request, job):
        job = bulk.catch_up(core, job, now)
    if job is None or not may_touch(event.request, job):
        return Outcome(id=job_id, state=None, revision=0, code=Code.NO_SUCH_JOB)
    code: Code | None
    after: Job | None
    missing = job.secret and job_id not in event.secrets
    revivable = job.state in (State.FAILED, State.CANCELLED)
    if event.verb == "retry" and revivable and (missing or lifecycle.lacks_secrets(job)):
        after, code = job, Code.SECRETS_GONE
    elif event.verb == "retry" and core.intents.clearing(job.owner):
        # an admin's, for it would be among those that end
        after, code = job, Code.BUSY
    else:
        after, code = lifecycle.VERBS[event.verb](core, job, now)
        revived = event.verb == "retry" and code is None and after is not None and after.state is State.QUEUED
        if revived and may_unpark(core.settings.shared, event.request):
            failing.unpark(core, job.host)
    if after is None:
        return Outcome(id=job_id, state=None, revision=core.ledger.revision, code=code)
    return Outcome(id=job_id, state=core.shown(after)[0], revision=after.revision, code=code)


def drain(core: "Core", event: inputs.Drain, now: Moment) -> None:
    """First: attempts checkpoint and stop, within the drain time. Again, or `now`: exit at once."""
    if event.now or core.draining:
        core.exited = True
        core.emit(Exit())
        return
    core.draining = True
    core.drain_by = now.mono + core.settings.drain_timeout
    for slot in core.pool.slots:
        run = slot.run
        if run is not None and run.stop is None:
            core.stop(slot, now, "drain")


def configure(core: "Core", event: inputs.Configure, _now: Moment) -> None:
    """Other settings from now on. Fewer workers: those that run go on, and no new ones are started."""
    if event.settings.room != core.settings.room:
        core.pool.renew()
    core.settings = event.settings
    core.pool.resize(event.settings.workers)
    core.pool.hosts.resize(event.settings.host_connections)
    core.pool.owners.resize(event.settings.max_running, event.settings.max_in_flight)
    core.limits.configured, core.limits.changed = event.settings.limit_rate, True
