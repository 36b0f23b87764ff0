"""What an attempt may take: connections to its host, bytes a second, and who is told when."""

from collections.abc import Iterable
from typing import Any

import pytest

from fetchd.daemon.core import inputs
from fetchd.daemon.core.commands import Allow, AssignJob, Command, Refuse, Reply, SaveJob, SaveLimit
from fetchd.daemon.core.core import Core
from fetchd.protocol import mailbox
from fetchd.protocol.errors import Code
from fetchd.protocol.job import Reason, State
from fetchd.protocol.mailbox import Options

from . import make
from .make import Walk, intake, limit, moment, submit


class Field:
    """A core with ready workers."""

    def __init__(self, workers: int = 4, **settings: Any) -> None:
        self.core, _ = make.new_core(workers=workers, settings=settings)
        self.now = moment()
        self.sent: list[Command] = []

    def do(self, *events: inputs.Input) -> list[Command]:
        """Handle inputs; workers come up at once."""
        self.sent = []
        for event in events:
            self.sent += self.core.handle(event, self.now)
            self.core.validate()
        for slot in self.core.pool.slots:
            if slot.filled and not slot.ready:
                self.sent += self.core.handle(inputs.WorkerReady(slot.index, slot.incarnation), self.now)
        return self.sent

    def add(self, *ids: str, host: str = "a.test", **spec: Any) -> list[Command]:
        return self.do(submit(*(intake(one, host=host, **spec) for one in ids)))

    def fail(self, job_id: str) -> list[Command]:
        return self.say(make.failed(Code.NOT_FOUND, job_id))

    def say(self, report: mailbox.Report) -> list[Command]:
        run = self.core.runs[report.job]
        assert run.slot is not None
        return self.do(inputs.WorkerReport(run.slot, self.core.pool.slots[run.slot].incarnation, report))

    def speed(self, job_id: str, speed: float) -> None:
        self.say(mailbox.Progressed(job=job_id, attempt=1, bytes=1, total=None, speed=speed))

    def wait(self, seconds: float) -> list[Command]:
        self.now = moment(self.now.mono / make.SECOND + seconds)
        return self.do(inputs.Tick())

    def told(self) -> dict[str, tuple[int, int | None]]:
        """What was said last of each job, with it or while it runs."""
        found = {}
        for command in self.sent:
            if isinstance(command, AssignJob):
                found[command.job.id] = (command.connections, command.rate)
            elif isinstance(command, Allow):
                found[command.job] = (command.connections, command.rate)
        return found


# connections


def test_the_connections_to_a_host_are_shared_out() -> None:
    field = Field(host_connections=16)
    field.add("x")
    assert field.told() == {"x": (8, None)}, "as many as it likes by itself"
    field.add("y")
    assert field.told() == {"y": (8, None)}
    field.add("z")
    assert field.told() == {"x": (5, None), "y": (5, None), "z": (5, None)}
    assert type(field.sent[-1]) is AssignJob, "there is room before the third begins"
    field.fail("z")
    assert field.told() == {"x": (8, None), "y": (8, None)}


def test_other_hosts_have_their_own() -> None:
    field = Field(host_connections=4)
    field.add("x")
    field.add("y", host="b.test")
    assert field.told() == {"y": (4, None)}


@pytest.mark.parametrize(("wish", "given"), [(0, 8), (1, 1), (3, 3), (32, 16)])
def test_a_wish_is_met_as_far_as_possible(wish: int, given: int) -> None:
    field = Field()
    field.add("x", options=Options(segments=wish))
    assert field.told() == {"x": (given, None)}


def test_a_full_host_holds_its_jobs_and_no_others() -> None:
    field = Field(host_connections=2)
    field.add("a1", "a2", "a3", "a4")
    field.add("b1", host="b.test")
    assert set(field.core.runs) == {"a1", "a2", "b1"}
    assert _shown(field.core, "a3") == (State.QUEUED, Reason.HOST_LIMIT)
    assert _shown(field.core, "a1") == (State.RUNNING, None)
    field.fail("a1")
    assert set(field.core.runs) == {"a2", "a3", "b1"}, "the next one, and no worker was free for it before"
    field.do(inputs.Verb(make.request("c"), "cancel", ("a2",), {}))
    assert set(field.core.runs) == {"a3", "b1"}, "its worker has the connections until it has stopped"


def test_another_limit_is_in_force_at_once() -> None:
    field = Field(host_connections=1)
    field.add("x", "y")
    assert set(field.core.runs) == {"x"}
    field.do(inputs.Configure(_with(field.core, host_connections=4)))
    assert field.told() == {"x": (2, None), "y": (2, None)}
    field.do(inputs.Configure(_with(field.core, host_connections=1)))
    assert field.told() == {"x": (1, None), "y": (1, None)}


# rates


def test_the_limit_of_a_job() -> None:
    field = Field()
    field.add("x", limit_rate=500)
    field.add("y")
    assert field.told()["y"][1] is None
    assert field.core.runs["x"].rate == 500
    assert not field.core.limits.look_at, "nobody has to share"


def test_equal_shares_of_everything() -> None:
    field = Field(limit_rate=90_000)
    field.add("x")
    assert field.told()["x"][1] == 90_000
    field.add("y")
    assert _rates(field) == {"x": 45_000, "y": 45_000}
    field.add("z")
    assert _rates(field) == {"x": 30_000, "y": 30_000, "z": 30_000}
    lowered = [one for one in field.sent if type(one) in (Allow, AssignJob)]
    assert [type(one) for one in lowered] == [Allow, Allow, AssignJob]
    field.fail("x")
    assert _rates(field) == {"y": 45_000, "z": 45_000}


def test_who_gets_less_is_told_first() -> None:
    field = Field(limit_rate=100_000)
    field.add("x", "y")
    field.wait(3)
    field.speed("x", 10_000.0)
    field.speed("y", 50_000.0)
    field.wait(1)
    assert [one.job for one in make.of(field.sent, Allow)] == ["x", "y"]
    assert _rates(field) == {"x": 10_500, "y": 89_500}
    field.wait(1)
    assert _rates(field) == {}, "and so it stays"
    field.speed("x", 10_500.0)
    field.wait(1)
    assert _rates(field)["x"] == 50_000, "it can do more now"


def test_a_share_that_was_raised_has_its_time() -> None:
    field = Field(limit_rate=100_000)
    field.add("x", "y")
    field.fail("y")
    field.add("z")
    field.speed("x", 10_000.0)
    field.wait(1)
    assert _rates(field) == {}, "it has begun just now"


def test_an_attempt_that_has_just_begun_is_not_slow() -> None:
    field = Field(limit_rate=100_000)
    field.add("x", "y")
    field.say(make.responded("y"))
    field.speed("x", 1000.0)
    field.wait(1)
    assert _rates(field) == {}
    field.wait(1)
    assert set(_rates(field)) == {"x", "y"}


def test_who_waits_for_a_server_leaves_his_share_to_the_others() -> None:
    field = Field(limit_rate=100_000)
    field.add("x", "y")
    field.say(make.responded("x"))
    field.speed("x", 50_000.0)
    field.wait(1)
    assert _rates(field) == {}, "it may be answered yet"
    field.wait(1)
    assert _rates(field) == {"x": 98_976, "y": 1024}
    field.speed("x", 98_976.0)
    field.wait(30)
    assert _rates(field) == {}
    field.say(make.responded("y"))
    assert _rates(field) == {"x": 50_000, "y": 50_000}, "at once"
    field.wait(1)
    assert _rates(field) == {}, "and for as long as any other"


def test_shares_are_looked_at_only_while_they_matter() -> None:
    field = Field(limit_rate=100_000)
    field.add("x")
    assert not field.core.limits.look_at
    field.add("y")
    assert field.core.limits.look_at
    field.do(limit(None))
    field.do(inputs.Configure(_with(field.core, limit_rate=0)))
    assert not field.core.limits.look_at
    assert _rates(field) == {"x": None, "y": None}


# requests


def test_a_limit_over_all_replaces_the_configured_one_until_it_is_lifted() -> None:
    field = Field(limit_rate=1000)
    field.add("x")
    field.do(limit(5000))
    assert (_answer(field.sent).total, _rates(field)) == (5000, {"x": 5000})
    assert make.of(field.sent, SaveLimit) == [SaveLimit("all", "", 5000)]
    field.do(limit(None))
    assert (_answer(field.sent).total, _rates(field)) == (1000, {"x": 1000})
    assert make.of(field.sent, SaveLimit) == [SaveLimit("all", "", None)]


def test_the_limit_of_a_host() -> None:
    field = Field()
    field.add("x", "y")
    field.add("z", host="b.test")
    field.do(limit(1000, host="a.test"))
    assert _rates(field) == {"x": 500, "y": 500}
    assert _answer(field.sent).hosts == {"a.test": 1000}
    field.do(limit(None, host="a.test"))
    assert _rates(field) == {"x": None, "y": None}


def test_the_limit_of_a_running_and_of_a_queued_job() -> None:
    field = Field(workers=1)
    field.add("x", "y")
    field.do(limit(700, "x", "y", "nobody"))
    assert _rates(field) == {"x": 700}
    assert [(one.id, one.code) for one in _answer(field.sent).jobs] == [
        ("x", None), ("y", None), ("nobody", Code.NO_SUCH_JOB)
    ]  # fmt: skip
    assert {one.job.id for one in make.of(field.sent, SaveJob) if one.job.limit_rate} == {"x", "y"}
    field.fail("x")
    assert _rates(field) == {"y": 700}
    field.do(limit(None, "y"))
    assert _rates(field) == {"y": None}


def test_a_job_that_only_the_store_has() -> None:
    field = Field()
    stored = make.job("old", 1, state=State.PAUSED)
    field.do(limit(5, "old", known={"old": stored}))
    assert [one.job.limit_rate for one in make.of(field.sent, SaveJob)] == [5]
    foreign = inputs.Limit(make.request("f", owner="uid:2"), 5, ("old",), None, {"old": stored})
    assert _answer(field.do(foreign)).jobs[0].code == Code.NO_SUCH_JOB
    over = make.job("over", 2, state=State.COMPLETED)
    field.do(limit(5, "over", known={"over": over}))
    assert _answer(field.sent).jobs[0].code == Code.TOO_LATE


def test_a_repeated_request_is_answered_once() -> None:
    field = Field()
    first = _answer(field.do(limit(5)))
    assert _answer(field.do(limit(5))) == first
    assert not make.of(field.sent, SaveLimit)
    other = inputs.Limit(make.request("l-5-()-None", digest=b"other"), 6)
    assert make.of(field.do(other), Refuse)


def test_limits_survive_a_restart() -> None:
    core, _ = make.new_core(limits=(("all", "", 10), ("host", "a.test", 5)))
    assert (core.limits.total, core.limits.hosts) == (10, {"a.test": 5})


def test_an_attempt_that_waits_for_its_worker_begins_with_the_newest_allowance() -> None:
    walk = Walk(workers=2)
    walk.do(limit(1000))
    walk.do(submit(intake("other")))
    assert not make.of(walk.commands, Allow), "nobody is there to be told"
    walk.ready()
    (sent,) = make.of(walk.commands, AssignJob)
    assert (sent.connections, sent.rate) == (8, 500)


def _shown(core: Core, job_id: str) -> tuple[State, Reason | None]:
    job = core.ledger.find(job_id)
    assert job is not None
    return core.shown(job)


def _rates(field: Field) -> dict[str, int | None]:
    return {job_id: rate for job_id, (_, rate) in field.told().items()}


def _answer(commands: Iterable[Command]) -> Any:
    (reply,) = make.of(list(commands), Reply)
    return reply.body


def _with(core: Core, **settings: Any) -> Any:
    return type(core.settings)(
        **{name: getattr(core.settings, name) for name in core.settings.__struct_fields__} | settings
    )
