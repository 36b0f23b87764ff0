"""The loop and the engine: timers, faults that end nothing, and effects strictly after their commit."""

import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.wait import Deadline

from fetchd.daemon.core import inputs
from fetchd.daemon.core.commands import (
    Command,
    Event,
    LoadLanes,
    Refuse,
    Reply,
    SaveJob,
    Spawn,
)
from fetchd.daemon.core.core import Core
from fetchd.daemon.core.gates import Gates
from fetchd.daemon.core.job import Moment
from fetchd.daemon.router.engine import Engine, Entry
from fetchd.daemon.router.loop import Loop, boot_time
from fetchd.daemon.router.waits import Waits
from fetchd.protocol.control import Done

from .store_jobs import job


@pytest.fixture
def loop() -> Loop:
    return Loop()


def turn_until(loop: Loop, condition: Callable[[], bool]) -> None:
    deadline = Deadline(10)
    while not condition():
        loop.turn(min(loop._timeout(), deadline.left("the condition")))


class Pipe:
    """Something readable."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        os.write(self.write, b"x")

    def close(self) -> None:
        os.close(self.read)
        os.close(self.write)


@pytest.fixture
def pipes() -> Iterator[list[Pipe]]:
    made = [Pipe() for _ in range(3)]
    yield made
    for pipe in made:
        pipe.close()


# the loop


def test_timers_fire_in_order_and_cancelled_ones_do_not(loop: Loop) -> None:
    fired: list[str] = []
    now = boot_time()
    loop.at(now + 20_000, lambda: fired.append("late"))
    loop.at(now - 1, lambda: fired.append("due"))
    loop.at(now + 10_000, lambda: fired.append("cancelled")).cancel()
    loop.at(now + 10_000, lambda: fired.append("first"))
    loop.at(now + 10_000, lambda: fired.append("second"))
    turn_until(loop, lambda: "late" in fired)
    assert fired == ["due", "first", "second", "late"]


def test_periods_go_on_after_a_fault(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    count: list[int] = []

    def tick() -> None:
        count.append(1)
        raise ValueError("a fault of ours")

    loop.every(1000, tick)
    turn_until(loop, lambda: len(count) == 3)
    assert "a fault of ours" in caplog.text


def test_a_fault_in_one_callback_ends_nothing(
    loop: Loop, pipes: list[Pipe], caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged with its traceback; the others of the turn, the timers and the end of the turn come."""
    called: list[str] = []

    def fail() -> None:
        called.append("fail")
        raise KeyError("a fault of ours")

    loop.add(pipes[0].read, fail)
    loop.add(pipes[1].read, lambda: called.append("other"))
    loop.at(boot_time(), lambda: called.append("timer"))
    loop.after = lambda: called.append("after")
    loop.turn(0)
    assert sorted(called) == ["after", "fail", "other", "timer"]
    assert "Traceback" in caplog.text

    def broken_end() -> None:
        raise ZeroDivisionError

    loop.after = broken_end
    loop.turn(0)
    assert "ZeroDivisionError" in caplog.text


def test_what_is_removed_in_a_turn_is_not_called_in_it(loop: Loop, pipes: list[Pipe]) -> None:
    """Nor is what took its descriptor's number in the meantime: that is somebody else, and not ready."""
    called: list[int] = []

    def first_come(number: int) -> Callable[[], None]:
        def callback() -> None:
            called.append(number)
            for other, pipe in enumerate(pipes):
                loop.remove(pipe.read)
                if other != number:
                    loop.add(pipe.read, lambda: called.append(99))
                    loop.remove(pipe.read)
                    loop.add(pipe.read, lambda: called.append(99))

        return callback

    for number, pipe in enumerate(pipes):
        loop.add(pipe.read, first_come(number))
    loop.turn(0)
    assert len(called) == 1
    assert called != [99]


def test_stop_ends_after_the_turn(loop: Loop, pipes: list[Pipe]) -> None:
    called: list[str] = []
    loop.add(pipes[0].read, loop.stop)
    loop.after = lambda: called.append("after")
    loop.run()
    assert called == ["after"]


# who waits


def test_waits(loop: Loop) -> None:
    waits = Waits(loop)
    heard: list[tuple[str, list[str]]] = []

    def answer(name: str) -> Callable[[list[str], int], None]:
        return lambda ids, _revision: heard.append((name, ids))

    waits.add("uid:1", ["a", "b"], 30, answer("both"), final=False)
    waits.add("uid:1", ["b"], 30, answer("end"), final=True)
    waits.add("uid:1", ["c"], 0.01, answer("short"), final=False)
    waits.changed("b", 1, final=False)
    turn_until(loop, lambda: len(heard) == 2)
    assert sorted(heard) == [("both", ["b"]), ("short", [])]
    waits.changed("b", 2, final=True)
    turn_until(loop, lambda: len(heard) == 3)
    assert heard[-1] == ("end", ["b"])
    waits.add("uid:1", ["d"], 30, answer("stopped"), final=False)
    waits.end_all()
    assert heard[-1] == ("stopped", [])
    assert waits._by_job == {}
    assert not waits.full("uid:1")


def test_waits_are_bounded_by_what_they_wait_for(loop: Loop) -> None:
    """Ten thousand clients that wait for a thousand jobs each would take gigabytes. Of two owners who take
    what they can the second has half as much."""
    waits = Waits(loop)
    ids = [f"job-{n}" for n in range(1000)]
    for owner, most in (("uid:1", 200), ("uid:2", 100)):
        taken = 0
        while not waits.full(owner):
            waits.add(owner, ids, 30, lambda _ids, _revision: None, final=False)
            taken += 1
        assert 0.9 * most < taken <= most
    assert waits.full("uid:1")
    assert not waits.full("uid:3")
    waits.end_all()
    assert not waits.full("uid:1")


# the engine


class Request:
    """A request as far as the engine looks at it."""

    def __init__(self, token: str) -> None:
        self.token = token


class Say:
    """An input that is answered with these commands."""

    def __init__(self, *commands: Command, token: str | None = None) -> None:
        self.commands = list(commands)
        self.request = None if token is None else Request(token)


class Script(Core):
    """A core that does what its inputs say: the engine must not care what it is."""

    def __init__(self, heard: list[object], starting: list[Command] | None = None) -> None:
        self.heard = heard
        self.starting = starting or []
        self.gates = Gates()

    def start(self, now: Moment) -> list[Command]:
        return self.starting

    def handle(self, event: Any, now: Moment) -> list[Command]:
        if isinstance(event, inputs.Committed):
            self.heard.append(("committed", event.stamp))
            return []
        if not event.commands:
            raise ArithmeticError("a fault in the core")
        return list(event.commands)

    def next_deadline(self, now: int) -> int | None:
        return None


class Rig:
    """An engine, a store that answers when the test says so, and a log of what was carried out."""

    def __init__(self) -> None:
        self.heard: list[object] = []
        self.batches: list[tuple[list[Entry], Callable[[None, BaseException | None], None]]] = []
        self.failures: list[list[object]] = []
        self.lost: list[object] = []
        self.engine = Engine(Script(self.heard), self.commit, self.failed)
        self.engine.lost = self.lost.append
        self.engine.wire(
            {
                Reply: lambda command: self.heard.append(("reply", command.token)),
                Refuse: lambda command: self.heard.append(("refuse", command.token)),
                Spawn: self.spawn,
                LoadLanes: lambda _command: self.heard.append("query"),
            }
        )
        self.engine.announce = lambda event, _body: self.heard.append(("event", event.revision))

    def commit(self, batch: list[Entry], then: Callable[[None, BaseException | None], None]) -> None:
        self.batches.append((batch, then))

    def failed(self, error: BaseException, tokens: list[object]) -> None:
        self.failures.append([str(error), *tokens])
        # as the application does it
        self.engine.abandon()

    def spawn(self, _command: Spawn) -> None:
        raise OSError(24, "no descriptors")

    def answer(self, error: BaseException | None = None) -> None:
        """The store has done the oldest batch."""
        self.batches.pop(0)[1](None, error)

    def feed(self, *events: Say) -> None:
        for event in events:
            self.engine.feed(event)  # type: ignore[arg-type]
        self.engine.turn()


@pytest.fixture
def rig() -> Rig:
    return Rig()


def save(stamp: int) -> SaveJob:
    return SaveJob(stamp, job(stamp))


def test_effects_come_strictly_after_their_commit(rig: Rig) -> None:
    rig.feed(Say(save(1), Event(1, "queued", 1, job(1)), Reply("one", Done()), LoadLanes(1)))
    assert rig.heard == ["query"]
    assert len(rig.batches) == 1
    rig.feed(Say(save(2), Reply("two", Done())), Say(save(3), Reply("three", Done())))
    # one batch in flight, the next one accumulates
    assert len(rig.batches) == 1
    rig.engine.after(lambda: rig.heard.append("after"))
    rig.answer()
    assert rig.heard == ["query", ("committed", 1), ("event", 1), ("reply", "one")]
    assert [command.stamp for command, _ in rig.batches[0][0]] == [2, 3]  # type: ignore[attr-defined]
    rig.answer()
    assert rig.heard[4:] == [("committed", 3), ("reply", "two"), ("reply", "three"), "after"]
    rig.engine.after(lambda: rig.heard.append("at once"))
    assert rig.heard[-1] == "at once"


def test_effects_without_a_change_wait_for_nothing(rig: Rig) -> None:
    rig.feed(Say(Reply("one", Done())))
    assert rig.heard == [("reply", "one")]


def test_but_they_never_overtake_what_is_in_flight(rig: Rig) -> None:
    rig.feed(Say(save(1), Reply("one", Done())))
    rig.feed(Say(Reply("two", Done())))
    assert rig.heard == []
    rig.answer()
    assert rig.heard == [("committed", 1), ("reply", "one"), ("reply", "two")]


def test_a_commit_that_fails(rig: Rig) -> None:
    """Nothing of it is carried out, and whoever asked is told, those of the next batch too."""
    rig.feed(Say(save(1), Event(1, "queued", 1, job(1)), Reply("one", Done())))
    rig.feed(Say(save(2), Reply("two", Done())))
    rig.engine.after(lambda: rig.heard.append("after"), "three")
    rig.answer(OSError("no disk"))
    assert rig.heard == []
    assert rig.failures == [["no disk", "one", "two", "three"]]
    assert rig.engine.dead
    assert rig.engine.deadline() is None
    rig.feed(Say(Reply("four", Done())))
    assert rig.heard == []


def test_it_goes_on_with_a_new_core(rig: Rig) -> None:
    rig.feed(Say(save(500), Reply("one", Done())))
    rig.answer(OSError("no disk"))
    rig.engine.revive(Script(rig.heard, [save(1)]))
    assert not rig.engine.dead
    rig.answer()
    rig.feed(Say(Event(2, "queued", 1, job(1)), Reply("two", Done())))
    rig.answer()
    # the numbers of the old core mean nothing to the new one
    assert [entry for entry in rig.heard if entry[0] == "committed"] == [("committed", 1), ("committed", 1)]  # type: ignore[index]
    assert rig.heard[-1] == ("reply", "two")


def test_stamps_of_an_old_core_settle_nothing_of_a_new_one(rig: Rig) -> None:
    rig.feed(Say(save(500)))
    rig.answer(OSError("no disk"))
    rig.engine.revive(Script(rig.heard))
    rig.feed(Say(Event(2, "queued", 1, job(1))))
    rig.answer()
    assert ("committed", 500) not in rig.heard


def test_a_fault_in_the_core(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """What it believes cannot be trusted any more: it is loaded anew, and all who asked are told."""
    rig.feed(Say(save(1), Reply("one", Done())))
    rig.feed(Say(save(2), token="two"), Say(token="three"), Say(save(3), token="four"))
    assert rig.failures == [["a fault in the core", "one", "two", "three", "four"]]
    assert rig.engine.dead
    assert "ArithmeticError" in caplog.text
    # the batch that was in flight is on disk, but nothing of it is carried out
    rig.answer()
    assert rig.heard == []


def test_a_fault_while_the_core_hears_of_a_commit(rig: Rig) -> None:
    rig.feed(Say(save(1), Spawn(0, 1, frozenset()), Reply("one", Done())))
    rig.answer()
    assert rig.failures == [["[Errno 24] no descriptors", "one"]]
    assert rig.engine.dead


def test_a_fault_in_an_effect_without_a_commit(rig: Rig) -> None:
    rig.feed(Say(Spawn(0, 1, frozenset()), Reply("one", Done())))
    assert rig.failures == [["[Errno 24] no descriptors", "one"]]


def test_a_new_core_that_cannot_start(rig: Rig) -> None:
    rig.feed(Say(save(1)))
    rig.answer(OSError("no disk"))
    rig.engine.revive(Script(rig.heard, [Spawn(0, 1, frozenset())]))
    assert rig.failures[-1] == ["[Errno 24] no descriptors"]
    assert rig.engine.dead


def test_an_event_that_cannot_be_sent_is_a_fault_not_an_end(rig: Rig) -> None:
    rig.feed(Say(Event(1, "queued", 1, job(1, directory="/caf\udce9")), Reply("one", Done())))
    assert len(rig.failures) == 1
    assert rig.engine.dead


def test_whoever_gives_the_core_up_tells_those_who_asked(rig: Rig) -> None:
    rig.feed(Say(save(1), Reply("one", Done())))
    rig.feed(Say(save(2), Reply("two", Done())))
    rig.engine.abandon()
    assert rig.lost == ["one", "two"]
    assert rig.failures == []


def test_log_levels(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    from fetchd.daemon.core.commands import Log

    caplog.set_level(logging.INFO)
    rig.feed(Say(Log("warning", "look here")))
    assert [(record.levelname, record.message) for record in caplog.records] == [("WARNING", "look here")]
