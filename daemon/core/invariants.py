"""What holds after every input, whatever the input was; for tests."""

from typing import TYPE_CHECKING

from fetchd.protocol.job import State

from . import disk
from .slot import Run

if TYPE_CHECKING:
    from .core import Core

ATTEMPTED = (State.RUNNING, State.PUBLISHING)


def validate(core: "Core") -> None:
    """Raise AssertionError where an invariant is broken."""
    core.ledger.validate()
    core.schedule.validate()
    core.pool.validate()
    assert core.delivered >= 0
    _check_runs(core)
    rows = {job.id: job for window in core.schedule.lanes.values() for job in window.rows}
    for job_id, job in rows.items():
        assert core.ledger.live.get(job_id) is job, f"the window's {job_id} is not the live one"
    for job in core.ledger.live.values():
        assert not job.terminal, f"{job.id} is {job.state} and held"
        run = core.runs.get(job.id)
        running = run is not None and run.stop != "pause"
        assert (job.state in ATTEMPTED) == running, f"{job.id} is {job.state} and not run"
        deferred = run is not None or job.id in core.ending
        lined_up = job.id in rows
        if job.state is State.QUEUED:
            assert lined_up != deferred, f"{job.id} is queued and in no window, or in one and deferred"
        else:
            assert not lined_up, f"{job.id} is {job.state} and in a window"
        unsettled = core.ledger.unsettled.get(job.id)
        assert unsettled is None or unsettled.state is job.state, f"{job.id} was saved in another state"
    if not core.exited:
        _check_allowances(core)
    waiting = sum(1 for job in core.ledger.live.values() if job.state is State.WAITING)
    assert waiting <= len(core.waiting), "a job waits for nothing"


def _check_runs(core: "Core") -> None:
    busy = [slot for slot in core.pool.slots if slot.run is not None]
    assert len(busy) == core.pool.busy() <= len(core.pool.slots)
    for slot in busy:
        run = slot.run
        assert run is not None
        assert not run.finished, f"slot {slot.index} is held by {run.job}, which has finished"
        assert run.assigned == slot.ready, f"{run.job} is assigned to nobody"
        assert run.assigned or (not slot.doomed and run.stop is None), f"{run.job} waits for a dead worker"
        if run.stop == "end":
            assert run.ended is not None, f"{run.job} was ended and nothing cleans up after it"
            assert core.ending.get(run.job) is run, f"nobody knows that {run.job} is ending"
        else:
            assert core.runs.get(run.job) is run, f"the run of {run.job} is lost"
        if run.stop is not None and not slot.doomed:
            assert slot.stop_by is not None, f"nobody enforces the stop of {run.job}"
    ending = {slot.run.job for slot in busy if slot.run is not None and slot.run.stop == "end"}
    assert set(core.ending) == ending, "an ending is held for an attempt that is over"
    for job_id, run in core.runs.items():
        job = core.ledger.live.get(job_id)
        assert job is not None, f"{job_id} runs and is not in memory"
        assert job.attempt == run.attempt
        allowed = (State.PAUSED, State.QUEUED) if run.stop == "pause" else ATTEMPTED
        assert job.state in allowed, f"{job_id} runs and is {job.state}"
        held = run.slot is not None and core.pool.slots[run.slot].run is run
        full = disk.closed(core, job.area)
        assert not (held and full) or run.stop is not None, f"{job_id} runs on a disk that is full"
        assert held != run.finished, f"{job_id} runs nowhere"


def _check_allowances(core: "Core") -> None:
    hosts, limits = core.pool.hosts, core.limits
    runs = hosts.all_runs()
    for host in {run.host for run in runs}:
        of_host = hosts.runs(host)
        most = max(hosts.limit, len(of_host))
        assert sum(run.connections for run in of_host) <= most, f"{host} has to bear too much"
        _check_shares(of_host, limits.hosts.get(host))
    _check_shares(runs, limits.total)
    for run in runs:
        assert 1 <= run.connections <= run.wish
        assert not run.limit or (run.rate is not None and run.rate <= run.limit), f"{run.job} is unbounded"


def _check_shares(runs: list[Run], limit: int | None) -> None:
    if limit is not None:
        assert all(run.rate is not None for run in runs), "a limit does not hold for all"
        # nobody is left without a single byte, however many there are
        assert sum(run.rate or 0 for run in runs) <= limit + len(runs), "more than the limit"
