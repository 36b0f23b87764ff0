"""Clients that wait for a change: answered when it comes, or with nothing when their time is up."""

from collections import Counter
from collections.abc import Callable, Iterable

from .loop import Loop, Timer, boot_time

MOST = 400_000
"""Jobs that are waited for at once. Nobody takes more of this than is left for all others."""

EACH = 20
"""A wait counts as so many more."""

Answer = Callable[[list[str], int], None]
"""Called with the jobs that have changed, and the revision up to which these are all changes there were."""


class _Wait:
    def __init__(self, owner: str, ids: tuple[str, ...], final: bool, answer: Answer) -> None:
        self.owner = owner
        self.ids = ids
        self.final = final
        self.answer = answer
        self.changed: dict[str, None] = {}
        self.timer: Timer | None = None


class Waits:
    """Who waits for which job.

    One commit may change many jobs of a wait, so it is answered when all events of the commit have been told.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._by_job: dict[str, set[_Wait]] = {}
        self._taken: Counter[str] = Counter()
        self._told = 0
        self._due: list[_Wait] = []

    def full(self, owner: str) -> bool:
        """Whether there is no room for another wait of an owner's."""
        return self._taken.total() + self._taken[owner] >= MOST

    def add(self, owner: str, ids: Iterable[str], timeout: float, answer: Answer, *, final: bool) -> None:
        """Call `answer` when a job has changed (`final`: has ended), or with none after `timeout` seconds."""
        wait = _Wait(owner, tuple(ids), final, answer)
        wait.timer = self._loop.at(boot_time() + int(timeout * 1e6), lambda: self._end(wait))
        self._taken[owner] += EACH + len(wait.ids)
        for job_id in wait.ids:
            self._by_job.setdefault(job_id, set()).add(wait)

    def changed(self, job_id: str, revision: int, *, final: bool) -> None:
        """A change of this job is on disk."""
        self._told = revision
        for wait in self._by_job.get(job_id, ()):
            if wait.final and not final:
                continue
            if not wait.changed:
                if not self._due:
                    self._loop.at(boot_time(), self._answer_due)
                self._due.append(wait)
            wait.changed[job_id] = None

    def end_all(self) -> None:
        """Answer everybody: the daemon stops, or it is to be seen who may still ask."""
        for waits in list(self._by_job.values()):
            for wait in list(waits):
                self._end(wait)

    def _answer_due(self) -> None:
        due, self._due = self._due, []
        for wait in due:
            self._end(wait)

    def _end(self, wait: _Wait) -> None:
        if wait.timer is None:
            return
        wait.timer.cancel()
        wait.timer = None
        self._taken[wait.owner] -= EACH + len(wait.ids)
        if not self._taken[wait.owner]:
            del self._taken[wait.owner]
        for job_id in wait.ids:
            waits = self._by_job.get(job_id)
            if waits is not None:
                waits.discard(wait)
                if not waits:
                    del self._by_job[job_id]
        wait.answer(list(wait.changed), self._told)
