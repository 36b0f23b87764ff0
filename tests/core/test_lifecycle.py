"""Pausing, resuming, retrying, removing: what has gone wrong once, or would if nobody looked."""

import pytest
from msgspec.structs import replace

from fetchd.daemon.core import attempt, inputs
from fetchd.daemon.core.commands import (
    AllowRestart,
    AssignJob,
    Clean,
    DropSecrets,
    Event,
    Forget,
    Kill,
    ProbeName,
    Refuse,
    Reply,
    SaveJob,
    Spawn,
    StopAttempt,
)
from fetchd.daemon.core.inputs import Gone
from fetchd.protocol import mailbox
from fetchd.protocol.errors import Code
from fetchd.protocol.job import Cleanup, State

from . import make
from .make import SECOND, Walk, bulk, intake, job, moment, submit, verb

WHO = {"job": "job", "attempt": 1}
STOPPED = mailbox.Stopped(job="job", attempt=1, bytes=500)
FINISHED = mailbox.Finished(job="job", attempt=1, size=1000)


def running(**spec: object) -> Walk:
    walk = Walk(**spec)
    walk.respond()
    return walk


# pause


@pytest.mark.parametrize("policy", ["fail", "skip", "rename", "overwrite"])
@pytest.mark.parametrize("resumed", [False, True])
def test_a_pausing_job_does_not_end_by_the_answer_about_its_name(policy: str, resumed: bool) -> None:
    walk = running(if_exists=policy)
    walk.do(verb("pause", "job"))
    if resumed:
        walk.do(verb("resume", "job"))
    walk.name(taken=("f", "f (1)"))
    assert walk.job.state is (State.QUEUED if resumed else State.PAUSED)
    walk.say(STOPPED)
    walk.do(verb("resume", "job", req="on"))
    assert make.of(walk.say(make.responded(attempt=2)), ProbeName), "it is asked again"


@pytest.mark.parametrize("how", ["pause", "drain"])
def test_a_response_that_crosses_a_stop_is_no_violation(how: str) -> None:
    walk = Walk()
    walk.ready()
    walk.do(verb("pause", "job") if how == "pause" else inputs.Drain(now=False))
    walk.say(make.responded())
    walk.say(mailbox.Synced(**WHO, generation=0, ranges=[(0, 500)]))
    assert not make.of(walk.commands, Kill), "it is an honest worker"
    walk.say(STOPPED)
    assert walk.job.synced == ((0, 500),)
    assert walk.job.etag == make.VALIDATOR.etag, "what belongs to the bytes is kept with them"
    assert not walk.core.pool.slots[0].crashes


def test_a_download_that_finishes_during_a_drain_is_delivered() -> None:
    walk = Walk()
    walk.ready()
    walk.do(inputs.Drain(now=False))
    walk.say(make.responded())
    walk.say(FINISHED)
    walk.name()
    walk.do(inputs.Sealed("job", 1, 1000, 7, 8))
    assert walk.job.state is State.PUBLISHING


@pytest.mark.parametrize(
    "end", [STOPPED, FINISHED, make.failed(Code.NOT_FOUND)], ids=lambda end: type(end).__name__
)
def test_a_paused_job_stays_paused_however_the_attempt_ends(end: mailbox.Report) -> None:
    walk = running()
    walk.do(verb("pause", "job"))
    walk.say(end)
    assert walk.job.state is State.PAUSED
    walk.settle()
    assert "job" not in walk.core.ledger.live


@pytest.mark.parametrize("cause", Gone)
def test_a_paused_job_stays_paused_however_the_worker_ends(cause: Gone) -> None:
    walk = running()
    walk.do(verb("pause", "job"))
    walk.now = moment(102)
    assert make.of(walk.do(inputs.Tick()), Kill), "it did not stop in time"
    walk.do(inputs.WorkerGone(0, 1, cause))
    assert (walk.job.state, walk.job.deaths, walk.job.failures) == (State.PAUSED, 0, 0)


def test_a_pausing_job_that_is_cancelled_is_cleaned_once_it_has_stopped() -> None:
    walk = running()
    walk.do(verb("pause", "job"))
    assert not make.of(walk.do(verb("cancel", "job")), Clean | StopAttempt)
    assert [one.job.state for one in make.of(walk.say(STOPPED), Clean)] == [State.CANCELLED]


# two attempts of one job


def test_nothing_is_begun_before_the_old_attempt_is_over() -> None:
    walk = running()
    for name in ("cancel", "retry", "pause", "resume", "cancel", "retry"):
        commands = walk.do(verb(name, "job", req=f"{len(walk.core.replies)}"))
        assert not make.of(commands, AssignJob)
        assert not make.of(commands, Clean), "the old worker still has the workspace"
    commands = walk.say(STOPPED)
    assert [type(one) for one in commands if isinstance(one, Clean | AssignJob)] == [Clean, AssignJob]
    assert make.of(commands, AssignJob)[0].job.attempt == 2


def test_an_id_that_is_used_again_while_the_old_attempt_stops() -> None:
    walk = running()
    walk.do(verb("remove", "job"))
    walk.do(submit(intake(priority=3), req="anew"))
    assert walk.job.state is State.QUEUED
    commands = walk.say(STOPPED)
    assert [type(one) for one in commands if isinstance(one, Clean | AssignJob)] == [Clean, AssignJob]
    assert make.of(commands, AssignJob)[0].job.priority == 3
    walk.do(inputs.NameProbed("job", 1, ("old",), frozenset()))
    assert walk.job.name is None, "that was asked for the old one"


def test_a_forgotten_job_leaves_nothing_to_go_on_from() -> None:
    walk = running()
    old = walk.job.generation
    walk.do(verb("remove", "job"))
    walk.do(submit(intake(), req="anew"))
    assert walk.job.generation > old + 1000, "a crash may leave the old workspace behind"


# remove and submit again


def test_a_path_of_a_forgotten_job_is_free_before_the_commit() -> None:
    walk = Walk(name="f")
    old = walk.job
    walk.do(verb("remove", "job"))
    walk.do(submit(intake(name="f"), req="anew", known={"job": old}, paths={"/data/f": "job"}))
    assert make.of(walk.commands, Reply)[0].body.jobs[0].duplicate is False
    assert not make.of(walk.do(submit(intake("b", name="g"), paths={"/data/g": "nobody"})), Reply)
    assert walk.core.ledger.paths == {"/data/f": "job"}


def test_rows_of_a_forgotten_job_do_not_bring_it_back() -> None:
    walk = Walk()
    walk.core, _ = make.new_core(workers=1, counts={State.QUEUED: 1}, seq=1)
    row = job()
    walk.do(verb("remove", "job", known={"job": row}))
    walk.do(inputs.LanesLoaded((row.lane,), more=False))
    walk.do(inputs.WindowLoaded(row.lane, (row,), more=False))
    walk.do(inputs.ChunkLoaded(1, (row,), more=False))
    walk.do(inputs.Expired((replace(row, state=State.FAILED, kept_until=5),)))
    walk.do(inputs.Outdated((replace(row, state=State.FAILED),)))
    assert walk.core.ledger.find("job") is None
    assert sum(walk.core.ledger.counts.values()) == 0


def test_what_was_delivered_no_longer_counts_once_it_is_forgotten() -> None:
    walk = Walk()
    walk.seal()
    walk.do(inputs.Published("job", 1))
    assert walk.core.delivered == 1000
    walk.do(verb("remove", "job"))
    assert walk.core.delivered == 0


# retention


def test_the_history_forgets_what_it_has_known_long_enough() -> None:
    """As if it had been removed: the totals are those of the jobs that are left, and the ID is free."""
    walk = Walk()
    walk.seal()
    walk.do(inputs.Published("job", 1))
    row = walk.job
    walk.settle()
    commands = walk.do(inputs.Outdated((row,)))
    assert [event.kind for event in make.of(commands, Event)] == ["removed"]
    assert [one.job.id for one in make.of(commands, Forget)] == ["job"]
    assert (walk.core.delivered, sum(walk.core.ledger.counts.values())) == (0, 0)
    assert not make.of(walk.do(inputs.Outdated((row,))), Forget), "only once"
    assert sum(walk.core.ledger.counts.values()) == 0


def test_the_history_does_not_forget_what_is_needed_again() -> None:
    """A row may be older than a retry, or than the workspace that is kept by now."""
    walk = running()
    walk.say(make.failed(Code.NOT_FOUND, kept=500))
    row = walk.job
    walk.settle()
    assert not make.of(walk.do(inputs.Outdated((row,))), Forget), "its workspace is kept"
    walk.do(verb("retry", "job", known={"job": row}))
    assert not make.of(walk.do(inputs.Outdated((replace(row, kept_until=0),))), Forget)
    assert walk.job.state is State.RUNNING


# retry


def test_a_kept_job_goes_on_from_its_bytes() -> None:
    walk = running()
    walk.say(mailbox.Synced(**WHO, generation=0, ranges=[(0, 500)]))
    walk.say(make.failed(Code.NOT_FOUND, kept=500))
    walk.do(verb("retry", "job"))
    sent = make.of(walk.commands, AssignJob)[0].job
    assert (sent.synced, sent.generation, sent.mark, sent.failures) == (((0, 500),), 0, 500, 0)


@pytest.mark.parametrize("secrets", [None, b"s"])
def test_a_job_that_was_not_kept_begins_with_a_new_generation(secrets: bytes | None) -> None:
    walk = running(secrets=secrets, cleanup=Cleanup(failure=True))
    walk.say(mailbox.Synced(**WHO, generation=0, ranges=[(0, 500)]))
    assert make.of(walk.say(make.failed(Code.NOT_FOUND, kept=500)), Clean)
    walk.do(verb("retry", "job"))
    sent = make.of(walk.commands, AssignJob)[0].job
    assert (sent.synced, sent.etag, sent.total) == ((), None, None)
    assert sent.generation > 0, "a crash may have come before the workspace was deleted"


def test_bytes_with_a_wrong_checksum_are_not_gone_on_from() -> None:
    walk = running(cleanup=Cleanup(failure=False))
    walk.say(mailbox.Synced(**WHO, generation=0, ranges=[(0, 1000)]))
    walk.say(make.failed(Code.CHECKSUM_MISMATCH, kept=1000))
    sent = make.of(walk.commands, AssignJob)[0].job
    assert (sent.synced, sent.generation, sent.wasted) == ((), 1, 1000), "once from zero"
    walk.say(make.responded(attempt=2, generation=1))
    walk.say(mailbox.Synced(job="job", attempt=2, generation=1, ranges=[(0, 1000)]))
    assert not make.of(walk.say(make.failed(Code.CHECKSUM_MISMATCH, attempt=2, kept=1000)), Clean)
    assert walk.job.state is State.FAILED
    walk.do(verb("retry", "job"))
    sent = make.of(walk.commands, AssignJob)[0].job
    assert (sent.synced, sent.generation, sent.wasted) == ((), 2, 2000)


def test_secrets_that_are_on_their_way_out_are_gone() -> None:
    walk = running(secrets=b"s")
    walk.say(make.failed(Code.NOT_FOUND, kept=500))
    walk.now = moment(10**6)
    assert make.of(walk.do(inputs.Expired((walk.job,))), DropSecrets)
    # the store had them still when it was asked
    reply = make.of(walk.do(verb("retry", "job")), Reply)[0]
    assert reply.body.jobs[0].code == Code.SECRETS_GONE


# what is kept


def test_a_workspace_is_deleted_when_its_time_is_over() -> None:
    walk = running()
    walk.say(make.failed(Code.NOT_FOUND, kept=500))
    row = walk.job
    walk.settle()
    walk.now = moment(10**6)
    assert make.of(walk.do(inputs.Expired((row,))), Clean)
    assert (walk.job.kept_until, walk.job.bytes) == (0, 0)
    assert not make.of(walk.do(inputs.Expired((row,))), Clean), "only once"
    walk.do(verb("retry", "job"))
    assert walk.job.generation > 0


def test_a_workspace_that_is_needed_again_is_not_deleted() -> None:
    walk = running()
    walk.say(make.failed(Code.NOT_FOUND, kept=500))
    row = walk.job
    walk.do(verb("retry", "job"))
    assert not make.of(walk.do(inputs.Expired((row,))), Clean)
    walk.now = moment(101)
    walk.say(make.responded(attempt=2))
    walk.say(make.failed(Code.NOT_FOUND, attempt=2, kept=500))
    assert walk.job.kept_until > row.kept_until
    assert not make.of(walk.do(inputs.Expired((row,))), Clean), "that was an earlier failure's time"


def test_a_workspace_may_be_given_up_before_its_time() -> None:
    """While the change is not on disk yet; and the secrets stay, so that the job can be retried."""
    walk = running(secrets=b"s")
    walk.say(make.failed(Code.NOT_FOUND, kept=500))
    commands = walk.do(inputs.Expired((walk.job,)))
    assert make.of(commands, Clean)
    assert not make.of(commands, DropSecrets)
    reply = make.of(walk.do(verb("retry", "job")), Reply)[0]
    assert reply.body.jobs[0].code is None
    assert (walk.job.synced, walk.job.generation) == ((), 1)


def test_a_workspace_in_use_is_not_deleted_by_another_way() -> None:
    walk = running(secrets=b"s")
    walk.name(taken=("f", "f (1)"))
    assert (walk.job.state, walk.job.kept_until > 0) == (State.FAILED, True), "its secrets are kept"
    assert not make.of(walk.do(inputs.Expired((walk.job,))), Clean)
    assert not make.of(walk.do(verb("remove", "job")), Clean)
    assert len(make.of(walk.say(STOPPED), Clean)) == 1


# resume behind a closed queue


def test_a_resume_behind_a_closed_queue_undoes_the_pause_of_the_job() -> None:
    walk = running()
    walk.do(verb("pause", "job"))
    walk.say(STOPPED)
    walk.do(bulk("pause"))
    outcome = make.of(walk.do(verb("resume", "job")), Reply)[0].body.jobs[0]
    assert (outcome.state, outcome.code) == (State.PAUSED, None)
    assert walk.job.state is State.QUEUED


# workers


def test_a_sync_that_crosses_a_restart_is_no_violation() -> None:
    """The thread that syncs does not wait for the one that asks."""
    walk = Walk()
    walk.respond()
    walk.say(mailbox.Restart(**WHO, generation=0, why=""))
    assert walk.say(mailbox.Synced(**WHO, generation=0, ranges=[(0, 500)])) == []
    walk.say(make.responded(generation=1))
    assert walk.say(mailbox.Synced(**WHO, generation=0, ranges=[(0, 500)])) == []
    assert walk.job.synced == (), "they are of the content before"


def test_an_attempt_does_not_begin_anew_for_ever() -> None:
    walk = Walk()
    walk.ready()
    for generation in range(attempt.RESTARTS):
        assert make.of(walk.say(mailbox.Restart(**WHO, generation=generation, why="")), AllowRestart)
    commands = walk.say(mailbox.Restart(**WHO, generation=attempt.RESTARTS, why=""))
    assert make.of(commands, Kill)
    assert not make.of(commands, SaveJob)


def test_a_worker_that_does_not_come_up_is_killed_and_replaced() -> None:
    walk = Walk()
    waits = []
    for _ in range(6):
        deadline = walk.core.next_deadline(walk.now.mono)
        assert deadline is not None
        waits.append((deadline - walk.now.mono) // SECOND)
        walk.now = moment(deadline / SECOND)
        commands = walk.do(inputs.Tick())
        assert len(make.of(commands, Kill)) == (waits[-1] == 30)
        assert not walk.job.failures
    assert set(waits) == {30}, "so slow a failure needs no further rest"
    assert make.of(walk.ready(), AssignJob)[0].job.attempt == 7
    assert walk.core.next_deadline(walk.now.mono) is None


def test_workers_that_do_not_come_up_count_as_crashed() -> None:
    core, commands = make.new_core(workers=1)
    core.settings = replace(core.settings, start_timeout=SECOND)
    assert make.of(commands, Spawn)
    now = 130.0
    for _ in range(5):
        core.handle(inputs.Tick(), moment(now))
        core.validate()
        deadline = core.next_deadline(moment(now).mono)
        assert deadline is not None
        now = deadline / SECOND
    slot = core.pool.slots[0]
    assert len(slot.crashes) >= 4
    assert slot.not_before > 0, "it is left empty for a while"


def test_fewer_workers_take_nothing_from_a_job() -> None:
    walk = Walk(workers=3)
    walk.do(submit(*(intake(f"j{n}") for n in range(4))))
    assert walk.core.pool.busy() == 3
    fewer = replace(walk.core.settings, workers=1)
    assert not make.of(walk.do(inputs.Configure(fewer)), Kill | StopAttempt)
    for slot in (0, 1):
        walk.do(inputs.WorkerGone(slot, 1, Gone.DIED))
        assert walk.core.pool.busy() == 2 - slot
    assert make.of(walk.do(inputs.Configure(replace(fewer, workers=4))), Spawn)
    assert walk.core.pool.busy() == 4
    assert walk.core.next_deadline(walk.now.mono) is not None


def test_requests_that_are_refused_change_nothing() -> None:
    walk = Walk()
    walk.do(bulk("cancel"))
    before = walk.core.ledger.stamp
    assert make.of(walk.do(verb("retry", "job")), Refuse)[0].code is Code.BUSY
    assert make.of(walk.do(bulk("retry")), Refuse)[0].code is Code.BUSY
    assert walk.core.ledger.stamp == before
