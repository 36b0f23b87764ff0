"""A store in memory for the simulator: what is committed, and what may never be committed.

It does as `store/database.py` does: terminal jobs are in the history, a forgotten one is nowhere, secrets are
saved before the batch and dropped after it, unless the same batch saves new ones for the ID later on.
"""

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from fetchd.daemon.core import inputs
from fetchd.daemon.core.commands import (
    DropGate,
    DropIntent,
    DropSecrets,
    Durable,
    Effect,
    Event,
    Forget,
    LoadChunk,
    LoadDue,
    LoadLanes,
    LoadOverdue,
    LoadWindow,
    Query,
    SaveGate,
    SaveIntent,
    SaveJob,
    SaveLimit,
    SaveReply,
    SaveSecrets,
)
from fetchd.daemon.core.core import Core, Loaded
from fetchd.daemon.core.gates import Gate, GateKey, holding
from fetchd.daemon.core.intents import Intent
from fetchd.daemon.core.job import Job, Lane
from fetchd.protocol.job import State

REVIVABLE = (State.FAILED, State.CANCELLED)


@dataclass
class Batch:
    """What is saved together, and what waits for it."""

    durables: list[Durable] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)


class FakeStore:
    """Committed rows by ID. Applying checks what must hold for every batch."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.removed: dict[int, str] = {}
        self.replies: dict[tuple[str, str], SaveReply] = {}
        self.secrets: set[str] = set()
        self.gates: dict[GateKey, Gate] = {}
        self.intents: dict[int, Intent] = {}
        self.limits: dict[tuple[str, str], int] = {}
        self.revision = 0
        self.seq = 0
        self._queued: dict[Lane, list[tuple[tuple[int, int], str]]] = {}

    def apply(self, batch: list[Durable]) -> None:
        """Commit a batch."""
        revised: dict[str, int] = {}
        for command in batch:
            if isinstance(command, SaveJob):
                self._save(command.job)
                revised[command.job.id] = command.job.revision
            elif isinstance(command, Forget):
                self._forget(command.job)
            elif isinstance(command, Event):
                assert command.revision == self.revision + 1, "a revision is skipped or used twice"
                known = command.kind == "removed" or revised.get(command.job.id) == command.revision
                assert known, "an event without its change"
                self.revision = command.revision
            elif isinstance(command, SaveReply):
                key = command.owner, command.req
                assert key not in self.replies, f"request {key} was done twice"
                self.replies[key] = command
            elif isinstance(command, SaveSecrets):
                self.secrets.add(command.job)
            elif isinstance(command, DropSecrets):
                self.secrets.discard(command.job)
            else:
                self._apply_rare(command)

    def _apply_rare(self, command: Durable) -> None:
        match command:
            case SaveGate(gate=gate):
                self.gates[gate.key] = gate
            case DropGate(key=key):
                del self.gates[key]
            case SaveLimit(kind=kind, name=name, rate=None):
                self.limits.pop((kind, name), None)
            case SaveLimit(kind=kind, name=name, rate=rate):
                self.limits[kind, name] = rate
            case SaveIntent(intent=intent):
                old = self.intents.get(intent.number)
                assert old is None or (old.step, old.cursor) < (intent.step, intent.cursor), "no progress"
                self.intents[intent.number] = intent
            case DropIntent(number=number):
                del self.intents[number]
            case _:
                raise TypeError(command)

    def _save(self, job: Job) -> None:
        assert job.seq not in self.removed, f"{job.id} comes back after it was removed"
        old = self.jobs.get(job.id)
        if old is None:
            assert job.seq > self.seq, "a sequence number is used twice"
            for intent in self.intents.values():
                assert job.seq > intent.upto, f"{job.id} is new, and an intent is for it"
            self.seq = job.seq
        else:
            assert old.seq == job.seq, f"two jobs are {job.id}"
            assert old.revision <= job.revision
            assert old.attempt <= job.attempt <= old.attempt + 1
            assert old.generation <= job.generation
            if old.terminal:
                same = old.state is job.state and old.revision == job.revision
                assert same or old.state in REVIVABLE, f"{job.id} changes after it was {old.state}"
                assert same or job.state is State.QUEUED or job.terminal
            self._unqueue(old)
        self.jobs[job.id] = job
        if job.state is State.QUEUED:
            insort(self._queued.setdefault(job.lane, []), (job.order, job.id))

    def _unqueue(self, old: Job) -> None:
        if old.state is State.QUEUED:
            entries = self._queued[old.lane]
            del entries[bisect_left(entries, (old.order, old.id))]
            if not entries:
                del self._queued[old.lane]

    def _forget(self, job: Job) -> None:
        old = self.jobs.pop(job.id)
        assert old.seq == job.seq, "another job of this ID is removed"
        assert old.terminal, f"{job.id} is removed while it is {old.state}"
        self.removed[job.seq] = job.id

    def answer(self, query: Query | LoadChunk) -> inputs.Input:
        """The answer to a query, from what is committed now."""
        if isinstance(query, LoadWindow):
            entries = self._queued.get(query.lane, [])
            first = (
                0 if query.after is None else bisect_right(entries, query.after, key=lambda entry: entry[0])
            )
            rows = tuple(self.jobs[job_id] for _, job_id in entries[first : first + query.limit])
            return inputs.WindowLoaded(query.lane, rows, len(entries) > first + query.limit)
        if isinstance(query, LoadLanes):
            free = [lane for lane in self._queued if not set(holding(lane)) & set(query.without)]
            lanes = sorted(free, key=lambda lane: self._queued[lane][0])
            return inputs.LanesLoaded(tuple(lanes[: query.limit]), len(lanes) > query.limit)
        if isinstance(query, LoadChunk):
            return self._chunk(query.intent, query.limit)
        assert isinstance(query, LoadDue)
        waiting = [job for job in self.jobs.values() if job.state is State.WAITING]
        waiting = sorted((j for j in waiting if j.wait_until > query.after), key=lambda j: j.wait_until)
        until = waiting[query.limit - 1].wait_until if len(waiting) >= query.limit else None
        return inputs.DueLoaded(tuple(j for j in waiting if until is None or j.wait_until <= until), until)

    def _chunk(self, intent: Intent, limit: int) -> inputs.ChunkLoaded:
        rows = [
            job for job in self.jobs.values()
            if job.terminal == (intent.table == "history")
            and intent.cursor < job.seq <= intent.upto
            and job.owner == intent.owner
            and (not intent.states or job.state in intent.states)
        ]  # fmt: skip
        rows.sort(key=lambda job: job.seq)
        return inputs.ChunkLoaded(intent.number, tuple(rows[:limit]), len(rows) > limit)

    def overdue(self, mono: int, query: LoadOverdue) -> inputs.Overdue:
        """Live jobs whose time is over."""
        late = [
            job for job in self.jobs.values()
            if 0 < job.expires <= mono and job.state in (State.QUEUED, State.WAITING, State.PAUSED)
        ]  # fmt: skip
        return inputs.Overdue(tuple(late[: query.limit]), len(late) > query.limit)

    def expired(self, wall: int) -> tuple[Job, ...]:
        """Finished jobs whose workspaces have been kept until now."""
        return tuple(job for job in self.jobs.values() if 0 < job.kept_until <= wall and job.terminal)

    def by_ids(self, ids: tuple[str, ...]) -> dict[str, Job]:
        return {job_id: self.jobs[job_id] for job_id in ids if job_id in self.jobs}

    def reserved(self, path: str) -> str | None:
        """The live job that has reserved a path."""
        named = (job for job in self.jobs.values() if job.name is not None and not job.terminal)
        return next((job.id for job in named if job.path == path), None)

    def load(self) -> Loaded:
        """What a new core starts from. The highest sequence number may have been a removed job's."""
        jobs = self.jobs.values()
        self.seq = max((job.seq for job in jobs), default=0)
        self.removed = {seq: job_id for seq, job_id in self.removed.items() if seq <= self.seq}
        live = {job.id for job in jobs if not job.terminal or job.state is State.FAILED}
        self.secrets &= live
        return Loaded(
            active=tuple(job for job in jobs if job.state in (State.RUNNING, State.PUBLISHING)),
            gates=tuple(self.gates.values()),
            counts=Counter(job.state for job in jobs),
            owned=by_owner(jobs),
            revision=self.revision,
            seq=self.seq,
            intents=tuple(self.intents.values()),
            limits=tuple((*key, rate) for key, rate in self.limits.items()),
            delivered=sum(job.size for job in jobs if job.state is State.COMPLETED),
            delivered_to=delivered_to(jobs),
        )


def check_totals(core: Core, truth: Iterable[Job]) -> None:
    """The core's counters are right."""
    jobs = list(truth)
    assert core.ledger.counts == dict.fromkeys(State, 0) | Counter(job.state for job in jobs)
    owned = {
        owner: {state: count for state, count in of_owner.items() if count}
        for owner, of_owner in core.ledger.owned.items()
    }
    assert {owner: counts for owner, counts in owned.items() if counts} == by_owner(jobs)
    assert core.delivered == sum(job.size for job in jobs if job.state is State.COMPLETED)
    assert +Counter(core.delivered_to) == +Counter(delivered_to(jobs))


def by_owner(jobs: Iterable[Job]) -> dict[str, dict[State, int]]:
    """The number of the jobs of each owner by state."""
    owned: dict[str, Counter[State]] = {}
    for job in jobs:
        owned.setdefault(job.owner, Counter())[job.state] += 1
    return {owner: dict(counts) for owner, counts in owned.items()}


def delivered_to(jobs: Iterable[Job]) -> dict[str, int]:
    """What each owner has got."""
    sizes: Counter[str] = Counter()
    for job in jobs:
        if job.state is State.COMPLETED:
            sizes[job.owner] += job.size
    return dict(sizes)
