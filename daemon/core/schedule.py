"""The queue in memory: lanes with a window of rows each, and the order of their heads.

A lane's window is the front of its queue; rows behind it stay in the store until the window runs low. Order
is strict over the heads that memory knows: higher priority first, then first come, first served. With more
lanes than memory takes, those with the best heads are kept, compared with the store's at times. Those
that are held by a gate make room for others; the store is asked for them when a gate opens.
"""

from bisect import insort
from collections.abc import Callable, Iterable, Sequence
from heapq import heapify, heappop, heappush, nlargest

from .aside import Aside
from .commands import LoadLanes, LoadWindow, Query
from .job import Job, Lane
from .window import Order, Window, order_of

MAX_LANES = 4096
WINDOW = 64
ROWS_IN_MEMORY = 16_384

Keys = tuple[tuple[str, str], ...]
"""What is held: (kind, name) of gates."""


class Schedule:
    """All lanes in memory. `ask` receives the queries for rows needed soon, `gates` has what is held.

    `beyond`: the store has lanes that are not in memory and may move. `absent`: it may have held ones.
    """

    def __init__(self, ask: Callable[[Query], None], gates: Callable[[], Keys] = tuple) -> None:
        self.lanes: dict[Lane, Window] = {}
        self.beyond = True
        self.absent = False
        self._ask = ask
        self._gates = gates
        self._loading_lanes = False
        self._outdated = False
        self._without: Keys = ()
        self._taken = 0
        self._heads: list[tuple[Order, Lane]] = []
        self._worst: Order | None = None  # no head in memory comes after this one
        self._held = Aside()

    def __contains__(self, job: Job) -> bool:
        window = self.lanes.get(job.lane)
        return window is not None and window.index(job) is not None

    @property
    def more_lanes(self) -> bool:
        """Whether the store may have lanes that are not in memory."""
        return self.beyond or self.absent or self._loading_lanes

    def window_size(self) -> int:
        return max(4, min(WINDOW, ROWS_IN_MEMORY // max(1, len(self.lanes))))

    def start(self) -> None:
        """Ask for the lanes that the store has."""
        self._load_lanes()

    def add(self, job: Job) -> list[Job]:
        """Queue a job. Returns the jobs that memory need not hold: this one or those pushed out for it."""
        dropped: list[Job] = []
        window = self.lanes.get(job.lane)
        if window is None:
            if len(self.lanes) >= MAX_LANES:
                dropped += self._make_room(job.order)
            if len(self.lanes) >= MAX_LANES:
                self.beyond = True
                return [*dropped, job]
            window = self._open(job.lane, self.more_lanes)
            dropped += self._narrow()
        if window.more and (window.tail is None or job.order > window.tail):
            return [*dropped, job]
        insort(window.rows, job, key=order_of)
        if window.rows[0] is job:
            self._head_changed(job.lane, window)
        return dropped + window.cut(2 * self.window_size())

    def discard(self, job: Job) -> None:
        """Forget a job that is not to run; nothing happens where it is not in memory."""
        window = self.lanes.get(job.lane)
        if window is None or (index := window.index(job)) is None:
            return
        del window.rows[index]
        if index == 0:
            self._head_changed(job.lane, window)
        self._refill(job.lane, window)
        self._taken += 1
        if self.beyond and self._taken >= MAX_LANES:
            self._load_lanes()

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
                self._look_beyond()
                continue
            return window.rows[0]
        return None

    def release(self, freed: tuple[str, str] | None = None) -> None:
        """A gate has opened, or a host or owner is free: look at the lanes again that were put aside."""
        for lane in self._held.take(freed):
            self._head_changed(lane, self.lanes[lane])
        if self._loading_lanes:
            self._outdated |= freed is None or freed in self._without
        elif self.absent:
            self._load_lanes()

    def answered(self, lane: Lane) -> Window | None:
        """The window that an answer of the store belongs to, or None where nothing can be done with it."""
        window = self.lanes.get(lane)
        if window is None or not window.loading:
            return None
        window.loading = False
        if window.tail != window.asked:
            self._refill(lane, window)
            return None
        return window

    def extend(self, lane: Lane, fresh: Iterable[Job], more: bool, last: Order | None) -> list[Job]:
        """Put rows behind the tail, all there are up to `last`. Returns what memory need not hold."""
        window = self.lanes[lane]
        window.more, window.tail = more, last
        window.rows += fresh
        window.rows.sort(key=order_of)
        dropped = window.cut(2 * self.window_size())
        self._head_changed(lane, window)
        self._refill(lane, window)
        return dropped

    def lanes_loaded(
        self, lanes: Sequence[Lane], more: bool, held: Callable[[Lane], bool] = lambda _lane: False
    ) -> list[Job]:
        """Lanes of the store, best head first. Returns the jobs of worse lanes that make room for them."""
        self._loading_lanes, self.beyond = False, more
        best = {lane for lane in lanes if not held(lane)}
        fresh = [lane for lane in lanes if lane in best and lane not in self.lanes]
        self.absent = self.absent or any(lane not in best and lane not in self.lanes for lane in lanes)
        excess = len(self.lanes) + len(fresh) - MAX_LANES
        dropped = self._evict(excess, lambda lane, _: lane not in best) if excess > 0 else []
        for lane in fresh:
            if len(self.lanes) >= MAX_LANES:
                self.beyond = True
                break
            self._open(lane, more=True)
        if self._outdated or (self.beyond and 2 * len(best) < MAX_LANES and self._without != self._gates()):
            self._load_lanes()
        return dropped + self._narrow()

    def _open(self, lane: Lane, more: bool) -> Window:
        window = self.lanes[lane] = Window(more)
        if more:
            self._refill(lane, window)
        return window

    def _narrow(self) -> list[Job]:
        """Cut all windows to their new size, each time that the number of lanes has doubled."""
        count = len(self.lanes)
        if count & (count - 1) or count * WINDOW <= ROWS_IN_MEMORY:
            return []
        limit = 2 * self.window_size()
        return [job for window in self.lanes.values() for job in window.cut(limit)]

    def _make_room(self, order: Order) -> list[Job]:
        if not self._held and self._worst is not None and order >= self._worst:
            return []
        dropped = self._evict(max(1, MAX_LANES // 8), lambda _, head: head > order)
        self._worst = max((w.rows[0].order for w in self.lanes.values() if w.rows), default=order)
        return dropped

    def _evict(self, count: int, allowed: Callable[[Lane, Order], bool]) -> list[Job]:
        """Let memory forget the lanes that are held, and those with the worst heads."""
        heads = [(lane in self._held, w.rows[0].order, lane) for lane, w in self.lanes.items()
                 if w.rows and not w.loading]  # fmt: skip
        dropped = []
        for held, _, lane in nlargest(count, [one for one in heads if one[0] or allowed(one[2], one[1])]):
            dropped += self.lanes.pop(lane).rows
            self._held.discard(lane)
            if held:
                self.absent = True
            else:
                self.beyond = True
        return dropped

    def _head_changed(self, lane: Lane, window: Window) -> None:
        if not window.rows:
            return
        order = window.rows[0].order
        if self._worst is None or order > self._worst:
            self._worst = order
        heappush(self._heads, (order, lane))
        if len(self._heads) > 2 * len(self.lanes) + 64:
            # what is outdated is dropped when it comes to the top; what never comes there is dropped here
            self._heads = [
                (w.rows[0].order, lane)
                for lane, w in self.lanes.items()
                if w.rows and (lane not in self._held or w is window)
            ]
            heapify(self._heads)

    def _refill(self, lane: Lane, window: Window) -> None:
        size = self.window_size()
        if window.more:
            if not window.loading and len(window.rows) < max(1, size // 2):
                window.loading, window.asked = True, window.tail
                self._ask(LoadWindow(lane, window.tail, size))
        elif not window.rows and not window.loading:
            del self.lanes[lane]
            self._held.discard(lane)
            self._look_beyond()

    def _look_beyond(self) -> None:
        if self.beyond and len(self.lanes) - len(self._held) < max(1, MAX_LANES // 2):
            self._load_lanes()

    def _load_lanes(self) -> None:
        if not self._loading_lanes:
            self._loading_lanes, self._outdated, self._taken = True, False, 0
            self._without = self._gates()
            self.absent = bool(self._without)
            self._ask(LoadLanes(MAX_LANES, self._without))

    def validate(self) -> None:
        """Raise AssertionError where an invariant is broken; for tests."""
        heads = set(self._heads)
        assert len(self.lanes) <= MAX_LANES
        assert all(lane in self.lanes for lane in self._held)
        assert len(self._heads) <= 2 * len(self.lanes) + 65
        asks = self._loading_lanes or self.absent
        assert self.lanes or not self.beyond or asks, "nobody asks for further lanes"
        for lane, window in self.lanes.items():
            orders = [job.order for job in window.rows]
            assert orders == sorted(set(orders)), f"lane {lane} out of order"
            assert all(job.lane == lane for job in window.rows)
            assert window.rows or window.loading, f"lane {lane} is empty"
            assert not window.rows or (self._worst is not None and orders[0] <= self._worst)
            if window.rows and lane not in self._held:
                assert (orders[0], lane) in heads, f"head of {lane} is lost"
