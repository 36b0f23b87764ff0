"""The queue against a sorted list: many lanes, small windows, a store that answers late."""

from random import Random

import pytest

from fetchd.daemon.core import inputs, schedule
from fetchd.daemon.core.commands import LoadLanes, LoadWindow, Query
from fetchd.daemon.core.core import Core, Loaded
from fetchd.daemon.core.job import Job, Lane
from fetchd.daemon.core.schedule import Schedule
from fetchd.daemon.core.settings import Settings

from . import make
from .make import AREA, cancel, intake, job, lane, moment, submit


class Queue:
    """A schedule over a store that has every job at once; `late` answers wait until they are let through."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.asked: list[Query] = []
        self.schedule = Schedule(self.asked.append)
        self.schedule.start()
        self.answer()

    def answer(self) -> None:
        """Answer everything that was asked."""
        while self.asked:
            query = self.asked.pop(0)
            if isinstance(query, LoadLanes):
                best: dict[Lane, tuple[int, int]] = {}
                for one in self.jobs.values():
                    best[one.lane] = min(one.order, best.get(one.lane, one.order))
                lanes = sorted(best, key=lambda lane: best[lane])
                self.schedule.lanes_loaded(lanes[: query.limit], len(lanes) > query.limit)
            elif isinstance(query, LoadWindow):
                behind = [
                    one for one in self.jobs.values()
                    if one.lane == query.lane and (query.after is None or one.order > query.after)
                ]  # fmt: skip
                behind.sort(key=lambda one: one.order)
                found = behind[: query.limit]
                window = self.schedule.answered(query.lane)
                if window is not None:
                    last = found[-1].order if found else window.tail
                    self.schedule.extend(query.lane, found, len(behind) > query.limit, last)
        self.schedule.validate()

    def add(self, one: Job) -> None:
        self.jobs[one.id] = one
        self.schedule.add(one)

    def take(self) -> Job | None:
        head = self.schedule.head(lambda lane: False)
        if head is not None:
            self.schedule.discard(head)
            del self.jobs[head.id]
        return head

    def best(self) -> Job | None:
        return min(self.jobs.values(), key=lambda one: one.order, default=None)


@pytest.mark.parametrize("lanes", [1, 3, 40])
@pytest.mark.parametrize("seed", range(3))
def test_first_come_first_served_within_priority_over_all_lanes(seed: int, lanes: int) -> None:
    rng, queue = Random(seed), Queue()
    for seq in range(1000):
        queue.add(
            job(f"j{seq}", seq, host=f"h{rng.randrange(lanes)}.test", priority=rng.choice([-5, 0, 0, 9]))
        )
        queue.answer()
        while rng.random() < 0.45:
            assert queue.best() is queue.take()
            queue.answer()
    while queue.jobs:
        assert queue.best() is queue.take()
        queue.answer()
    assert queue.take() is None
    assert not queue.schedule.lanes


@pytest.mark.parametrize("seed", range(3))
def test_more_lanes_than_memory_takes(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "MAX_LANES", 8)
    rng, queue = Random(seed), Queue()
    for seq in range(600):
        queue.add(job(f"j{seq}", seq, host=f"h{rng.randrange(50)}.test", priority=rng.choice([0, 0, 0, 9])))
        queue.answer()
    urgent = sum(one.priority == 9 for one in queue.jobs.values())
    taken = []
    while (one := queue.take()) is not None:
        taken.append(one)
        queue.answer()
    assert not queue.jobs, "a job is lost"
    late = [n for n, one in enumerate(taken) if one.priority == 9 and n >= urgent]
    assert len(late) < urgent / 4, "what is urgent goes first, nearly always"


def test_an_urgent_job_gets_into_a_full_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "MAX_LANES", 8)
    queue = Queue()
    for seq in range(20):
        queue.add(job(f"j{seq}", seq, host=f"h{seq}.test"))
        queue.answer()
    queue.add(job("urgent", 99, host="new.test", priority=1))
    queue.answer()
    head = queue.take()
    assert head is not None
    assert head.id == "urgent"


def test_an_old_lane_does_not_starve_behind_busy_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "MAX_LANES", 8)
    queue = Queue()
    for seq in range(9):
        queue.add(job(f"first{seq}", seq, host=f"h{seq}.test"))
        queue.answer()
    assert "first8" in queue.jobs
    for seq in range(9, 60):
        # the eight lanes in memory never run empty
        queue.add(job(f"more{seq}", seq, host=f"h{seq % 8}.test"))
        queue.answer()
        queue.take()
        queue.answer()
    assert "first8" not in queue.jobs


def test_an_answer_that_was_asked_for_before_the_window_was_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "WINDOW", 4)
    queue = Queue()
    for seq in range(20):
        queue.add(job(f"j{seq}", seq))
    queue.answer()
    for _ in range(7):
        queue.take()
    assert queue.asked, "the window has run low"
    for seq in range(100, 120):
        queue.add(job(f"u{seq}", seq, priority=5))
    for _ in range(5):
        assert queue.best() is queue.take()
    queue.answer()
    while queue.jobs:
        assert queue.best() is queue.take()
        queue.answer()


def test_lanes_that_find_no_room_are_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "MAX_LANES", 4)
    asked: list[Query] = []
    made = Schedule(asked.append)
    made.start()
    made.lanes_loaded([lane("a.test"), lane("b.test")], more=False)
    made.lanes_loaded([lane(f"h{n}.test") for n in range(4)], more=False)
    assert len(made.lanes) == 4
    assert made.more_lanes


def test_outdated_heads_do_not_pile_up() -> None:
    queue = Queue()
    queue.add(job("patient", 1))
    for seq in range(2, 5000):
        queue.add(job(f"u{seq}", seq, priority=9))
        queue.take()
    queue.schedule.validate()
    assert len(queue.schedule._heads) < 100


def test_lanes_in_memory_narrow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "ROWS_IN_MEMORY", 256)
    queue = Queue()
    for n in range(64):
        for seq in range(100):
            queue.add(job(f"j{n}-{seq}", n * 100 + seq, host=f"h{n}.test"))
    assert sum(len(window.rows) for window in queue.schedule.lanes.values()) <= 1024


def test_a_burst_of_unsettled_jobs_does_not_fill_the_window() -> None:
    core, _ = make.new_core(workers=1)
    core.schedule.beyond = True
    events = [submit(*(intake(f"j{n}-{m}") for m in range(100))) for n in range(10)]
    for event in events:
        core.handle(event, moment())
    core.handle(inputs.WindowLoaded(lane(), (), more=False), moment())
    core.validate()
    assert len(core.ledger.live) <= 2 * schedule.WINDOW
    assert [one.id for one in core.schedule.lanes[lane()].rows][:3] == ["j0-1", "j0-2", "j0-3"]


def test_rows_older_than_memory_do_not_come_back() -> None:
    core = Core(Settings(workers=1, default_area=AREA), Loaded())
    core.start(moment())
    core.handle(inputs.LanesLoaded((lane(),), more=False), moment())
    core.handle(submit(intake("a"), intake("b"), intake("c")), moment())
    stored = tuple(one for name in "abc" if (one := core.ledger.find(name)) is not None)
    core.handle(inputs.Committed(core.ledger.stamp), moment())
    assert not core.ledger.live, "they are behind what was loaded, and the store has them"
    core.handle(cancel("b", known={"b": stored[1]}), moment())
    core.handle(inputs.WindowLoaded(lane(), stored, more=False), moment())
    core.validate()
    assert [one.id for one in core.schedule.lanes[lane()].rows] == ["c"]
    assert set(core.runs) == {"a"}
