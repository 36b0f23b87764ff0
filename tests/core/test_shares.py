"""Shares of a bandwidth: fair, never above a limit, and what one cannot use is for the others."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchd.daemon.core.shares import FLOOR, ROOM, Taker, divide, level, wanted


def some(*names: str, host: str = "a", **fields: float) -> list[Taker]:
    return [Taker(name, host, **fields) for name in names]


def test_without_limits_everybody_takes_what_he_likes() -> None:
    assert divide(some("x", "y")) == {"x": inf, "y": inf}
    assert divide(some("x", cap=5.0) + some("y")) == {"x": 5.0, "y": inf}
    assert divide([]) == {}


def test_equal_shares() -> None:
    assert divide(some("x", "y", "z"), 90.0) == {"x": 30.0, "y": 30.0, "z": 30.0}
    assert divide(some("x", cap=10.0) + some("y", "z"), 90.0) == {"x": 10.0, "y": 40.0, "z": 40.0}


def test_a_host_in_its_limit_leaves_the_rest_to_others() -> None:
    takers = some("x", "y", host="slow") + some("z", host="quick")
    assert divide(takers, 100.0, {"slow": 20.0}) == {"x": 10.0, "y": 10.0, "z": 80.0}
    assert divide(takers, inf, {"slow": 20.0}) == {"x": 10.0, "y": 10.0, "z": inf}
    assert divide(takers, 15.0, {"slow": 20.0}) == {"x": 5.0, "y": 5.0, "z": 5.0}


def test_who_cannot_use_his_share_does_not_hold_it_back() -> None:
    assert divide(some("x", wanted=10.0) + some("y"), 100.0) == {"x": 10.0, "y": 90.0}


def test_what_nobody_is_known_to_want_is_shared_out_too() -> None:
    takers = some("x", wanted=10.0) + some("y", wanted=20.0)
    assert divide(takers, 100.0) == {"x": 45.0, "y": 55.0}
    assert divide(some("x", wanted=10.0, cap=15.0) + some("y", wanted=20.0), 100.0) == {"x": 15.0, "y": 85.0}
    assert divide(takers, inf, {"a": 100.0}) == {"x": 45.0, "y": 55.0}


def test_what_one_is_known_to_want() -> None:
    assert wanted(None, 100_000.0) == inf, "it has not shown anything yet"
    assert wanted(5000.0, None) == inf
    assert wanted(98_000.0, 100_000.0) == inf, "it uses what it has"
    assert wanted(50_000.0, 100_000.0) == ROOM * 50_000.0
    assert wanted(0.0, 100_000.0) == FLOOR
    assert wanted(ROOM * 50_000.0 / ROOM, ROOM * 50_000.0) == ROOM * 50_000.0, "and so it stays"


def test_a_level() -> None:
    assert level([1.0, 5.0, 9.0], 15.0) == inf
    assert level([1.0, 5.0, 9.0], 11.0) == 5.0
    assert level([1.0, 5.0, 9.0], 7.0) == 3.0
    assert level([], 7.0) == inf
    assert level([inf, inf], inf) == inf


RATES = st.floats(1.0, 1e9)
TAKERS = st.lists(
    st.tuples(st.sampled_from("abc"), RATES | st.just(inf), RATES | st.just(inf)), min_size=1, max_size=12
)


@given(takers=TAKERS, total=RATES | st.just(inf), hosts=st.dictionaries(st.sampled_from("abc"), RATES))
def test_every_limit_holds_and_nothing_is_left_over(
    takers: list[tuple[str, float, float]], total: float, hosts: dict[str, float]
) -> None:
    everyone = [Taker(str(n), *values) for n, values in enumerate(takers)]
    made = divide(everyone, total, hosts)
    near = 1 + 1e-6
    assert sum(made.values()) <= total * near
    for taker in everyone:
        assert 0 <= made[taker.name] <= taker.cap * near
    full = {host for host, rate in hosts.items() if of(everyone, made, host) >= rate / near}
    for host, rate in hosts.items():
        assert of(everyone, made, host) <= rate * near
    if sum(made.values()) < total / near:
        for taker in everyone:
            reached = made[taker.name] >= taker.cap / near
            assert reached or taker.host in full, f"{taker} could have more"


def of(everyone: list[Taker], made: dict[str, float], host: str) -> float:
    return sum(made[taker.name] for taker in everyone if taker.host == host)


@pytest.mark.parametrize("speeds", [[10_000.0, inf], [30_000.0, 50_000.0, inf], [90_000.0, 9_000.0, inf]])
def test_the_limit_is_used_where_some_are_slow(speeds: list[float]) -> None:
    limit, shown, allowed = 100_000.0, [None] * len(speeds), [None] * len(speeds)
    used = 0.0
    for _ in range(6):
        takers = [
            Taker(str(n), "a", wanted=wanted(s, a))
            for n, (s, a) in enumerate(zip(shown, allowed, strict=True))
        ]
        made = divide(takers, limit)
        allowed = [made[str(n)] for n in range(len(speeds))]
        shown = [min(rate, speed) for rate, speed in zip(allowed, speeds, strict=True)]
        used = sum(shown)
        assert used <= limit
    assert used >= 0.95 * limit
