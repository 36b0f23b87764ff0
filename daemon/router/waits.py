"""Clients that wait for a change: answered when it comes, or with nothing when their time is up."""

from collections.abc import Callable, Iterable

from .loop import Loop, Timer, boot_time

MAX_WAITS = 10_000

Answer = Callable[[list[str]], None]


class _Wait:
    def __init__(self, ids: tuple[str, ...], answer: Answer) -> None:
        self.ids = ids
        self.answer = answer
        self.timer: Timer | None = None


class Waits:
    """Who waits for which job."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._by_job: dict[str, set[_Wait]] = {}
        self._count = 0

    @property
    def full(self) -> bool:
        return self._count >= MAX_WAITS

    def add(self, ids: Iterable[str], timeout: float, answer: Answer) -> None:
        """Call `answer` with the changed job's ID, or with none after `timeout` seconds."""
        wait = _Wait(tuple(ids), answer)
        wait.timer = self._loop.at(boot_time() + int(timeout * 1e6), lambda: self._end(wait, []))
        self._count += 1
        for job_id in wait.ids:
            self._by_job.setdefault(job_id, set()).add(wait)

    def changed(self, job_id: str) -> None:
        """A change of this job is on disk."""
        for wait in list(self._by_job.get(job_id, ())):
            self._end(wait, [job_id])

    def end_all(self) -> None:
        """Answer everybody with nothing: the daemon stops."""
        for waits in list(self._by_job.values()):
            for wait in list(waits):
                self._end(wait, [])

    def _end(self, wait: _Wait, changed: list[str]) -> None:
        for job_id in wait.ids:
            waits = self._by_job.get(job_id)
            if waits is not None:
                waits.discard(wait)
                if not waits:
                    del self._by_job[job_id]
        if wait.timer is not None:
            wait.timer.cancel()
        self._count -= 1
        wait.answer(changed)
