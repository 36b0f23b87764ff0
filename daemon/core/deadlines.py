"""Jobs whose time is over.

An attempt is ended on time; what is queued, waiting or paused fails before it would run, or when the store is
asked once a minute.
"""

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

from msgspec.structs import replace

from fetchd.protocol.errors import Code
from fetchd.protocol.job import State

from . import bulk, inputs
from .commands import LoadOverdue
from .intents import CHUNK
from .job import Job, Moment
from .slot import Run

if TYPE_CHECKING:
    from .core import Core


class Deadlines:
    """A heap of (boot-time µs, job, attempt) over the runs of the core, outdated ones among them."""

    def __init__(self, runs: dict[str, Run]) -> None:
        self._runs = runs
        self._heap: list[tuple[int, str, int]] = []

    def add(self, run: Run) -> None:
        """An attempt begins."""
        if run.expires:
            heappush(self._heap, (run.expires, run.job, run.attempt))
        if len(self._heap) > 2 * len(self._runs) + 64:
            self._heap = [(r.expires, r.job, r.attempt) for r in self._runs.values() if r.expires]
            heapify(self._heap)

    def next(self) -> int | None:
        """Boot time of the next one, or None."""
        while self._heap:
            time, job, attempt = self._heap[0]
            run = self._runs.get(job)
            if run is not None and not run.finished and (run.attempt, run.expires) == (attempt, time):
                return time
            heappop(self._heap)
        return None

    def due(self, now: int) -> list[str]:
        """Take out the jobs whose time is over."""
        found = []
        while (time := self.next()) is not None and time <= now:
            found.append(heappop(self._heap)[1])
        return found


def over(job: Job, now: Moment) -> bool:
    """Whether the time of a job is over."""
    return 0 < job.expires <= now.mono


def expire(core: "Core", job: Job, now: Moment) -> None:
    """Fail a job whose time is over, unless all its bytes are there; they are kept as for other failures."""
    run = core.runs.get(job.id)
    if job.terminal or job.state is State.PUBLISHING or (run is not None and run.finished):
        return
    if run is not None:
        job = replace(job, bytes=max(run.bytes, job.bytes))
    text = "the time that it was given is over"
    if job.error_message:
        # what it was waiting for to pass
        text += f"; before that: {job.error_message}"
    core.fail(job, Code.DEADLINE, text, now)


def overdue(core: "Core", event: inputs.Overdue, now: Moment) -> None:
    """Rows of the store whose time is over."""
    for row in event.rows:
        job = core.ledger.lookup(row.id, {row.id: row})
        if job is None or job.seq != row.seq or not over(job, now):
            continue
        caught_up = bulk.catch_up(core, job, now)
        if caught_up is not None:
            expire(core, caught_up, now)
    if event.more:
        core.emit(LoadOverdue(CHUNK))
