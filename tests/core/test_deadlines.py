"""The time that a job is given: it ends on time in every state, and its bytes are kept as usual."""

from typing import Any

import pytest
from msgspec.structs import replace

from fetchd.daemon.core import inputs
from fetchd.daemon.core.commands import AssignJob, Clean, LoadOverdue, StopAttempt
from fetchd.daemon.core.deadlines import Deadlines
from fetchd.daemon.core.slot import Run
from fetchd.protocol import mailbox
from fetchd.protocol.errors import Code
from fetchd.protocol.job import Cleanup, State

from . import make
from .make import SECOND, WALL, Walk, intake, moment, submit, verb

WHO: dict[str, Any] = {"job": "job", "attempt": 1}
STOPPED = mailbox.Stopped(**WHO, bytes=500)


def running(**spec: Any) -> Walk:
    """A running job that has until the 110th second."""
    walk = Walk(deadline=10.0, **spec)
    walk.respond()
    walk.say(mailbox.Progressed(**WHO, bytes=500, total=1000, speed=1.0))
    return walk


def tick(walk: Walk, seconds: float) -> None:
    walk.now = moment(seconds)
    walk.do(inputs.Tick())


def test_it_counts_from_the_acceptance_on_both_clocks() -> None:
    walk = Walk(deadline=10.0)
    assert (walk.job.expires, walk.job.deadline) == (110 * SECOND, WALL + 110 * SECOND)
    assert Walk().job.expires == 0


def test_an_attempt_is_ended_on_time_and_its_bytes_are_kept() -> None:
    walk = running()
    assert walk.core.next_deadline(walk.now.mono) == 110 * SECOND
    tick(walk, 109.9)
    assert walk.job.state is State.RUNNING
    tick(walk, 110)
    assert (walk.job.state, walk.job.error_code) == (State.FAILED, Code.DEADLINE)
    assert [stop.keep for stop in make.of(walk.commands, StopAttempt)] == [True]
    assert (walk.job.bytes, walk.job.kept_until > 0) == (500, True)
    assert not make.of(walk.say(STOPPED), Clean)


def test_what_went_wrong_before_is_told() -> None:
    walk = running()
    walk.say(make.failed(Code.CONNECT, kept=500))
    walk.core.ledger.put(replace(walk.job, error_message="Connection refused"))
    tick(walk, 110)
    assert walk.job.error_code == Code.DEADLINE
    assert (walk.job.error_message or "").endswith("before that: Connection refused")


@pytest.mark.parametrize("cleanup", [True, False, None])
def test_unless_it_was_asked_otherwise(cleanup: bool | None) -> None:
    walk = running(cleanup=Cleanup(failure=cleanup))
    tick(walk, 110)
    kept = make.of(walk.commands, StopAttempt)[0].keep
    assert kept == (cleanup is not True)
    assert bool(make.of(walk.say(STOPPED), Clean)) != kept


@pytest.mark.parametrize("name", ["remove", "cancel"])
def test_what_was_to_be_kept_may_be_given_up_while_it_stops(name: inputs.VerbName) -> None:
    walk = running()
    tick(walk, 110)
    walk.do(verb(name, "job"))
    assert bool(make.of(walk.say(STOPPED), Clean)) == (name == "remove"), "it is failed, and stays so"


def test_a_retry_has_the_bytes_and_no_deadline() -> None:
    walk = running()
    tick(walk, 110)
    walk.do(verb("retry", "job"))
    walk.say(STOPPED)
    (again,) = make.of(walk.commands, AssignJob)
    assert (again.job.bytes, again.job.generation) == (500, 0)
    assert (again.job.expires, again.job.deadline) == (0, 0)
    tick(walk, 200)
    assert walk.job.state is State.RUNNING


def test_a_wait_is_not_longer() -> None:
    walk = running()
    walk.now = moment(109, rand=1.0)
    walk.say(make.failed(Code.TIMEOUT, kept=500))
    walk.do(verb("retry", "job"))
    walk.say(make.failed(Code.TIMEOUT, attempt=2, kept=500))
    assert (walk.job.state, walk.job.wait_until) == (State.WAITING, 110 * SECOND)
    tick(walk, 110)
    assert (walk.job.error_code, walk.job.attempt) == (Code.DEADLINE, 2)


def test_a_queued_job_fails_instead_of_being_run() -> None:
    walk = running()
    walk.do(submit(intake("late", deadline=1.0), intake("next")))
    walk.now = moment(105)
    walk.say(mailbox.Failed(**WHO, code=Code.NOT_FOUND, message="", bytes=0))
    late = walk.core.ledger.find("late")
    assert late is not None
    assert (late.error_code, late.attempt) == (Code.DEADLINE, 0)
    assert set(walk.core.runs) == {"next"}


def test_a_finished_download_is_published_all_the_same() -> None:
    walk = Walk(deadline=10.0)
    walk.finish()
    tick(walk, 110)
    assert walk.job.state is State.RUNNING
    walk.name()
    walk.do(inputs.Sealed("job", 1, 1000, 7, 8))
    tick(walk, 120)
    walk.do(inputs.Published("job", 1))
    assert walk.job.state is State.COMPLETED


@pytest.mark.parametrize("state", [State.QUEUED, State.WAITING, State.PAUSED])
def test_the_sweep_ends_what_lies_in_the_store(state: State) -> None:
    stored = make.job("old", 1, state=state, expires=50 * SECOND, wait_until=10**15)
    core, _ = make.new_core(counts={state: 1}, seq=1)
    assert make.of(core.handle(inputs.Overdue((), more=True), moment()), LoadOverdue)
    made = core.handle(inputs.Overdue((stored,), more=False), moment())
    core.validate()
    assert not make.of(made, LoadOverdue)
    assert core.ledger.counts[State.FAILED] == 1
    core.handle(inputs.Overdue((stored,)), moment())
    assert core.ledger.counts[State.FAILED] == 1, "it came again, and is over"


def test_a_row_that_memory_knows_better_is_left_alone() -> None:
    walk = running()
    walk.do(inputs.Overdue((make.job("job", 1, expires=5),)))
    assert walk.job.state is State.RUNNING


def test_the_heap_forgets_attempts_that_are_over() -> None:
    runs: dict[str, Run] = {}
    made = Deadlines(runs)
    for number in range(500):
        run = runs["job"] = Run("job", number, 0)
        run.expires = 1000 + number
        made.add(run)
    assert len(made._heap) <= 66
    assert made.next() == 1499
    assert made.due(2000) == ["job"]
    assert made.next() is None
