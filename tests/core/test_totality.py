"""Every input in every situation of a job: nothing is raised and the invariants hold."""

from collections.abc import Callable
from typing import Any

import pytest

from fetchd.daemon.core import inputs
from fetchd.daemon.core.commands import AssignJob, Clean, Publish, Seal, Spawn
from fetchd.daemon.core.inputs import Gone
from fetchd.daemon.core.job import Job
from fetchd.protocol import mailbox
from fetchd.protocol.errors import Code
from fetchd.protocol.job import State

from . import make
from .make import Walk, cancel, intake, job, lane, moment, submit


def in_window() -> Walk:
    walk = Walk()
    walk.core, _ = make.new_core(workers=1)
    walk.do(submit(intake("other")))  # takes the only slot
    walk.do(submit(intake()))
    assert walk.job.state is State.QUEUED
    assert "job" in walk.core.ledger.live
    return walk


def only_in_the_store(**fields: Any) -> Callable[[], Walk]:
    def lead() -> Walk:
        walk = Walk()
        stored = job("job", **fields)
        walk.core, _ = make.new_core(workers=1, counts={stored.state: 1}, seq=1)
        walk.stored["job"] = stored
        return walk

    return lead


def unknown() -> Walk:
    walk = Walk()
    walk.core, _ = make.new_core(workers=1)
    return walk


def led(*steps: str) -> Callable[[], Walk]:
    def lead() -> Walk:
        walk = Walk()
        for step in steps:
            getattr(walk, step)()
        return walk

    return lead


def waiting() -> Walk:
    walk = led("respond")()
    walk.say(make.failed(Code.CONNECT))
    assert walk.job.state is State.WAITING
    return walk


def finished_failed() -> Walk:
    walk = led("respond")()
    walk.say(make.failed(Code.NOT_FOUND))
    assert walk.job.state is State.FAILED
    return walk


def completed() -> Walk:
    walk = led("seal")()
    walk.do(inputs.Published("job", 1))
    assert walk.job.state is State.COMPLETED
    return walk


def cancelled_while_running() -> Walk:
    walk = led("respond")()
    walk.do(cancel("job"))
    assert walk.job.state is State.CANCELLED
    return walk


def draining(*steps: str) -> Callable[[], Walk]:
    def lead() -> Walk:
        walk = led(*steps)()
        walk.do(inputs.Drain(now=False))
        return walk

    return lead


SITUATIONS: dict[str, Callable[[], Walk]] = {
    "queued in window": in_window,
    "queued only in the store": only_in_the_store(),
    "waiting": waiting,
    "waiting only in the store": only_in_the_store(state=State.WAITING, wait_until=9 * 10**12),
    "starting": led(),
    "assigned": led("ready"),
    "responded": led("respond"),
    "sealing": led("finish"),
    "publishing": led("seal"),
    "paused": only_in_the_store(state=State.PAUSED),
    "completed": completed,
    "failed": finished_failed,
    "cancelled": cancelled_while_running,
    "cancelled before": only_in_the_store(state=State.CANCELLED),
    "unknown": unknown,
    "draining, starting": draining(),
    "draining, responded": draining("respond"),
    "draining, publishing": draining("seal"),
}

WHO: dict[str, Any] = {"job": "job", "attempt": 1}
REPORTS: list[mailbox.Report] = [
    make.responded(),
    make.responded(url="http://[", disposition='attachment; filename="', total=None),
    make.responded(generation=3),
    mailbox.Restart(**WHO, generation=0, why=""),
    mailbox.Progressed(**WHO, bytes=5, total=None, speed=None),
    mailbox.Synced(**WHO, generation=0, ranges=[(0, 5)]),
    mailbox.Synced(**WHO, generation=0, ranges=[(5, 3)]),
    mailbox.Synced(**WHO, generation=0, ranges=[]),
    mailbox.Finished(**WHO, size=1000),
    mailbox.Finished(**WHO, size=1),
    make.failed(Code.CONNECT),
    make.failed(Code.NOT_FOUND),
    mailbox.Failed(**WHO, code="no such code", message="", bytes=0),
    mailbox.Stopped(**WHO, bytes=0),
    make.failed(Code.CONNECT, attempt=7),
    make.failed(Code.CONNECT, job_id="another"),
]

EVENTS: list[Callable[[Walk], inputs.Input]] = [
    lambda walk: submit(intake(), req="again", known=stored(walk)),
    lambda walk: submit(intake(priority=3), req="other", known=stored(walk)),
    lambda walk: submit(intake("new", name="f", if_exists="skip"), paths={"/data/f": "job"}),
    lambda walk: submit(intake("new", name="f"), paths={"/data/f": "job"}),
    lambda walk: cancel("job", req="x", known=stored(walk)),
    lambda walk: cancel("nobody", "job", "job", req="x", known=stored(walk)),
    lambda walk: inputs.Drain(now=False),
    lambda walk: inputs.Drain(now=True),
    lambda walk: inputs.Tick(),
    lambda walk: inputs.Committed(walk.core.ledger.stamp),
    lambda walk: inputs.Committed(0),
    lambda walk: inputs.WindowLoaded(lane(), (), more=False),
    lambda walk: inputs.WindowLoaded(lane(), (job("old", seq=0),), more=True),
    lambda walk: inputs.LanesLoaded((lane(),), more=False),
    lambda walk: inputs.LanesLoaded((lane("b.test"),), more=True),
    lambda walk: inputs.DueLoaded((), None),
    lambda walk: inputs.DueLoaded((job("old", seq=0, state=State.WAITING, wait_until=5),), 7),
    lambda walk: inputs.NameProbed("job", 1, ("f",), frozenset()),
    lambda walk: inputs.NameProbed("job", 1, ("f",), frozenset({"f"})),
    lambda walk: inputs.NameProbed("job", 0, ("f",), frozenset()),
    lambda walk: inputs.Sealed("job", 1, 1000, 7, 8),
    lambda walk: inputs.Published("job", 1),
    lambda walk: inputs.Published("job", 9),
    lambda walk: inputs.FileRefused("job", 1, Code.IO_ERROR, "", lost=True),
    lambda walk: inputs.FileRefused("job", 1, Code.EXISTS, ""),
    lambda walk: inputs.FileRefused("job", 1, Code.IO_ERROR, ""),
    *[
        lambda walk, slot=slot, old=old: inputs.WorkerReady(slot, incarnation(walk, slot) - old)
        for slot, old in ((0, 0), (0, 1), (99, 0), (-1, 0))
    ],
    *[
        lambda walk, gone=gone, old=old: inputs.WorkerGone(0, incarnation(walk, 0) - old, gone)
        for gone in Gone
        for old in (0, 1)
    ],
    lambda walk: inputs.Violation(0, incarnation(walk, 0), "garbage"),
    *[
        lambda walk, code=code: inputs.AssignRefused(0, incarnation(walk, 0), "job", 1, code, "")
        for code in (Code.IO_ERROR, Code.EXISTS, Code.CONNECT)
    ],
    *[lambda walk, said=said: inputs.WorkerReport(0, incarnation(walk, 0), said) for said in REPORTS],
]


def stored(walk: Walk) -> dict[str, Job]:
    return dict(walk.stored)


def incarnation(walk: Walk, slot: int) -> int:
    return walk.core.pool.slots[slot].incarnation if slot in range(len(walk.core.pool.slots)) else 1


def test_every_type_of_input_is_tried() -> None:
    walk = Walk()
    assert {type(event(walk)) for event in EVENTS} == set(inputs.Input.__args__)
    assert {type(said) for said in REPORTS} == set(mailbox.Report.__args__)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_every_input_in_every_situation(situation: str) -> None:
    for event in EVENTS:
        walk = SITUATIONS[situation]()
        for seconds in (100, 100.1, 200):
            walk.now = moment(seconds)
            walk.do(event(walk))
            deadline = walk.core.next_deadline(walk.now.mono)
            assert deadline is None or deadline > walk.now.mono


@pytest.mark.parametrize("situation", SITUATIONS)
def test_every_pair_of_inputs_in_every_situation(situation: str) -> None:
    # the second one at another time, so that what the first one has begun may be overdue
    for first in EVENTS:
        walk = SITUATIONS[situation]()
        walk.do(first(walk))
        for second in EVENTS:
            walk.now = moment(walk.now.mono / make.SECOND + 0.7)
            walk.do(second(walk))


def test_the_way_of_a_job() -> None:
    walk = Walk()
    assert len(make.of(walk.commands, Spawn)) == 0, "the spare worker is used"
    assert make.of(walk.ready(), AssignJob)
    walk.say(make.responded())
    assert make.of(walk.say(mailbox.Finished(job="job", attempt=1, size=1000)), Seal)
    walk.name()
    assert make.of(walk.do(inputs.Sealed("job", 1, 1000, 7, 8)), Publish)
    assert make.of(walk.do(inputs.Published("job", 1)), Clean)
    assert walk.job.state is State.COMPLETED
    assert walk.job.path == "/data/f"
    walk.settle()
    assert walk.core.ledger.find("job") is None
