"""What each attempt may take: connections to its host, and bytes a second.

Both follow from what else runs, so they are worked out anew when an attempt begins or ends and when a limit
changes; shares of a bandwidth once a second too, because who cannot use his share leaves it to the others. An
attempt learns it with its job or, while it runs, by `Allow`; who gets less is told first.
"""

from math import inf
from typing import TYPE_CHECKING

from msgspec.structs import replace

from .commands import Allow
from .job import Job, Moment
from .shares import Taker, divide, wanted
from .slot import Run

if TYPE_CHECKING:
    from .core import Core

PERIOD = 1_000_000
"""µs between looks at what is used of the shares."""

SETTLE = 2_000_000
"""µs that an attempt has to make use of a share that was raised."""

RAISE = 1.02
"""An allowance is raised by no less than this."""


class Limits:
    """The limits of speed in bytes a second. `live` is what was asked for instead of the configured one."""

    def __init__(self, configured: int, loaded: tuple[tuple[str, str, int], ...]) -> None:
        self.configured = configured
        self.live: int | None = None
        self.hosts: dict[str, int] = {}
        self.changed = True
        self.look_at = 0
        for kind, name, rate in loaded:
            self.put(kind, name, rate)

    def put(self, kind: str, name: str, rate: int | None) -> None:
        """Set a limit, or lift it (None)."""
        self.changed = True
        if kind == "all":
            self.live = rate
        elif rate is None:
            self.hosts.pop(name, None)
        else:
            self.hosts[name] = rate

    @property
    def total(self) -> int | None:
        """The limit over all that is in force."""
        return self.live or self.configured or None


def next_look(core: "Core") -> int | None:
    """When shares have to be looked at again, or None."""
    return core.limits.look_at or None


def turn(core: "Core", now: Moment) -> None:
    """Work out what has changed, and tell those whom it concerns."""
    hosts, limits = core.pool.hosts, core.limits
    if not hosts.changed and not limits.changed and not 0 < limits.look_at <= now.mono:
        return
    before: dict[Run, tuple[int, int | None]] = {}
    for host in hosts.changed:
        for run in hosts.runs(host):
            before[run] = run.connections, run.rate
            run.connections = hosts.share(run)
    for run, rate in _shares(core, now).items():
        before.setdefault(run, (run.connections, run.rate))
        run.rate = rate
    hosts.changed.clear()
    limits.changed = False
    told = [run for run, old in before.items() if old != (run.connections, run.rate)]
    for run in sorted(told, key=lambda run: _raised(run, before[run])):
        if run.assigned and run.stop is None and run.slot is not None:
            slot = core.pool.slots[run.slot]
            core.emit(Allow(slot.index, slot.incarnation, run.job, run.attempt, run.connections, run.rate))


def _shares(core: "Core", now: Moment) -> dict[Run, int | None]:
    """The rates of all attempts, as far as they change."""
    limits, runs = core.limits, core.pool.hosts.all_runs()
    limits.look_at = 0
    if not (limits.total or limits.hosts or any(run.limit or run.rate for run in runs)):
        return {}
    total = _or_inf(limits.total)
    shared = total < inf or any(run.host in limits.hosts for run in runs)
    if shared and len(runs) > 1:
        limits.look_at = now.mono + PERIOD
    takers = {f"{run.job} {run.attempt}": (run, _taker(run, now)) for run in runs}
    made = divide(
        [taker for _, taker in takers.values()],
        total,
        {host: float(rate) for host, rate in limits.hosts.items()},
    )
    found: dict[Run, int | None] = {}
    for name, (run, _) in takers.items():
        rate = None if made[name] == inf else max(1, int(made[name]))
        old, new = _or_inf(run.rate), _or_inf(rate)
        if new < old or new > old * RAISE:
            if new > old or old == inf:
                run.raised = now.mono
            found[run] = rate
    return found


def _taker(run: Run, now: Moment) -> Taker:
    settled = now.mono >= run.raised + SETTLE
    # whoever waits for a server takes nothing meanwhile
    speed = run.speed if run.responded or run.speed is not None else 0.0
    demand = wanted(speed, run.rate) if settled else inf
    return Taker(f"{run.job} {run.attempt}", run.host, float(run.limit) if run.limit else inf, demand)


def show(core: "Core", run: Run, now: Moment) -> None:
    """The server has answered: from now on an attempt shows what it can do with a share."""
    if run.rate is not None:
        run.raised = now.mono
        core.limits.changed = True


def _raised(run: Run, before: tuple[int, int | None]) -> bool:
    return run.connections >= before[0] and _or_inf(run.rate) >= _or_inf(before[1])


def _or_inf(rate: int | None) -> float:
    return inf if rate is None else rate


def limit_job(core: "Core", job: Job, rate: int | None) -> Job:
    """Give a job another limit of its own, from now on."""
    job = replace(job, limit_rate=rate or 0)
    core.ledger.put(job)
    if (window := core.schedule.lanes.get(job.lane)) is not None:
        window.update(job)
    run = core.runs.get(job.id)
    if run is not None:
        run.limit = job.limit_rate
        core.limits.changed = True
    return job
