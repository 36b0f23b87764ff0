"""Who may do what in the core: owners, admins, and that others' jobs do not exist."""

from typing import Any

import pytest
from msgspec.structs import replace

from fetchd.daemon.core import inputs, limits, rights
from fetchd.daemon.core.commands import Command, DropGate, Refuse, Reply
from fetchd.daemon.core.core import Core
from fetchd.daemon.core.gates import Gate, GateKey
from fetchd.daemon.core.job import Job
from fetchd.protocol.errors import Code
from fetchd.protocol.job import Reason, State

from . import make
from .make import intake, job, moment

MINE, THEIRS = job("mine"), job("theirs", 2, owner="uid:2")
OWNER, OTHER, ADMIN = make.request(), make.request(owner="uid:2"), make.request(owner="uid:0", admin=True)
VERBS: tuple[inputs.VerbName, ...] = ("cancel", "pause", "resume", "retry", "remove")


@pytest.mark.parametrize(("asker", "others", "everything"), [(OWNER, False, False), (ADMIN, True, True)])
def test_the_rules(asker: inputs.Request, others: bool, everything: bool) -> None:
    assert rights.may_see(OWNER, MINE.owner)
    assert rights.may_see(asker, THEIRS.owner) == others
    assert rights.may_touch(asker, THEIRS) == others
    assert rights.may_govern(asker) == everything
    assert (rights.scope(asker) is None) == everything
    assert rights.in_scope(rights.scope(asker), THEIRS.owner) == others
    assert rights.in_scope(rights.scope(OWNER), MINE.owner)
    assert rights.may_unpark(False, asker)
    assert rights.may_unpark(True, asker) == everything
    assert not rights.may_unpark(True)


@pytest.mark.parametrize("asker", [OWNER, ADMIN])
def test_what_is_shown_of_the_daemon(asker: inputs.Request) -> None:
    shown, everything = rights.scope(asker), asker.admin
    assert rights.in_scope(shown, MINE.owner)
    assert rights.in_scope(shown, THEIRS.owner) == everything
    assert rights.in_scope(shown, None) == everything, "a worker that is idle"
    assert rights.holds(shown, "daemon", "")
    assert rights.holds(shown, "owner", MINE.owner)
    for kind, name in (("owner", THEIRS.owner), ("host", "h.test"), ("area", MINE.owner), ("group", "g")):
        assert rights.holds(shown, kind, name) == everything, kind


def ask(core: Core, event: inputs.Input) -> list[Command]:
    commands = core.handle(event, moment())
    core.validate()
    return commands


def refused(commands: list[Command]) -> Refuse:
    (found,) = make.of(commands, Refuse)
    assert isinstance(found, Refuse)
    assert not make.of(commands, Reply)
    return found


def code(core: Core, name: inputs.VerbName, one: Job, asker: inputs.Request) -> Any:
    request = replace(asker, req=f"{name} {one.state} {asker.owner}")
    commands = ask(core, inputs.Verb(request, name, (one.id,), {one.id: one}, frozenset({one.id})))
    (reply,) = make.of(commands, Reply)
    return reply.body.jobs[0]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("state", [State.QUEUED, State.PAUSED, State.FAILED, State.COMPLETED])
def test_a_verb_for_somebody_elses_job(verb: inputs.VerbName, state: State) -> None:
    one = job(state=state, finished=1 if state in (State.FAILED, State.COMPLETED) else None)
    core, _ = make.new_core(counts={state: 1}, seq=1)
    outcome = code(core, verb, one, OTHER)
    assert (outcome.code, outcome.state, outcome.revision) == (Code.NO_SUCH_JOB, None, 0)
    assert core.ledger.revision == 0, "nothing has happened"
    assert code(core, verb, one, ADMIN).code != Code.NO_SUCH_JOB


def test_an_id_that_is_somebody_elses() -> None:
    core, _ = make.new_core()
    same = inputs.Submit(OTHER, (intake("mine"),), {"mine": replace(MINE, spec_hash=b"{}")}, {})
    refusal = refused(ask(core, same))
    assert (refusal.code, refusal.details) == (Code.CONFLICT, {})
    assert "mine" not in refusal.message.split()
    known = inputs.Submit(ADMIN, (intake("mine"),), {"mine": MINE}, {})
    assert refused(ask(core, known)).details == {"job": "mine"}


@pytest.mark.parametrize("stored", [False, True])
def test_a_path_that_is_somebody_elses(stored: bool) -> None:
    core, _ = make.new_core()
    if not stored:
        ask(core, inputs.Submit(OWNER, (intake("secret-id", name="f"),), {}, {}))
    paths = {"/data/f": "secret-id"} if stored else {}
    fresh = inputs.Submit(OTHER, (intake("new", name="f"),), {}, paths)
    refusal = refused(ask(core, fresh))
    assert (refusal.code, refusal.details) == (Code.PATH_RESERVED, {"job": "new"})
    assert "secret-id" not in refusal.message
    told = refused(ask(core, replace(fresh, request=ADMIN)))
    assert told.details == {"job": "new", "holder": "secret-id"}


@pytest.mark.parametrize("host", [None, "a.test"])
def test_limits_for_everybody_are_the_admins(host: str | None) -> None:
    core, _ = make.new_core()
    assert refused(ask(core, inputs.Limit(OWNER, 5, (), host))).code == Code.DENIED
    assert (core.limits.total, core.limits.hosts) == (None, {})
    assert make.of(ask(core, inputs.Limit(ADMIN, 5, (), host)), Reply)


def test_limits_of_hosts_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_HOSTS", 2)
    core, _ = make.new_core()

    def limit(host: str, rate: int | None) -> list[Command]:
        return ask(core, inputs.Limit(replace(ADMIN, req=f"{host} {rate}"), rate, (), host))

    for host in ("a", "b"):
        assert make.of(limit(host, 1), Reply)
    assert refused(limit("c", 1)).code == Code.BUSY
    assert make.of(limit("a", 2), Reply), "a limit that is there can be changed"
    assert make.of(limit("a", None), Reply)
    assert make.of(limit("c", 1), Reply)


PARKED = GateKey("host", "a.test", Reason.HOST_PARKED)


@pytest.mark.parametrize("bulk", [False, True])
@pytest.mark.parametrize(
    ("shared", "asker", "opened"),
    [(False, OWNER, True), (True, OWNER, False), (True, ADMIN, True)],
    ids=["alone", "one of many", "admin"],
)
def test_a_parked_host_is_everybodys(shared: bool, asker: inputs.Request, opened: bool, bulk: bool) -> None:
    gate = Gate(key=PARKED, since=0, until=10**12)
    core, _ = make.new_core(gates=(gate,), settings={"shared": shared})
    ask(core, inputs.Submit(replace(asker, req="s"), (intake("mine"),), {}, {}))
    retry: inputs.Input = inputs.Bulk(asker, "retry", failed=False)
    if not bulk:
        retry = inputs.Verb(asker, "retry", ("mine",), {}, frozenset())
    assert (make.of(ask(core, retry), DropGate) == [DropGate(PARKED)]) == opened


def test_what_is_about_to_end_is_not_revived_by_an_admin_either() -> None:
    core, _ = make.new_core(counts={State.FAILED: 1}, seq=1)
    ask(core, inputs.Bulk(OWNER, "cancel", failed=False))
    assert code(core, "retry", job(state=State.FAILED, finished=1), ADMIN).code == Code.BUSY
