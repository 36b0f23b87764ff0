"""Recovery as a pure function: one action for every workspace, nothing lost, the same end after any crash."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fetchd.daemon.core.job import Job
from fetchd.daemon.core.recovery import Action, Adopt, Finding, Noted, Park, Republish, Sweep, plan
from fetchd.protocol.job import State

from .make import AREA, job

BOOT, OTHER = "this-boot", "another-boot"
SECOND_AREA = "/mnt/.fetchd/one"
HOME, ROOM = "jobs", "rooms/r1"


def found(place: str = HOME, name: str = "job", **fields: Any) -> Finding:
    """A workspace with ten bytes."""
    where = place.partition("/")[0]
    values = {"area": AREA, "size": 10, **fields}
    return Finding(where=where, name=name, path=f"{values['area']}/{place}/{name}", **values)  # type: ignore[arg-type]


def noted(generation: int = 0, size: int = 5, boot: str = BOOT) -> Noted:
    return Noted(boot_id=boot, generation=generation, bytes=size)


def planned(
    findings: Iterable[Finding], jobs: Iterable[Job] = (), *, restored: bool = False
) -> list[tuple[type[Action], str | None]]:
    """What is done with what, by path."""
    actions = plan(findings, {one.id: one for one in jobs}, BOOT, restored=restored)
    return [(type(one), one.found.path if one.found else None) for one in actions]


ROW = job(attempt=1, state=State.RUNNING)


@pytest.mark.parametrize(
    ("one", "row", "restored", "wanted"),
    [
        (found(), ROW, False, Adopt),
        (found(ROOM), ROW, True, Adopt),
        (found(ROOM), replace(ROW, state=State.PAUSED), False, Adopt),
        (found(ROOM), replace(ROW, state=State.PUBLISHING), False, Republish),
        (found(), replace(ROW, state=State.FAILED, kept_until=9), False, Adopt),
        (found(), replace(ROW, state=State.FAILED), False, Sweep),
        (found(), replace(ROW, state=State.COMPLETED), True, Sweep),
        (found(), replace(ROW, state=State.CANCELLED), True, Sweep),
        # never attempted: of an earlier job of that ID, unless the row is older than the workspace
        (found(), job(), False, Sweep),
        (found(), job(), True, Adopt),
        (found(), None, False, Sweep),
        (found(), None, True, Park),
        (found(ROOM), None, True, Park),
        (found(area=SECOND_AREA), ROW, False, Sweep),
        (found(area=SECOND_AREA), ROW, True, Park),
        (found(name="no ID"), None, True, Sweep),
        (found(sound=False), ROW, True, Sweep),
        (found(sound=False), None, True, Sweep),
        (found(size=None), ROW, False, Sweep),
        (found(size=None), None, True, Sweep),
    ],
)
def test_what_becomes_of_one(one: Finding, row: Job | None, restored: bool, wanted: type[Action]) -> None:
    assert planned([one], [row] if row else [], restored=restored) == [(wanted, one.path)]


def test_what_is_parked_stays_parked() -> None:
    assert planned([found("parked")], [ROW], restored=True) == []


@pytest.mark.parametrize(
    ("home", "lent", "better"),
    [
        ({}, {}, "jobs"),
        ({"frontier": noted(0)}, {"frontier": noted(1)}, "rooms"),
        ({"frontier": noted(1)}, {"frontier": noted(1, 500)}, "jobs"),
        ({"frontier": None}, {"frontier": noted(1)}, "rooms"),
        ({"frontier": noted(2)}, {"frontier": noted(0, 500)}, "jobs"),
        ({"sound": False}, {}, "rooms"),
        ({"size": None}, {}, "rooms"),
    ],
)
def test_the_better_of_two(home: dict[str, Any], lent: dict[str, Any], better: str) -> None:
    row = replace(ROW, generation=1)
    done = planned([found(**home), found(ROOM, **lent)], [row])
    assert [kind for kind, _ in done] == [Sweep, Adopt], "first the place is made free"
    assert done[1][1] == found(HOME if better == "jobs" else ROOM).path


def test_of_several_in_rooms_the_one_with_more_bytes_of_this_boot() -> None:
    several = [
        found("rooms/r1", frontier=noted(size=3)),
        found("rooms/r2", frontier=noted(size=4)),
        found("rooms/r3", frontier=noted(size=900, boot=OTHER)),
    ]
    assert planned(several, [ROW])[-1] == (Adopt, several[1].path)


def test_the_sealed_file_is_published_whatever_lies_beside_it() -> None:
    row = replace(ROW, state=State.PUBLISHING, inode=7, size=10, mtime_ns=3)
    done = planned([found(frontier=noted()), found(ROOM, inode=7, mtime_ns=3)], [row])
    assert done == [(Sweep, found().path), (Republish, found(ROOM).path)]


def test_a_file_that_was_renamed_before_the_crash() -> None:
    """The publish step finds out; with the data went what there was to bring home."""
    row = replace(ROW, state=State.PUBLISHING)
    assert planned([], [row]) == [(Republish, None)]
    assert planned([found(size=None)], [row]) == [(Sweep, found().path), (Republish, None)]


# properties

NAMES = ("a", "b", "c", "no ID")
AREAS = (AREA, SECOND_AREA)
ATTEMPTED = (State.RUNNING, State.PUBLISHING)
PLACES = ("jobs", "rooms/r1", "rooms/r2", "parked")
frontiers = st.none() | st.builds(
    Noted, boot_id=st.sampled_from((BOOT, OTHER)), generation=st.integers(0, 2), bytes=st.integers(0, 9)
)
findings = st.lists(
    st.builds(
        found,
        st.sampled_from(PLACES),
        st.sampled_from(NAMES),
        area=st.sampled_from(AREAS),
        sound=st.booleans() | st.just(True),
        size=st.none() | st.integers(0, 2),
        inode=st.integers(0, 2),
        frontier=frontiers,
    ),
    max_size=12,
    unique_by=lambda one: one.path,
)
rows = st.lists(
    st.builds(
        job,
        st.sampled_from(NAMES[:3]),
        area=st.sampled_from(AREAS),
        state=st.sampled_from(State),
        attempt=st.integers(0, 1),
        generation=st.integers(0, 2),
        kept_until=st.sampled_from((0, 9)),
        inode=st.integers(0, 2),
        size=st.integers(0, 2),
    ).map(lambda row: replace(row, attempt=1) if row.state in ATTEMPTED else row),
    max_size=3,
    unique_by=lambda one: one.id,
)


class World:
    """Staging areas in memory: workspaces by their paths."""

    def __init__(self, there: Iterable[Finding]) -> None:
        self.there = {one.path: one for one in there}

    def recover(self, jobs: dict[str, Job], restored: bool, upto: int | None = None) -> list[Action]:
        """Plan and carry out, or crash after so many actions."""
        actions = list(plan(list(self.there.values()), jobs, BOOT, restored=restored))
        for action in actions[:upto]:
            if action.found is not None:
                self.carry_out(action, action.found)
        if upto is None:
            assert not [path for path in self.there if "/rooms/" in path], "a room was not emptied"
        return actions

    def carry_out(self, action: Action, one: Finding) -> None:
        assert self.there.pop(one.path) is one, "something is done twice"
        if isinstance(action, Sweep):
            return
        place = "parked" if isinstance(action, Park) else HOME
        path = f"{one.area}/{place}/{one.name}"
        while isinstance(action, Park) and path in self.there:
            path += "+"
        assert path not in self.there, "one workspace is moved onto another"
        self.there[path] = replace(one, where=place, path=path)  # type: ignore[arg-type]

    def content(self) -> set[Finding]:
        """What there is at the end, wherever the parked ones lie."""
        return {replace(one, path="") if one.where == "parked" else one for one in self.there.values()}


@given(findings, rows, st.booleans())
def test_every_workspace_gets_one_action_and_nothing_needed_goes(
    there: list[Finding], stored: list[Job], restored: bool
) -> None:
    jobs = {one.id: one for one in stored}
    world = World(there)
    actions = world.recover(jobs, restored)
    touched = [one.found.path for one in actions if one.found is not None]
    assert sorted(touched) == sorted(one.path for one in there if one.where != "parked")
    parked = {one.path for one in there if one.where == "parked"}
    assert parked <= set(world.there), "what was parked is there still"
    for row in stored:
        good = [
            one for one in there
            if (one.area, one.name) == (row.area, row.id) and one.where != "parked"
            and one.sound and one.size is not None
        ]  # fmt: skip
        home = world.there.get(f"{row.area}/jobs/{row.id}")
        if not (row.has_workspace or (restored and not row.terminal)):
            assert home is None
        elif good:
            assert home is not None
            assert home.sound
            same = [one for one in good if one.frontier and one.frontier.generation == row.generation]
            sealed = [one for one in good if (one.inode, one.size, 0) == (row.inode, row.size, row.mtime_ns)]
            if row.state is State.PUBLISHING and sealed:
                assert (home.inode, home.size) == (row.inode, row.size)
            elif same:
                assert home.frontier is not None
                assert home.frontier.generation == row.generation
    republished = sorted(one.job for one in actions if isinstance(one, Republish))
    assert republished == sorted(row.id for row in stored if row.state is State.PUBLISHING)
    if restored:
        unknown = {
            one.path for one in there
            if one.where != "parked" and one.sound and one.size is not None and one.name != "no ID"
            and (one.name not in jobs or jobs[one.name].area != one.area)
        }  # fmt: skip
        assert unknown == {one.found.path for one in actions if isinstance(one, Park) and one.found}
    else:
        assert not [one for one in actions if isinstance(one, Park)]


@given(findings, rows, st.booleans(), st.integers(0, 12))
def test_the_end_is_the_same_after_a_crash_and_nothing_is_left_to_do(
    there: list[Finding], stored: list[Job], restored: bool, upto: int
) -> None:
    jobs = {one.id: one for one in stored}
    straight, crashed = World(there), World(there)
    straight.recover(jobs, restored)
    crashed.recover(jobs, restored, upto)
    crashed.recover(jobs, restored)
    assert crashed.content() == straight.content()
    again = straight.recover(jobs, restored)
    assert not [one for one in again if isinstance(one, (Park, Sweep))]
    assert not [one for one in again if one.found is not None and one.found.where != "jobs"]
    # a later start trusts the rows: only what no row asks for goes
    later = [one for one in straight.recover(jobs, False) if isinstance(one, (Park, Sweep))]
    assert not [one for one in later if jobs[one.job].has_workspace]
