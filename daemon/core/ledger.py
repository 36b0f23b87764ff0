"""The jobs in memory, and the one way to change them.

A job is in memory while something holds it (a window, an attempt, a wait that ends soon) or while its last
change is not yet on disk. That second rule is what makes rows from the store safe to use: the store answers
in order, so a row that is older than memory can only arrive while memory still has the job.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import takewhile
from typing import Any

from msgspec.structs import replace

from fetchd.protocol.job import State

from .commands import Command, Event, Forget, SaveJob
from .job import Job, Moment
from .machine import Cause, step
from .unsettled import Unsettled

REMOVED = "removed"
"""Type of the last event of a job that is forgotten."""

GENERATIONS = 1 << 20
"""Where IDs may be used again, the generations of a job begin at its `seq` times this."""


class Ledger:
    """Live and unsettled jobs, counters, and the numbers that only ever grow.

    `counts` are the numbers of all jobs by state, `owned` those of each owner.
    """

    def __init__(
        self, out: Callable[[Command], None], *, revision: int, next_seq: int, counts: dict[State, int],
        owned: dict[str, dict[State, int]] | None = None,
    ) -> None:  # fmt: skip
        self._out = out
        self.revision = revision
        self.next_seq = next_seq
        self.counts = {state: counts.get(state, 0) for state in State}
        self.owned = {owner: dict(of_owner) for owner, of_owner in (owned or {}).items()}
        self.live: dict[str, Job] = {}
        self.unsettled = Unsettled()
        self.forgotten: dict[str, int] = {}
        self._reused = False
        self.paths: dict[str, str] = {}
        self.stamp = 0

    def counts_of(self, owner: str | None) -> dict[State, int]:
        """The number of an owner's jobs by state, or of all (None)."""
        return self.counts if owner is None else dict.fromkeys(State, 0) | self.owned.get(owner, {})

    def find(self, job_id: str) -> Job | None:
        """The job as memory has it, or None: then the store's row is the truth."""
        if (job := self.live.get(job_id)) is not None:
            return job
        return self.unsettled.get(job_id)

    def current(self, rows: Iterable[Job]) -> list[Job]:
        """Rows from the store, less those of which memory knows better."""
        return [row for row in rows if not self._known(row.id)]

    def _known(self, job_id: str) -> bool:
        return job_id in self.live or job_id in self.unsettled or job_id in self.forgotten

    def lookup(self, job_id: str, stored: Mapping[str, Job]) -> Job | None:
        """The job as it is: what memory has, or the store's row where memory has nothing to say of it."""
        found = self.find(job_id)
        return found if found is not None or job_id in self.forgotten else stored.get(job_id)

    def hold(self, job: Job) -> None:
        """Keep a job in memory until `release`."""
        before = self.find(job.id)
        self.live[job.id] = job
        self._reserve(job, before)

    def release(self, job: Job) -> None:
        """Let memory forget a job as soon as its last change is on disk."""
        held = self.live.pop(job.id, job)
        saved = self.unsettled.get(job.id)
        if saved is None or saved.path != held.path:
            self._unreserve(held)

    def add(self, job: Job, now: Moment) -> Job:
        """A new job, with its first event."""
        self.next_seq += 1
        self.revision += 1
        # a crash may leave the workspace of a forgotten job behind, which is of no use to another of its ID
        generation = self.next_seq * GENERATIONS if self._reused else job.generation
        job = replace(job, seq=self.next_seq, revision=self.revision, generation=generation)
        self.forgotten.pop(job.id, None)
        self._count(job.owner, job.state, 1)
        self.put(job)
        self._out(Event(self.revision, str(job.state), now.wall, job))
        return job

    def change(self, job: Job, cause: Cause, now: Moment, **fields: Any) -> Job:
        """A transition: checked against the table, numbered, saved, announced."""
        state = step(job.state, cause)
        self._count(job.owner, job.state, -1)
        self._count(job.owner, state, 1)
        return self.announce(replace(job, state=state, **fields), str(state), now)

    def announce(self, job: Job, kind: str, now: Moment) -> Job:
        """A numbered, saved change with an event of this kind."""
        self.revision += 1
        job = replace(job, revision=self.revision)
        self.put(job)
        self._out(Event(self.revision, kind, now.wall, job))
        return job

    def forget(self, job: Job, now: Moment) -> None:
        """Know a terminal job no more. Rows of it that are still on their way from the store do not count."""
        self.revision += 1
        self._reused = True
        self._count(job.owner, job.state, -1)
        self.release(job)
        self.unsettled.drop(job.id)
        self._unreserve(job)
        stamp = self.next_stamp()
        self.forgotten[job.id] = stamp
        self._out(Forget(stamp, job))
        self._out(Event(self.revision, REMOVED, now.wall, replace(job, revision=self.revision)))

    def put(self, job: Job) -> None:
        """Save a job as it is now, without an event."""
        stamp = self.next_stamp()
        before = self.find(job.id)
        self.unsettled.put(stamp, job)
        self.note(job)
        self._reserve(job, before)
        self._out(SaveJob(stamp, job))

    def next_stamp(self) -> int:
        """A number for something that is saved, in the order of saving."""
        self.stamp += 1
        return self.stamp

    def note(self, job: Job) -> None:
        """Remember facts about a live job that need not be on disk."""
        if job.id in self.live:
            self.live[job.id] = job

    def claim(self, job: Job) -> None:
        """Remember facts about a live job, its name among them, so that no other job takes it."""
        before = self.find(job.id)
        self.note(job)
        self._reserve(job, before)

    def settle(self, stamp: int) -> None:
        """Everything saved up to `stamp` is on disk."""
        for job_id in list(takewhile(lambda job_id: self.forgotten[job_id] <= stamp, self.forgotten)):
            del self.forgotten[job_id]
        for job in self.unsettled.settle(stamp):
            if job.id not in self.live:
                self._unreserve(job)

    def _count(self, owner: str, state: State, by: int) -> None:
        self.counts[state] += by
        of_owner = self.owned.setdefault(owner, {})
        of_owner[state] = of_owner.get(state, 0) + by

    def _reserve(self, job: Job, before: Job | None) -> None:
        if before is not None and before.path != job.path:
            self._unreserve(before)
        if job.terminal:
            self._unreserve(job)
        elif job.path is not None:
            # the first one keeps it: a job that may share the name must not take the reservation with it
            self.paths.setdefault(job.path, job.id)

    def _unreserve(self, job: Job) -> None:
        if job.path is not None and self.paths.get(job.path) == job.id:
            del self.paths[job.path]

    def validate(self) -> None:
        """Raise AssertionError where an invariant is broken; for tests."""
        self.unsettled.validate()
        assert all(n >= 0 for n in self.counts.values()), f"negative count: {self.counts}"
        for path, job_id in self.paths.items():
            job = self.find(job_id)
            assert job is not None, f"reservation of {path} outlives {job_id}"
            assert job.path == path, f"reservation of {path} is not {job_id}'s"
