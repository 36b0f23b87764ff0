"""The wall clock jumps by years: durations are the boot-time clock's, and nobody notices."""

import pytest

from fetchd.daemon.core import inputs
from fetchd.daemon.core.commands import AssignJob, DropGate, Kill, SaveGate
from fetchd.daemon.core.job import Moment
from fetchd.protocol.errors import Code
from fetchd.protocol.job import Reason, State

from . import make
from .make import SECOND, WALL, Walk

TEN_YEARS = 10 * 365 * 86_400 * SECOND


def at(mono: int, jump: int) -> Moment:
    """A moment on a boot-time clock that goes on and a wall clock that has jumped."""
    return Moment(mono, WALL + mono + jump)


@pytest.mark.parametrize("jump", [TEN_YEARS, -TEN_YEARS, 0])
def test_a_wait_ends_when_it_was_asked_for(jump: int) -> None:
    walk = Walk()
    walk.ready()
    walk.say(make.failed(Code.SERVER_ERROR))
    due = walk.job.wait_until
    assert walk.job.state is State.WAITING
    assert 0 < due - walk.now.mono <= SECOND
    walk.core.handle(inputs.Tick(), at(due - 1, jump))
    assert walk.job.state is State.WAITING, "not before"
    assert walk.core.next_deadline(due - 1) == due
    assert make.of(walk.core.handle(inputs.Tick(), at(due, jump)), AssignJob)
    assert walk.job.state is State.RUNNING
    walk.core.validate()


@pytest.mark.parametrize("jump", [TEN_YEARS, -TEN_YEARS])
def test_a_parked_host_is_asked_again_when_it_said(jump: int) -> None:
    walk = Walk()
    walk.ready()
    commands = walk.say(make.failed(Code.UNAVAILABLE, retry_after=30.0))
    (gate,) = [save.gate for save in make.of(commands, SaveGate)]
    assert gate.key.reason is Reason.HOST_PARKED
    assert gate.until is not None
    assert 30 * SECOND <= gate.until - walk.now.mono <= 33 * SECOND
    assert not make.of(walk.core.handle(inputs.Tick(), at(gate.until - 1, jump)), DropGate)
    assert make.of(walk.core.handle(inputs.Tick(), at(gate.until, jump)), DropGate)


@pytest.mark.parametrize("jump", [TEN_YEARS, -TEN_YEARS])
def test_nobody_counts_as_late(jump: int) -> None:
    """Neither the worker that comes up nor the attempt that is asked to stop."""
    walk = Walk()
    mono = make.moment(100).mono
    assert not make.of(walk.core.handle(inputs.Tick(), at(mono, jump)), Kill)
    walk.core.handle(make.verb("pause", "job"), at(mono, jump))
    assert not make.of(walk.core.handle(inputs.Tick(), at(mono + 1, -jump)), Kill)
    walk.core.validate()
