"""What a failed attempt does to its job and its host: other sources, beginning anew, parking, reports."""

from typing import Any

import pytest

from fetchd.daemon.core import inputs
from fetchd.daemon.core.attempt import WARNINGS
from fetchd.daemon.core.commands import (
    AssignJob,
    Clean,
    DropGate,
    Event,
    Kill,
    Reply,
    SaveGate,
    StopAttempt,
)
from fetchd.daemon.core.job import Job
from fetchd.protocol import mailbox
from fetchd.protocol.errors import Code
from fetchd.protocol.job import Reason, State
from fetchd.protocol.mailbox import Options

from . import make
from .make import SECOND, Walk, intake, moment, submit, verb

TWO = Options(mirrors=("http://b.test/f",))
WHO: dict[str, Any] = {"job": "job", "attempt": 1}


def running(kept: int = 0, modified: int | None = None, **spec: Any) -> Walk:
    walk = Walk(**spec)
    walk.respond(kept=kept, modified=modified)
    return walk


def assigned(walk: Walk) -> Job:
    """The job that was just handed over."""
    (command,) = make.of(walk.commands, AssignJob)
    assert isinstance(command, AssignJob)
    return command.job


# sources


def test_the_next_source_at_once() -> None:
    walk = running(options=TWO)
    walk.say(make.failed(Code.CONNECT, kept=700))
    again = assigned(walk)
    assert (again.source, again.bytes, again.attempt, again.error_code) == (1, 700, 2, Code.CONNECT)
    walk.say(make.failed(Code.CONNECT, attempt=2, kept=700, source=1))
    assert walk.job.state is State.WAITING, "the round is over"
    assert walk.job.source == 0


def test_a_refused_source_is_remembered_and_forgotten_with_a_retry() -> None:
    walk = running(options=TWO)
    walk.say(make.failed(Code.NOT_FOUND, source=0))
    assert assigned(walk).refused == 0b01
    walk.say(make.failed(Code.FORBIDDEN, attempt=2, source=1))
    assert (walk.job.state, walk.job.error_code) == (State.FAILED, Code.FORBIDDEN)
    walk.do(verb("retry", "job"))
    again = assigned(walk)
    assert (again.source, again.refused, again.restarts) == (0, 0, 0)


def test_wrong_bytes_are_fetched_anew_from_the_other_source() -> None:
    walk = running(options=TWO)
    walk.say(mailbox.Synced(**WHO, generation=0, ranges=[(0, 500), (600, 1000)]))
    made = walk.say(make.failed(Code.CHECKSUM_MISMATCH, kept=1000))
    assert [event.kind for event in make.of(made, Event)] == ["restarted", "queued", "running"]
    again = assigned(walk)
    assert (again.source, again.generation, again.synced, again.wasted) == (1, 1, (), 1000)
    assert (again.mismatches, again.alone) == (1, False)


def test_mixed_bytes_are_fetched_anew_from_one_source_alone() -> None:
    walk = running(options=TWO)
    walk.say(make.failed(Code.CHECKSUM_MISMATCH, kept=1000, mixed=True))
    again = assigned(walk)
    assert (again.source, again.refused, again.alone) == (1, 0, True)


def test_a_source_that_is_not_there_is_a_violation() -> None:
    walk = running(options=TWO)
    assert make.of(walk.say(make.failed(Code.CONNECT, source=2)), Kill)


def test_restarts_are_counted_over_the_attempts() -> None:
    walk = Walk()
    walk.ready()
    walk.say(mailbox.Restart(**WHO, generation=0, why=""))
    assert walk.job.restarts == 1
    walk.say(make.failed(Code.CONNECT))
    walk.do(verb("retry", "job"))
    assert assigned(walk).restarts == 1
    walk.say(mailbox.Restart(job="job", attempt=2, generation=1, why=""))
    assert walk.job.restarts == 2


# parking


def test_a_parked_host_holds_the_jobs_of_all_owners() -> None:
    walk = running()
    made = walk.say(make.failed(Code.RATE_LIMITED, kept=10, retry_after=100.0))
    (saved,) = make.of(made, SaveGate)
    assert saved.gate.until == walk.now.mono + 105 * SECOND
    assert walk.job.state is State.QUEUED
    assert walk.core.shown(walk.job) == (State.WAITING, Reason.HOST_PARKED)
    assert (walk.job.failures, walk.job.error_code) == (1, Code.RATE_LIMITED)
    other = make.request("r2", owner="uid:2")
    walk.do(inputs.Submit(other, (intake("other"), intake("else", host="b.test")), {}, {}))
    assert set(walk.core.runs) == {"else"}, "no worker is held, and other hosts go on"


def test_a_parked_host_opens_by_itself() -> None:
    walk = running()
    walk.say(make.failed(Code.UNAVAILABLE, retry_after=100.0))
    assert walk.core.next_deadline(walk.now.mono) is not None
    walk.now = moment(204.0)
    assert not make.of(walk.do(inputs.Tick()), AssignJob)
    walk.now = moment(205.1)
    walk.do(inputs.Tick())
    assert make.of(walk.commands, DropGate)
    assert walk.job.state is State.RUNNING


def test_the_later_end_of_two_holds() -> None:
    walk = running(workers=2)
    walk.do(submit(intake("other")))
    walk.ready(1)
    walk.say(make.failed(Code.UNAVAILABLE, retry_after=100.0))
    assert not make.of(walk.say(make.failed(Code.UNAVAILABLE, "other", retry_after=5.0), 1), SaveGate)
    (gate,) = walk.core.gates
    assert gate.until == walk.now.mono + 105 * SECOND


def test_the_others_wait_where_the_job_gives_up() -> None:
    walk = running(retries=0)
    walk.do(submit(intake("other")))
    walk.say(make.failed(Code.UNAVAILABLE, retry_after=100.0))
    assert walk.job.state is State.FAILED
    assert not walk.core.runs


@pytest.mark.parametrize("job_id", ["job", "other"])
def test_a_retry_by_hand_opens_the_gate(job_id: str) -> None:
    walk = running()
    walk.do(submit(intake("other")))
    walk.say(make.failed(Code.UNAVAILABLE, retry_after=100.0))
    made = walk.do(verb("retry", job_id))
    assert make.of(made, Reply)[0].body.jobs[0].state is State.QUEUED
    assert set(walk.core.runs) == {"job"}, "the order is the old one"


@pytest.mark.parametrize(("owner", "opened"), [("uid:1", True), ("uid:2", False)])
def test_a_retry_of_everything_opens_the_gates_of_its_owner(owner: str, opened: bool) -> None:
    walk = running()
    walk.say(make.failed(Code.UNAVAILABLE, retry_after=100.0))
    walk.do(make.bulk("retry", owner=owner))
    assert (walk.job.state is State.RUNNING) == opened


def test_a_mirror_elsewhere_parks_nobody() -> None:
    walk = running(options=TWO)
    walk.say(make.failed(Code.CONNECT))
    walk.say(make.failed(Code.UNAVAILABLE, attempt=2, source=1, retry_after=100.0))
    assert walk.job.reason is Reason.RETRY
    assert walk.job.wait_for == 105 * SECOND
    assert not list(walk.core.gates)


# reports


def test_not_modified_is_a_good_end() -> None:
    walk = Walk(options=Options(if_newer=True), if_newer=True)
    assert walk.job.if_exists == "overwrite"
    walk.ready()
    made = walk.say(mailbox.NotModified(**WHO, origins=["http://b.test"]))
    assert (walk.job.state, walk.job.reason) == (State.COMPLETED, Reason.NOT_MODIFIED)
    assert walk.job.path == "/data/f"
    assert make.of(made, Clean)
    assert walk.core.pool.slots[0].origins == {"http://a.test", "http://b.test"}


def test_not_modified_has_to_be_asked_for() -> None:
    walk = Walk()
    walk.ready()
    assert make.of(walk.say(mailbox.NotModified(**WHO)), Kill)
    walk = Walk(options=Options(if_newer=True), if_newer=True)
    walk.respond()
    assert make.of(walk.say(mailbox.NotModified(**WHO)), Kill), "it has responded"


def test_a_warning_is_announced() -> None:
    walk = running()
    made = walk.say(mailbox.Warned(**WHO, code="mirror_differs", message="b"))
    assert [event.kind for event in make.of(made, Event)] == ["warning"]
    assert (walk.job.warning_code, walk.job.warning_message) == ("mirror_differs", "b")
    for _ in range(WARNINGS - 1):
        assert not make.of(walk.say(mailbox.Warned(**WHO, code="x", message="")), Kill)
    assert make.of(walk.say(mailbox.Warned(**WHO, code="x", message="")), Kill), "it does not stop"


@pytest.mark.parametrize(
    ("synced", "have", "stays"),
    [
        ([(0, 300), (500, 700)], [(0, 300), (500, 700)], ((0, 300), (500, 700))),
        ([(0, 300), (500, 700)], [(0, 300)], ((0, 300),)),
        ([(0, 300), (500, 700)], [(0, 200)], ((0, 200),)),
        ([(0, 300), (500, 700)], [], ()),
        ([(100, 300)], [(0, 50)], ()),
        # more was there than was synced
        ([(0, 300), (500, 700)], [(0, 350), (450, 800)], ((0, 300), (500, 700))),
        ([(0, 300), (500, 700)], [(0, 600)], ((0, 300), (500, 600))),
        ([(0, 300)], [(0, 400)], ((0, 300),)),
    ],
)
def test_what_stays_of_several_ranges(
    synced: list[tuple[int, int]], have: list[tuple[int, int]], stays: tuple[tuple[int, int], ...]
) -> None:
    walk = running()
    walk.say(mailbox.Synced(**WHO, generation=0, ranges=synced))
    assert walk.job.bytes == sum(end - start for start, end in synced)
    walk.say(make.failed(Code.CONNECT, kept=walk.job.bytes))
    walk.do(verb("retry", "job"))
    kept = sum(end - start for start, end in have)
    walk.say(make.responded(attempt=2, kept=kept, have=have))
    assert walk.job.synced == stays


@pytest.mark.parametrize("have", [[(0, 300)], [(300, 0)], [(0, 100), (50, 200)], [(900, 1100)], []])
def test_ranges_that_cannot_be_kept(have: list[tuple[int, int]]) -> None:
    walk = make.Walk()
    walk.ready()
    assert make.of(walk.say(make.responded(kept=200, have=have)), Kill)


def test_more_cannot_be_kept_than_there_is() -> None:
    assert make.of(running(kept=1001).commands, Kill)


def test_the_time_of_the_server_is_kept() -> None:
    assert running(modified=5).job.modified == 5
    assert running().job.modified == 0


def test_a_worker_that_went_to_mirrors_gets_no_secrets_of_others() -> None:
    walk = running(options=TWO)
    walk.say(make.failed(Code.IO_ERROR))
    made = walk.do(submit(intake("secret", secrets=b"s")))
    assert make.of(made, Kill), "it has been at b.test, perhaps"
    assert not make.of(made, StopAttempt)
