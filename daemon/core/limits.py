"""Requests for limits of speed: of jobs, of a host, of everything. What is asked for survives a restart.

A limit over all replaces the configured one until it is lifted; then that is in force again.
"""

from typing import TYPE_CHECKING

from fetchd.protocol.control import LimitsInForce, Outcome
from fetchd.protocol.errors import Code

from . import allowances, bulk, inputs
from .answers import answer, repeated
from .commands import Refuse, SaveLimit
from .job import Moment
from .rights import may_govern, may_touch

if TYPE_CHECKING:
    from .core import Core

MAX_HOSTS = 1000
"""Hosts that may have a limit."""


def limit(core: "Core", event: inputs.Limit, now: Moment) -> None:
    """Set or lift limits."""
    if repeated(core, event.request):
        return
    if not event.ids and (refusal := _refusal(core, event)) is not None:
        core.emit(refusal)
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


def _refusal(core: "Core", event: inputs.Limit) -> Refuse | None:
    """Why a limit that concerns everybody is not set."""
    if not may_govern(event.request):
        return Refuse(event.request.token, Code.DENIED, "only an admin may limit what is not their own")
    known = core.limits.hosts
    if event.host is not None and event.rate and event.host not in known and len(known) >= MAX_HOSTS:
        return Refuse(
            event.request.token, Code.BUSY, f"{MAX_HOSTS} hosts have limits; lift one of them first"
        )
    return None


def _limit_job(core: "Core", event: inputs.Limit, job_id: str, now: Moment) -> Outcome:
    job = core.ledger.lookup(job_id, event.known)
    if job is not None and may_touch(event.request, job):
        job = bulk.catch_up(core, job, now)
    if job is None or not may_touch(event.request, job):
        return Outcome(id=job_id, state=None, revision=0, code=Code.NO_SUCH_JOB)
    code = Code.TOO_LATE if job.terminal else None
    if code is None:
        job = allowances.limit_job(core, job, event.rate)
    return Outcome(id=job_id, state=core.shown(job)[0], revision=job.revision, code=code)
