"""Retry decisions: the table of codes, the budget, the waits."""

import pytest

from fetchd.daemon.core.retry import (
    LONGEST_ASKED,
    POISON_DEATHS,
    PROGRESS_BYTES,
    SECOND,
    GiveUp,
    Retry,
    decide,
)
from fetchd.protocol.errors import TRANSIENT, Code

from .make import job, moment

NOW = moment(rand=1.0)


@pytest.mark.parametrize("code", [code for code in Code if code not in TRANSIENT])
def test_what_a_retry_would_not_mend_fails_with_its_code(code: Code) -> None:
    assert decide(job(), code, 0, None, NOW) == GiveUp(code)


@pytest.mark.parametrize(
    ("code", "failures", "seconds"),
    [
        (Code.CONNECT, 0, 1), (Code.TIMEOUT, 1, 2), (Code.TLS, 2, 4), (Code.RESET, 5, 32),
        (Code.RESET, 6, 60), (Code.CONNECT, 7, 60), (Code.RATE_LIMITED, 0, 10), (Code.UNAVAILABLE, 1, 20),
        (Code.UNAVAILABLE, 3, 60), (Code.WORKER_HUNG, 0, 1), (Code.WORKER_KILLED, 1, 2), (Code.DNS, 0, 1),
    ],
)  # fmt: skip
def test_waits_grow_up_to_a_ceiling(code: Code, failures: int, seconds: int) -> None:
    assert decide(job(failures=failures), code, 0, None, NOW) == Retry(seconds * SECOND, failures + 1, 0)


def test_full_jitter() -> None:
    assert decide(job(failures=3), Code.CONNECT, 0, None, moment(rand=0.0)) == Retry(0, 4, 0)
    assert decide(job(failures=3), Code.CONNECT, 0, None, moment(rand=0.25)) == Retry(2 * SECOND, 4, 0)


@pytest.mark.parametrize(
    ("code", "retries", "last"),
    [(Code.CONNECT, 8, 8), (Code.CONNECT, 1, 1), (Code.CONNECT, 0, 0), (Code.DNS, 8, 2), (Code.DNS, 1, 1),
     (Code.SERVER_ERROR, 8, 3)],
)  # fmt: skip
def test_the_budget(code: Code, retries: int, last: int) -> None:
    if last:
        assert isinstance(decide(job(failures=last - 1, retries=retries), code, 0, None, NOW), Retry)
    assert decide(job(failures=last, retries=retries), code, 0, None, NOW) == GiveUp(code)


def test_progress_resets_the_budget_and_a_trickle_does_not() -> None:
    spent = job(failures=8, mark=100, total=PROGRESS_BYTES * 1000)
    assert decide(spent, Code.CONNECT, 100 + PROGRESS_BYTES - 1, None, NOW) == GiveUp(Code.CONNECT)
    assert decide(spent, Code.CONNECT, 100 + PROGRESS_BYTES, None, NOW) == Retry(
        SECOND, 1, 100 + PROGRESS_BYTES
    )
    small = job(failures=8, total=1000)
    assert decide(small, Code.CONNECT, 9, None, NOW) == GiveUp(Code.CONNECT)
    assert decide(small, Code.CONNECT, 10, None, NOW) == Retry(SECOND, 1, 10)
    assert decide(job(failures=8, total=0), Code.CONNECT, 0, None, NOW) == GiveUp(Code.CONNECT)


def test_a_connection_that_had_progressed_is_taken_up_at_once() -> None:
    assert decide(job(failures=3), Code.RESET, PROGRESS_BYTES, None, NOW) == Retry(0, 1, PROGRESS_BYTES)
    assert decide(job(failures=3), Code.SHORT_BODY, PROGRESS_BYTES, None, NOW) == Retry(0, 1, PROGRESS_BYTES)


def test_lost_bytes_move_the_mark_back() -> None:
    assert decide(job(mark=500), Code.CONNECT, 200, None, NOW) == Retry(SECOND, 1, 200)


def test_what_the_server_asks_for() -> None:
    assert decide(job(), Code.RATE_LIMITED, 0, 100.0, moment(rand=0.0)) == Retry(100 * SECOND, 1, 0)
    assert decide(job(), Code.RATE_LIMITED, 0, 100.0, moment(rand=1.0)) == Retry(110 * SECOND, 1, 0)
    assert decide(job(), Code.RATE_LIMITED, 0, 1e12, moment(rand=0.0)) == Retry(LONGEST_ASKED, 1, 0)
    assert decide(job(), Code.RATE_LIMITED, 0, 0.0, NOW) == Retry(0, 1, 0)


def test_deaths_have_a_budget_of_their_own() -> None:
    for deaths in range(1, POISON_DEATHS):
        spent = job(failures=0, retries=0, deaths=deaths, mark=5)
        assert decide(spent, Code.WORKER_DIED, 9, None, NOW) == Retry(SECOND << (deaths - 1), 0, 5)
    poison = job(deaths=POISON_DEATHS, retries=1000)
    assert decide(poison, Code.WORKER_DIED, 1 << 40, None, NOW) == GiveUp(Code.POISONED)
