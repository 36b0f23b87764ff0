"""How the daemon is, as it is shown to a `scope` (`core.rights`): in the status and in `sys.metrics`."""

from itertools import islice

from fetchd.daemon.core.core import Core
from fetchd.daemon.core.rights import holds, in_scope
from fetchd.daemon.core.slot import Slot
from fetchd.protocol.events import Metrics, WorkerUsage
from fetchd.protocol.status import Held, Slots, WorkerStatus

from .desk import Outside

HELD = 100
"""As many gates are told of."""


def workers(core: Core, outside: Outside, shown: str | None) -> list[WorkerStatus]:
    """The slots that run jobs of this scope; to who sees all jobs, all of them."""
    return [
        WorkerStatus(
            slot=slot.index,
            state=_state(slot),
            pid=outside.worker_pid(slot.index, slot.incarnation) if slot.filled else None,
            job=slot.run.job if slot.run else None,
            connections=slot.run.connections if slot.run else None,
            **outside.usage(slot.index, slot.incarnation),
        )
        for slot in core.pool.slots
        if in_scope(shown, slot.run.owner if slot.run else None)
    ]


def metrics(core: Core, outside: Outside, shown: str | None) -> Metrics:
    """What of the status changes."""
    return Metrics(
        workers=[
            WorkerUsage(
                slot=worker.slot,
                memory=worker.memory,
                cpu=worker.cpu,
                pid=worker.pid,
                job=worker.job,
                connections=worker.connections,
            )
            for worker in workers(core, outside, shown)
            if worker.memory is not None and worker.cpu is not None
        ],
        counts=counts(core, shown),
        held=held(core, shown),
        slots=slots(core),
        draining=core.draining,
    )


def counts(core: Core, shown: str | None) -> dict[str, int]:
    """The number of jobs by state."""
    return {str(state): number for state, number in core.ledger.counts_of(shown).items()}


def slots(core: Core) -> Slots:
    """The pool, whoever's jobs it runs."""
    return Slots(total=core.pool.size, free=core.pool.free())


def held(core: Core, shown: str | None) -> list[Held]:
    """What holds jobs, at most `HELD`."""
    gates = (gate for gate in core.gates if holds(shown, gate.key.kind, gate.key.name))
    return [
        Held(
            kind=gate.key.kind,
            name=gate.key.name,
            reason=gate.key.reason,
            since=gate.since,
            detail=gate.detail,
        )
        for gate in islice(gates, HELD)
    ]


def _state(slot: Slot) -> str:
    if slot.run:
        return "busy"
    if slot.ready:
        return "idle"
    return "starting" if slot.filled else "empty"
