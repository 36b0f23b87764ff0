"""Waits: a bounded number in memory, none lost behind the horizon."""

import pytest

from fetchd.daemon.core import inputs, waiting
from fetchd.daemon.core.commands import LoadDue, Query
from fetchd.daemon.core.job import Job
from fetchd.daemon.core.waiting import Waiting
from fetchd.protocol.errors import Code
from fetchd.protocol.job import State

from . import make
from .make import SECOND, Walk, job, moment


def wait(number: int, until: int) -> Job:
    return job(f"j{number}", number, state=State.WAITING, wait_until=until)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "IN_MEMORY", 4)


@pytest.mark.usefixtures("few")
def test_an_answer_that_was_asked_for_before_memory_was_cut() -> None:
    asked: list[Query] = []
    made = Waiting(asked.append)
    made.start()
    assert made.answered()
    made.extend([wait(0, 10)], 100)
    assert made.due(10) == [(10, "j0")]
    assert asked[1:] == [LoadDue(100, 2)], "nothing is left, so what comes after 100 is asked for"
    for number in range(5):
        assert made.add(wait(number, 20 + number))
    assert made.overflow() == [(22, "j2"), (23, "j3"), (24, "j4")]
    assert not made.answered(), "it begins behind 100, and memory ends at 21"
    assert made.next() == 20
    assert [one for _, one in made.due(21)] == ["j0", "j1"]
    assert asked[2:] == [LoadDue(21, 2)]


@pytest.mark.usefixtures("few")
def test_waits_that_end_together_stay_together() -> None:
    asked: list[Query] = []
    made = Waiting(asked.append)
    made.start()
    assert made.answered()
    made.extend([wait(number, 7) for number in range(6)], None)
    assert made.overflow() == []
    assert len(made.due(7)) == 6


def test_a_failed_attempt_waits_and_comes_back() -> None:
    walk = Walk()
    walk.respond()
    walk.say(make.failed(Code.CONNECT))
    deadline = walk.core.next_deadline(walk.now.mono)
    assert deadline == walk.now.mono + SECOND // 2
    walk.now = moment(100.5)
    walk.do(inputs.Tick())
    assert walk.job.state is State.RUNNING
    assert walk.job.attempt == 2
    assert (walk.job.wait_since, walk.job.wait_for, walk.job.wait_until) == (0, 0, 0)


def test_a_wait_that_begins_while_the_store_is_asked() -> None:
    walk = Walk()
    walk.core.waiting.horizon = 0
    walk.core.waiting.start()
    walk.respond()
    walk.say(make.failed(Code.CONNECT))
    assert "job" not in walk.core.ledger.live
    walk.do(inputs.DueLoaded((), None))
    assert walk.core.next_deadline(walk.now.mono) == walk.now.mono + SECOND // 2
