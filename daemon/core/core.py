"""The core: `handle(input, now) -> commands`. It holds the parts together.

The rules for requests are in `verbs`, for rows of the store in `rows`, for workers in `attempt`, for finished
files in `delivery`; what runs where is decided in `dispatch`. After a commit that failed the core is thrown
away, and a new one is made from what the store has.
"""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from fetchd.protocol.errors import Code
from fetchd.protocol.job import Reason, State

from . import (
    attempt,
    bulk,
    deadlines,
    delivery,
    disk,
    dispatch,
    ending,
    inputs,
    invariants,
    lifecycle,
    limits,
    rows,
    verbs,
)
from .allowances import Limits
from .commands import Command, LoadChunk, Publish, StopAttempt
from .deadlines import Deadlines
from .disk import Disks
from .gates import Gate, Gates
from .intents import CHUNK, Intent, Intents
from .job import Job, Lane, Moment
from .ledger import Ledger
from .machine import Cause
from .pool import Pool
from .repeats import Repeats
from .schedule import Schedule
from .settings import Settings
from .slot import Run, Slot, Stop
from .waiting import Waiting
from .waits import LONGEST_ASKED


class Loaded(Struct, frozen=True, kw_only=True):
    """What the store has at start: jobs that were running or publishing, and the totals."""

    active: tuple[Job, ...] = ()
    gates: tuple[Gate, ...] = ()
    counts: dict[State, int] = {}
    owned: dict[str, dict[State, int]] = {}
    revision: int = 0
    seq: int = 0
    intents: tuple[Intent, ...] = ()
    delivered: int = 0
    delivered_to: dict[str, int] = {}
    limits: tuple[tuple[str, str, int], ...] = ()


class Core:
    """The whole state of the supervisor that matters, without any of its surroundings."""

    def __init__(self, settings: Settings, loaded: Loaded) -> None:
        self.settings = settings
        self.out: list[Command] = []
        emit = self.emit
        self.intents = Intents(loaded.intents)
        # the newest jobs may have been forgotten; an intent that is older than a job must never be for it
        seq = max([loaded.seq, *(intent.upto for intent in loaded.intents)])
        self.ledger = Ledger(
            emit, revision=loaded.revision, next_seq=seq, counts=loaded.counts, owned=loaded.owned
        )
        self.schedule = Schedule(emit, self._holding)
        self.waiting = Waiting(emit)
        self.gates = Gates(loaded.gates)
        self.pool = Pool(
            settings.workers, settings.default_area, settings.host_connections, settings.max_running,
            settings.max_in_flight,
        )  # fmt: skip
        self.runs: dict[str, Run] = {}
        self.deadlines = Deadlines(self.runs)
        self.repeats = Repeats(self.runs)
        self.disks = Disks()
        self.limits = Limits(settings.limit_rate, loaded.limits)
        self.ending: dict[str, Run] = {}
        self.delivered, self.delivered_to = loaded.delivered, dict(loaded.delivered_to)
        self.replies: dict[tuple[str, str], tuple[int, bytes, Struct]] = {}
        self.draining = False
        self.drain_by = 0
        self.exited = False
        self._active = loaded.active

    def emit(self, command: Command) -> None:
        self.out.append(command)

    def start(self, now: Moment) -> list[Command]:
        """Take up what an earlier life of the daemon left behind."""
        for job in self._active:
            if job.state is State.RUNNING:
                self.enqueue(self.ledger.change(job, Cause.YIELD, now))
            elif job.state is State.PUBLISHING:
                self.ledger.hold(job)
                run = self.runs[job.id] = Run(job.id, job.attempt, None)
                run.finished, run.name, run.sealed = True, job.name, (job.size, job.inode, job.mtime_ns)
                if self.gates.get(disk.key_of(job.area)) is None:
                    self.emit(Publish(job))
                else:
                    self.repeats.add(run, None)
        self._active = ()
        self.gates.limit(now.mono + LONGEST_ASKED)
        for intent in self.intents:
            self.emit(LoadChunk(intent, CHUNK))
        disk.start(self)
        self.schedule.start()
        self.waiting.start()
        return self._turn(now)

    def handle(self, event: inputs.Input, now: Moment) -> list[Command]:
        """What follows from an input. Total: every input is legal in every state."""
        if not self.exited:
            HANDLERS[type(event)](self, event, now)
        return self._turn(now)

    def next_deadline(self, now: int) -> int | None:
        """Boot time (µs) at which a `Tick` is wanted, or None; `now` is the boot time of the last turn."""
        return dispatch.next_deadline(self, now)

    def validate(self) -> None:
        """Raise AssertionError where an invariant is broken; for tests."""
        invariants.validate(self)

    def _turn(self, now: Moment) -> list[Command]:
        if not self.exited:
            dispatch.turn(self, now)
        commands, self.out[:] = list(self.out), []
        return commands

    # what handlers build on

    def enqueue(self, job: Job) -> None:
        """Put a queued job into its lane; memory keeps it only where the window does.

        While an earlier attempt of it is still stopping, it is only held: see `ending.go_on`.
        """
        self.ledger.hold(job)
        if job.id in self.runs or job.id in self.ending:
            return
        for dropped in self.schedule.add(job):
            self.ledger.release(dropped)

    def delay(self, job: Job) -> None:
        """Put a waiting job among those that wait."""
        if self.waiting.add(job):
            self.ledger.hold(job)
        else:
            self.ledger.release(job)
        for until, dropped in self.waiting.overflow():
            known = self.ledger.live.get(dropped)
            if known is not None and known.state is State.WAITING and known.wait_until == until:
                self.ledger.release(known)

    def held(self, lane: Lane) -> bool:
        """Whether a gate holds this lane, its host or owner is full, or all in it is about to end."""
        held = self.gates.holding(lane) is not None or self._full(lane)
        return held or self.intents.clearing(lane.owner)

    def shown(self, job: Job) -> tuple[State, Reason | None]:
        """The state and reason to show for a job, with what holds it."""
        state, reason = self.gates.shown(job)
        if state is State.QUEUED and reason is None and self._full(job.lane):
            return state, Reason.HOST_LIMIT
        return state, reason

    def _full(self, lane: Lane) -> bool:
        return self.pool.hosts.full(lane.host) or self.pool.owners.full(lane.owner)

    def _holding(self) -> tuple[tuple[str, str], ...]:
        held = self.gates.keys() + tuple(("owner", owner) for owner in self.intents.clearing_owners())
        if self.schedule.beyond:
            # where memory has all lanes there is no other to look for
            held += tuple(("host", host) for host in self.pool.hosts.names())
            held += tuple(("owner", owner) for owner in self.pool.owners.names())
        return held

    def account(self, owner: str, size: int) -> None:
        """So many bytes were delivered (below 0: are remembered no more)."""
        self.delivered += size
        self.delivered_to[owner] = self.delivered_to.get(owner, 0) + size

    def close(self, job: Job, cause: Cause, now: Moment, **fields: Any) -> Job:
        """Bring a job to a terminal state and drop what belongs to it."""
        return ending.close(self, job, cause, now, **fields)

    def fail(self, job: Job, code: Code, message: str, now: Moment) -> Job:
        """End a job for a reason that a retry would not mend."""
        return self.close(job, Cause.FAIL, now, reason=None, error_code=str(code), error_message=message)

    def stop(self, slot: Slot, now: Moment, how: Stop) -> None:
        """Ask the attempt in a slot to stop, and make sure that it does."""
        run = slot.run
        if run is None or run.stop == "end":
            return
        again, run.stop = run.stop is not None, how
        if not run.assigned:
            # the worker has not come up yet and never learns of this job
            self.pool.end(slot, now.mono)
            ending.over(self, run, now)
        elif not slot.doomed:
            grace = now.mono + self.settings.stop_grace
            self.pool.stop_by(slot, self.drain_by if how == "drain" else grace)
            if not again:
                keep = how != "end" or run.keep
                self.emit(StopAttempt(slot.index, slot.incarnation, run.job, run.attempt, keep))


HANDLERS: dict[type, Callable[[Core, Any, Moment], None]] = {
    inputs.Submit: verbs.submit,
    inputs.Verb: verbs.verb,
    inputs.Bulk: bulk.bulk,
    inputs.ChunkLoaded: bulk.chunk_loaded,
    inputs.Expired: lifecycle.expired,
    inputs.Outdated: lifecycle.outdated,
    inputs.Overdue: deadlines.overdue,
    inputs.Limit: limits.limit,
    inputs.Configure: verbs.configure,
    inputs.Drain: verbs.drain,
    inputs.Committed: rows.committed,
    inputs.Tick: lambda _core, _event, _now: None,
    inputs.WindowLoaded: rows.window_loaded,
    inputs.LanesLoaded: rows.lanes_loaded,
    inputs.DueLoaded: rows.due_loaded,
    inputs.WorkerReady: attempt.ready,
    inputs.WorkerGone: attempt.gone,
    inputs.WorkerReport: attempt.report,
    inputs.Violation: attempt.violation,
    inputs.AssignRefused: attempt.refused,
    inputs.NameProbed: delivery.name_probed,
    inputs.Sealed: delivery.sealed,
    inputs.Published: delivery.published,
    inputs.FileRefused: delivery.refused,
    inputs.SpaceFound: disk.space_found,
}
