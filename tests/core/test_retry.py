"""Retry decisions: the table of codes row by row, the budget, the waits, the sources."""

from typing import Any

import pytest

from fetchd.daemon.core import disk
from fetchd.daemon.core.job import Job
from fetchd.daemon.core.retry import (
    POISON_DEATHS,
    PROGRESS_BYTES,
    TABLE,
    Failure,
    GiveUp,
    Retry,
    decide,
)
from fetchd.daemon.core.waits import LONGEST_ASKED, SECOND
from fetchd.protocol.errors import TRANSIENT, Code
from fetchd.protocol.mailbox import Options

from .make import job, moment

NOW = moment(rand=1.0)
ELSEWHERE = (Code.DNS, Code.CONNECT, Code.TIMEOUT, Code.TLS, Code.TOO_SLOW, Code.PROXY, Code.SERVER_ERROR)
BROKEN = (Code.RESET, Code.SHORT_BODY)
ASKED = (Code.RATE_LIMITED, Code.UNAVAILABLE)
REFUSED = (
    Code.TLS_CERT, Code.UNAUTHORIZED, Code.FORBIDDEN, Code.NOT_FOUND, Code.GONE, Code.HTTP_ERROR,
    Code.BAD_RESPONSE, Code.REDIRECT_LOOP, Code.REDIRECT_REFUSED,
)  # fmt: skip
SUPERVISED = (Code.WORKER_DIED, Code.WORKER_HUNG, Code.WORKER_KILLED, Code.WORKER_MEMORY)
THREE = Options(mirrors=("http://b.test/f", "http://c.test/f"))


def after(code: Code, which: int | None = 0, *, now: Any = NOW, **fields: Any) -> Retry | GiveUp:
    """The decision after an attempt of a job with these fields; `told` is a Retry-After, `mixed` as it is."""
    told, mixed = fields.pop("told", None), fields.pop("mixed", False)
    return decide(job(**fields), Failure(code=code, source=which, retry_after=told, mixed=mixed), now)


def again(seconds: float = 0, failures: int = 1, **fields: Any) -> Retry:
    values: dict[str, Any] = {"mark": 0, "source": 0, "refused": 0, **fields}
    return Retry(wait=int(seconds * SECOND), failures=failures, **values)


def test_every_row_is_tried_here() -> None:
    others = {Code.CHECKSUM_MISMATCH, Code.IO_ERROR, Code.EXHAUSTED}
    assert set(TABLE) == {*ELSEWHERE, *BROKEN, *ASKED, *REFUSED, *SUPERVISED, *others}
    assert set(TABLE) >= TRANSIENT
    assert not set(TABLE) & set(disk.CODES), "these fail nothing"


@pytest.mark.parametrize("code", [code for code in Code if code not in TABLE])
def test_what_a_retry_would_not_mend_fails_with_its_code(code: Code) -> None:
    assert after(code) == after(code, options=THREE) == GiveUp(code)


# T


@pytest.mark.parametrize(
    "code", [*ELSEWHERE, *BROKEN, Code.WORKER_HUNG, Code.WORKER_KILLED, Code.WORKER_MEMORY]
)
@pytest.mark.parametrize(("failures", "seconds"), [(0, 1), (1, 2)])
def test_waits_grow(code: Code, failures: int, seconds: int) -> None:
    assert after(code, failures=failures) == again(seconds, failures + 1)


@pytest.mark.parametrize(("failures", "seconds"), [(2, 4), (5, 32), (6, 60), (7, 60)])
def test_waits_have_a_ceiling(failures: int, seconds: int) -> None:
    assert after(Code.CONNECT, failures=failures) == again(seconds, failures + 1)


def test_full_jitter() -> None:
    assert after(Code.CONNECT, failures=3, now=moment(rand=0.0)) == again(0, 4)
    assert after(Code.CONNECT, failures=3, now=moment(rand=0.25)) == again(2, 4)


@pytest.mark.parametrize(
    ("code", "retries", "last"),
    [(Code.CONNECT, 8, 8), (Code.CONNECT, 1, 1), (Code.CONNECT, 0, 0), (Code.DNS, 8, 2), (Code.DNS, 1, 1),
     (Code.SERVER_ERROR, 8, 3), (Code.RESET, 0, 0), (Code.RATE_LIMITED, 2, 2), (Code.WORKER_HUNG, 2, 2)],
)  # fmt: skip
def test_the_budget(code: Code, retries: int, last: int) -> None:
    if last:
        assert isinstance(after(code, failures=last - 1, retries=retries), Retry)
    given_up = after(code, failures=last, retries=retries, error_code=code)
    assert isinstance(given_up, GiveUp)
    assert given_up.code is code


def test_progress_resets_the_budget_and_a_trickle_does_not() -> None:
    spent: dict[str, Any] = {"failures": 8, "mark": 100, "total": PROGRESS_BYTES * 1000}
    whole = 100 + PROGRESS_BYTES
    assert after(Code.CONNECT, **spent, bytes=whole - 1) == GiveUp(Code.CONNECT)
    assert after(Code.CONNECT, **spent, bytes=whole) == again(1, mark=whole)
    assert after(Code.CONNECT, failures=8, total=1000, bytes=9) == GiveUp(Code.CONNECT)
    assert after(Code.CONNECT, failures=8, total=1000, bytes=10) == again(1, mark=10)
    assert after(Code.CONNECT, failures=8, total=0) == GiveUp(Code.CONNECT)


@pytest.mark.parametrize("code", BROKEN)
def test_a_connection_that_had_progressed_is_taken_up_at_once(code: Code) -> None:
    assert after(code, failures=3, bytes=PROGRESS_BYTES) == again(0, mark=PROGRESS_BYTES)
    mirrored = after(code, 1, options=THREE, source=1, bytes=PROGRESS_BYTES)
    assert mirrored == again(0, mark=PROGRESS_BYTES, source=1), "and from the same source"
    assert after(code, retries=0, bytes=PROGRESS_BYTES) == GiveUp(code)


def test_lost_bytes_move_the_mark_back() -> None:
    assert after(Code.CONNECT, mark=500, bytes=200) == again(1, mark=200)


# H


@pytest.mark.parametrize("code", ASKED)
def test_what_the_server_asks_for_parks_the_host(code: Code) -> None:
    assert after(code, told=100.0, now=moment(rand=0.0)) == again(100, parks=True)
    assert after(code, told=100.0) == again(110, parks=True)
    assert after(code, told=1e12, now=moment(rand=0.0)) == again(LONGEST_ASKED / SECOND, parks=True)
    assert after(code, told=0.0) == again(0, parks=True)
    assert after(code) == again(10, parks=True), "it did not say for how long"
    assert after(code, failures=3) == again(60, 4, parks=True)
    assert after(code, told=50.0, retries=0, now=moment(rand=0.0)) == GiveUp(code, 50 * SECOND)


def test_a_mirror_elsewhere_that_asks_for_less_is_left_alone() -> None:
    two = Options(mirrors=("http://b.test/f", "http://a.test/g"))
    assert after(Code.UNAVAILABLE, 1, options=THREE, source=1, told=9.0) == again(0, 0, source=2)
    last = after(Code.UNAVAILABLE, 2, options=THREE, source=2, told=10.0)
    assert last == again(11), "the job alone waits, and begins with the first"
    assert after(Code.UNAVAILABLE, 2, options=two, source=2, told=10.0) == again(11, source=2, parks=True)
    assert after(Code.UNAVAILABLE, 2, options=THREE, retries=0, source=2) == GiveUp(Code.UNAVAILABLE)


# sources


@pytest.mark.parametrize("code", [*ELSEWHERE, *BROKEN])
def test_each_source_once_without_a_wait_and_then_a_new_round(code: Code) -> None:
    fields: dict[str, Any] = {"options": THREE, "failures": 1}
    assert after(code, 0, **fields) == again(0, 1, source=1)
    assert after(code, 1, source=1, **fields) == again(0, 1, source=2)
    assert after(code, 2, source=2, **fields) == again(2, 2)
    assert after(code, 0, refused=0b010, **fields) == again(0, 1, source=2, refused=0b010)
    assert after(code, 2, source=2, refused=0b001, **fields) == again(2, 2, source=1, refused=0b001)


def test_a_round_costs_one_retry_and_the_last_one_is_gone_through() -> None:
    assert after(Code.CONNECT, 0, options=THREE, retries=0) == again(0, 0, source=1)
    assert after(Code.CONNECT, 2, options=THREE, retries=0, source=2) == GiveUp(Code.CONNECT)


def test_a_round_ends_whatever_the_worker_says() -> None:
    assert after(Code.CONNECT, 0, options=THREE, source=2) == again(1), "it began with the last one"


@pytest.mark.parametrize(("code", "most"), [(Code.DNS, 2), (Code.SERVER_ERROR, 3)])
def test_a_source_that_had_its_few_retries_is_refused(code: Code, most: int) -> None:
    spent: dict[str, Any] = {"options": THREE, "failures": most, "error_code": code}
    assert after(code, 1, **spent) == again(0, most, source=2, refused=0b010)
    assert after(code, 1, refused=0b101, **spent) == GiveUp(code)


@pytest.mark.parametrize("code", [Code.DNS, Code.SERVER_ERROR])
def test_failures_of_another_kind_do_not_count_as_its_few_retries(code: Code) -> None:
    assert after(code, failures=3, error_code=Code.TIMEOUT) == again(8, 4)
    assert after(code, failures=4, error_code=code) == GiveUp(code), "once more of the same"
    assert after(code, failures=8, error_code=Code.TIMEOUT) == GiveUp(code)


@pytest.mark.parametrize("code", REFUSED)
def test_a_source_that_will_not_do_is_not_asked_again(code: Code) -> None:
    assert after(code) == GiveUp(code)
    fields: dict[str, Any] = {"options": THREE, "failures": 5, "retries": 5}
    assert after(code, 0, **fields) == again(0, 5, source=1, refused=0b001)
    assert after(code, 2, source=1, **fields) == again(0, 5, source=0, refused=0b100)
    assert after(code, 1, refused=0b101, **fields) == GiveUp(code), "with the code of the last one"


def test_a_wrong_checksum_is_tried_once_from_zero() -> None:
    code = Code.CHECKSUM_MISMATCH
    assert after(code, bytes=500, mark=400, retries=0) == again(0, 0, anew=True)
    assert after(code, mismatches=1) == GiveUp(code)


def test_a_wrong_checksum_and_mirrors() -> None:
    code = Code.CHECKSUM_MISMATCH
    assert after(code, 0, options=THREE) == again(0, 0, source=1, refused=0b001, anew=True)
    second = after(code, 1, options=THREE, source=1, refused=0b001, mismatches=1)
    assert second == again(0, 0, source=2, refused=0b011, anew=True), "each gets its one try"
    assert after(code, 2, options=THREE, source=2, refused=0b011, mismatches=2) == GiveUp(code)
    left = after(code, 0, options=THREE, refused=0b110)
    assert left == again(0, 0, refused=0b110, anew=True), "where no other is left, itself"


def test_nobody_is_blamed_for_mixed_bytes() -> None:
    code = Code.CHECKSUM_MISMATCH
    assert after(code, 0, options=THREE, mixed=True) == again(0, 0, source=1, anew=True, alone=True)
    told_so_again = after(code, 1, options=THREE, mixed=True, alone=True, mismatches=1)
    assert told_so_again == again(0, 0, source=2, refused=0b010, anew=True, alone=True)
    assert after(code, 0, mixed=True) == again(0, 0, anew=True, alone=True)
    assert after(Code.CONNECT, alone=True) == again(1, alone=True), "it stays so"


# workers


def test_deaths_have_a_budget_of_their_own() -> None:
    for deaths in range(1, POISON_DEATHS):
        spent: dict[str, Any] = {"retries": 0, "mark": 5, "bytes": 9, "source": 1, "options": THREE}
        died = after(Code.WORKER_DIED, None, deaths=deaths, **spent)
        assert died == again(1 << (deaths - 1), 0, mark=5, source=1)
    poison = after(Code.WORKER_DIED, None, deaths=POISON_DEATHS, retries=1000, bytes=1 << 40)
    assert poison == GiveUp(Code.POISONED)


@pytest.mark.parametrize("code", [Code.WORKER_HUNG, Code.WORKER_KILLED, Code.WORKER_MEMORY])
def test_no_source_is_blamed_for_a_killed_worker(code: Code) -> None:
    assert after(code, None, options=THREE, source=1) == again(1, source=1)


# our own troubles


def test_an_io_error_is_tried_from_zero_three_times_in_a_row() -> None:
    code = Code.IO_ERROR
    assert after(code) == again(1, anew=True)
    assert after(code, None, failures=2, error_code=code) == again(4, 3, anew=True)
    assert after(code, failures=3, error_code=code) == GiveUp(code)
    assert after(code, failures=3, error_code=Code.CONNECT) == again(8, 4, anew=True)
    assert after(code, retries=0) == GiveUp(code)
    assert after(code, 1, options=THREE, source=1) == again(1, source=1, anew=True), "no source is blamed"


def test_the_same_bytes_again_are_no_progress_after_an_io_error() -> None:
    spent: dict[str, Any] = {"failures": 3, "error_code": Code.IO_ERROR, "mark": 5 << 20}
    assert after(Code.IO_ERROR, **spent, bytes=5 << 20) == GiveUp(Code.IO_ERROR)
    assert after(Code.IO_ERROR, **spent, bytes=6 << 20) == again(1, mark=6 << 20, anew=True)
    kept = after(Code.IO_ERROR, failures=1, mark=5 << 20, bytes=1)
    assert kept == again(2, 2, mark=5 << 20, anew=True), "the mark stays where it was"


@pytest.mark.parametrize(("rand", "seconds"), [(0.0, 1), (1.0, 10)])
def test_what_is_exhausted_is_waited_out_and_costs_nothing(rand: float, seconds: int) -> None:
    now = moment(rand=rand)
    assert after(Code.EXHAUSTED, failures=9, retries=0, now=now) == again(seconds, 9)


# whatever happens, it ends


@pytest.mark.parametrize("code", [code for code in TABLE if code is not Code.EXHAUSTED])
@pytest.mark.parametrize("source", [0, 1, 2])
@pytest.mark.parametrize("mixed", [False, True])
def test_there_is_an_end(code: Code, source: int, mixed: bool) -> None:
    spent = job(options=THREE, deaths=1)
    for _ in range(200):
        decision = decide(spent, Failure(code=code, source=source, mixed=mixed), NOW)
        if isinstance(decision, GiveUp):
            return
        spent = carried_out(spent, decision)
    raise AssertionError("it goes on for ever")


def carried_out(spent: Job, decision: Retry) -> Job:
    return job(
        options=THREE, source=decision.source, refused=decision.refused, failures=decision.failures,
        alone=decision.alone, mismatches=spent.mismatches + decision.anew, deaths=spent.deaths + 1,
    )  # fmt: skip
