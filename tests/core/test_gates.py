"""Gates: what they hold, and what is shown for a job behind one."""

import pytest
from msgspec.structs import replace

from fetchd.daemon.core import inputs
from fetchd.daemon.core.gates import Gate, GateKey, Gates, Kind
from fetchd.protocol.job import Reason, State

from . import make
from .make import AREA, intake, job, moment, submit

NAMES: dict[Kind, str] = {"daemon": "", "area": AREA, "host": "a.test", "owner": "uid:1", "group": "g"}
OURS = job(group="g")
OTHERS = job("other", host="b.test", owner="uid:2", area="/other/.fetchd/one", group="h")


def gate(kind: Kind, reason: Reason = Reason.USER) -> Gate:
    return Gate(key=GateKey(kind, NAMES[kind], reason), since=0)


@pytest.mark.parametrize("kind", NAMES)
def test_each_kind_holds_its_lanes(kind: Kind) -> None:
    gates = Gates((gate(kind),))
    assert gates.holding(OURS.lane) == gate(kind)
    assert (gates.holding(OTHERS.lane) is not None) == (kind == "daemon")


@pytest.mark.parametrize(
    ("reason", "state"),
    [
        (Reason.USER, State.PAUSED), (Reason.DISK, State.PAUSED), (Reason.SCHEDULE, State.WAITING),
        (Reason.HOST_PARKED, State.WAITING), (Reason.HOST_LIMIT, State.WAITING),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", NAMES)
def test_what_is_shown(kind: Kind, reason: Reason, state: State) -> None:
    gates = Gates((gate(kind, reason),))
    assert gates.shown(OURS) == (state, reason)
    running = job(state=State.RUNNING, group="g")
    assert gates.shown(running) == (State.RUNNING, None), "only a queued job is held"
    assert Gates().shown(OURS) == (State.QUEUED, None)


def test_a_disk_says_what_is_wrong_with_it() -> None:
    def error(kind: Kind, reason: Reason, detail: str) -> tuple[str, str] | None:
        return Gates((replace(gate(kind, reason), detail=detail),)).error(OURS)

    assert error("area", Reason.DISK, "disk_full: a: b") == ("disk_full", "a: b")
    assert error("owner", Reason.USER, "disk_full: a") is None
    assert error("area", Reason.DISK, "") is None


def test_two_reasons_are_two_gates() -> None:
    gates = Gates((gate("host", Reason.USER), gate("host", Reason.DISK)))
    assert len(list(gates)) == 2
    assert gates.open(gate("host", Reason.USER).key)
    assert gates.shown(OURS) == (State.PAUSED, Reason.DISK)
    assert gates.open(gate("host", Reason.DISK).key)
    assert gates.holding(OURS.lane) is None
    assert not gates.open(gate("host", Reason.DISK).key)
    assert not list(gates)


def test_a_held_lane_is_passed_over_and_taken_up_again() -> None:
    core, _ = make.new_core(workers=2, gates=(gate("host"),))
    core.handle(submit(intake("held")), moment())
    core.handle(submit(intake("free", host="b.test")), moment())
    for host in ("a.test", "b.test"):
        core.handle(inputs.WindowLoaded(make.lane(host), (), more=False), moment())
    core.validate()
    assert set(core.runs) == {"free"}
    core.gates.open(gate("host").key)
    core.schedule.release()
    core.handle(inputs.Tick(), moment())
    core.validate()
    assert set(core.runs) == {"free", "held"}
