"""Rates and minimum speeds, computed on a clock of the test's own; threads only where waking them matters."""

import heapq
import threading
from collections.abc import Iterator

import pytest

from fetchd.daemon.transfer import pace
from fetchd.daemon.transfer.api import TransferError
from fetchd.daemon.transfer.pace import LEAST, SLICE, Bucket, Floor, Pace
from fetchd.protocol.errors import Code

KIB = 1 << 10
PIECE = 1 << 20
JOIN = 20.0


class Clock:
    """Stands for `time` in the module; it moves only when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(pace, "time", made)
    return made


def received(bucket: Bucket, threads: int, seconds: float, *, begin: float = 0.0, share: float = 1.0) -> int:
    """What so many threads receive until then, each taking `PIECE` when it may; `share` of that comes."""
    total = 0
    turns = [(begin, number) for number in range(threads)]
    while turns[0][0] <= begin + seconds:
        now, number = heapq.heappop(turns)
        if wait := bucket.wait(now):
            heapq.heappush(turns, (now + wait, number))
            continue
        allowed = bucket.take(now, PIECE)
        came = max(1, int(allowed * share))
        bucket.put_back(allowed - came)
        total += came
        # the bytes take a millisecond to come
        heapq.heappush(turns, (now + 0.001, number))
    return total


RATES = [KIB, 3 * KIB, 64 * KIB, 1_000_000, 20_000_000, 100_000_000]


@pytest.mark.parametrize("threads", [1, 3, 32])
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("share", [1.0, 0.3])
def test_the_sum_is_the_rate(rate: int, threads: int, share: float) -> None:
    """Within 5 %, and what is handed out at once."""
    seconds = 5.0 if rate > 64 * KIB else 100.0
    total = received(Bucket(rate, 0.0), threads, seconds, share=share)
    assert total == pytest.approx(rate * seconds, rel=0.05, abs=max(LEAST, rate * SLICE))


@pytest.mark.parametrize("rate", RATES)
def test_no_second_has_more_than_its_share(rate: int) -> None:
    bucket = Bucket(rate, 0.0)
    for second in range(8):
        count = received(bucket, 4, 0.999, begin=float(second))
        assert count <= rate * (1 + SLICE) + max(LEAST, rate * SLICE)


def test_a_pause_is_caught_up_by_a_slice_only() -> None:
    bucket = Bucket(1_000_000, 0.0)
    assert received(bucket, 1, 1.0, begin=3600.0) <= 1_000_000 * (1 + 3 * SLICE)


def test_without_a_rate_everything_is_let_go() -> None:
    bucket = Bucket(None, 0.0)
    assert (bucket.wait(0.0), bucket.take(0.0, 1 << 40)) == (0.0, 1 << 40)
    bucket.put_back(5)


def test_at_least_a_little_is_handed_out() -> None:
    bucket = Bucket(1, 0.0)
    assert bucket.take(0.0, PIECE) == LEAST
    assert bucket.wait(0.0) == LEAST
    assert Bucket(1, 0.0).take(0.0, 5) == 5


@pytest.mark.parametrize(
    ("old", "new", "seconds"),
    [
        (1000, 4000, LEAST / 4000),
        (4000, 1000, LEAST / 1000),
        (1000, None, 0.0),
        (None, 1000, 0.0),
        # 1 MiB was let go: nobody waits a quarter of an hour for that
        (100_000_000, KIB, LEAST / KIB),
        (100_000_000, 500_000, 1.0),
        (100_000_000, 50_000_000, PIECE / 50_000_000),
    ],
)
def test_another_rate_in_the_middle(old: int | None, new: int | None, seconds: float) -> None:
    bucket = Bucket(old, 0.0)
    bucket.take(0.0, PIECE)
    bucket.set(0.0, new)
    assert bucket.wait(0.0) == pytest.approx(seconds)
    assert bucket.rate == new


@pytest.mark.parametrize(("old", "new"), [(1_000_000, 50_000), (50_000, 1_000_000), (None, 50_000)])
def test_the_sum_after_a_change_is_the_new_rate(old: int | None, new: int) -> None:
    bucket = Bucket(old, 0.0)
    if old is not None:
        received(bucket, 4, 2.0)
    bucket.set(2.0, new)
    assert received(bucket, 4, 5.0, begin=2.0) == pytest.approx(
        5 * new, rel=0.05, abs=max(LEAST, new * SLICE)
    )


# threads


class Taker:
    """A thread that takes once."""

    def __init__(self, made: Pace) -> None:
        self.got: int | None = None
        self._pace = made
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self.got = self._pace.take(PIECE)

    def join(self) -> int | None:
        self._thread.join(JOIN)
        assert not self._thread.is_alive(), "it still waits"
        return self.got


@pytest.fixture
def waiting(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Pace, threading.Event]]:
    """A pace of 1 byte a second with its next bytes far away, and an event: somebody waits for them."""
    made = Pace(1)
    made.take(PIECE)
    waits = threading.Event()
    wait = made._condition.wait

    def told(seconds: float | None = None) -> bool:
        waits.set()
        return wait(seconds)

    monkeypatch.setattr(made._condition, "wait", told)
    yield made, waits
    made.end()


def test_the_end_is_heard_by_who_waits(waiting: tuple[Pace, threading.Event]) -> None:
    made, waits = waiting
    takers = [Taker(made) for _ in range(8)]
    assert waits.wait(JOIN)
    made.end()
    assert [taker.join() for taker in takers] == [PIECE] * 8
    assert made.take(5) == 5


@pytest.mark.parametrize("rate", [None, 1_000_000_000])
def test_another_rate_is_heard_by_who_waits(
    waiting: tuple[Pace, threading.Event], clock: Clock, rate: int | None
) -> None:
    made, waits = waiting
    taker = Taker(made)
    assert waits.wait(JOIN)
    clock.now += 1
    made.set(rate)
    assert made.rate == rate
    clock.now += 1
    made.set(rate)
    assert taker.join() == PIECE


def test_what_is_put_back_is_heard_by_who_waits(waiting: tuple[Pace, threading.Event]) -> None:
    made, waits = waiting
    taker = Taker(made)
    assert waits.wait(JOIN)
    made.put_back(LEAST)
    assert taker.join() == LEAST


def test_nobody_waits_without_a_rate() -> None:
    made = Pace(None)
    assert made.take(1 << 40) == 1 << 40
    made.put_back(1 << 30)
    made.set(1000)
    assert made.take(PIECE) == LEAST


# the minimum


def test_less_than_the_minimum(clock: Clock) -> None:
    floor = Floor(100, 10.0)
    floor.received(0, None)
    clock.now += 9.9
    floor.received(500, None)
    clock.now += 0.1
    with pytest.raises(TransferError) as caught:
        floor.received(499, None)
    assert caught.value.code is Code.TOO_SLOW


def test_each_span_counts_for_itself(clock: Clock) -> None:
    floor = Floor(100, 10.0)
    floor.received(1_000_000, None)
    clock.now += 10
    floor.received(1, None)
    clock.now += 10
    with pytest.raises(TransferError):
        floor.received(1, None)


def test_the_minimum_is_enough(clock: Clock) -> None:
    floor = Floor(100, 10.0)
    for _ in range(100):
        floor.received(100, None)
        clock.now += 1


def test_waiting_for_the_answer_is_not_slow(clock: Clock) -> None:
    """A connection that took longer than the span, and is fast now."""
    floor = Floor(100, 10.0)
    clock.now += 60
    floor.received(200, None)
    clock.now += 10
    floor.received(900, None)


@pytest.mark.parametrize(("rate", "slow"), [(None, True), (1000, True), (100, False), (40, False)])
def test_a_rate_below_the_minimum_is_no_reason(clock: Clock, rate: int | None, slow: bool) -> None:
    floor = Floor(100, 10.0)
    floor.received(0, rate)
    clock.now += 10
    if slow:
        with pytest.raises(TransferError):
            floor.received(600, rate)
    else:
        floor.received(600, rate)


def test_no_minimum() -> None:
    Floor(0, 0.0).received(0, None)
