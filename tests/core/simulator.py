"""A whole daemon around the core, simulated: store, workers, files, clients, crashes and time.

One seed is one history. Everything that the real surroundings promise the core is kept here (answers of the
store in order, effects after their commit, what a worker sends arrives in order), everything that they do not
promise is left to chance. `check` compares the core with the truth: what is committed, and saved since then.
"""

from collections import Counter, deque
from collections.abc import Callable
from random import Random

from fetchd.daemon.core import commands as c
from fetchd.daemon.core import inputs
from fetchd.daemon.core.core import Core
from fetchd.daemon.core.job import Job, Moment, join
from fetchd.daemon.core.settings import Settings
from fetchd.protocol.errors import Code
from fetchd.protocol.job import State
from fetchd.protocol.mailbox import FINAL

from . import truth
from .clients import Ask, Lookup, answered, look_up
from .disks import FakeDisks
from .make import AREA, SECOND, WALL, choose_quotas
from .store import Batch, FakeStore
from .watch import Watch
from .workers import Worker
from .workspaces import Workspaces


class Simulation:
    """One history. `faults` is how likely anything goes wrong (0: nothing does)."""

    def __init__(
        self, seed: int, *, faults: float = 0.15, workers: int | None = None, mutant: str | None = None
    ) -> None:
        self.rng = Random(seed)
        self.validating = True
        self.faults = faults
        self.failures = self.rng.choice([0.0, 0.1, 0.4]) if faults else 0.0
        self.store_speed = 6.0
        self.verbs = 0.3
        self.occupied: set[str] = set()
        self.workspaces = Workspaces(Random(~seed), mutant)
        self.workers = workers or self.rng.randint(1, 3)
        self.whole_stamps = self.rng.random() < 0.5
        self.host_connections = 16 if workers else self.rng.choice([1, 2, 16])
        self.limit_rate = 0 if workers else self.rng.choice([0, 0, 1000])
        self.quotas = {} if workers else choose_quotas(self.rng)
        self.room = 0
        self.mono = 100 * SECOND
        self.store = FakeStore()
        self.disks = FakeDisks()
        self.published: Counter[int] = Counter()
        self.asks: list[Ask] = []
        self.watch = Watch()
        self.dispatched: list[str] = []
        self.inputs = 0
        self.ran = False
        self.files: dict[str, deque[c.Command]] = {}
        self.results: list[inputs.Input] = []
        self._begin()

    # the daemon's life

    def _begin(self) -> None:
        """A new core from what is committed. Of the old one only needed workspaces are left."""
        rows = self.store.jobs
        self.workspaces.sweep({i for i, row in rows.items() if row.has_workspace})
        self.core = Core(self.settings(), self.store.load())
        self.truth = dict(self.store.jobs)
        self.pool: dict[tuple[int, int], Worker] = {}
        self.calls: deque[Callable[[], object]] = deque()
        self.replies: deque[object] = deque()
        self.disks.checks.clear()
        self.in_flight: Batch | None = None
        self.pending = Batch()
        self.exited = False
        self.take(self.core.start(self.moment()))
        self.end_turn()

    def settings(self) -> Settings:
        return Settings(
            workers=self.workers, default_area=AREA, idle_timeout=5 * SECOND, keep_failed=30 * SECOND,
            start_timeout=10 * SECOND, host_connections=self.host_connections, limit_rate=self.limit_rate,
            room=self.room,
            **self.quotas,
        )  # fmt: skip

    def configure(self) -> None:
        """Another number of workers, other limits, sometimes other rooms."""
        self.workers = self.rng.randint(1, 4)
        self.host_connections = self.rng.choice([1, 2, 16])
        self.limit_rate = self.rng.choice([0, 0, 1000])
        self.quotas = choose_quotas(self.rng)
        self.room += self.rng.random() < 0.5
        self.turn(inputs.Configure(self.settings()))

    def crash(self, *, power: bool | None = None) -> None:
        """All that is not committed is gone; after a power cut also what is not synced."""
        if self.faults and self.rng.random() < 0.5 if power is None else power:
            self.workspaces.power_cut()
        self.workspaces.check(self.store.jobs)
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
        self.watch.begin(event, self.inputs, self.core)
        self.ran = False
        self.take(self.core.handle(event, self.moment()))
        assert not self.ran or self.core.pool.busy() <= self.core.pool.size
        if self.validating:
            self.core.validate()
        deadline = self.core.next_deadline(self.mono)
        assert deadline is None or deadline > self.mono, "a deadline in the past: the loop would spin"

    def take(self, commands: list[c.Command]) -> None:
        for command in commands:
            if isinstance(command, c.SaveJob):
                self._saved(command.job)
            elif isinstance(command, c.Forget):
                self.watch.removable(self.truth.pop(command.job.id))
            elif isinstance(command, c.Progress):
                assert self.truth[command.job].state is State.RUNNING, f"{command.job} goes on"
            elif isinstance(command, c.Refuse):
                self.watch.refused()
            if isinstance(command, c.Durable):
                self.pending.durables.append(command)
            elif isinstance(command, c.Effect):
                self.pending.effects.append(command)
            elif isinstance(command, c.CheckSpace):
                assert command.area not in self.disks.checks, "two questions about one file system"
                self.disks.checks.append(command.area)
            elif isinstance(command, c.ProbeName):
                self.files.setdefault(command.job.id, deque()).append(command)
            elif isinstance(command, c.LoadWindow | c.LoadLanes | c.LoadDue):
                self.calls.append(lambda query=command: self.store.answer(query))  # type: ignore[misc]

    def _saved(self, job: Job) -> None:
        old = self.truth.get(job.id)
        self.watch.changed(old, job)
        if job.state is State.RUNNING and old is not None and old.state is State.QUEUED:
            better = self.validating and [
                o.id for o in self.truth.values()
                if o.state is State.QUEUED and o.lane == job.lane and o.order < job.order
                and not self.deferred(o)
            ]  # fmt: skip
            assert not better, f"{job.id} overtakes {better}"
            self.dispatched.append(job.id)
            self.ran = True
        self.truth[job.id] = job

    def deferred(self, job: Job) -> bool:
        """Whether an earlier attempt of the job is still stopping."""
        return job.id in self.core.runs or job.id in self.core.ending

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
        if self.rng.random() < self.faults / (4 if self.disks.code("") else 20):
            return None
        self.store.apply(batch.durables)
        saved = [d.job for d in batch.durables if isinstance(d, c.SaveJob)]
        if done := {job.id: job for job in saved if job.state is State.COMPLETED}:
            self.workspaces.check(done)
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
            stamps = [d.stamp for d in answer.durables if isinstance(d, c.SaveJob | c.Forget)]
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
        elif isinstance(answer, Lookup):
            self.turn(*answer.events(self.core))
        else:
            self.turn(answer)  # type: ignore[arg-type]

    # effects

    def execute(self, effect: c.Effect) -> None:
        if isinstance(effect, c.Reply | c.Refuse):
            self._reply(effect)
        elif isinstance(effect, c.LoadChunk):
            self.calls.append(lambda: self.store.answer(effect))
        elif isinstance(effect, c.LoadOverdue):
            self.calls.append(lambda: self.store.overdue(self.mono, effect))
        elif isinstance(effect, c.Seal | c.Publish | c.Clean):
            if isinstance(effect, c.Clean):
                assert not self.holders(effect.job.id), f"the workspace of {effect.job.id} is in use"
            self.files.setdefault(effect.job.id, deque()).append(effect)
        elif isinstance(effect, c.Exit):
            self.exited = True
        elif isinstance(effect, c.Spawn):
            assert not any(w.alive for (slot, _), w in self.pool.items() if slot == effect.slot)
            worker = self.pool[effect.slot, effect.incarnation] = Worker(effect.slot, effect.incarnation)
            worker.source = self.workspaces.etag
            worker.disks = self.disks
            if self.chance(0.5):
                worker.die(inputs.Gone.SPAWN_FAILED)
            worker.mute = self.chance(0.3)
        else:
            assert isinstance(effect, c.Kill | c.AssignJob | c.StopAttempt | c.AllowRestart | c.Allow)
            worker = self.pool[effect.slot, effect.incarnation]
            if worker.alive:
                self._tell(worker, effect)

    def _tell(self, worker: Worker, effect: c.Effect) -> None:
        if isinstance(effect, c.Kill):
            worker.die(inputs.Gone.KILLED)
        elif isinstance(effect, c.StopAttempt):
            worker.stop(effect)
        elif isinstance(effect, c.Allow):
            assert worker.holds is None or worker.holds.id == effect.job, "an allowance of another job"
            assert effect.connections >= 1
            assert effect.rate != 0
        elif isinstance(effect, c.AllowRestart):
            stored = self.store.jobs.get(effect.job)
            assert stored is None or stored.generation >= effect.generation
            worker.proceed(effect)
        elif isinstance(effect, c.AssignJob):
            job, stored = effect.job, self.store.jobs.get(effect.job.id)
            if stored is None or stored.seq != job.seq:
                assert job.seq in self.store.removed, "a job that is not on disk"
            else:
                assert stored.attempt == job.attempt, "an attempt that is not on disk"
            assert worker.holds is None
            assert worker.ready
            assert not self.holders(job.id), f"{job.id} has two live attempts"
            assert len([w for w in self.pool.values() if w.holds]) < len(self.core.pool.slots)
            worker.holds = worker.preparing = job
            worker.aborted = False
            self.files.setdefault(job.id, deque()).append(effect)

    def holders(self, job_id: str) -> list[Worker]:
        """The workers that may be at work on a job, as far as the supervisor can know."""
        return [worker for worker in self.pool.values() if worker.holds and worker.holds.id == job_id]

    def heard(self, worker: Worker, event: inputs.Input) -> inputs.Input:
        """A message of a worker has been read; after the last one the workspace is taken from it."""
        final = isinstance(event, inputs.WorkerReport) and isinstance(event.report, FINAL)
        if final and isinstance(event, inputs.WorkerReport) and worker.holds:
            if event.report.job == worker.holds.id:
                worker.holds = None
        elif isinstance(event, inputs.AssignRefused | inputs.WorkerGone):
            worker.holds = None
        return event

    def _reply(self, effect: c.Reply | c.Refuse) -> None:
        ask = effect.token
        assert isinstance(ask, Ask)
        if isinstance(effect, c.Refuse):
            ask.refused.append(effect.code)
            return
        answered(ask, effect.body, self.store)
        self.watch.acked(ask.owner, ask.req)

    # files

    def file_step(self, job_id: str) -> None:
        """The helper pool does the next thing with a job's files."""
        queue = self.files[job_id]
        command = queue.popleft()
        if not queue:
            del self.files[job_id]
        assert isinstance(command, c.ProbeName | c.Seal | c.Publish | c.Clean | c.AssignJob)
        job = command.job
        published, who = self.published[job.seq], (job.id, job.attempt)
        lost, exists, broken = self.chance(0.6), self.chance(0.8), self.chance(0.1)
        if isinstance(command, c.ProbeName):
            taken = {name for name in command.names if self.chance(0.2)}
            for name in command.names:
                path = join(job.directory, name)
                if path in self.occupied or path in self.workspaces.disk.names:
                    taken.add(name)
                if self.store.reserved(path) not in (None, job.id):
                    taken.add(name)
            self.results.append(inputs.NameProbed(*who, command.names, frozenset(taken)))
        elif isinstance(command, c.Clean):
            self.workspaces.clean(job)
        elif isinstance(command, c.AssignJob):
            self._prepare(command)
        elif (code := self.disks.code(job.area)) is not None:
            self.results.append(inputs.FileRefused(*who, code, ""))
        elif broken or (lost and not published):
            if lost:
                self.workspaces.clean(job)
            broke = self.rng.choice([Code.IO_ERROR, Code.EXHAUSTED])
            self.results.append(inputs.FileRefused(*who, broke, "", lost=lost))
        elif isinstance(command, c.Seal):
            sealed = self.workspaces.seal(job, command.size, bad=self.chance(1))
            if sealed is None:
                self.results.append(inputs.FileRefused(*who, Code.IO_ERROR, ""))
            else:
                self.results.append(inputs.Sealed(*who, *sealed))
        elif exists and not published:
            self.occupied.add(str(job.path))
            self.results.append(inputs.FileRefused(*who, Code.EXISTS, ""))
        else:
            self._publish(job)

    def _publish(self, job: Job) -> None:
        assert self.store.jobs[job.id].state in (State.PUBLISHING, State.COMPLETED)
        outcome = self.workspaces.publish(job)
        if outcome == "published":
            self.published[job.seq] = 1
            self.results.append(inputs.Published(job.id, job.attempt))
        else:
            lost = outcome == "lost"
            code = Code.IO_ERROR if lost else Code.EXISTS
            self.results.append(inputs.FileRefused(job.id, job.attempt, code, "", lost=lost))

    def _prepare(self, command: c.AssignJob) -> None:
        """A workspace is made, or what lies there is kept, where it is of this generation."""
        job = command.job
        place = self.workspaces.prepare(job, f"rooms/{command.slot}-{command.incarnation}")
        worker = self.pool.get((command.slot, command.incarnation))
        if worker is None or not worker.alive:
            return
        worker.preparing = None
        full, alone = self.disks.code(job.area), self.chance(0.2)
        if worker.aborted or place is None or full or alone or self.chance(0.6):
            some = self.rng.choice([Code.IO_ERROR, Code.EXHAUSTED, Code.EXISTS, Code.EXISTS, Code.CONNECT])
            where = worker.slot, worker.incarnation, job.id, job.attempt
            code = Code.DISK_FULL if alone else full or (Code.IO_ERROR if place is None else some)
            worker.mail.append(inputs.AssignRefused(*where, code, "", alone))
        else:
            worker.assign(command, place, deaf=self.chance(1))

    # clients

    def ask(self, make: Callable[[FakeStore], inputs.Input], owner: str, text: str) -> Ask:
        """A request of a client; what the store knows of its jobs is looked up in the order of its calls."""
        ask = Ask(make, owner, f"r{len(self.asks)}", text)
        self.asks.append(ask)
        self.send(ask)
        return ask

    def send(self, ask: Ask) -> None:
        """Send a request, for the first time or again."""
        self.calls.append(lambda: look_up(ask, self.store))

    # chance, and the check of everything

    def chance(self, part: float) -> bool:
        return self.rng.random() < self.faults * part

    def check(self) -> None:
        """The core knows what it has to know, and nothing else."""
        truth.check(self)
