"""What the core of a simulation knows, compared with what is saved."""

from typing import TYPE_CHECKING

from fetchd.daemon.core.job import Job, Lane
from fetchd.protocol.job import State

from .store import check_totals

if TYPE_CHECKING:
    from .simulator import Simulation

ATTEMPTED = (State.RUNNING, State.PUBLISHING)


def check(sim: "Simulation") -> None:
    """The core knows what it has to know, and nothing else."""
    core = sim.core
    if core.exited:
        return
    check_totals(core, sim.truth.values())
    lanes: dict[Lane, list[Job]] = {}
    for job in sim.truth.values():
        if job.state is State.QUEUED:
            if not sim.deferred(job):
                lanes.setdefault(job.lane, []).append(job)
        elif job.state is State.WAITING:
            horizon = core.waiting.horizon
            near = horizon is None or job.wait_until <= horizon
            assert (job.id in core.ledger.live) == near, f"{job.id} waits unseen"
        else:
            pausing = job.state is State.PAUSED and job.id in core.runs
            assert (job.id in core.ledger.live) == (job.state in ATTEMPTED or pausing)
    assert set(lanes) <= set(core.schedule.lanes) or core.schedule.more_lanes, "a lane is lost"
    for lane, window in core.schedule.lanes.items():
        tail = window.tail
        queued = sorted(lanes.get(lane, []), key=lambda job: job.order)
        if window.more:
            queued = [job for job in queued if tail is not None and job.order <= tail]
        assert [job.id for job in queued] == [job.id for job in window.rows], f"{lane} has lost rows"
