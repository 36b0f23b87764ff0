"""How many connections are found to be good, tried out on simulated servers."""

from collections.abc import Callable

import pytest

from fetchd.daemon.transfer.ramp import FIRST, WORTH, Ramp

MB = 1_000_000
Speed = Callable[[int], float]


def run(
    ramp: Ramp,
    speed: Speed,
    *,
    total: int = 10_000 * MB,
    seconds: float = 20.0,
    limited: bool = False,
    step: float = 0.05,
) -> list[int]:
    """The numbers that there were, each once; `speed` is what so many connections bring in a second."""
    now, on_hand = 1000.0, 5.0
    want = ramp.begin(now, int(on_hand))
    seen = [want]
    while now < 1000.0 + seconds and on_hand < total:
        now += step
        on_hand += speed(want) * step
        want = ramp.want(now, int(on_hand), total, limited=limited)
        if want != seen[-1]:
            seen.append(want)
    return seen


def test_one_that_fills_the_pipe_stays_alone() -> None:
    assert run(Ramp(None), lambda n: 50 * MB) == [1, 2, 1]


def test_a_limit_for_each_connection_is_met_by_more_of_them() -> None:
    assert run(Ramp(None), lambda n: n * MB) == [1, 2, 4, 8]


@pytest.mark.parametrize(
    ("pipe", "seen"),
    [
        (1.05, [1, 2, 1]),
        (1.15, [1, 2]),
        (2.05, [1, 2, 4, 2]),
        (2.3, [1, 2, 4]),
        (4.1, [1, 2, 4, 8, 4]),
        (5.5, [1, 2, 4, 8]),
        (100.0, [1, 2, 4, 8]),
    ],
)
def test_the_gain_ends_where_the_pipe_is_full(pipe: float, seen: list[int]) -> None:
    assert run(Ramp(None), lambda n: min(n, pipe) * MB) == seen


def test_more_connections_that_are_slower_are_given_up() -> None:
    assert run(Ramp(None), lambda n: 4 * MB / n) == [1, 2, 1]


def test_a_limited_rate_needs_no_more_connections() -> None:
    ramp = Ramp(None)
    assert run(ramp, lambda n: n * MB, limited=True) == [1]
    assert ramp.due is None, "nobody is woken for it again"


@pytest.mark.parametrize(("rest", "seen"), [(WORTH * 0.9 + FIRST, [1]), (WORTH * 1.2 + FIRST, [1, 2])])
def test_what_ends_soon_is_left_alone(rest: float, seen: list[int]) -> None:
    assert run(Ramp(None), lambda n: 10 * MB, total=int(rest * 10 * MB))[:2] == seen


def test_a_server_that_sends_nothing_is_not_asked_by_more() -> None:
    assert run(Ramp(None), lambda n: 0.0) == [1]


@pytest.mark.parametrize("number", [1, 2, 5, 32])
def test_a_number_that_was_asked_for_is_kept(number: int) -> None:
    ramp = Ramp(number)
    assert run(ramp, lambda n: 10 * MB) == [number]
    assert ramp.due is None


def test_nothing_is_decided_before_it_is_due() -> None:
    ramp = Ramp(None)
    assert ramp.begin(10.0, 0) == 1
    assert ramp.due == 10.0 + FIRST
    assert ramp.want(ramp.due - 0.001, MB, 1000 * MB, limited=False) == 1
    assert ramp.want(ramp.due, MB, 1000 * MB, limited=False) == 2


@pytest.mark.parametrize(
    ("fixed", "working", "wants"), [(8, 5, 5), (8, 0, 1), (2, 5, 2), (None, 0, 1), (None, 3, 3)]
)
def test_no_more_than_were_there_when_one_was_lost(fixed: int | None, working: int, wants: int) -> None:
    ramp = Ramp(fixed)
    now = 0.0
    ramp.begin(now, 0)
    for step in range(1, 4):
        if ramp.due is not None:
            now = ramp.due
            ramp.want(now, step**4 * MB, 10_000 * MB, limited=False)
    ramp.hold(working)
    assert ramp.want(now, 100 * MB, 10_000 * MB, limited=False) == wants
    assert run(ramp, lambda n: n * MB)[-1] == wants if fixed else True


def test_one_lost_early_bounds_what_is_tried_later() -> None:
    ramp = Ramp(None)
    ramp.begin(0.0, 0)
    ramp.want(0.5, MB, 10_000 * MB, limited=False)
    ramp.hold(3)
    assert ramp.want(1.5, 5 * MB, 10_000 * MB, limited=False) == 3
