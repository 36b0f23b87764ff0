"""The pool: all slots, sorted by what can be done with them, so that a turn never looks at every slot.

A slot runs an attempt, or it is vacant, or its worker is starting or idle.
"""

from collections.abc import Iterable
from heapq import heappop, heappush

from .hosts import AUTO, Hosts
from .job import Job
from .quotas import Owners
from .slot import Run, Slot


class Pool:
    """All slots. `default_area` is where a spare worker gets its room.

    `hosts` is what each host has to bear, `owners` what each owner takes.
    """

    def __init__(
        self, size: int, default_area: str, host_connections: int = 16, running: int = 0, flight: int = 0
    ) -> None:
        self.hosts = Hosts(host_connections)
        self.owners = Owners(running, flight)
        self.slots = [Slot(index) for index in range(size)]
        self.size = size
        self.default_area = default_area
        self._vacant = {slot.index: slot for slot in self.slots}
        self._starting: dict[int, Slot] = {}
        self._idle: dict[int, Slot] = {}  # the longest idle first
        self._outdated: dict[int, Slot] = {}  # to be replaced now: they run no attempt
        self._resting: set[int] = set()
        self._late: list[tuple[int, int, int]] = []

    def get(self, index: int, incarnation: int) -> Slot | None:
        """The slot while that incarnation fills it, or None: whoever speaks is gone."""
        if not 0 <= index < len(self.slots):
            return None
        slot = self.slots[index]
        return slot if slot.filled and slot.incarnation == incarnation else None

    def free(self) -> int:
        """How many more attempts may run."""
        return max(0, self.size - self.busy())

    def busy(self) -> int:
        """How many slots run an attempt."""
        return len(self.slots) - len(self._vacant) - len(self._starting) - len(self._idle)

    def resize(self, size: int) -> None:
        """How many attempts may run at once. Slots that are too many drain, none is taken from its job."""
        self.size = size
        for index in range(len(self.slots), size):
            slot = Slot(index)
            self.slots.append(slot)
            self._vacant[index] = slot

    def choose(self, job: Job, now: int) -> Slot | None:
        """The best free slot for a job: a warm worker that fits, an empty slot, an idle worker to replace."""
        for warm in (reversed(self._idle.values()), self._starting.values()):
            for slot in warm:
                if slot.fits(job):
                    return slot
        others: tuple[Iterable[Slot], ...] = (
            self._vacant.values(), self._idle.values(), self._starting.values()
        )  # fmt: skip
        return next((slot for group in others for slot in group if slot.not_before <= now), None)

    def wake(self, now: int) -> int | None:
        """When the next quarantined slot may be filled again."""
        self._resting = {index for index in self._resting if self.slots[index].not_before > now}
        return min((self.slots[index].not_before for index in self._resting), default=None)

    # what happens to slots

    def fill(self, slot: Slot, areas: frozenset[str], start_by: int) -> None:
        """A new worker is on its way into this slot, and has to be ready by then."""
        slot.fill(areas)
        slot.start_by = start_by
        heappush(self._late, (start_by, slot.index, slot.incarnation))
        self._place(slot)

    def vacate(self, slot: Slot) -> None:
        """Nobody fills the slot any more."""
        self._leave(slot)
        slot.empty()
        self._place(slot)

    def ready(self, slot: Slot, now: int) -> None:
        """The worker has come up."""
        slot.ready, slot.idle_since, slot.start_by = True, now, None
        self._place(slot)

    def renew(self) -> None:
        """Whoever fills a slot now is outdated."""
        for slot in self.slots:
            slot.outdated = slot.filled
            if slot.filled and (slot.run is None or not slot.run.assigned):
                self._outdated[slot.index] = slot

    def outdated(self) -> list[Slot]:
        """Slots whose outdated worker does nothing, or does not know of its attempt yet."""
        return list(self._outdated.values())

    def start(self, slot: Slot, job: Job, run: Run) -> None:
        """The slot belongs to this attempt."""
        slot.start(job, run)
        run.host, run.wish, run.limit = job.host, job.options.segments or AUTO, job.limit_rate
        run.owner = job.owner
        self.hosts.join(run)
        self.owners.join(run)
        self._place(slot)

    def end(self, slot: Slot, now: int) -> None:
        """The worker has done with its attempt."""
        self._leave(slot)
        slot.end(now)
        self._place(slot)

    def crashed(self, slot: Slot, now: int) -> None:
        """The worker ended by its own fault."""
        slot.crashed(now)
        if slot.not_before > now:
            self._resting.add(slot.index)

    def _leave(self, slot: Slot) -> None:
        if slot.run is not None:
            self.hosts.leave(slot.run)
            self.owners.leave(slot.run)

    def _place(self, slot: Slot) -> None:
        for group in (self._vacant, self._starting, self._idle, self._outdated):
            group.pop(slot.index, None)
        if slot.run is None:
            group = self._idle if slot.ready else self._starting if slot.filled else self._vacant
            group[slot.index] = slot
            if slot.outdated:
                self._outdated[slot.index] = slot

    # times

    def stop_by(self, slot: Slot, time: int) -> None:
        """The attempt here has to be over by then; an earlier time set before holds."""
        if slot.stop_by is None or time < slot.stop_by:
            slot.stop_by = time
            heappush(self._late, (time, slot.index, slot.incarnation))

    def next_late(self) -> int | None:
        """When the next worker has to have come up, or the next attempt to be over."""
        while self._late:
            time, index, incarnation = self._late[0]
            slot = self.slots[index]
            if slot.incarnation == incarnation and time in (slot.start_by, slot.stop_by):
                return time
            heappop(self._late)
        return None

    def overdue(self, now: int) -> list[Slot]:
        """Take out the slots whose worker should be ready, or their attempt over."""
        late = []
        while (time := self.next_late()) is not None and time <= now:
            slot = self.slots[heappop(self._late)[1]]
            slot.start_by = slot.stop_by = None
            late.append(slot)
        return late

    def surplus(self) -> Slot | None:
        """The longest idle worker, where there are others or it has rooms beyond the default area."""
        slot = next(iter(self._idle.values()), None)
        if slot is None or (len(self._idle) == 1 and slot.areas <= {self.default_area}):
            return None
        return slot

    def bare(self, now: int) -> Slot | None:
        """A slot for a spare worker, where there is none in the whole pool and one may be filled."""
        if len(self._vacant) < len(self.slots):
            return None
        slot = min(self._vacant.values(), key=lambda slot: (slot.not_before, slot.index))
        return slot if slot.not_before <= now else None

    def validate(self) -> None:
        """Raise AssertionError where an invariant is broken; for tests."""
        for slot in self.slots:
            places = [slot.index in group for group in (self._vacant, self._starting, self._idle)]
            free = slot.run is None
            wanted = [free and not slot.filled, free and slot.filled and not slot.ready, free and slot.ready]
            assert places == wanted, f"slot {slot.index} is misplaced"
            assert slot.filled or not (slot.ready or slot.run or slot.doomed or slot.outdated)
            if slot.outdated and free:
                assert slot.index in self._outdated, f"nobody replaces the worker of {slot.index}"
            assert slot.run is not None or slot.stop_by is None
            assert slot.run is not None or not slot.doomed, "a doomed worker waits for work"
            for time in (slot.start_by, slot.stop_by):
                assert time is None or (time, slot.index, slot.incarnation) in self._late
            waited_for = slot.filled and not slot.ready
            assert (slot.start_by is not None) == waited_for, f"nobody waits for the worker of {slot.index}"
        busy = [slot.run for slot in self.slots if slot.run is not None]
        self.hosts.validate(busy)
        self.owners.validate(busy)
        since = [slot.idle_since for slot in self._idle.values()]
        assert since == sorted(since)
