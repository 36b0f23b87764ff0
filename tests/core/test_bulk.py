"""Bulk verbs: as if each had been done at once, in the order of the answers, whatever comes between."""

import pytest

from fetchd.daemon.core import inputs, schedule
from fetchd.daemon.core.commands import (
    AssignJob,
    DropGate,
    DropIntent,
    LoadChunk,
    LoadLanes,
    Reply,
    SaveGate,
    SaveIntent,
)
from fetchd.daemon.core.core import Core, Loaded
from fetchd.daemon.core.gates import Gate, GateKey
from fetchd.daemon.core.intents import SAME_REVISION, Intent, Intents
from fetchd.daemon.core.job import Job
from fetchd.daemon.core.settings import Settings
from fetchd.protocol import mailbox
from fetchd.protocol.errors import Code
from fetchd.protocol.job import Reason, State

from . import make
from .make import AREA, SECOND, Walk, bulk, intake, job, moment, submit, verb

STOPPED = mailbox.Stopped(job="job", attempt=1, bytes=0)


def with_rows(*rows: Job, **loaded: object) -> Walk:
    """A core whose store has these jobs."""
    walk = Walk()
    counts = {state: sum(row.state is state for row in rows) for state in State}
    seq, revision = max(row.seq for row in rows), max(row.revision for row in rows)
    walk.core, _ = make.new_core(workers=1, counts=counts, seq=seq, revision=revision, **loaded)
    walk.stored = {row.id: row for row in rows}
    return walk


def state(walk: Walk, job_id: str) -> State | None:
    found = walk.core.ledger.lookup(job_id, walk.stored)
    return None if found is None else found.state


def load(walk: Walk, *rows: Job, more: bool = False, which: int = -1) -> None:
    """The store answers for an intent."""
    walk.do(inputs.ChunkLoaded(list(walk.core.intents)[which].number, rows, more))


FAILED = job("a", 1, state=State.FAILED, revision=1)
CANCELLED = job("b", 2, state=State.CANCELLED, revision=2)
PAUSED = job("c", 3, state=State.PAUSED, revision=3)
WAITING = job("d", 4, state=State.WAITING, wait_until=9 * 10**12, revision=4)
ROWS = (FAILED, CANCELLED, PAUSED, WAITING)


def test_what_runs_is_cancelled_with_the_answer() -> None:
    """No chunk has been loaded yet, and what its worker says now comes too late."""
    walk = Walk()
    walk.respond()
    assert state(walk, "job") is State.RUNNING
    walk.do(bulk("cancel"))
    assert state(walk, "job") is State.CANCELLED


def test_an_intent_goes_on_from_chunk_to_chunk() -> None:
    walk = with_rows(*ROWS)
    saved = make.of(walk.do(bulk("retry")), SaveIntent)[0].intent
    assert (saved.upto, saved.step, saved.cursor, saved.table) == (4, 0, 0, "jobs")
    load(walk, WAITING)
    saved = make.of(walk.commands, SaveIntent)[0].intent
    assert (saved.step, saved.cursor, saved.table) == (1, 0, "history")
    load(walk, FAILED, more=True)
    assert make.of(walk.commands, SaveIntent)[0].intent.cursor == 1
    assert make.of(walk.commands, LoadChunk)
    load(walk, CANCELLED)
    assert make.of(walk.commands, DropIntent)
    assert not len(walk.core.intents)
    assert {state(walk, one) for one in "abd"} <= {State.QUEUED, State.RUNNING}
    assert state(walk, "c") is State.PAUSED


def test_a_job_is_retried_once() -> None:
    """In the first step it waited, and it has failed when the second one comes to it."""
    walk = with_rows(WAITING)
    walk.do(bulk("retry"))
    load(walk, WAITING)
    walk.ready()
    walk.say(make.failed(Code.NOT_FOUND, "d"))
    row = walk.core.ledger.lookup("d", {})
    assert row is not None
    load(walk, row)
    assert state(walk, "d") is State.FAILED


LATER = [
    ("retry", "cancel", PAUSED, State.CANCELLED),
    ("retry", "cancel", WAITING, State.CANCELLED),
    ("resume", "pause", PAUSED, State.PAUSED),
    ("resume", "cancel", PAUSED, State.CANCELLED),
    ("cancel", "pause", PAUSED, State.CANCELLED),
    ("cancel", "resume", PAUSED, State.CANCELLED),
    ("remove", "cancel", PAUSED, None),
    ("remove", "resume", PAUSED, None),
]


@pytest.mark.parametrize(("first", "later", "row", "end"), LATER)
def test_a_later_verb_stands(
    first: inputs.VerbName, later: inputs.VerbName, row: Job, end: State | None
) -> None:
    """What was asked for a job after the intent is not undone by it, and comes after it."""
    walk = with_rows(*ROWS)
    walk.do(bulk(first))
    walk.do(verb(later, row.id, known=walk.stored))
    assert state(walk, row.id) is end
    for _ in range(2):
        if len(walk.core.intents):
            current = walk.core.ledger.lookup(row.id, walk.stored)
            load(walk, current or row)
    assert state(walk, row.id) is end


def test_a_cancelled_job_is_not_revived_by_an_older_intent() -> None:
    walk = Walk()
    walk.do(bulk("retry"))
    walk.do(verb("cancel", "job"))
    load(walk)
    load(walk, walk.job)
    assert walk.job.state is State.CANCELLED


def test_all_that_is_cancelled_is_not_retried_by_an_older_intent() -> None:
    walk = with_rows(*ROWS)
    walk.do(bulk("retry"))
    commands = walk.do(bulk("cancel"))
    assert len(make.of(commands, DropIntent)) == 1, "the retry is void"
    load(walk, PAUSED, WAITING)
    assert {state(walk, one) for one in "bcd"} == {State.CANCELLED}


def test_two_intents_are_done_in_their_order() -> None:
    walk = with_rows(*ROWS)
    walk.do(bulk("remove", failed=True))
    walk.do(bulk("retry"))
    load(walk, WAITING)
    load(walk, FAILED, CANCELLED)
    assert state(walk, "a") is None, "the older one comes first"
    assert state(walk, "b") in (State.QUEUED, State.RUNNING)
    load(walk, FAILED, which=0)
    assert not len(walk.core.intents)


def test_an_intent_is_for_its_owner_and_for_the_jobs_that_were_there() -> None:
    walk = Walk()
    walk.do(bulk("cancel"))
    walk.do(submit(intake("new")))
    walk.do(inputs.Submit(make.request("theirs", "uid:2"), (intake("theirs", host="b.test"),), {}, {}))
    rows = [walk.core.ledger.lookup(one, {}) for one in ("job", "new", "theirs")]
    load(walk, *(row for row in rows if row is not None))
    assert state(walk, "job") is State.CANCELLED
    assert state(walk, "new") is not State.CANCELLED
    assert state(walk, "theirs") is not State.CANCELLED


def test_an_id_that_is_being_removed_can_be_used_again_at_once() -> None:
    walk = with_rows(*ROWS)
    walk.do(bulk("remove"))
    walk.do(submit(intake("c"), known=walk.stored))
    accepted = make.of(walk.commands, Reply)[0].body.jobs[0]
    assert accepted.duplicate is False
    load(walk, PAUSED, WAITING)
    load(walk, FAILED, CANCELLED)
    assert walk.core.ledger.lookup("c", {}) is not None, "what was accepted is not removed"


def test_nothing_of_what_is_to_end_begins() -> None:
    walk = Walk()
    walk.do(submit(*(intake(f"j{n}") for n in range(3))))
    walk.do(bulk("cancel"))
    walk.ready()
    walk.say(make.failed(Code.NOT_FOUND))
    assert not walk.core.runs
    rows = [walk.core.ledger.lookup(f"j{n}", {}) for n in range(3)]
    walk.do(submit(intake("new")))
    assert not walk.core.runs, "it waits until the others are gone, for they are before it"
    load(walk, *(row for row in rows if row is not None))
    assert set(walk.core.runs) == {"new"}


def test_a_new_job_is_never_among_those_of_an_older_intent() -> None:
    """The newest jobs were removed when the daemon went down; numbers go on above them."""
    intent = Intent(number=7 * SAME_REVISION, owner="uid:1", verb="cancel", failed=False, upto=9)
    core, commands = make.new_core(seq=4, revision=9, intents=(intent,))
    assert make.of(commands, LoadChunk)[0].intent == intent
    core.handle(submit(intake()), moment())
    found = core.ledger.find("job")
    assert found is not None
    assert found.seq == 10


def test_numbers_of_intents() -> None:
    intents = Intents(())
    first, second, third = intents.number(5), intents.number(5), intents.number(6)
    assert first < second < third
    made = [
        Intent(number=number, owner="", verb="retry", failed=False, upto=9).made
        for number in (first, second, third)
    ]
    assert made == [5, 5, 6]


def test_a_chunk_of_an_intent_that_is_done_is_nothing() -> None:
    walk = with_rows(*ROWS)
    walk.do(bulk("cancel"))
    number = next(iter(walk.core.intents)).number
    load(walk, PAUSED)
    assert state(walk, "d") is State.WAITING
    walk.do(inputs.ChunkLoaded(number, (WAITING,), more=False))
    assert state(walk, "d") is State.WAITING


# the gate


def test_a_closed_queue_holds_everything_until_it_is_opened() -> None:
    walk = Walk()
    walk.respond()
    walk.do(submit(intake("second")))
    commands = walk.do(bulk("pause"))
    assert make.of(commands, SaveGate)
    assert walk.job.state is State.PAUSED
    walk.say(STOPPED)
    walk.do(submit(intake("third")))
    assert not walk.core.runs
    commands = walk.do(bulk("resume"))
    assert make.of(commands, DropGate)
    load(walk, walk.job)
    assert set(walk.core.runs) == {"second"} or set(walk.core.runs) == {"job"}
    assert walk.job.state is not State.PAUSED


def test_a_closed_queue_is_closed_after_a_restart() -> None:
    gate = Gate(key=GateKey("owner", "uid:1", Reason.USER), since=0)
    ran = job("ran", 1, state=State.RUNNING, attempt=1)
    core = Core(
        Settings(workers=1, default_area=AREA),
        Loaded(active=(ran,), gates=(gate,), counts={State.RUNNING: 1}, seq=1, revision=3),
    )
    asked = make.of(core.start(moment()), LoadLanes)[0]
    assert asked.without == (("owner", "uid:1"),), "lanes that are held would be in the way of others"
    core.handle(inputs.LanesLoaded((), more=False), moment())
    core.handle(inputs.WindowLoaded(ran.lane, (), more=False), moment())
    core.validate()
    assert not core.runs
    commands = core.handle(bulk("resume"), moment())
    assert set(core.runs) == {"ran"}
    assert make.of(commands, LoadLanes)[0].without == (), "what was left out is asked for"


def test_a_gate_with_a_time_opens_by_itself() -> None:
    walk = Walk()
    key = GateKey("host", "a.test", Reason.HOST_PARKED)
    walk.core, _ = make.new_core(workers=1, gates=(Gate(key=key, since=0, until=200 * SECOND),))
    walk.do(submit(intake()))
    walk.do(inputs.WindowLoaded(make.lane(), (), more=False))
    walk.ready()
    assert walk.core.next_deadline(walk.now.mono) == 200 * SECOND
    walk.core.gates.close(Gate(key=key, since=0, until=300 * SECOND))
    walk.now = moment(200)
    assert not make.of(walk.do(inputs.Tick()), DropGate), "it was closed for longer meanwhile"
    assert walk.core.next_deadline(walk.now.mono) == 300 * SECOND
    walk.now = moment(300)
    commands = walk.do(inputs.Tick())
    assert [one.key for one in make.of(commands, DropGate)] == [key]
    assert make.of(commands, AssignJob)
    assert not list(walk.core.gates)


def test_a_gate_of_an_earlier_boot_does_not_stay_closed_for_ever() -> None:
    key = GateKey("host", "a.test", Reason.HOST_PARKED)
    core, _ = make.new_core(gates=(Gate(key=key, since=0, until=10**15),))
    assert core.gates.next() == moment().mono + 6 * 3600 * SECOND


def test_the_lanes_of_a_closed_queue_make_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "MAX_LANES", 4)
    walk = Walk()
    walk.core, _ = make.new_core(workers=1)
    walk.do(bulk("pause"))
    walk.do(submit(*(intake(f"j{n}", host=f"h{n}.test", priority=9) for n in range(4))))
    theirs = inputs.Submit(make.request("theirs", "uid:2"), (intake("theirs", host="b.test"),), {}, {})
    walk.do(theirs)
    for window in list(walk.core.schedule.lanes):
        walk.do(inputs.WindowLoaded(window, (), more=False))
    assert set(walk.core.runs) == {"theirs"}
