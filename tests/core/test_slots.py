"""Slots: which worker may run which job, who is replaced, kept warm, retired, left alone for a while."""

from typing import Any

import pytest
from msgspec.structs import replace

from fetchd.daemon.core import inputs
from fetchd.daemon.core import slot as slots
from fetchd.daemon.core.commands import AssignJob, Kill, Spawn
from fetchd.daemon.core.job import Job, Moment
from fetchd.daemon.core.pool import Pool
from fetchd.daemon.core.slot import Run, Slot
from fetchd.protocol.errors import Code
from fetchd.protocol.mailbox import Options

from . import make
from .make import AREA, SECOND, Walk, intake, job, moment, submit


def warm(*history: Job, **fields: Any) -> Slot:
    """A worker that has run these jobs."""
    slot = Slot(0)
    slot.fill(frozenset({AREA}))
    for one in history:
        slot.start(one, Run(one.id, 1, 0))
        slot.end(0)
    for name, value in fields.items():
        setattr(slot, name, value)
    return slot


PLAIN, SECRET = job(), job(secret=True)
OTHER_ORIGIN, OTHER_SECRET = job(host="b.test"), job(host="b.test", secret=True)
OTHER_OWNER = job(owner="uid:2")
ELSEWHERE = Options(mirrors=("http://b.test/f",))
MIRRORED, MIRRORED_SECRET = job(options=ELSEWHERE), job(options=ELSEWHERE, secret=True)


@pytest.mark.parametrize(
    ("history", "new", "fits"),
    [
        ((), PLAIN, True), ((), SECRET, True),
        ((PLAIN,), PLAIN, True), ((PLAIN,), OTHER_ORIGIN, True), ((PLAIN,), OTHER_OWNER, False),
        ((PLAIN,), SECRET, True), ((OTHER_ORIGIN,), SECRET, False), ((PLAIN, OTHER_ORIGIN), SECRET, False),
        ((SECRET,), SECRET, True), ((SECRET,), PLAIN, True), ((SECRET,), OTHER_ORIGIN, False),
        ((SECRET,), OTHER_SECRET, False), ((SECRET, PLAIN), OTHER_ORIGIN, False),
        ((PLAIN,), job(host="a.test", area="/other"), False),
        ((PLAIN,), job(url="https://a.test/f", secret=True), False),
        ((PLAIN,), job(url="http://a.test:80/g", secret=True), True),
        ((), MIRRORED_SECRET, True), ((PLAIN,), MIRRORED_SECRET, True), ((SECRET,), MIRRORED_SECRET, False),
        ((PLAIN,), MIRRORED, True), ((SECRET,), MIRRORED, False), ((MIRRORED,), SECRET, False),
        ((SECRET,), job(options=Options(mirrors=("http://a.test/g",))), True),
    ],
)  # fmt: skip
def test_who_fits(history: tuple[Job, ...], new: Job, fits: bool) -> None:
    assert warm(*history).fits(new) is fits


def test_redirects_count_as_origins() -> None:
    walk = Walk()
    walk.respond(origins=["http://a.test", "http://cdn.test"])
    walk.say(make.failed(Code.NOT_FOUND))
    assert not walk.core.pool.slots[0].fits(SECRET)
    assert walk.core.pool.slots[0].fits(PLAIN)


def test_a_worker_is_retired() -> None:
    assert warm(done=slots.MAX_JOBS - 1).fits(PLAIN)
    assert not warm(done=slots.MAX_JOBS).fits(PLAIN)


def pool(*kinds: str) -> Pool:
    """Slots that are vacant, starting, idle, idle for another owner, or busy."""
    made = Pool(len(kinds), AREA)
    for slot, kind in zip(made.slots, kinds, strict=True):
        if kind != "vacant":
            made.fill(slot, frozenset({AREA}), 100)
        if kind in ("idle", "stranger", "busy"):
            made.ready(slot, 5)
        if kind == "stranger":
            slot.owner = "uid:2"
        if kind == "busy":
            made.start(slot, PLAIN, Run("x", 1, slot.index))
    made.validate()
    return made


@pytest.mark.parametrize(
    ("kinds", "chosen"),
    [
        (("vacant", "starting", "idle"), 2), (("vacant", "starting"), 1), (("busy", "vacant"), 1),
        (("stranger", "vacant"), 1), (("stranger", "busy"), 0), (("busy",), None), (("busy", "stranger"), 1),
    ],
)  # fmt: skip
def test_the_best_slot(kinds: tuple[str, ...], chosen: int | None) -> None:
    slot = pool(*kinds).choose(PLAIN, 10)
    assert (slot.index if slot else None) == chosen


def test_an_idle_worker_that_does_not_fit_is_replaced() -> None:
    walk = Walk()
    walk.respond()
    walk.say(make.failed(Code.NOT_FOUND))
    event = submit(intake("theirs"))
    event = inputs.Submit(make.request("r", owner="uid:2"), event.jobs, {}, {})
    commands = walk.do(event)
    assert [(kill.slot, kill.incarnation) for kill in make.of(commands, Kill)] == [(0, 1)]
    assert [(spawn.slot, spawn.incarnation) for spawn in make.of(commands, Spawn)] == [(0, 2)]
    assert not make.of(walk.do(inputs.WorkerReady(0, 1)), AssignJob), "the old one is not heard"
    walk.do(inputs.WorkerGone(0, 1, inputs.Gone.KILLED))
    assert [one.job.id for one in make.of(walk.ready(), AssignJob)] == ["theirs"]


def test_one_spare_worker_stays_warm() -> None:
    core, commands = make.new_core(workers=3)
    assert len(make.of(commands, Spawn)) == 1
    core.handle(submit(*(intake(f"j{n}") for n in range(3))), moment())
    for n in range(3):
        core.handle(inputs.WorkerReady(n, 1), moment(100 + n))
        gone_wrong = make.failed(Code.NOT_FOUND, f"j{n}")
        core.handle(inputs.WorkerReport(n, 1, gone_wrong), moment(110 + n))
    for n in range(2):
        deadline = core.next_deadline(moment(112 + n).mono)
        assert deadline == (110 + n) * SECOND + core.settings.idle_timeout
        kills = make.of(core.handle(inputs.Tick(), Moment(deadline, 0)), Kill)
        assert [kill.slot for kill in kills] == [n]
        core.validate()
    assert core.next_deadline(moment(1000).mono) is None


def test_workers_of_another_room_are_replaced() -> None:
    walk = Walk(workers=3)
    walk.do(submit(intake("begun"), intake("next")))
    for slot in (0, 1):
        walk.ready(slot)
    assert [slot.run and slot.run.assigned for slot in walk.core.pool.slots] == [True, True, False]
    walk.say(make.failed(Code.NOT_FOUND))
    walk.do(inputs.Configure(replace(walk.core.settings, room=1)))
    killed = [(kill.slot, kill.why) for kill in make.of(walk.commands, Kill)]
    assert killed == [(0, "outdated"), (2, "outdated")], "it is idle, or its job has not begun"
    assert [spawn.slot for spawn in make.of(walk.commands, Spawn)] == [0], "for the job that has not begun"
    assert not make.of(walk.do(inputs.Configure(walk.core.settings)), Kill), "these are not outdated"
    walk.say(make.failed(Code.NOT_FOUND, "begun"), slot=1)
    assert [kill.slot for kill in make.of(walk.commands, Kill)] == [1], "after its job"
    assert [one.job.attempt for one in make.of(walk.ready(0), AssignJob)] == [2]
    assert walk.core.ledger.live["next"].failures == 0, "that was not its fault"


def test_a_slot_whose_workers_crash_is_left_empty_for_a_growing_time() -> None:
    core, _ = make.new_core(workers=1)
    waits = []
    now = 100.0
    for _ in range(9):
        slot = core.pool.slots[0]
        core.handle(inputs.WorkerGone(0, slot.incarnation, inputs.Gone.DIED), moment(now))
        core.validate()
        deadline = core.next_deadline(moment(now).mono)
        assert deadline is not None
        waits.append(0 if slot.filled else (deadline - moment(now).mono) // SECOND)
        if not slot.filled:
            now = deadline / SECOND
            assert make.of(core.handle(inputs.Tick(), moment(now)), Spawn)
    assert waits == [0, 0, 0, 1, 2, 4, 8, 16, 32]


def test_other_slots_go_on_without_a_quarantined_one() -> None:
    made = pool("vacant", "vacant")
    made.slots[0].not_before = 50
    chosen = made.choose(PLAIN, 10)
    assert chosen is made.slots[1]
    made.slots[1].not_before = 60
    assert made.choose(PLAIN, 10) is None


def test_five_hundred_slots() -> None:
    core, _ = make.new_core(workers=512)
    core.handle(submit(*(intake(f"j{n}", host=f"h{n % 70}.test") for n in range(600))), moment())
    core.validate()
    assert core.pool.busy() == 512
    assert len(core.runs) == 512
    core.handle(inputs.Drain(now=False), moment())
    core.validate()
    assert core.exited, "none of them had begun"
