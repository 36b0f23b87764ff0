"""Jobs that wait for a time: the soonest in memory, the rest in the store behind a horizon."""

from collections.abc import Callable, Iterable
from heapq import heappop, heappush

from .commands import LoadDue, Query
from .job import Job

IN_MEMORY = 4096


class Waiting:
    """A heap of (boot-time µs, job). Behind `horizon` the store may have more; None: it has not."""

    def __init__(self, ask: Callable[[Query], None]) -> None:
        self._ask = ask
        self._heap: list[tuple[int, str]] = []
        self._loading = False
        self._asked: int | None = None
        self.horizon: int | None = 0

    def __len__(self) -> int:
        return len(self._heap)

    def start(self) -> None:
        self._load()

    def add(self, job: Job) -> bool:
        """Take a waiting job; False where it lies behind the horizon and memory need not hold it."""
        if self.horizon is not None and job.wait_until > self.horizon:
            return False
        heappush(self._heap, (job.wait_until, job.id))
        return True

    def overflow(self) -> list[tuple[int, str]]:
        """(time, ID) of what memory need not hold any more, so that it stays bounded."""
        if len(self._heap) <= IN_MEMORY:
            return []
        self._heap.sort()
        cut = IN_MEMORY // 2
        self.horizon = self._heap[cut - 1][0]
        while cut < len(self._heap) and self._heap[cut][0] == self.horizon:
            cut += 1
        dropped = self._heap[cut:]
        del self._heap[cut:]
        return dropped

    def due(self, now: int) -> list[tuple[int, str]]:
        """Take out what is due: (time, ID), to be checked against the job as it is by now."""
        found = []
        while self._heap and self._heap[0][0] <= now:
            found.append(heappop(self._heap))
        if self.horizon is not None and (not self._heap or now >= self.horizon):
            self._load()
        return found

    def answered(self) -> bool:
        """Whether an answer of the store begins where memory ends; if not, it is asked again when needed."""
        wanted, self._loading = self._loading and self.horizon == self._asked, False
        return wanted

    def extend(self, rows: Iterable[Job], until: int | None) -> None:
        """Rows up to the new horizon."""
        self.horizon = until
        for job in rows:
            heappush(self._heap, (job.wait_until, job.id))

    def next(self) -> int | None:
        """Boot time of the next thing to do here."""
        times = [self._heap[0][0]] if self._heap else []
        if self.horizon is not None and not self._loading:
            times.append(self.horizon)
        return min(times, default=None)

    def _load(self) -> None:
        if not self._loading and self.horizon is not None:
            self._loading, self._asked = True, self.horizon
            self._ask(LoadDue(self.horizon, IN_MEMORY // 2))
