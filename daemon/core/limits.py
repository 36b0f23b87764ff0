"""Requests for limits of speed: of jobs, of a host, of everything. What is asked for survives a restart.

A limit over all replaces the configured one until it is lifted; then that is in force again.
"""

from typing import TYPE_CHECKING

from fetchd.protocol.control import LimitsInForce, Outcome
from fetchd.protocol.errors import Code

from . import allowances, bulk, inputs
from .answers import answer, repeated
from .commands import SaveLimit
from .job import Moment

if TYPE_CHECKING:
    from .core import Core


def limit(core: "Core", event: inputs.Limit, now: Moment) -> None:
    """Set or lift limits."""
    if repeated(core, event.request):
        return
    outcomes = [_limit_job(core, event, job_id, now) for job_id in event.ids]
    if not event.ids:
        command = SaveLimit("all", "", event.rate)
        if event.host is not None:
            command = SaveLimit("host", event.host, event.rate)
        core.limits.put(command.kind, command.name, command.rate)
        core.emit(command)
    answer(core, event.request, in_force(core, outcomes), now)


def in_force(core: "Core", outcomes: list[Outcome]) -> LimitsInForce:
    """The answer to a request for or about limits."""
    limits = core.limits
    return LimitsInForce(total=limits.total, hosts=dict(sorted(limits.hosts.items())), jobs=outcomes)


def _limit_job(core: "Core", event: inputs.Limit, job_id: str, now: Moment) -> Outcome:
    job = core.ledger.lookup(job_id, event.known)
    if job is not None and job.owner == event.request.owner:
        job = bulk.catch_up(core, job, now)
    if job is None or job.owner != event.request.owner:
        return Outcome(id=job_id, state=None, revision=0, code=Code.NO_SUCH_JOB)
    code = Code.TOO_LATE if job.terminal else None
    if code is None:
        job = allowances.limit_job(core, job, event.rate)
    return Outcome(id=job_id, state=core.shown(job)[0], revision=job.revision, code=code)
