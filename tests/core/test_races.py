"""Races that have gone wrong once, or would if nobody looked: each is the shortest history that shows it."""

import pytest

from fetchd.daemon.core import inputs
from fetchd.daemon.core.commands import (
    AssignJob,
    Clean,
    DropSecrets,
    Exit,
    Kill,
    ProbeName,
    Publish,
    Refuse,
    Reply,
    SaveJob,
    SaveReply,
    Spawn,
    StopAttempt,
)
from fetchd.daemon.core.core import Core, Loaded
from fetchd.daemon.core.inputs import Gone
from fetchd.daemon.core.settings import Settings
from fetchd.protocol import mailbox
from fetchd.protocol.errors import Code
from fetchd.protocol.job import State

from . import make
from .make import AREA, SECOND, Walk, cancel, intake, job, moment, submit

STOPPED = mailbox.Stopped(job="job", attempt=1, bytes=0)
FINISHED = mailbox.Finished(job="job", attempt=1, size=1000)


# cancel


@pytest.mark.parametrize(
    "end", [STOPPED, FINISHED, make.failed(Code.RESET)], ids=lambda end: type(end).__name__
)
def test_cancel_crosses_the_end_of_the_attempt(end: mailbox.Report) -> None:
    walk = Walk()
    walk.respond()
    assert make.of(walk.do(cancel("job")), StopAttempt)[0].keep is False
    assert not make.of(walk.commands, Clean), "the worker still has the workspace"
    assert make.of(walk.say(end), Clean)
    assert walk.job.state is State.CANCELLED


@pytest.mark.parametrize("cause", Gone)
def test_cancel_crosses_the_end_of_the_worker(cause: Gone) -> None:
    walk = Walk()
    walk.respond()
    walk.do(cancel("job"))
    assert make.of(walk.do(inputs.WorkerGone(0, 1, cause)), Clean)
    assert walk.job.state is State.CANCELLED


def test_cancel_before_the_worker_has_come_up() -> None:
    walk = Walk()
    commands = walk.do(cancel("job"))
    assert make.of(commands, Clean)
    assert not make.of(commands, StopAttempt)
    assert not make.of(walk.ready(), AssignJob)


def test_cancel_while_the_file_is_sealed() -> None:
    walk = Walk()
    walk.finish()
    assert make.of(walk.do(cancel("job")), Clean)
    assert not make.of(walk.do(inputs.Sealed("job", 1, 1000, 7, 8)), Publish)
    assert walk.job.state is State.CANCELLED


def test_cancel_after_sealing_is_too_late() -> None:
    walk = Walk()
    walk.seal()
    reply = make.of(walk.do(cancel("job")), Reply)[0]
    assert reply.body.jobs[0].code == Code.TOO_LATE
    walk.do(inputs.Published("job", 1))
    assert walk.job.state is State.COMPLETED


def test_who_does_not_stop_is_killed_and_not_heard_any_more() -> None:
    walk = Walk()
    walk.respond()
    walk.do(cancel("job"))
    walk.now = moment(102)
    assert [kill.slot for kill in make.of(walk.do(inputs.Tick()), Kill)] == [0]
    assert not make.of(walk.say(STOPPED), Clean), "it is being killed: only its end counts"
    walk.do(submit(intake("next")))
    assert not make.of(walk.commands, AssignJob), "nothing goes to a dying worker"
    assert make.of(walk.do(inputs.WorkerGone(0, 1, Gone.KILLED)), Clean)
    assert [spawn.incarnation for spawn in make.of(walk.commands, Spawn)] == [2]


# workers


def test_an_idle_worker_that_breaks_the_protocol_gets_no_work() -> None:
    walk = Walk()
    walk.respond()
    walk.say(make.failed(Code.NOT_FOUND))
    assert make.of(walk.say(FINISHED), Kill), "it speaks of an attempt that is over"
    walk.do(submit(intake("next")))
    assert not make.of(walk.commands, AssignJob)
    walk.do(inputs.WorkerGone(0, 1, Gone.KILLED))
    assert [one.job.id for one in make.of(walk.ready(), AssignJob)] == ["next"]


def test_a_death_before_the_assignment_does_not_count_against_the_job() -> None:
    walk = Walk()
    walk.do(inputs.WorkerGone(0, 1, Gone.DIED))
    assert (walk.job.state, walk.job.deaths, walk.job.failures) == (State.RUNNING, 0, 0)
    assert walk.job.attempt == 2


def test_a_violation_before_the_assignment_gives_the_job_to_another_worker() -> None:
    walk = Walk()
    walk.do(inputs.Violation(0, 1, "garbage"))
    assert (walk.job.attempt, walk.job.failures) == (2, 0)
    walk.do(cancel("job"))
    walk.do(inputs.WorkerGone(0, 1, Gone.KILLED))
    assert walk.job.state is State.CANCELLED


def test_a_job_that_ends_its_workers_is_poisoned_however_they_end() -> None:
    walk = Walk()
    for seconds, cause in ((100, Gone.DIED), (200, Gone.LEFT), (300, Gone.DIED)):
        walk.now = moment(seconds)
        walk.do(inputs.Tick())
        walk.ready()
        walk.do(inputs.WorkerGone(0, walk.core.pool.slots[0].incarnation, cause))
    assert (walk.job.state, walk.job.error_code) == (State.FAILED, Code.POISONED)


def test_a_stale_file_result_does_not_take_a_running_attempt_away() -> None:
    walk = Walk()
    walk.respond()
    walk.do(inputs.FileRefused("job", 1, Code.IO_ERROR, "", lost=True))
    walk.name()
    walk.do(inputs.Sealed("job", 1, 1000, 7, 8))
    assert walk.job.state is State.RUNNING
    walk.say(FINISHED)
    walk.do(inputs.Sealed("job", 0, 1000, 7, 8))
    assert walk.job.state is State.RUNNING


def test_a_workspace_that_is_always_lost_is_given_up() -> None:
    walk = Walk(retries=2)
    for attempt in (1, 2, 3):
        walk.ready()
        walk.say(make.responded(attempt=attempt, generation=attempt - 1))
        walk.say(mailbox.Finished(job="job", attempt=attempt, size=1000))
        walk.do(inputs.FileRefused("job", attempt, Code.IO_ERROR, "gone", lost=True))
    assert (walk.job.state, walk.job.error_code) == (State.FAILED, Code.IO_ERROR)


def test_a_url_that_cannot_be_parsed_is_only_a_bad_name() -> None:
    walk = Walk()
    assert make.of(walk.respond(url="http://["), ProbeName)[0].names == ("job",)


def test_ranges_beyond_the_end_are_a_violation() -> None:
    walk = Walk()
    walk.respond()
    assert make.of(walk.say(mailbox.Synced(job="job", attempt=1, generation=0, ranges=[(0, 1001)])), Kill)


# names


def test_an_assignment_refused_because_the_file_exists_cleans_up() -> None:
    walk = Walk(if_exists="skip")
    walk.ready()
    commands = walk.do(inputs.AssignRefused(0, 1, "job", 1, Code.EXISTS, ""))
    assert walk.job.state is State.COMPLETED
    assert make.of(commands, Clean)


def test_a_skipped_job_does_not_take_the_reservation_with_it() -> None:
    walk = Walk(name="f")
    walk.do(submit(intake("second", name="f", if_exists="skip")))
    assert walk.core.ledger.paths == {"/data/f": "job"}
    refused = make.of(walk.do(submit(intake("third", name="f"))), Refuse)
    assert [one.code for one in refused] == [Code.PATH_RESERVED]


def test_a_reservation_that_memory_knows_to_be_over_holds_nobody() -> None:
    walk = Walk(name="f")
    walk.do(cancel("job"))
    assert make.of(walk.do(submit(intake("next", name="f"), paths={"/data/f": "job"})), Reply)
    refused = make.of(walk.do(submit(intake("third", name="g"), paths={"/data/g": "unknown"})), Refuse)
    assert [one.code for one in refused] == [Code.PATH_RESERVED]


def test_a_renamed_file_frees_its_first_name() -> None:
    walk = Walk(if_exists="rename")
    walk.seal()
    assert walk.core.ledger.paths == {"/data/f": "job"}
    assert make.of(walk.do(inputs.FileRefused("job", 1, Code.EXISTS, "")), ProbeName)
    assert make.of(walk.name(taken=("f",)), Publish)[0].job.name == "f (1)"
    assert walk.core.ledger.paths == {"/data/f (1)": "job"}
    walk.do(inputs.Published("job", 1))
    walk.settle()
    assert not walk.core.ledger.paths


# draining and starting


def test_a_drain_does_not_spin_over_idle_workers() -> None:
    core, _ = make.new_core(workers=3)
    core.handle(submit(*(intake(f"j{n}") for n in range(3))), moment())
    for n in range(3):
        core.handle(inputs.WorkerReady(n, 1), moment())
    for n in range(2):
        core.handle(inputs.WorkerReport(n, 1, make.failed(Code.NOT_FOUND, f"j{n}")), moment())
    core.handle(inputs.Drain(now=False), moment(110))
    assert core.next_deadline(moment(125).mono) == moment(110).mono + 20 * SECOND


def test_a_drain_gives_back_what_runs_and_ends() -> None:
    walk = Walk()
    walk.respond()
    assert make.of(walk.do(inputs.Drain(now=False)), StopAttempt)[0].keep is True
    assert make.of(walk.do(submit(intake("late"))), Refuse)[0].code is Code.DRAINING
    commands = walk.say(STOPPED)
    assert make.of(commands, Exit)
    assert (walk.job.state, walk.job.failures) == (State.QUEUED, 0)
    assert walk.core.next_deadline(walk.now.mono) is None


def test_a_drain_has_an_end_whatever_workers_do() -> None:
    walk = Walk()
    walk.respond()
    walk.do(inputs.Drain(now=False))
    walk.now = moment(120)
    assert make.of(walk.do(inputs.Tick()), Kill)
    walk.now = moment(122)
    assert make.of(walk.do(inputs.Tick()), Exit)


def test_a_second_drain_ends_at_once() -> None:
    walk = Walk()
    walk.respond()
    walk.do(inputs.Drain(now=False))
    assert make.of(walk.do(inputs.Drain(now=False)), Exit)
    assert walk.do(submit(intake("late"))) == []


def test_a_start_takes_up_what_ran_and_what_was_published() -> None:
    active = (
        job("ran", 1, state=State.RUNNING, attempt=2, bytes=7),
        job("sealed", 2, state=State.PUBLISHING, attempt=1, name="f", size=5),
    )
    counts = {State.RUNNING: 1, State.PUBLISHING: 1}
    core = Core(
        Settings(workers=1, default_area=AREA), Loaded(active=active, counts=counts, revision=9, seq=2)
    )
    commands = core.start(moment())
    core.validate()
    assert [one.job.id for one in make.of(commands, Publish)] == ["sealed"]
    core.handle(inputs.LanesLoaded((), more=False), moment())
    core.handle(inputs.WindowLoaded(make.lane(), (), more=False), moment())
    core.validate()
    assert core.ledger.live["ran"].attempt == 3
    assert make.of(core.handle(inputs.Published("sealed", 1), moment()), Clean)


# requests


def test_a_repeated_request_is_answered_from_memory_until_its_own_commit() -> None:
    walk = Walk()
    saved = walk.core.ledger.stamp
    body = make.of(walk.do(cancel("nobody", req="c")), Reply)[0].body
    stamp = make.of(walk.commands, SaveReply)[0].stamp
    assert stamp > saved
    walk.do(inputs.Committed(saved))
    walk.do(submit(intake("nobody")))
    assert make.of(walk.do(cancel("nobody", req="c")), Reply)[0].body == body, "the job is not cancelled"
    walk.settle()
    assert not walk.core.replies


def test_a_request_id_used_for_something_else() -> None:
    walk = Walk()
    walk.do(submit(intake("a"), req="r"))
    other = inputs.Verb(make.request("r", digest=b"other"), "cancel", ("a",), {})
    assert make.of(walk.do(other), Refuse)[0].code is Code.CONFLICT


def test_all_jobs_of_a_submit_or_none() -> None:
    walk = Walk()
    before = walk.core.ledger.next_seq
    refused = make.of(walk.do(submit(intake("a"), intake("job", priority=7))), Refuse)
    assert [one.code for one in refused] == [Code.CONFLICT]
    refused = make.of(walk.do(submit(intake("a", name="f"), intake("b", name="f"))), Refuse)
    assert [one.code for one in refused] == [Code.PATH_RESERVED]
    assert walk.core.ledger.next_seq == before


def test_the_same_job_twice_in_one_submit() -> None:
    walk = Walk()
    body = make.of(walk.do(submit(intake("a"), intake("a"))), Reply)[0].body
    assert [one.duplicate for one in body.jobs] == [False, True]


def test_secrets_are_dropped_with_their_job() -> None:
    walk = Walk(secrets=b"s")
    assert [one.job for one in make.of(walk.do(cancel("job")), DropSecrets)] == ["job"]


def test_what_is_synced_never_outlives_what_is_kept() -> None:
    """Else a power cut finds old ranges beside new bytes that were never synced."""
    stored = job(state=State.RUNNING, attempt=1, synced=((0, 500),), etag='"v1"', total=1000, bytes=500)
    core, _ = make.new_core(active=(stored,), counts={State.RUNNING: 1})
    core.handle(inputs.WindowLoaded(stored.lane, (), more=False), moment())
    core.handle(inputs.WorkerReady(0, 1), moment())
    done = core.handle(inputs.WorkerReport(0, 1, make.responded(attempt=2, kept=200)), moment())
    assert core.ledger.live["job"].synced == ((0, 200),)
    assert [command.job.synced for command in make.of(done, SaveJob)] == [((0, 200),)]
