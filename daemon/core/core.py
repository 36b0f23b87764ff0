"""The core: `handle(input, now) -> commands`. It holds the parts together and decides what runs where.

The rules for requests are in `verbs`, for workers in `attempt`, for finished files in `delivery`.
"""

from collections.abc import Callable
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from fetchd.protocol.errors import Code
from fetchd.protocol.job import Reason, State

from . import attempt, delivery, inputs, retry, verbs
from .commands import AssignJob, Clean, Command, DropSecrets, Exit, Kill, Publish, Spawn, StopAttempt
from .gates import Gate, Gates
from .job import Job, Lane, Moment
from .ledger import Ledger
from .machine import Cause
from .schedule import Schedule
from .slot import Pool, Run, Slot
from .waiting import Waiting


class Settings(Struct, frozen=True, kw_only=True):
    """What the core needs of the configuration. Times in µs."""

    workers: int = 5
    stop_grace: int = 2_000_000
    drain_timeout: int = 20_000_000
    idle_timeout: int = 30_000_000
    default_area: str


class Loaded(Struct, frozen=True, kw_only=True):
    """What the store has at start: jobs that were running or publishing, and the totals."""

    active: tuple[Job, ...] = ()
    gates: tuple[Gate, ...] = ()
    counts: dict[State, int] = {}
    revision: int = 0
    seq: int = 0


class Core:
    """The whole state of the supervisor that matters, without any of its surroundings."""

    def __init__(self, settings: Settings, loaded: Loaded) -> None:
        self.settings = settings
        self.out: list[Command] = []
        emit = self.emit
        self.ledger = Ledger(emit, revision=loaded.revision, next_seq=loaded.seq, counts=loaded.counts)
        self.schedule = Schedule(emit)
        self.waiting = Waiting(emit)
        self.gates = Gates(loaded.gates)
        self.pool = Pool(settings.workers, settings.default_area)
        self.runs: dict[str, Run] = {}
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
                self.emit(Publish(job))
        self._active = ()
        self.schedule.start()
        self.waiting.start()
        return self._turn(now)

    def handle(self, event: "inputs.Input", now: Moment) -> list[Command]:
        """What follows from an input. Total: every input is legal in every state."""
        if not self.exited:
            HANDLERS[type(event)](self, event, now)
        return self._turn(now)

    def next_deadline(self, now: int) -> int | None:
        """Boot time (µs) at which a `Tick` is wanted, or None; `now` is the boot time of the last turn."""
        times = [self.waiting.next(), self.pool.wake(now)]
        times += [slot.stop_by for slot in self.pool.slots if slot.run is not None]
        times += [slot.idle_since + self.settings.idle_timeout for slot in self._surplus()]
        if self.draining:
            times.append(self.drain_by + self.settings.stop_grace)
        return min((time for time in times if time is not None), default=None)

    # what handlers build on

    def enqueue(self, job: Job) -> None:
        """Put a queued job into its lane; memory keeps it only where the window does."""
        self.ledger.hold(job)
        for dropped in self.schedule.add(job):
            self.ledger.release(dropped)

    def delay(self, job: Job) -> None:
        """Put a waiting job among those that wait."""
        if self.waiting.add(job):
            self.ledger.hold(job)
        else:
            self.ledger.release(job)
        for dropped in self.waiting.overflow():
            if (known := self.ledger.live.get(dropped)) is not None and known.state is State.WAITING:
                self.ledger.release(known)

    def close(self, job: Job, cause: Cause, now: Moment, **fields: Any) -> Job:
        """Bring a job to a terminal state and drop what belongs to it."""
        self.schedule.discard(job)
        job = self.ledger.change(
            job, cause, now, finished=now.wall, wait_since=0, wait_for=0, wait_until=0, **fields
        )
        self.ledger.release(job)
        if job.secret:
            self.emit(DropSecrets(job.id))
        run = self.runs.pop(job.id, None)
        if run is not None and run.slot is not None and not run.finished:
            run.ended = job
            self.stop(self.pool.slots[run.slot], now, keep=False)
        elif job.attempt:
            self.emit(Clean(job))
        return job

    def fail(self, job: Job, code: Code, message: str, now: Moment) -> Job:
        """End a job for a reason that a retry would not mend."""
        return self.close(job, Cause.FAIL, now, reason=None, error_code=str(code), error_message=message)

    def stop(self, slot: Slot, now: Moment, *, keep: bool) -> None:
        """Ask the attempt in a slot to stop, and make sure that it does."""
        run = slot.run
        if run is None or run.stop == "end":
            return
        again, run.stop = run.stop is not None, "drain" if keep else "end"
        if not run.assigned:
            # the worker has not come up yet and never learns of this job
            self.free(slot, now)
            verbs.clean(self, run)
            return
        slot.stop_by = self.drain_by if keep else now.mono + self.settings.stop_grace
        if not again:
            self.emit(StopAttempt(slot.index, slot.incarnation, run.job, run.attempt, keep))

    def free(self, slot: Slot, now: Moment) -> None:
        """The worker in this slot has done with its attempt."""
        slot.end(now.mono)

    def lose(self, job: Job, code: Code, message: str, now: Moment, retry_after: float | None = None) -> None:
        """An attempt has failed: try again later, or give up."""
        self.runs.pop(job.id, None)
        decision = retry.decide(job, code, job.bytes, retry_after, now)
        if isinstance(decision, retry.GiveUp):
            self.fail(job, decision.code, message, now)
            return
        budget = {"failures": decision.failures, "mark": decision.mark,
                  "error_code": str(code), "error_message": message}  # fmt: skip
        if decision.wait == 0:
            self.enqueue(self.ledger.change(job, Cause.YIELD, now, reason=None, **budget))
            return
        self.delay(
            self.ledger.change(
                job,
                Cause.DELAY,
                now,
                reason=Reason.RETRY,
                wait_since=now.wall,
                wait_for=decision.wait,
                wait_until=now.mono + decision.wait,
                **budget,
            )
        )

    # what happens after every input

    def _turn(self, now: Moment) -> list[Command]:
        if not self.exited:
            self._wake_waiting(now)
            self._enforce_stops(now)
            if self.draining:
                self._finish_drain(now)
            else:
                self._dispatch(now)
                self._keep_spare(now)
        commands, self.out[:] = list(self.out), []
        return commands

    def _wake_waiting(self, now: Moment) -> None:
        for due, job_id in self.waiting.due(now.mono):
            job = self.ledger.live.get(job_id)
            if job is not None and job.state is State.WAITING and job.wait_until == due:
                cleared = replace(job, reason=None, wait_since=0, wait_for=0, wait_until=0)
                self.enqueue(self.ledger.change(cleared, Cause.DUE, now))

    def _enforce_stops(self, now: Moment) -> None:
        for slot in self.pool.slots:
            if slot.run is not None and slot.stop_by is not None and slot.stop_by <= now.mono:
                slot.stop_by = None
                self.emit(Kill(slot.index, slot.incarnation, "did not stop in time"))

    def _held(self, lane: Lane) -> bool:
        return self.gates.holding(lane) is not None

    def _dispatch(self, now: Moment) -> None:
        free = len(self.pool.slots) - self.pool.busy()
        while free > 0 and (job := self.schedule.head(self._held)) is not None:
            slot = self.pool.choose(job, now.mono)
            if slot is None:
                return
            free -= 1
            self.schedule.discard(job)
            job = self.ledger.change(
                job, Cause.DISPATCH, now, attempt=job.attempt + 1, reason=None,
                started=job.started or now.wall
            )  # fmt: skip
            run = self.runs[job.id] = Run(job.id, job.attempt, slot.index)
            run.bytes, run.total = job.bytes, job.total
            if not (slot.filled and slot.fits(job)):
                self._fill(slot, frozenset({self.pool.default_area, job.area}))
            slot.start(job, run)
            if slot.ready:
                self.assign(slot, job)

    def assign(self, slot: Slot, job: Job) -> None:
        """Hand the attempt in this slot to its worker, which is ready."""
        assert slot.run is not None
        slot.run.assigned = True
        self.emit(AssignJob(slot.index, slot.incarnation, job))

    def _fill(self, slot: Slot, areas: frozenset[str]) -> None:
        if slot.filled:
            self.emit(Kill(slot.index, slot.incarnation, "replaced"))
        slot.fill(areas)
        self.emit(Spawn(slot.index, slot.incarnation, areas))

    def _surplus(self) -> list[Slot]:
        """Idle workers beyond the one that is kept warm."""
        return [slot for slot in self.pool.slots if slot.ready and slot.run is None][1:]

    def _keep_spare(self, now: Moment) -> None:
        for slot in self._surplus():
            if now.mono >= slot.idle_since + self.settings.idle_timeout:
                self.emit(Kill(slot.index, slot.incarnation, "idle"))
                slot.empty()
        if not any(slot.filled for slot in self.pool.slots):
            slot = min(self.pool.slots, key=lambda slot: slot.not_before)
            if slot.not_before <= now.mono:
                self._fill(slot, frozenset({self.pool.default_area}))

    def _finish_drain(self, now: Moment) -> None:
        late = now.mono >= self.drain_by + self.settings.stop_grace
        if late or (not self.runs and self.pool.busy() == 0):
            self.exited = True
            self.emit(Exit())

    def validate(self) -> None:
        """Raise AssertionError where an invariant is broken; for tests."""
        self.ledger.validate()
        self.schedule.validate()
        busy = [slot for slot in self.pool.slots if slot.run is not None]
        assert len(busy) <= self.settings.workers
        for slot in busy:
            run = slot.run
            assert run is not None
            assert slot.filled, f"slot {slot.index} runs {run.job} without a worker"
            assert run.stop == "end" or self.runs.get(run.job) is run, f"run of {run.job} is lost"
        for job_id, run in self.runs.items():
            job = self.ledger.live.get(job_id)
            assert job is not None, f"{job_id} runs and is not in memory"
            assert job.attempt == run.attempt
            assert job.state in (State.RUNNING, State.PUBLISHING), f"{job_id} runs and is {job.state}"
        for job in self.ledger.live.values():
            assert not job.terminal, f"{job.id} is {job.state} and held"
            assert (job.state in (State.RUNNING, State.PUBLISHING)) == (job.id in self.runs), (
                f"{job.id} is lost"
            )


HANDLERS: dict[type, Callable[[Core, Any, Moment], None]] = {
    inputs.Submit: verbs.submit,
    inputs.Cancel: verbs.cancel,
    inputs.Drain: verbs.drain,
    inputs.Committed: verbs.committed,
    inputs.Tick: lambda _core, _event, _now: None,
    inputs.WindowLoaded: verbs.window_loaded,
    inputs.LanesLoaded: verbs.lanes_loaded,
    inputs.DueLoaded: verbs.due_loaded,
    inputs.WorkerReady: attempt.ready,
    inputs.WorkerGone: attempt.gone,
    inputs.WorkerReport: attempt.report,
    inputs.Violation: attempt.violation,
    inputs.AssignRefused: attempt.refused,
    inputs.NameProbed: delivery.name_probed,
    inputs.Sealed: delivery.sealed,
    inputs.Published: delivery.published,
    inputs.FileRefused: delivery.refused,
}
