"""A whole daemon around the core, simulated: store, workers, files, clients, crashes and time.

One seed is one history. Everything that the real surroundings promise the core is kept here (answers of the
store in order, effects after their commit, what a worker sends arrives in order), everything that they do not
promise is left to chance. `check` compares the core with the truth: what is committed, and saved since then.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from fetchd.daemon.core import commands as c
from fetchd.daemon.core import inputs
from fetchd.daemon.core.core import Core
from fetchd.daemon.core.job import Job, Lane, Moment, join
from fetchd.daemon.core.settings import Settings
from fetchd.protocol.control import Outcomes, Submitted
from fetchd.protocol.errors import Code
from fetchd.protocol.job import State

from .make import AREA, SECOND, WALL, intake, request
from .store import FakeStore
from .workers import Worker

ATTEMPTED = (State.RUNNING, State.PUBLISHING)


@dataclass
class Batch:
    """What is saved together, and what waits for it."""

    durables: list[c.Durable] = field(default_factory=list)
    effects: list[c.Effect] = field(default_factory=list)


@dataclass
class Ask:
    """A request of a client, which it may repeat."""

    make: Callable[[FakeStore], inputs.Submit | inputs.Verb]
    request: inputs.Request
    answers: list[object] = field(default_factory=list)
    refused: list[Code] = field(default_factory=list)


class Simulation:
    """One history. `faults` is how likely anything goes wrong (0: nothing does)."""

    def __init__(self, seed: int, *, faults: float = 0.15, workers: int | None = None) -> None:
        self.rng = Random(seed)
        self.validating = True
        self.faults = faults
        self.failures = self.rng.choice([0.0, 0.1, 0.4]) if faults else 0.0
        self.store_speed = 6.0
        self.occupied: set[str] = set()
        self.workers = workers or self.rng.randint(1, 3)
        self.whole_stamps = self.rng.random() < 0.5
        self.mono = 100 * SECOND
        self.store = FakeStore()
        self.published: Counter[str] = Counter()
        self.workspaces: set[str] = set()
        self.asks: list[Ask] = []
        self.cancelled: set[str] = set()
        self.dispatched: list[str] = []
        self.inputs = 0
        self.files: dict[str, deque[c.Command]] = {}
        self.results: list[inputs.Input] = []
        self._begin()

    # the daemon's life

    def _begin(self) -> None:
        """A new core from what is committed; nothing of the old one is left."""
        self.core = Core(
            Settings(workers=self.workers, default_area=AREA, idle_timeout=5 * SECOND), self.store.load()
        )
        self.truth = dict(self.store.jobs)
        self.pool: dict[tuple[int, int], Worker] = {}
        self.calls: deque[Callable[[], object]] = deque()
        self.replies: deque[object] = deque()
        self.in_flight: Batch | None = None
        self.pending = Batch()
        self.exited = False
        rows = self.store.jobs
        self.workspaces -= {i for i in self.workspaces if rows[i].terminal and not rows[i].kept_until}
        self.take(self.core.start(self.moment()))
        self.end_turn()

    def crash(self) -> None:
        """Power cut: all that is not committed is gone."""
        self.files.clear()
        self.results.clear()
        self._begin()

    def start_anew(self) -> None:
        """After a failed commit: workers are killed and helpers come to an end before there is a new core.

        A publish of the old core that is still on its way would put the file of a failed job in place.
        """
        self.pool.clear()
        while self.files:
            self.file_step(next(iter(self.files)))
        self.results.clear()
        self._begin()

    def moment(self) -> Moment:
        return Moment(self.mono, WALL + self.mono, self.rng.random())

    # the loop

    def turn(self, *events: inputs.Input) -> None:
        """Handle what is ready, then hand over what there is to save."""
        for event in events:
            self.handle(event)
        self.end_turn()

    def handle(self, event: inputs.Input) -> None:
        self.inputs += 1
        self.take(self.core.handle(event, self.moment()))
        if self.validating:
            self.core.validate()
        deadline = self.core.next_deadline(self.mono)
        assert deadline is None or deadline > self.mono, "a deadline in the past: the loop would spin"

    def take(self, commands: list[c.Command]) -> None:
        for command in commands:
            if isinstance(command, c.SaveJob):
                self._saved(command.job)
            if isinstance(command, c.Durable):
                self.pending.durables.append(command)
            elif isinstance(command, c.Effect):
                self.pending.effects.append(command)
            elif isinstance(command, c.ProbeName):
                self.files.setdefault(command.job.id, deque()).append(command)
            elif isinstance(command, c.LoadWindow | c.LoadLanes | c.LoadDue):
                self.calls.append(lambda query=command: self.store.answer(query))  # type: ignore[misc]

    def _saved(self, job: Job) -> None:
        old = self.truth.get(job.id)
        if job.state is State.RUNNING and old is not None and old.state is State.QUEUED:
            better = self.validating and [
                o.id for o in self.truth.values()
                if o.state is State.QUEUED and o.lane == job.lane and o.order < job.order
            ]  # fmt: skip
            assert not better, f"{job.id} overtakes {better}"
            self.dispatched.append(job.id)
        self.truth[job.id] = job

    def end_turn(self) -> None:
        if self.in_flight is not None:
            return
        batch, self.pending = self.pending, Batch()
        if batch.durables:
            self.in_flight = batch
            self.calls.append(lambda: self._commit(batch))
        else:
            for effect in batch.effects:
                self.execute(effect)

    def _commit(self, batch: Batch) -> object:
        if self.rng.random() < self.faults / 20:
            return None
        self.store.apply(batch.durables)
        return batch

    def store_step(self) -> None:
        """The store's thread does its next call."""
        self.replies.append(self.calls.popleft()())

    def answer_step(self) -> None:
        """The loop takes the store's next answer."""
        answer = self.replies.popleft()
        if answer is None:
            self.start_anew()
        elif isinstance(answer, Batch):
            stamps = [d.stamp for d in answer.durables if isinstance(d, c.SaveJob)]
            if self.whole_stamps:
                stamps += [d.stamp for d in answer.durables if isinstance(d, c.SaveReply)]
            if stamps:
                self.handle(inputs.Committed(max(stamps)))
            for effect in answer.effects:
                self.execute(effect)
            self.in_flight = None
            self.end_turn()
        elif isinstance(answer, Ask):
            pass  # answered from the stored reply
        else:
            self.turn(answer)  # type: ignore[arg-type]

    # effects

    def execute(self, effect: c.Effect) -> None:
        if isinstance(effect, c.Reply | c.Refuse):
            self._reply(effect)
        elif isinstance(effect, c.Seal | c.Publish | c.Clean):
            self.files.setdefault(effect.job.id, deque()).append(effect)
        elif isinstance(effect, c.Exit):
            self.exited = True
        elif isinstance(effect, c.Spawn):
            assert not any(w.alive for (slot, _), w in self.pool.items() if slot == effect.slot)
            worker = self.pool[effect.slot, effect.incarnation] = Worker(effect.slot, effect.incarnation)
            if self.chance(0.5):
                worker.die(inputs.Gone.SPAWN_FAILED)
        else:
            assert isinstance(effect, c.Kill | c.AssignJob | c.StopAttempt | c.AllowRestart)
            worker = self.pool[effect.slot, effect.incarnation]
            if worker.alive:
                self._tell(worker, effect)

    def _tell(self, worker: Worker, effect: c.Effect) -> None:
        if isinstance(effect, c.Kill):
            worker.die(inputs.Gone.KILLED)
        elif isinstance(effect, c.StopAttempt):
            worker.stop(effect)
        elif isinstance(effect, c.AllowRestart):
            assert self.store.jobs[effect.job].generation >= effect.generation
            worker.proceed(effect)
        elif isinstance(effect, c.AssignJob):
            job, stored = effect.job, self.store.jobs[effect.job.id]
            assert stored.attempt == job.attempt, "an attempt that is not on disk"
            assert worker.job is None
            assert worker.ready
            live = [w.job.id for w in self.pool.values() if w.job is not None]
            assert job.id not in live, f"{job.id} has two live attempts"
            assert len(live) < self.workers
            self.workspaces.add(job.id)
            if self.chance(0.6):
                code = self.rng.choice([Code.IO_ERROR, Code.EXISTS, Code.EXISTS, Code.CONNECT])
                worker.mail.append(
                    inputs.AssignRefused(worker.slot, worker.incarnation, job.id, job.attempt, code, "")
                )
            else:
                worker.assign(effect, deaf=self.chance(1))

    def _reply(self, effect: c.Reply | c.Refuse) -> None:
        ask = effect.token
        assert isinstance(ask, Ask)
        if isinstance(effect, c.Refuse):
            ask.refused.append(effect.code)
            return
        body = effect.body
        ask.answers.append(body)
        assert body == ask.answers[0], "a repeated request got another answer"
        if isinstance(body, Submitted):
            assert all(one.id in self.store.jobs for one in body.jobs), "acknowledged and not on disk"
        if isinstance(body, Outcomes):
            done = {one.id for one in body.jobs if one.code is None}
            assert all(self.store.jobs[job_id].state is State.CANCELLED for job_id in done)
            self.cancelled |= done

    # files

    def file_step(self, job_id: str) -> None:
        """The helper pool does the next thing with a job's files."""
        queue = self.files[job_id]
        command = queue.popleft()
        if not queue:
            del self.files[job_id]
        assert isinstance(command, c.ProbeName | c.Seal | c.Publish | c.Clean)
        job = command.job
        who: tuple[str, int] = job.id, job.attempt
        lost, exists, broken = self.chance(0.6), self.chance(0.8), self.chance(0.1)
        if isinstance(command, c.ProbeName):
            taken = {name for name in command.names if self.chance(0.2)}
            for name in command.names:
                if join(job.directory, name) in self.occupied:
                    taken.add(name)
                if self.store.reserved(join(job.directory, name)) not in (None, job.id):
                    taken.add(name)
            self.results.append(inputs.NameProbed(*who, command.names, frozenset(taken)))
        elif isinstance(command, c.Clean):
            assert self.store.jobs[job.id].terminal
            assert all(w.job is None or w.job.id != job.id for w in self.pool.values()), "still at work"
            self.workspaces.discard(job.id)
        elif broken or (lost and not self.published[job.id]):
            self.results.append(inputs.FileRefused(*who, Code.IO_ERROR, "", lost=lost))
        elif isinstance(command, c.Seal):
            self.results.append(inputs.Sealed(*who, command.size, 7, 8))
        elif exists and not self.published[job.id]:
            self.occupied.add(str(job.path))
            self.results.append(inputs.FileRefused(*who, Code.EXISTS, ""))
        else:
            assert self.store.jobs[job.id].state in (State.PUBLISHING, State.COMPLETED)
            self.published[job.id] = 1
            self.results.append(inputs.Published(*who))

    # clients

    def submit(self, *specs: dict[str, Any]) -> None:
        """Ask for jobs; what the store knows of them is looked up in the order of its calls."""
        jobs = tuple(intake(**spec) for spec in specs)

        def make(store: FakeStore) -> inputs.Submit:
            known = {one.id: store.jobs[one.id] for one in jobs if one.id in store.jobs}
            paths = {
                path: holder for one in jobs
                if one.spec.name and (holder := store.reserved(path := join(one.directory, one.spec.name)))
            }  # fmt: skip
            return inputs.Submit(ask.request, jobs, known, paths)

        ask = self._ask(make, f"s{[sorted(spec.items()) for spec in specs]}")

    def cancel(self, *ids: str) -> None:
        def make(store: FakeStore) -> inputs.Verb:
            return inputs.Verb(ask.request, "cancel", ids, {i: store.jobs[i] for i in ids if i in store.jobs})

        ask = self._ask(make, f"c{ids}")

    def _ask(self, make: Callable[[FakeStore], inputs.Submit | inputs.Verb], text: str) -> Ask:
        plain = request(f"r{len(self.asks)}")
        ask = Ask(make, plain)
        ask.request = inputs.Request(plain.owner, plain.req, text.encode(), ask)
        self.asks.append(ask)
        self.send(ask)
        return ask

    def send(self, ask: Ask) -> None:
        """Send a request, for the first time or again."""

        def look_up() -> object:
            stored = self.store.replies.get((ask.request.owner, ask.request.req))
            if stored is None:
                return ask.make(self.store)
            assert stored.digest == ask.request.digest
            ask.answers.append(stored.reply)
            assert stored.reply == ask.answers[0], "a repeated request got another answer"
            return ask

        self.calls.append(look_up)

    # chance, and the check of everything

    def chance(self, part: float) -> bool:
        return self.rng.random() < self.faults * part

    def check(self) -> None:
        """The core knows what it has to know, and nothing else."""
        core = self.core
        if core.exited:
            return
        assert core.ledger.counts == dict.fromkeys(State, 0) | Counter(
            job.state for job in self.truth.values()
        )
        lanes: dict[Lane, list[Job]] = {}
        for job in self.truth.values():
            if job.state is State.QUEUED:
                lanes.setdefault(job.lane, []).append(job)
            elif job.state is State.WAITING:
                horizon = core.waiting.horizon
                near = horizon is None or job.wait_until <= horizon
                assert (job.id in core.ledger.live) == near, f"{job.id} waits unseen"
            else:
                assert (job.id in core.ledger.live) == (job.state in ATTEMPTED)
        assert set(lanes) <= set(core.schedule.lanes) or core.schedule.more_lanes, "a lane is lost"
        for lane, window in core.schedule.lanes.items():
            tail = window.tail
            queued = sorted(lanes.get(lane, []), key=lambda job: job.order)
            if window.more:
                queued = [job for job in queued if tail is not None and job.order <= tail]
            assert [job.id for job in queued] == [job.id for job in window.rows], f"{lane} has lost rows"
