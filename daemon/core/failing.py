"""What a failed attempt leads to: carries out what `retry` decides, and parks hosts.

A host that asks for fewer requests is parked: a gate holds all its jobs, whoever owns them, until it opens by
itself. The job that was told so goes back into the queue behind it, and holds no worker meanwhile.
"""

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from fetchd.protocol.errors import Code
from fetchd.protocol.job import Reason

from . import disk, retry
from .commands import DropGate, SaveGate
from .gates import Gate, GateKey
from .job import Job, Moment, emptied
from .machine import Cause
from .rights import is_of
from .waits import SECOND

if TYPE_CHECKING:
    from .core import Core

TOO_LARGE = 30 * SECOND
TOO_LARGE_MAX = 600 * SECOND
"""How long a job waits that does not fit on its file system (µs): doubled each time, up to this."""

REMEMBERED = 1000
"""Such jobs whose last wait is remembered."""


def lose(core: "Core", job: Job, failure: retry.Failure, now: Moment) -> None:
    """An attempt has failed: try again, now or later, or give up."""
    core.runs.pop(job.id, None)
    if failure.code in disk.CODES:
        disk.hold(core, job, failure.code, failure.message, now)
        return
    decision = retry.decide(job, failure, now)
    if isinstance(decision, retry.GiveUp):
        if decision.park:
            park(core, job.host, decision.park, now)
        core.fail(job, decision.code, failure.message, now)
        return
    if decision.anew:
        wrong = failure.code is Code.CHECKSUM_MISMATCH
        job = replace(emptied(job), mismatches=job.mismatches + wrong)
        job = core.ledger.announce(job, "restarted", now)
    budget = {
        "failures": decision.failures, "mark": decision.mark, "source": decision.source,
        "refused": decision.refused, "alone": decision.alone, "error_code": str(failure.code),
        "error_message": failure.message,
    }  # fmt: skip
    if decision.parks or decision.wait == 0:
        if decision.wait:
            park(core, job.host, decision.wait, now)
        core.enqueue(core.ledger.change(job, Cause.YIELD, now, reason=None, **budget))
        return
    _later(core, job, Reason.RETRY, decision.wait, now, **budget)


def wait_for_room(core: "Core", job: Job, failure: retry.Failure, now: Moment) -> None:
    """A job is larger than what is free, and was not begun: it alone waits, and costs no budget."""
    core.runs.pop(job.id, None)
    waits = core.disks.waits
    wait = waits[job.id] = min(TOO_LARGE_MAX, 2 * waits.pop(job.id, TOO_LARGE // 2))
    if len(waits) > REMEMBERED:
        del waits[next(iter(waits))]
    told = {"error_code": str(failure.code), "error_message": failure.message}
    _later(core, job, Reason.DISK, wait + int(wait * 0.1 * now.rand), now, **told)


def _later(core: "Core", job: Job, reason: Reason, wait: int, now: Moment, **fields: Any) -> None:
    """Let a job wait so long (µs), but not beyond its deadline."""
    wait = wait if not job.expires else max(0, min(wait, job.expires - now.mono))
    times = {"wait_since": now.wall, "wait_for": wait, "wait_until": now.mono + wait}
    core.delay(core.ledger.change(job, Cause.DELAY, now, reason=reason, **times, **fields))


def park(core: "Core", host: str, wait: int, now: Moment) -> None:
    """Let all jobs of a host wait so long (µs); where they do already, until the later of both."""
    key = GateKey("host", host, Reason.HOST_PARKED)
    known = core.gates.get(key)
    if known is None or (known.until is not None and known.until < now.mono + wait):
        gate = Gate(key=key, since=now.wall, until=now.mono + wait)
        core.gates.close(gate)
        core.emit(SaveGate(gate))


def unpark_all(core: "Core", owner: str) -> None:
    """Let the jobs of an owner go on before the time of their hosts."""
    for host in {lane.host for lane in core.schedule.lanes if is_of(lane, owner)}:
        unpark(core, host)


def unpark(core: "Core", host: str) -> None:
    """Let the jobs of a host go on before their time."""
    key = GateKey("host", host, Reason.HOST_PARKED)
    if core.gates.open(key):
        core.emit(DropGate(key))
        core.schedule.release()
