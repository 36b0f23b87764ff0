"""Finished files whose seal or publish was refused: the step is repeated, and the job keeps its bytes."""

import pytest

from fetchd.daemon.core import inputs
from fetchd.daemon.core.commands import Clean, DropGate, Exit, Publish, SaveGate, Seal
from fetchd.protocol.errors import Code
from fetchd.protocol.job import State

from . import make
from .make import SECOND, Walk, intake, job, moment, submit
from .test_disk import CLOSED, FULL, OTHER, at_deadline, found, later


@pytest.mark.parametrize("code", FULL)
def test_a_publish_is_held_and_done_again(code: Code) -> None:
    walk = Walk(retries=0)
    walk.seal()
    commands = walk.do(inputs.FileRefused("job", 1, code, "no room"))
    assert make.of(commands, SaveGate)
    assert (walk.job.state, walk.job.error_code) == (State.PUBLISHING, code)
    walk.do(found(0))
    assert not make.of(at_deadline(walk), Publish)
    assert make.of(walk.do(found()), Publish)
    walk.do(inputs.Published("job", 1))
    assert (walk.job.state, walk.job.error_code) == (State.COMPLETED, None)


def test_it_waits_for_room_on_its_own_file_system() -> None:
    walk = Walk()
    walk.seal()
    walk.do(inputs.FileRefused("job", 1, Code.DISK_FULL, ""))
    walk.do(submit(intake("other", area=OTHER, host="b.test")))
    walk.do(inputs.WorkerReady(0, walk.core.pool.slots[0].incarnation))
    walk.say(make.failed(Code.DISK_FULL, "other"))
    commands = walk.do(found(area=OTHER))
    assert make.of(commands, DropGate)
    assert not make.of(commands, Publish)


def test_a_seal_is_held_and_done_again() -> None:
    walk = Walk(retries=0)
    walk.finish()
    walk.do(inputs.FileRefused("job", 1, Code.DISK_FULL, "no room"))
    assert walk.job.state is State.RUNNING
    assert [seal.size for seal in make.of(walk.do(found()), Seal)] == [1000]


@pytest.mark.parametrize("steps", ["finish", "seal"])
@pytest.mark.parametrize(("rand", "seconds"), [(0.0, 1), (1.0, 10)])
def test_what_is_exhausted_is_done_again_after_a_while(steps: str, rand: float, seconds: int) -> None:
    walk = Walk(retries=0)
    getattr(walk, steps)()
    walk.now = moment(100, rand)
    walk.do(inputs.FileRefused("job", 1, Code.EXHAUSTED, ""))
    assert walk.core.repeats.next() == walk.now.mono + seconds * SECOND
    due = walk.core.next_deadline(walk.now.mono)
    assert due is not None
    assert due <= walk.now.mono + seconds * SECOND
    later(walk, seconds - 0.1)
    assert not make.of(walk.do(inputs.Tick()), Publish) + make.of(walk.commands, Seal)
    later(walk, 0.1)
    assert make.of(walk.do(inputs.Tick()), Publish) + make.of(walk.commands, Seal)


def test_a_publish_with_an_io_error_is_repeated_three_times() -> None:
    walk = Walk(retries=0)
    walk.seal()
    for _ in range(3):
        walk.do(inputs.FileRefused("job", 1, Code.IO_ERROR, "bad"))
        assert walk.job.state is State.PUBLISHING
        later(walk, 10)
        assert make.of(walk.do(inputs.Tick()), Publish)
    walk.do(inputs.FileRefused("job", 1, Code.IO_ERROR, "bad"))
    assert (walk.job.state, walk.job.error_code, walk.job.kept_until) == (State.FAILED, Code.IO_ERROR, 0)


@pytest.mark.parametrize("verb", ["cancel", "remove"])
def test_a_held_publish_can_be_cancelled(verb: inputs.VerbName) -> None:
    walk = Walk()
    walk.seal()
    walk.do(inputs.FileRefused("job", 1, Code.DISK_FULL, ""))
    assert make.of(walk.do(make.verb(verb, "job")), Clean)
    assert "job" not in walk.core.runs
    assert not make.of(walk.do(found()), Publish)


@pytest.mark.parametrize("steps", ["finish", "seal"])
def test_a_drain_does_not_wait_for_a_disk(steps: str) -> None:
    """What waits for room is done by the next daemon."""
    walk = Walk()
    getattr(walk, steps)()
    walk.do(inputs.Drain(now=False))
    assert not walk.core.exited, "a step that is under way is waited for"
    assert make.of(walk.do(inputs.FileRefused("job", 1, Code.DISK_FULL, "")), Exit)


def test_a_publish_under_way_can_not_be_cancelled() -> None:
    walk = Walk()
    walk.seal()
    walk.do(inputs.FileRefused("job", 1, Code.DISK_FULL, ""))
    walk.do(found())
    walk.do(make.cancel("job"))
    assert walk.job.state is State.PUBLISHING


def test_a_publish_behind_a_gate_waits_after_a_start() -> None:
    stored = job(state=State.PUBLISHING, attempt=1, name="f", size=5)
    core, commands = make.new_core(gates=(CLOSED,), active=(stored,), counts={State.PUBLISHING: 1}, seq=1)
    assert not make.of(commands, Publish)
    assert make.of(core.handle(found(), moment()), Publish)
