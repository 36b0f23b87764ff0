"""What one owner may take: places in the queue, attempts, bytes on their way."""

from typing import Any

import pytest

from fetchd.daemon.core import inputs
from fetchd.daemon.core.aside import Aside
from fetchd.daemon.core.commands import AssignJob, Command, Refuse, Reply
from fetchd.daemon.core.core import Core
from fetchd.daemon.core.settings import Settings
from fetchd.protocol.errors import Code
from fetchd.protocol.job import Reason, State

from . import make
from .make import AREA, Walk, intake, job, moment


class Office:
    """A core with free workers, and owners who submit."""

    def __init__(self, **settings: Any) -> None:
        self.core, _ = make.new_core(workers=5, settings=settings)
        self.requests = 0

    def do(self, event: inputs.Input) -> list[Command]:
        commands = self.core.handle(event, moment())
        self.core.validate()
        return commands

    def request(self, owner: str) -> inputs.Request:
        self.requests += 1
        return make.request(f"r{self.requests}", owner)

    def submit(self, *names: str, owner: str = "uid:1") -> list[Command]:
        """Jobs of hosts of their own, so that only the owner is what they share."""
        jobs = tuple(intake(name, host=f"{name}.test") for name in names)
        return self.do(inputs.Submit(self.request(owner), jobs, {}, {}))

    def running(self) -> set[str]:
        return set(self.core.runs)

    def configure(self, **settings: Any) -> None:
        self.do(inputs.Configure(Settings(workers=5, default_area=AREA, **settings)))


def refusal(commands: list[Command]) -> Refuse | None:
    return next(iter(make.of(commands, Refuse)), None)


def test_a_full_queue_is_refused_more() -> None:
    office = Office(max_queued=3, max_running=1)
    assert make.of(office.submit("a", "b", "c"), Reply)
    assert office.running() == {"a"}, "which is queued no more"
    refused = refusal(office.submit("d", "e"))
    assert refused is not None, "all or none"
    assert (refused.code, refused.retry_after) == (Code.BUSY, 60.0)
    assert office.core.ledger.find("d") is None
    assert make.of(office.submit("d"), Reply)
    assert refusal(office.submit("e")) is not None
    assert make.of(office.submit("d"), Reply), "a repetition adds nothing"
    assert make.of(office.submit("x", "y", "z", owner="uid:2"), Reply), "it is of each owner"
    office.configure(max_queued=4, max_running=1)
    assert make.of(office.submit("e"), Reply)


def test_paused_and_waiting_jobs_take_places_too() -> None:
    office = Office(max_queued=2, max_running=1)
    office.submit("run")
    office.submit("a", "b")
    office.do(inputs.Verb(office.request("uid:1"), "pause", ("a", "b"), {}))
    assert refusal(office.submit("c")) is not None
    office.do(inputs.Verb(office.request("uid:1"), "cancel", ("a",), {}))
    assert make.of(office.submit("c"), Reply)


def test_what_is_over_is_not_revived_into_a_full_queue() -> None:
    office = Office(max_queued=1, max_running=1)
    office.submit("run")
    office.submit("a")
    old = job("old", 9, state=State.FAILED, finished=1)
    retry = inputs.Verb(office.request("uid:1"), "retry", ("old",), {"old": old}, frozenset())
    (reply,) = make.of(office.do(retry), Reply)
    assert (reply.body.jobs[0].state, reply.body.jobs[0].code) == (State.FAILED, Code.BUSY)


def test_as_many_attempts_as_allowed() -> None:
    office = Office(max_running=2)
    office.submit("a", "b", "c")
    office.submit("x", owner="uid:2")
    assert office.running() == {"a", "b", "x"}
    waits = office.core.ledger.find("c")
    assert waits is not None
    assert office.core.shown(waits) == (State.QUEUED, Reason.HOST_LIMIT)
    office.do(inputs.Verb(office.request("uid:1"), "cancel", ("a",), {}))
    assert office.running() == {"b", "c", "x"}


def test_only_the_lanes_of_who_is_free_are_looked_at_again() -> None:
    lanes = [make.lane(host, owner) for host in ("a.test", "b.test") for owner in ("uid:1", "uid:2")]
    aside = Aside()
    for lane in lanes:
        aside.add(lane)
    assert set(aside.take(("owner", "uid:1"))) == {lanes[0], lanes[2]}
    assert set(aside.take(("host", "b.test"))) == {lanes[3]}
    assert (len(aside), list(aside)) == (1, [lanes[1]])
    assert aside.take(None) == [lanes[1]]
    assert not len(aside)


def test_the_store_is_not_asked_for_lanes_of_who_is_full() -> None:
    office = Office(max_running=1)
    office.submit("a", "b")
    office.submit("x", owner="uid:2")
    office.core.schedule.beyond = True
    assert {("owner", "uid:1"), ("owner", "uid:2")} <= set(office.core._holding())
    office.do(inputs.Verb(office.request("uid:2"), "cancel", ("x",), {}))
    assert ("owner", "uid:2") not in office.core._holding()


def test_another_limit_of_attempts() -> None:
    office = Office(max_running=1)
    office.submit("a", "b", "c")
    office.configure(max_running=2)
    assert office.running() == {"a", "b"}
    office.configure(max_running=1)
    assert office.running() == {"a", "b"}, "those that are too many go on"
    office.do(inputs.Verb(office.request("uid:1"), "cancel", ("a",), {}))
    assert office.running() == {"b"}
    office.configure()
    assert office.running() == {"b", "c"}


def respond(core: Core, total: int | None, kept: int = 0, generation: int = 0) -> inputs.Input:
    said = make.responded(total=total, kept=kept, generation=generation)
    return inputs.WorkerReport(0, core.pool.slots[0].incarnation, said)


@pytest.mark.parametrize(
    ("total", "kept", "full"), [(999, 0, False), (1000, 0, True), (5000, 4500, False), (None, 0, False)]
)
def test_bytes_in_flight(total: int | None, kept: int, full: bool) -> None:
    """What an attempt has to fetch counts from when its size is known until it is over."""
    walk = Walk(workers=3, settings={"max_in_flight": 1000})
    walk.ready()
    walk.do(respond(walk.core, total, kept))
    walk.do(make.submit(intake("next", host="b.test")))
    assert ("next" in walk.core.runs) != full
    walk.do(make.submit(intake("other", host="c.test"), request=make.request("o", "uid:2")))
    assert "other" in walk.core.runs
    walk.do(make.verb("pause", "job"))
    walk.say(make.mailbox.Stopped(job="job", attempt=1, bytes=0))
    assert "next" in walk.core.runs


def test_a_size_that_is_known_from_before_counts_at_once() -> None:
    big = job("big", 1, total=5000, attempt=1)
    core, _ = make.new_core(workers=3, settings={"max_in_flight": 1000}, counts={State.QUEUED: 1}, seq=1)
    core.schedule.lanes_loaded((big.lane,), more=False)
    core.handle(inputs.WindowLoaded(big.lane, (big,), more=False), moment())
    assert set(core.runs) == {"big"}
    commands = core.handle(make.submit(intake("next", host="b.test")), moment())
    assert set(core.runs) == {"big"}
    assert not make.of(commands, AssignJob)
    core.validate()


def test_a_file_larger_than_the_limit_comes_alone() -> None:
    walk = Walk(workers=3, settings={"max_in_flight": 10})
    walk.ready()
    walk.do(respond(walk.core, 1000))
    assert "job" in walk.core.runs
