"""Jobs whose last change is not yet on disk, in the order of their changes, and by what is asked for.

Everything here costs what is found, never what is there: a burst of a hundred thousand submits may be on its
way to the disk while windows are loaded.
"""

from collections import deque
from collections.abc import Iterable

from fetchd.protocol.job import State

from .job import Job, Lane


class Unsettled:
    """Saved and not yet committed jobs, each as it was saved last."""

    def __init__(self) -> None:
        self._jobs: dict[str, tuple[int, Job]] = {}
        self._order: deque[tuple[int, str]] = deque()
        self._queued: dict[Lane, dict[str, Job]] = {}
        self._waiting: dict[str, Job] = {}

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._jobs

    def __len__(self) -> int:
        return len(self._jobs)

    def get(self, job_id: str) -> Job | None:
        entry = self._jobs.get(job_id)
        return None if entry is None else entry[1]

    def put(self, stamp: int, job: Job) -> None:
        """The job as it was saved under this stamp, higher than all before."""
        earlier = self._jobs.get(job.id)
        if earlier is not None:
            self._unlist(earlier[1])
        self._jobs[job.id] = (stamp, job)
        self._order.append((stamp, job.id))
        if job.state is State.QUEUED:
            self._queued.setdefault(job.lane, {})[job.id] = job
        elif job.state is State.WAITING:
            self._waiting[job.id] = job

    def drop(self, job_id: str) -> None:
        """Forget a job, saved or not."""
        entry = self._jobs.pop(job_id, None)
        if entry is not None:
            self._unlist(entry[1])

    def settle(self, stamp: int) -> list[Job]:
        """Take out what was saved up to this stamp and not again since."""
        settled = []
        while self._order and self._order[0][0] <= stamp:
            saved, job_id = self._order.popleft()
            entry = self._jobs.get(job_id)
            if entry is not None and entry[0] == saved:
                del self._jobs[job_id]
                self._unlist(entry[1])
                settled.append(entry[1])
        return settled

    def queued(self, lane: Lane) -> Iterable[Job]:
        """The queued ones of a lane."""
        return self._queued.get(lane, {}).values()

    def lanes(self) -> list[Lane]:
        """The lanes of the queued ones."""
        return list(self._queued)

    def waiting(self) -> Iterable[Job]:
        """The waiting ones."""
        return self._waiting.values()

    def _unlist(self, job: Job) -> None:
        if job.state is State.QUEUED:
            of_lane = self._queued[job.lane]
            del of_lane[job.id]
            if not of_lane:
                del self._queued[job.lane]
        elif job.state is State.WAITING:
            del self._waiting[job.id]

    def validate(self) -> None:
        """Raise AssertionError where an invariant is broken; for tests."""
        stamps = [stamp for stamp, _ in self._order]
        assert stamps == sorted(set(stamps)), "unsettled jobs are out of order"
        assert set(self._order) >= {(stamp, job_id) for job_id, (stamp, _) in self._jobs.items()}
        queued = {job.id for jobs in self._queued.values() for job in jobs.values()}
        assert queued == {job.id for _, job in self._jobs.values() if job.state is State.QUEUED}
        assert set(self._waiting) == {job.id for _, job in self._jobs.values() if job.state is State.WAITING}
