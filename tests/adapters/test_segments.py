"""Who fetches which stretch: however it is divided and given back, nothing is left out or fetched twice."""

from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fetchd.daemon.transfer.segments import (
    LONG,
    MAX_SEGMENTS,
    SETTLED,
    SPLIT,
    SPLIT_SLOW,
    Board,
    Ranges,
    Segment,
)
from fetchd.protocol.journal import MAX_RANGES

MIB = 1 << 20
pieces = st.lists(st.integers(1, 3 * MIB), max_size=8)


class Work(RuleBasedStateMachine):
    """Owners that take, claim, write less than they claimed, and go. `owned` are the claims they rely on."""

    @initialize(parts=pieces, first=st.integers(0, MIB), tail=st.integers(0, 40 * MIB))
    def begin(self, parts: list[int], first: int, tail: int) -> None:
        have, at = [], first
        for gap, kept in zip(parts[::2], parts[1::2], strict=False):
            have.append((at, at + kept))
            at += kept + gap
        self.total = at + tail
        self.board = Board(self.total, tuple(have))
        self.owners: dict[Segment, int] = {}
        self.now = 0.0
        self.written = sum(end - start for start, end in have)

    @precondition(lambda self: not self.owners)
    @rule(parts=st.integers(1, 40))
    def spread(self, parts: int) -> None:
        self.board.spread(parts)

    @rule(later=st.floats(0, 3))
    def take(self, later: float) -> None:
        self.now += later
        segment = self.board.take(object(), self.now)
        if segment is not None:
            assert segment not in self.owners
            assert not segment.complete
            self.owners[segment] = 0

    @precondition(lambda self: self.owners)
    @rule(data=st.data(), later=st.floats(0, 3))
    def take_what_follows(self, data: st.DataObject, later: float) -> None:
        before = data.draw(st.sampled_from(list(self.owners)))
        count = len(self.board.segments)
        segment = self.board.take(object(), self.now, at=before.end)
        assert len(self.board.segments) == count, "none is divided for it"
        if segment is not None:
            assert segment.position == before.end
            assert segment not in self.owners
            self.owners[segment] = 0

    @precondition(lambda self: self.owners)
    @rule(data=st.data(), wanted=st.integers(1, 4 * MIB), later=st.floats(0, 3))
    def claim(self, data: st.DataObject, wanted: int, later: float) -> None:
        self.now += later
        segment = data.draw(st.sampled_from(list(self.owners)))
        count = self.owners[segment] = segment.claim(wanted)
        assert 0 <= count <= wanted
        assert (count == 0) == segment.complete

    @precondition(lambda self: self.owners)
    @rule(data=st.data(), share=st.floats(0, 1))
    def write(self, data: st.DataObject, share: float) -> None:
        """What was claimed may be written, in parts, whatever happened meanwhile."""
        segment = data.draw(st.sampled_from(list(self.owners)))
        count = round(self.owners[segment] * share)
        self.owners[segment] -= count
        segment.position += count
        self.written += count

    @precondition(lambda self: self.owners)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        segment = data.draw(st.sampled_from(list(self.owners)))
        del self.owners[segment]
        self.board.give_back(segment)

    @precondition(lambda self: hasattr(self, "board"))
    @invariant()
    def nothing_is_left_out_or_twice(self) -> None:
        ordered = sorted(self.board.segments, key=lambda segment: (segment.start, segment.end or 0))
        assert ordered[0].start == 0
        assert ordered[-1].end == self.total
        for segment, following in pairwise(ordered):
            assert segment.end == following.start
        for segment in ordered:
            assert segment.end is not None
            assert segment.start <= segment.position <= segment.end
            assert segment.position + self.owners.get(segment, 0) <= segment.end, "a claim was given away"
        assert [segment.index for segment in self.board.segments] == list(range(len(ordered)))
        assert len(ordered) <= MAX_SEGMENTS < MAX_RANGES

    @precondition(lambda self: hasattr(self, "board"))
    @invariant()
    def ranges_are_what_was_written(self) -> None:
        ranges = self.board.ranges()
        assert sum(end - start for start, end in ranges) == self.written
        assert all(end < start for (_, end), (start, _) in pairwise(ranges))
        assert self.board.frontier() == (ranges[0][1] if ranges and ranges[0][0] == 0 else 0)
        whole = ((0, self.total),) if self.total else ()
        assert self.board.complete == (ranges == whole)


Work.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
test_all_work_is_done_once = Work.TestCase


def taken(board: Board, *places: tuple[int, float]) -> list[Segment]:
    """Take everything at time 0; then each owner is so far, and that long at it."""
    made = []
    for done, seconds in places:
        segment = board.take(object(), 0.0)
        assert segment is not None
        segment.since = 100.0 - seconds
        segment.position += done
        segment.claim(0)
        made.append(segment)
    return made


def board_of(size: int, parts: int) -> Board:
    board = Board(size * parts, ())
    board.spread(parts)
    return board


@pytest.mark.parametrize(
    ("total", "have", "ranges", "frontier"),
    [
        (100, (), (), 0),
        (100, ((0, 100),), ((0, 100),), 100),
        (100, ((0, 10), (20, 100)), ((0, 10), (20, 100)), 10),
        (100, ((5, 10),), ((5, 10),), 0),
        (0, (), (), 0),
        (None, ((0, 10),), ((0, 10),), 10),
        (None, ((0, 10), (20, 30)), ((0, 10), (20, 30)), 10),
    ],
)
def test_what_there_is_at_first(total: int | None, have: Ranges, ranges: Ranges, frontier: int) -> None:
    board = Board(total, have)
    assert (board.ranges(), board.frontier()) == (ranges, frontier)
    assert board.complete == (total is not None and sum(e - s for s, e in ranges) == total)


def test_holes_are_taken_from_the_front_and_by_place() -> None:
    board = Board(100, ((10, 20), (30, 40)))
    assert board.take("b", 0.0, at=20) is board.segments[1]
    assert board.take("x", 0.0, at=20) is None, "it is taken"
    assert board.take("x", 0.0, at=21) is None, "no hole begins there"
    assert [(s.position, s.end) for s in (board.take("a", 0.0), board.take("c", 0.0)) if s] == [
        (0, 10),
        (40, 100),
    ]
    assert board.take("d", 0.0) is None, "too little to be divided"


def test_what_is_given_back_goes_on_where_it_was_left() -> None:
    board = Board(100, ())
    first = board.take("a", 0.0)
    assert first is not None
    assert first.claim(60) == 60
    first.position += 30
    board.give_back(first)
    again = board.take("b", 5.0)
    assert again is first
    assert (again.position, again.left, again.owner, again.speed(6.0)) == (30, 70, "b", 0.0)


def test_without_a_total_there_is_one_hole_for_one_owner() -> None:
    board = Board(None, ((0, 10),))
    segment = board.take("a", 0.0)
    assert segment is not None
    assert (segment.claim(1 << 40), segment.left, segment.complete) == (1 << 40, 0, False)
    assert board.take("b", 9.0) is None
    board.spread(8)
    assert (len(board.segments), board.worth(8)) == (1, 1)


@pytest.mark.parametrize(
    ("total", "have", "parts", "worth"),
    [
        (SPLIT - 1, (), 8, 1),
        (2 * SPLIT - 1, (), 8, 1),
        (2 * SPLIT, (), 8, 2),
        (100 * SPLIT, (), 8, 8),
        (100 * SPLIT, ((0, 98 * SPLIT),), 8, 2),
        (100 * SPLIT, ((0, 100 * SPLIT),), 8, 1),
    ],
)
def test_worth_and_spread_go_together(total: int, have: Ranges, parts: int, worth: int) -> None:
    board = Board(total, have)
    assert board.worth(parts) == worth
    board.spread(worth)
    holes = [segment.left for segment in board.open()]
    assert len(holes) == worth or not holes
    assert sum(holes) == total - sum(end - start for start, end in have)
    assert max(holes, default=0) <= 2 * min(holes, default=0) + 2


def test_the_one_that_would_last_longest_is_divided() -> None:
    board = board_of(10 * MIB, 4)
    *_, slow = taken(board, (5 * MIB, 5.0), (5 * MIB, 5.0), (5 * MIB, 5.0), (1 * MIB, 5.0))
    board.take("new", 100.0)
    assert slow.end is not None
    assert slow.end < slow.start + 10 * MIB


def test_both_parts_end_together() -> None:
    """The newcomer is expected to be as fast as the connections are on average."""
    board = board_of(10 * MIB, 2)
    fast, slow = taken(board, (9 * MIB, 3.0), (1 * MIB, 3.0))
    new = board.take("new", 100.0)
    assert new is not None
    usual = (fast.speed(100.0) + slow.speed(100.0)) / 2
    assert slow.left / slow.speed(100.0) == pytest.approx(new.left / usual, rel=0.01)
    assert slow.left + new.left == 9 * MIB


def test_one_without_a_speed_yet_is_divided_in_the_middle() -> None:
    board = Board(10 * MIB, ())
    first = taken(board, (0, SETTLED / 2))[0]
    new = board.take("new", 100.0)
    assert new is not None
    assert (first.left, new.left) == (5 * MIB, 5 * MIB)


def test_a_fresh_one_counts_as_one_of_the_usual_speed() -> None:
    board = board_of(10 * MIB, 3)
    fast, fresh, slow = taken(board, (6 * MIB, 3.0), (0, 0.1), (MIB // 2, 3.0))
    before, end = (fresh.end, fast.end), slow.end
    new = board.take("new", 100.0)
    assert new is not None
    assert new.end == end
    assert (fresh.end, fast.end) == before


def test_a_stalled_one_gives_nearly_everything_and_keeps_what_it_claimed() -> None:
    board = board_of(10 * MIB, 2)
    _, stalled = taken(board, (5 * MIB, 2.0), (0, 2.0))
    assert stalled.claim(MIB) == MIB
    new = board.take("new", 100.0)
    assert new is not None
    assert stalled.end == pytest.approx(stalled.position + MIB, abs=64)
    assert stalled.end is not None
    assert stalled.end >= stalled.claimed
    assert new.end == stalled.start + 10 * MIB


@pytest.mark.parametrize(
    ("left", "seconds", "divided"),
    [
        (2 * SPLIT, 0.1, True),
        (2 * SPLIT - 1, 0.1, False),
        (2 * SPLIT - 1, LONG * 0.9, False),
        (2 * SPLIT - 1, LONG * 1.1, True),
        (SPLIT_SLOW, LONG * 1.1, True),
        (SPLIT_SLOW - 1, LONG * 99, False),
    ],
)
def test_how_little_is_still_divided(left: int, seconds: float, divided: bool) -> None:
    total = 1000 * MIB
    board = Board(total, ((0, MIB),))
    (only,) = taken(board, (total - MIB - left, 1.0))
    # so fast that what is left takes so many seconds
    only.since = 100.0 - (only.position - only.before) / (left / seconds)
    if 100.0 - only.since < SETTLED:
        only.before = only.position - round(SETTLED * left / seconds)
        only.since = 100.0 - SETTLED
    assert (board.take("new", 100.0) is not None) == divided


def test_a_small_rest_that_lasts_long_hides_no_large_one() -> None:
    """What is too small to be divided is left alone; the next in line is not."""
    board = Board(100 * MIB, ((50 * MIB, 100 * MIB - SPLIT_SLOW // 2),))
    large, crumb = taken(board, (5 * MIB, 5.0), (0, 5.0))
    assert crumb.left == SPLIT_SLOW // 2
    new = board.take("new", 100.0)
    assert new is not None
    assert new.end == 50 * MIB
    assert large.end == new.start


def test_there_are_never_more_than_can_be_noted() -> None:
    board = Board(10_000 * MIB, ())
    board.spread(MAX_SEGMENTS + 50)
    assert len(board.segments) == MAX_SEGMENTS
    owners = [board.take(object(), 0.0) for _ in range(MAX_SEGMENTS)]
    assert None not in owners
    assert board.take("one more", 100.0) is None
