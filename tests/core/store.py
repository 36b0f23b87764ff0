"""A store in memory for the simulator: what is committed, and what may never be committed."""

from bisect import bisect_left, bisect_right, insort
from collections import Counter

from fetchd.daemon.core import inputs
from fetchd.daemon.core.commands import (
    DropSecrets,
    Durable,
    Event,
    LoadDue,
    LoadLanes,
    LoadWindow,
    Query,
    SaveJob,
    SaveReply,
    SaveSecrets,
)
from fetchd.daemon.core.core import Loaded
from fetchd.daemon.core.job import Job, Lane
from fetchd.protocol.job import State


class FakeStore:
    """Committed rows. Applying checks what must hold for every batch."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.replies: dict[tuple[str, str], SaveReply] = {}
        self.secrets: set[str] = set()
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
            elif isinstance(command, Event):
                assert command.revision == self.revision + 1, "a revision is skipped or used twice"
                assert revised.get(command.job.id) == command.revision, "an event without its change"
                self.revision = command.revision
            elif isinstance(command, SaveReply):
                key = command.owner, command.req
                assert key not in self.replies, f"request {key} was done twice"
                self.replies[key] = command
            elif isinstance(command, SaveSecrets):
                self.secrets.add(command.job)
            elif isinstance(command, DropSecrets):
                self.secrets.discard(command.job)

    def _save(self, job: Job) -> None:
        old = self.jobs.get(job.id)
        if old is None:
            assert job.seq == self.seq + 1, "a sequence number is skipped or used twice"
            self.seq = job.seq
        else:
            assert not old.terminal, f"{job.id} changes after it was {old.state}"
            assert old.revision <= job.revision
            assert old.attempt <= job.attempt <= old.attempt + 1
            assert old.generation <= job.generation
            if old.state is State.QUEUED:
                entries = self._queued[old.lane]
                del entries[bisect_left(entries, (old.order, old.id))]
                if not self._queued[old.lane]:
                    del self._queued[old.lane]
        self.jobs[job.id] = job
        if job.state is State.QUEUED:
            insort(self._queued.setdefault(job.lane, []), (job.order, job.id))

    def answer(self, query: Query) -> inputs.Input:
        """The answer to a query, from what is committed now."""
        if isinstance(query, LoadWindow):
            entries = self._queued.get(query.lane, [])
            first = (
                0 if query.after is None else bisect_right(entries, query.after, key=lambda entry: entry[0])
            )
            rows = tuple(self.jobs[job_id] for _, job_id in entries[first : first + query.limit])
            return inputs.WindowLoaded(query.lane, rows, len(entries) > first + query.limit)
        if isinstance(query, LoadLanes):
            lanes = sorted(self._queued, key=lambda lane: self._queued[lane][0])
            return inputs.LanesLoaded(tuple(lanes[: query.limit]), len(lanes) > query.limit)
        assert isinstance(query, LoadDue)
        waiting = [job for job in self.jobs.values() if job.state is State.WAITING]
        waiting = sorted((j for j in waiting if j.wait_until > query.after), key=lambda j: j.wait_until)
        until = waiting[query.limit - 1].wait_until if len(waiting) >= query.limit else None
        return inputs.DueLoaded(tuple(j for j in waiting if until is None or j.wait_until <= until), until)

    def reserved(self, path: str) -> str | None:
        """The live job that has reserved a path."""
        named = (job for job in self.jobs.values() if job.name is not None and not job.terminal)
        return next((job.id for job in named if job.path == path), None)

    def load(self) -> Loaded:
        """What a new core starts from."""
        jobs = self.jobs.values()
        return Loaded(
            active=tuple(job for job in jobs if job.state in (State.RUNNING, State.PUBLISHING)),
            counts=Counter(job.state for job in jobs),
            revision=self.revision,
            seq=self.seq,
        )
