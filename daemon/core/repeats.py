"""Steps with finished files that were refused and are done again: sealing and publishing.

The job stays as it is meanwhile, with all its bytes. What waits for room on its file system has no time of
its own: it goes on when the gate of its area opens.
"""

from typing import TYPE_CHECKING

from fetchd.protocol.job import State

from .commands import Publish, Seal
from .job import Job
from .slot import Run

if TYPE_CHECKING:
    from .core import Core


class Repeats:
    """Runs whose step has been refused, and when (boot-time µs) it is repeated; None: when there is room."""

    def __init__(self, runs: dict[str, Run]) -> None:
        self._runs = runs
        self._of: dict[str, tuple[Run, int | None]] = {}

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._of and self._runs.get(job_id) is self._of[job_id][0]

    def __len__(self) -> int:
        return len(self._of)

    def add(self, run: Run, due: int | None) -> None:
        """The step of this run is to be repeated. Those of runs that are over are forgotten."""
        self._of = {job_id: entry for job_id, entry in self._of.items() if job_id in self}
        self._of[run.job] = run, due

    def next(self) -> int | None:
        """Boot time of the next one, or None."""
        return min((due for _, due in self._of.values() if due is not None), default=None)

    def due(self, now: int) -> list[str]:
        """Take out the jobs whose step is to be repeated now."""
        return self.take([job_id for job_id, (_, due) in self._of.items() if due is not None and due <= now])

    def held(self) -> list[str]:
        """The jobs that wait for room."""
        return [job_id for job_id, (_, due) in self._of.items() if due is None and job_id in self]

    def take(self, job_ids: list[str]) -> list[str]:
        """Take out jobs, whenever they were to be repeated; those that are over are not among the result."""
        live = [job_id for job_id in job_ids if job_id in self]
        for job_id in job_ids:
            self._of.pop(job_id, None)
        return live


def repeat(core: "Core", job_ids: list[str]) -> None:
    """Do the step again for these jobs."""
    for job_id in job_ids:
        job, run = core.ledger.live[job_id], core.runs[job_id]
        core.emit(Publish(job) if job.state is State.PUBLISHING else Seal(job, run.bytes))


def turn(core: "Core", now: int) -> None:
    """Repeat what is due."""
    repeat(core, core.repeats.due(now))


def go_on(core: "Core", area: str) -> None:
    """There is room again in an area."""
    held = [job_id for job_id in core.repeats.held() if core.ledger.live[job_id].area == area]
    repeat(core, core.repeats.take(held))


def withhold(core: "Core", job: Job, due: int | None) -> None:
    """Repeat the step of a finished job at that boot time, or when there is room."""
    core.ledger.put(job)
    core.repeats.add(core.runs[job.id], due)
