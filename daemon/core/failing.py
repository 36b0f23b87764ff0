"""What a failed attempt leads to: carries out what `retry` decides, and parks hosts.

A host that asks for fewer requests is parked: a gate holds all its jobs, whoever owns them, until it opens by
itself. The job that was told so goes back into the queue behind it, and holds no worker meanwhile.
"""

from typing import TYPE_CHECKING

from msgspec.structs import replace

from fetchd.protocol.job import Reason

from . import retry
from .commands import DropGate, SaveGate
from .gates import Gate, GateKey
from .job import Job, Moment, emptied
from .machine import Cause

if TYPE_CHECKING:
    from .core import Core


def lose(core: "Core", job: Job, failure: retry.Failure, now: Moment) -> None:
    """An attempt has failed: try again, now or later, or give up."""
    core.runs.pop(job.id, None)
    decision = retry.decide(job, failure, now)
    if isinstance(decision, retry.GiveUp):
        if decision.park:
            park(core, job.host, decision.park, now)
        core.fail(job, decision.code, failure.message, now)
        return
    if decision.anew:
        job = core.ledger.announce(replace(emptied(job), mismatches=job.mismatches + 1), "restarted", now)
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
    wait = decision.wait if not job.expires else max(0, min(decision.wait, job.expires - now.mono))
    core.delay(
        core.ledger.change(
            job,
            Cause.DELAY,
            now,
            reason=Reason.RETRY,
            wait_since=now.wall,
            wait_for=wait,
            wait_until=now.mono + wait,
            **budget,
        )
    )


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
    for host in {lane.host for lane in core.schedule.lanes if lane.owner == owner}:
        unpark(core, host)


def unpark(core: "Core", host: str) -> None:
    """Let the jobs of a host go on before their time."""
    key = GateKey("host", host, Reason.HOST_PARKED)
    if core.gates.open(key):
        core.emit(DropGate(key))
        core.schedule.release()
