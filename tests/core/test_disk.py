"""Disks that are full or gone: what closes and opens their gates, what is held, what is asked and when."""

from typing import Any

import pytest

from fetchd.daemon.core import inputs
from fetchd.daemon.core.commands import (
    AssignJob,
    CheckSpace,
    Clean,
    Command,
    DropGate,
    SaveGate,
    StopAttempt,
)
from fetchd.daemon.core.disk import LONGEST_BACKOFF, LONGEST_CHECK, key_of
from fetchd.daemon.core.gates import Gate
from fetchd.daemon.core.view import snapshot
from fetchd.protocol import mailbox
from fetchd.protocol.errors import Code
from fetchd.protocol.job import JobError, Reason, State

from . import make
from .make import AREA, SECOND, Walk, intake, moment, submit

OTHER = "/other/.fetchd/one"
RESERVE = 1 << 20
FULL = (Code.DISK_FULL, Code.DISK_GONE)
CLOSED = Gate(key=key_of(AREA), since=1, detail="disk_full: no room")


def found(free: int = 1 << 40, area: str = AREA, trouble: str = "") -> inputs.SpaceFound:
    return inputs.SpaceFound(area, free, RESERVE, trouble)


def checks(commands: list[Command]) -> list[str]:
    return [command.area for command in make.of(commands, CheckSpace)]


def later(walk: Walk, seconds: float, rand: float = 0.5) -> None:
    walk.now = moment(walk.now.mono / SECOND + seconds, rand)


def at_deadline(walk: Walk) -> list[Command]:
    """What the core does at its next deadline."""
    due = walk.core.next_deadline(walk.now.mono)
    assert due is not None
    walk.now = moment(due / SECOND)
    return walk.do(inputs.Tick())


def refuse(walk: Walk, code: Code, **fields: Any) -> list[Command]:
    attempt = walk.job.attempt
    return walk.do(
        inputs.AssignRefused(
            0, walk.core.pool.slots[0].incarnation, "job", attempt, code, "no room", **fields
        )
    )


def held(walk: Walk, area: str = AREA) -> bool:
    return walk.core.gates.get(key_of(area)) is not None


def running(**spec: Any) -> Walk:
    walk = Walk(**spec)
    walk.respond(kept=500)
    walk.do(found())
    walk.do(found(area=""))
    return walk


def full(**spec: Any) -> Walk:
    """The only attempt has found the disk full."""
    walk = running(**spec)
    walk.say(make.failed(Code.DISK_FULL, kept=700))
    return walk


# what closes the gate


@pytest.mark.parametrize("code", FULL)
def test_a_failed_attempt_closes_the_gate_and_costs_nothing(code: Code) -> None:
    walk = running(retries=0)
    commands = walk.say(make.failed(code, kept=700))
    (saved,) = make.of(commands, SaveGate)
    assert (saved.gate.key, saved.gate.until, saved.gate.since) == (key_of(AREA), None, walk.now.wall)
    assert saved.gate.detail.startswith(f"{code}: ")
    assert checks(commands) == [AREA]
    assert (walk.job.state, walk.job.failures, walk.job.bytes) == (State.QUEUED, 0, 700)
    assert walk.job.error_code == code
    assert walk.core.shown(walk.job) == (State.PAUSED, Reason.DISK)
    assert not make.of(commands, AssignJob)


@pytest.mark.parametrize("code", FULL)
def test_a_workspace_that_cannot_be_prepared_closes_the_gate(code: Code) -> None:
    walk = Walk(retries=0)
    walk.ready()
    refuse(walk, code)
    assert (walk.job.state, walk.job.failures, held(walk)) == (State.QUEUED, 0, True)


def test_all_other_attempts_there_give_back_what_they_have() -> None:
    core, _ = make.new_core(workers=3)
    walk = Walk()
    walk.core = core
    walk.do(submit(intake("a"), intake("b", host="b.test"), intake("c", host="c.test", area=OTHER)))
    for slot in range(3):
        walk.do(inputs.WorkerReady(slot, 1))
    commands = walk.say(make.failed(Code.DISK_FULL, "a"))
    assert [(stop.job, stop.keep) for stop in make.of(commands, StopAttempt)] == [("b", True)]
    walk.say(mailbox.Stopped(job="b", attempt=1, bytes=5), slot=1)
    b = core.ledger.live["b"]
    assert (b.state, b.failures, set(core.runs)) == (State.QUEUED, 0, {"c"})


def test_the_reserve() -> None:
    walk = running()
    assert make.of(walk.do(found(RESERVE)), StopAttempt) == []
    commands = walk.do(found(RESERVE - 1))
    assert make.of(commands, StopAttempt)
    assert held(walk)
    assert next(iter(walk.core.gates)).detail == "disk_full: 1 MB are free, and 1 MB are to stay free"
    later(walk, 1)
    assert AREA in checks(walk.do(inputs.Tick())), "and somebody looks after it"


def test_the_state_directory_holds_everything() -> None:
    walk = running()
    commands = walk.do(found(area="", trouble="read-only"))
    assert make.of(commands, StopAttempt)
    walk.say(mailbox.Stopped(job="job", attempt=1, bytes=500))
    assert walk.core.shown(walk.job) == (State.PAUSED, Reason.DISK)
    assert walk.core.gates.error(walk.job) == ("disk_gone", "read-only")
    later(walk, 1)
    assert "" in checks(walk.do(inputs.Tick()))
    walk.do(found(area=""))
    assert walk.job.state is State.RUNNING, "and goes on by itself"


# what opens it


@pytest.mark.parametrize(
    ("answer", "opens"),
    [(found(RESERVE * 5 // 4), True), (found(RESERVE * 5 // 4 - 1), False), (found(trouble="gone"), False)],
)
def test_it_opens_when_there_is_more_than_the_reserve(answer: inputs.SpaceFound, opens: bool) -> None:
    walk = full()
    commands = walk.do(answer)
    assert bool(make.of(commands, DropGate)) == opens
    assert (walk.job.state is State.RUNNING) == opens


def test_it_is_looked_at_more_and_more_seldom() -> None:
    walk, waits = full(), []
    for _ in range(7):
        walk.do(found(0))
        before = walk.now.mono
        while AREA not in checks(at_deadline(walk)):
            pass
        waits.append((walk.now.mono - before) // SECOND)
    assert waits == [1, 2, 4, 8, 16, 30, 30]
    assert LONGEST_CHECK == 30 * SECOND


def test_a_failure_does_not_ask_what_is_being_asked() -> None:
    walk = Walk()
    walk.respond()
    assert not checks(walk.say(make.failed(Code.DISK_FULL))), "it was, when the attempt began"


def test_there_is_one_question_at_a_time() -> None:
    walk = full()
    for seconds in (1, 100, 1000):
        later(walk, seconds)
        assert not checks(walk.do(inputs.Tick()))
    due = walk.core.next_deadline(walk.now.mono)
    assert due is None or due > walk.now.mono


def test_a_quota_that_cannot_be_seen_makes_no_hot_loop() -> None:
    walk = full()
    begin, attempts = walk.now.mono, 0
    while walk.now.mono < begin + 600 * SECOND:
        walk.do(found())
        if walk.job.state is State.RUNNING:
            attempts += 1
            walk.say(make.failed(Code.DISK_FULL, attempt=walk.job.attempt))
            continue
        at_deadline(walk)
    assert 10 <= attempts <= 6 + 600 * SECOND // LONGEST_BACKOFF + 2


def test_what_was_published_is_progress_and_bytes_synced_again_are_not() -> None:
    walk = full()
    walk.do(found())
    area = walk.core.disks.areas[AREA]
    walk.ready()
    walk.say(make.responded(attempt=2))
    synced = mailbox.Synced(job="job", attempt=2, generation=0, ranges=[(0, 900)])
    walk.say(synced)
    assert area.closings == 1, "it has just been opened"
    later(walk, 11)
    walk.say(synced)
    assert area.closings == 1, "nothing new"
    walk.say(mailbox.Synced(job="job", attempt=2, generation=0, ranges=[(0, 901)]))
    assert area.closings == 0
    area.closings = 3
    walk.say(mailbox.Finished(job="job", attempt=2, size=1000))
    walk.do(inputs.NameProbed("job", 2, ("f",), frozenset()))
    walk.do(inputs.Sealed("job", 2, 1000, 7, 8))
    walk.do(inputs.Published("job", 2))
    assert area.closings == 0


# what is looked at without a gate


def test_what_runs_is_looked_at_sooner_the_less_room_is_left() -> None:
    walk = Walk()
    assert sorted(checks(walk.commands)) == ["", AREA], "with the first attempt"
    walk.respond()
    walk.do(found(area="", free=1 << 50))
    for headroom, seconds in ((0, 1), (5 << 30, 5), (1 << 40, 30)):
        walk.do(found(RESERVE + headroom))
        assert walk.core.disks.areas[AREA].due == walk.now.mono + seconds * SECOND
        later(walk, seconds)
        assert AREA in checks(walk.do(inputs.Tick()))


def test_the_database_says_unasked_that_it_has_no_room() -> None:
    """Nothing need run for that; of other file systems an answer that nobody waits for counts nothing."""
    core, _ = make.new_core(workers=1)
    core.handle(found(0, OTHER), moment())
    assert list(core.gates) == []
    core.handle(found(RESERVE, ""), moment())
    assert list(core.gates) == []
    commands = core.handle(found(0, "", trouble="full"), moment())
    assert [gate.key for gate in core.gates] == [key_of("")]
    assert checks(commands) == [""], "it is looked at from now on"
    core.validate()


def test_what_neither_runs_nor_is_held_is_forgotten() -> None:
    walk = running()
    walk.do(make.cancel("job"))
    walk.say(mailbox.Stopped(job="job", attempt=1, bytes=500))
    later(walk, 100)
    assert not checks(walk.do(inputs.Tick()))
    assert not walk.core.disks.areas


def test_after_a_start_the_gates_are_looked_at_at_once() -> None:
    core, commands = make.new_core(gates=(CLOSED,))
    assert checks(commands) == [AREA]
    opened = core.handle(found(), moment())
    assert make.of(opened, DropGate)


# users and the gate


def test_a_paused_job_stays_paused() -> None:
    walk = full()
    walk.do(make.verb("pause", "job"))
    walk.do(found())
    assert (walk.job.state, walk.job.reason) == (State.PAUSED, Reason.USER)
    walk.do(make.verb("resume", "job"))
    assert walk.job.state is State.RUNNING


@pytest.mark.parametrize(
    "event", [make.bulk("resume"), make.verb("resume", "job"), make.verb("retry", "job")]
)
def test_users_do_not_open_it(event: inputs.Input) -> None:
    walk = full()
    walk.do(event)
    assert held(walk)
    assert walk.core.shown(walk.job) == (State.PAUSED, Reason.DISK)


def test_it_can_be_cancelled_behind_it() -> None:
    walk = full()
    assert make.of(walk.do(make.cancel("job")), Clean)
    assert walk.job.state is State.CANCELLED


def test_show_says_why() -> None:
    walk = full()
    walk.do(submit(intake("next")))
    following = walk.core.ledger.live["next"]
    seen = snapshot(following, shown=walk.core.shown(following), error=walk.core.gates.error(following))
    assert (seen.state, seen.reason) == (State.PAUSED, Reason.DISK)
    assert seen.error == JobError("disk_full", AREA)


# io errors, and what does not fit


@pytest.mark.parametrize("where", ["worker", "workspace", "seal"])
def test_after_an_io_error_it_begins_from_zero(where: str) -> None:
    walk = Walk()
    if where == "worker":
        walk.respond(kept=500)
        walk.say(make.failed(Code.IO_ERROR, kept=500))
    elif where == "workspace":
        walk.ready()
        refuse(walk, Code.IO_ERROR)
    else:
        walk.finish()
        walk.do(inputs.FileRefused("job", 1, Code.IO_ERROR, "bad"))
    after = walk.job
    assert (after.state, after.reason, after.failures) == (State.WAITING, Reason.RETRY, 1)
    assert (after.generation, after.bytes, after.synced, after.mismatches) == (1, 0, (), 0)


def test_what_is_too_large_waits_alone() -> None:
    walk = Walk(retries=0)
    walk.do(submit(intake("small", host="b.test")))
    waits = []
    for _ in range(7):
        later(walk, 0, rand=0.0)
        walk.ready()
        walk.core.schedule.validate()
        commands = refuse(walk, Code.DISK_FULL, alone=True)
        assert not make.of(commands, SaveGate)
        assert (walk.job.state, walk.job.reason, walk.job.error_message) == (
            State.WAITING, Reason.DISK, "no room",
        )  # fmt: skip
        assert walk.job.failures == 0
        waits.append(walk.job.wait_for // SECOND)
        if walk.core.ledger.find("small") is not None and "small" in walk.core.runs:
            walk.do(make.cancel("small"))
            walk.say(mailbox.Stopped(job="small", attempt=1, bytes=0))
        walk.do(make.verb("retry", "job", req=f"r{len(waits)}"))
        assert walk.job.state is State.RUNNING
    assert waits == [30, 60, 120, 240, 480, 600, 600]


def test_a_deadline_ends_the_wait_for_room() -> None:
    walk = Walk(deadline=10.0)
    walk.ready()
    refuse(walk, Code.DISK_FULL, alone=True)
    assert walk.job.wait_for == 10 * SECOND
    later(walk, 10)
    walk.do(inputs.Tick())
    assert walk.job.error_code == Code.DEADLINE
