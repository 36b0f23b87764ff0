"""Every input in every situation of a job: nothing is raised and the invariants hold."""

from collections.abc import Callable
from typing import Any, get_args

import pytest
from msgspec.structs import replace

from fetchd.daemon.core import inputs
from fetchd.daemon.core.commands import AssignJob, Clean, Publish, Seal, Spawn
from fetchd.daemon.core.inputs import Gone
from fetchd.daemon.core.job import Job
from fetchd.protocol import mailbox
from fetchd.protocol.errors import Code
from fetchd.protocol.job import Reason, State
from fetchd.protocol.mailbox import Options

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


def parked() -> Walk:
    walk = led("respond")()
    walk.say(make.failed(Code.UNAVAILABLE, retry_after=1000.0))
    assert walk.core.shown(walk.job) == (State.WAITING, Reason.HOST_PARKED)
    return walk


def conditional() -> Walk:
    walk = Walk(options=Options(if_newer=True, mirrors=("http://b.test/f",)), if_newer=True)
    walk.ready()
    return walk


def limited() -> Walk:
    walk = Walk(deadline=100.4, limit_rate=7)
    walk.do(make.limit(1000))
    walk.respond()
    return walk


def too_late() -> Walk:
    """Its time was over while it ran, and its worker does not stop."""
    walk = Walk(deadline=1.0)
    walk.respond(kept=500)
    walk.now = moment(101)
    walk.do(inputs.Tick())
    assert walk.job.error_code == Code.DEADLINE
    return walk


def completed() -> Walk:
    walk = led("seal")()
    walk.do(inputs.Published("job", 1))
    assert walk.job.state is State.COMPLETED
    return walk


def behind_a_full_disk() -> Walk:
    walk = led("respond")()
    walk.say(make.failed(Code.DISK_FULL, kept=500))
    assert walk.core.shown(walk.job) == (State.PAUSED, Reason.DISK)
    return walk


def publish_held() -> Walk:
    walk = led("seal")()
    walk.do(inputs.FileRefused("job", 1, Code.DISK_GONE, ""))
    assert walk.job.state is State.PUBLISHING
    return walk


def everything_held() -> Walk:
    """The disk of the state directory is full, and the attempt is stopping."""
    walk = led("respond")()
    walk.do(inputs.SpaceFound("", 0, 1 << 20))
    assert walk.core.runs["job"].stop == "yield"
    return walk


def cancelled_while_running() -> Walk:
    walk = led("respond")()
    walk.do(cancel("job"))
    assert walk.job.state is State.CANCELLED
    return walk


def after(*verbs: inputs.VerbName, steps: tuple[str, ...] = ("respond",)) -> Callable[[], Walk]:
    """The verbs on a job whose worker does not stop."""

    def lead() -> Walk:
        walk = led(*steps)()
        for number, name in enumerate(verbs):
            walk.do(make.verb(name, "job", req=f"{number}"))
        return walk

    return lead


def ending() -> Walk:
    """Failed because of its name, while the worker still fetches."""
    walk = led("respond")()
    walk.name(taken=("f", "f (1)"))
    return walk


def used_again() -> Walk:
    walk = after("remove")()
    walk.do(submit(intake(), req="anew"))
    return walk


def kept() -> Walk:
    walk = Walk(secrets=b"s")
    walk.respond()
    walk.say(make.failed(Code.NOT_FOUND, kept=500))
    assert walk.job.kept_until
    return walk


def in_bulk(name: inputs.VerbName, *steps: str) -> Callable[[], Walk]:
    """The verb for all jobs is acknowledged and not yet carried out."""

    def lead() -> Walk:
        walk = led(*steps)()
        walk.do(make.bulk(name))
        return walk

    return lead


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
    "parked": parked,
    "behind a full disk": behind_a_full_disk,
    "publish held": publish_held,
    "everything held": everything_held,
    "asked whether it is newer": conditional,
    "limited": limited,
    "too late, still ending": too_late,
    "overdue only in the store": only_in_the_store(expires=5, deadline=5),
    "pausing": after("pause"),
    "pausing, resumed": after("pause", "resume"),
    "cancelled, retried, still ending": after("cancel", "retry"),
    "removed, still ending": after("remove"),
    "removed and used again": used_again,
    "failed, still ending": ending,
    "failed and kept": kept,
    "all are being cancelled": in_bulk("cancel", "respond"),
    "all are being removed": in_bulk("remove", "finish"),
    "all are being retried": in_bulk("retry"),
    "closed queue": in_bulk("pause", "respond"),
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
    mailbox.Synced(**WHO, generation=0, ranges=[(0, 5), (7, 9)]),
    mailbox.Warned(**WHO, code="mirror_differs", message=""),
    mailbox.NotModified(**WHO, origins=["http://b.test"]),
    make.responded(kept=2000),
    make.failed(Code.UNAVAILABLE, retry_after=5.0),
    make.failed(Code.CHECKSUM_MISMATCH, mixed=True),
    make.failed(Code.NOT_FOUND, source=1),
    make.failed(Code.CONNECT, source=31),
    make.failed(Code.DISK_FULL, kept=500),
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
    *[lambda _walk, free=free: inputs.SpaceFound(make.AREA, free, 1 << 20) for free in (0, 1 << 30)],
    lambda _walk: inputs.SpaceFound("", 0, 1 << 20, "read-only"),
    lambda walk: submit(intake(), req="again", known=stored(walk)),
    lambda walk: submit(intake(priority=3), req="other", known=stored(walk)),
    lambda walk: submit(intake("new", name="f", if_exists="skip"), paths={"/data/f": "job"}),
    lambda walk: submit(intake("new", name="f"), paths={"/data/f": "job"}),
    lambda walk: cancel("job", req="x", known=stored(walk)),
    lambda walk: cancel("nobody", "job", "job", req="x", known=stored(walk)),
    *[
        lambda walk, name=name: make.verb(name, "job", "job", req=f"v-{name}", known=stored(walk))
        for name in get_args(inputs.VerbName)
    ],
    *[lambda walk, name=name: make.bulk(name, req=f"b-{name}") for name in get_args(inputs.VerbName)],
    lambda walk: make.bulk("retry", failed=True),
    lambda walk: make.bulk("remove", failed=True),
    lambda walk: inputs.ChunkLoaded(number(walk), (), more=False),
    lambda walk: inputs.ChunkLoaded(number(walk), row(walk), more=False),
    lambda walk: inputs.ChunkLoaded(number(walk), stale(walk, state=State.PAUSED), more=True),
    lambda walk: inputs.Expired(row(walk)),
    lambda walk: inputs.Expired(stale(walk, state=State.FAILED, kept_until=5)),
    lambda walk: inputs.Outdated(row(walk)),
    lambda walk: inputs.Outdated(stale(walk, state=State.COMPLETED)),
    lambda walk: inputs.Configure(replace(walk.core.settings, workers=3, idle_timeout=0)),
    lambda walk: inputs.Configure(replace(walk.core.settings, workers=1, start_timeout=1)),
    lambda walk: inputs.Configure(replace(walk.core.settings, host_connections=1, limit_rate=9, room=1)),
    lambda walk: inputs.Overdue((), more=True),
    lambda walk: inputs.Overdue(row(walk), more=False),
    lambda walk: inputs.Overdue(stale(walk, expires=5)),
    lambda walk: make.limit(100),
    lambda walk: make.limit(None, host="a.test"),
    lambda walk: make.limit(9, "job", "nobody", known=stored(walk)),
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
    *[
        lambda _walk, code=code: inputs.FileRefused("job", 1, code, "")
        for code in (Code.IO_ERROR, Code.DISK_FULL, Code.EXHAUSTED)
    ],
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
        for code in (Code.IO_ERROR, Code.EXISTS, Code.CONNECT, Code.DISK_FULL)
    ],
    lambda walk: inputs.AssignRefused(0, incarnation(walk, 0), "job", 1, Code.DISK_FULL, "", alone=True),
    *[lambda walk, said=said: inputs.WorkerReport(0, incarnation(walk, 0), said) for said in REPORTS],
]


def stored(walk: Walk) -> dict[str, Job]:
    return dict(walk.stored)


def row(walk: Walk) -> tuple[Job, ...]:
    """The job as the store may have it."""
    found = walk.core.ledger.lookup("job", walk.stored)
    return () if found is None else (found,)


def stale(walk: Walk, **fields: Any) -> tuple[Job, ...]:
    """The job as the store may have had it once, while memory knows better."""
    known = walk.core.ledger.find("job") is not None
    return (job("job", 1, **fields),) if known else ()


def number(walk: Walk) -> int:
    """The newest intent's."""
    return max((intent.number for intent in walk.core.intents), default=1)


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
