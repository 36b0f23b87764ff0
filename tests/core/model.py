"""What the core should do, said in the plainest way: no windows, no commits, no queries, only a sorted list.

Everything is on disk and in memory at once: the model says what must be true whenever the core has caught up.
"""

from dataclasses import dataclass, field

from fetchd.protocol.job import State

ENDED = (State.COMPLETED, State.FAILED, State.CANCELLED)


@dataclass
class PlainJob:
    """One job of the model."""

    seq: int
    priority: int
    state: State = State.QUEUED
    attempt: int = 0
    failures: int = 0
    due: int = 0
    host: str = ""


@dataclass
class Model:
    """A queue, some slots, and nothing else."""

    workers: int
    jobs: dict[str, PlainJob] = field(default_factory=dict)
    holding: set[str] = field(default_factory=set)  # jobs whose attempt keeps a slot
    parked: dict[str, int] = field(default_factory=dict)  # hosts, and until when

    def of(self, *states: State) -> list[str]:
        return sorted(job_id for job_id, job in self.jobs.items() if job.state in states)

    def movable(self) -> list[str]:
        return [job_id for job_id in self.of(State.QUEUED) if self.jobs[job_id].host not in self.parked]

    def dispatch(self) -> None:
        """The best queued jobs take the free slots."""
        while len(self.holding) < self.workers and (queued := self.movable()):
            best = min(queued, key=lambda job_id: (-self.jobs[job_id].priority, self.jobs[job_id].seq))
            self.jobs[best].state = State.RUNNING
            self.jobs[best].attempt += 1
            self.holding.add(best)

    def submit(self, job_id: str, priority: int, host: str) -> None:
        if job_id not in self.jobs:
            self.jobs[job_id] = PlainJob(len(self.jobs), priority, host=host)

    def cancel(self, job_id: str) -> bool:
        """Whether the job is cancelled, now or before. Its slot stays taken until the worker has stopped."""
        job = self.jobs[job_id]
        if job.state not in ENDED and job.state is not State.PUBLISHING:
            job.state = State.CANCELLED
        return job.state is State.CANCELLED

    def free(self, job_id: str) -> None:
        self.holding.discard(job_id)

    def end(self, job_id: str, state: State) -> None:
        self.jobs[job_id].state = state

    def fail(self, job_id: str, due: int, retries: int) -> None:
        """A failure that a retry may mend."""
        job = self.jobs[job_id]
        job.failures += 1
        job.state, job.due = (State.FAILED, 0) if job.failures > retries else (State.WAITING, due)

    def park(self, job_id: str, until: int, retries: int) -> None:
        """A failure that holds the whole host for a while."""
        job = self.jobs[job_id]
        job.failures += 1
        job.state = State.FAILED if job.failures > retries else State.QUEUED
        self.parked[job.host] = max(until, self.parked.get(job.host, 0))

    def time(self, now: int) -> None:
        self.parked = {host: until for host, until in self.parked.items() if until > now}
        for job in self.jobs.values():
            if job.state is State.WAITING and job.due <= now:
                job.state = State.QUEUED
