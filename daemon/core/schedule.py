"""The queue in memory: lanes with a window of rows each, and the order of their heads.

A lane's window is the front of its queue; rows behind it stay in the store until the window runs low. Order
is strict: higher priority first, then first come, first served, over all lanes that no gate holds.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable
from heapq import heappop, heappush

from .commands import LoadLanes, LoadWindow, Query
from .job import Job, Lane

MAX_LANES = 4096
WINDOW = 64
ROWS_IN_MEMORY = 16_384

Order = tuple[int, int]


class Window:
    """The front of one lane. With `more`, the store has rows behind `tail` (None: nothing is loaded yet)."""

    __slots__ = ("loading", "more", "rows", "tail")

    def __init__(self, more: bool) -> None:
        self.rows: list[Job] = []
        self.more = more
        self.tail: Order | None = None
        self.loading = False


class Schedule:
    """All lanes in memory. `ask` receives the queries for rows that are needed soon."""

    def __init__(self, ask: Callable[[Query], None]) -> None:
        self.lanes: dict[Lane, Window] = {}
        self.more_lanes = True
        self._ask = ask
        self._loading_lanes = False
        self._heads: list[tuple[Order, Lane]] = []
        self._held: set[Lane] = set()

    def __contains__(self, job: Job) -> bool:
        window = self.lanes.get(job.lane)
        return window is not None and _index(window.rows, job) is not None

    def window_size(self) -> int:
        return max(4, min(WINDOW, ROWS_IN_MEMORY // max(1, len(self.lanes))))

    def start(self) -> None:
        """Ask for the lanes that the store has."""
        self._load_lanes()

    def add(self, job: Job) -> list[Job]:
        """Queue a job. Returns the jobs that memory need not hold: this one or those pushed out behind it."""
        window = self.lanes.get(job.lane)
        if window is None:
            if len(self.lanes) >= MAX_LANES:
                self.more_lanes = True
                return [job]
            window = self.lanes[job.lane] = Window(more=self.more_lanes)
            if window.more:
                self._refill(job.lane, window)
        if window.more and (window.tail is None or job.order > window.tail):
            return [job]
        insort(window.rows, job, key=_order)
        if window.rows[0] is job:
            heappush(self._heads, (job.order, job.lane))
        limit = 2 * self.window_size()
        dropped = window.rows[limit:]
        if dropped:
            del window.rows[limit:]
            window.more, window.tail = True, window.rows[-1].order
        return dropped

    def discard(self, job: Job) -> None:
        """Forget a job that is not to run; nothing happens where it is not in memory."""
        window = self.lanes.get(job.lane)
        if window is None or (index := _index(window.rows, job)) is None:
            return
        del window.rows[index]
        if index == 0:
            self._head_changed(job.lane, window)
        self._refill(job.lane, window)

    def head(self, held: Callable[[Lane], bool]) -> Job | None:
        """The next job to run, or None. Lanes that are held are put aside until `release`."""
        while self._heads:
            order, lane = self._heads[0]
            window = self.lanes.get(lane)
            if window is None or not window.rows or window.rows[0].order != order:
                heappop(self._heads)
                continue
            if held(lane):
                heappop(self._heads)
                self._held.add(lane)
                continue
            return window.rows[0]
        return None

    def release(self) -> None:
        """A gate has opened: look at the lanes again that were put aside."""
        for lane in self._held:
            window = self.lanes.get(lane)
            if window is not None and window.rows:
                heappush(self._heads, (window.rows[0].order, lane))
        self._held.clear()

    def window_loaded(self, lane: Lane, rows: Iterable[Job], more: bool, last: Order | None) -> None:
        """Rows behind the tail, known to be current; `last` is the order of the last row that was read."""
        window = self.lanes.get(lane)
        if window is None:
            return
        window.loading, window.more = False, more
        if last is not None:
            window.tail = last
        for job in rows:
            if _index(window.rows, job) is None:
                insort(window.rows, job, key=_order)
        self._head_changed(lane, window)
        self._refill(lane, window)

    def lanes_loaded(self, lanes: Iterable[Lane], more: bool) -> None:
        """Lanes of the store; those not in memory yet get an empty window and are asked for."""
        self._loading_lanes, self.more_lanes = False, more
        for lane in lanes:
            if lane not in self.lanes and len(self.lanes) < MAX_LANES:
                window = self.lanes[lane] = Window(more=True)
                self._refill(lane, window)

    def _head_changed(self, lane: Lane, window: Window) -> None:
        if window.rows:
            heappush(self._heads, (window.rows[0].order, lane))

    def _refill(self, lane: Lane, window: Window) -> None:
        size = self.window_size()
        if window.more:
            if not window.loading and len(window.rows) < max(1, size // 2):
                window.loading = True
                self._ask(LoadWindow(lane, window.tail, size))
        elif not window.rows and not window.loading:
            del self.lanes[lane]
            if self.more_lanes and len(self.lanes) < MAX_LANES // 2:
                self._load_lanes()

    def _load_lanes(self) -> None:
        if not self._loading_lanes:
            self._loading_lanes = True
            self._ask(LoadLanes(MAX_LANES))

    def validate(self) -> None:
        """Raise AssertionError where an invariant is broken; for tests."""
        heads = set(self._heads)
        for lane, window in self.lanes.items():
            orders = [job.order for job in window.rows]
            assert orders == sorted(set(orders)), f"lane {lane} out of order"
            assert all(job.lane == lane for job in window.rows)
            assert window.rows or window.more or window.loading, f"lane {lane} is empty"
            if window.rows and lane not in self._held:
                assert (orders[0], lane) in heads, f"head of {lane} is lost"


def _order(job: Job) -> Order:
    return job.order


def _index(rows: list[Job], job: Job) -> int | None:
    index = bisect_left(rows, job.order, key=_order)
    return index if index < len(rows) and rows[index].id == job.id else None
