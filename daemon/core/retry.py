"""What follows a failed attempt, as a decision object.

The full table of `Retry-After`, host parking and per-row budgets replaces `decide`; nothing
else needs to know.
"""

from msgspec import Struct

from fetchd.protocol.errors import TRANSIENT, Code

from .job import Job, Moment

SECOND = 1_000_000
BASE = 1 * SECOND
BASE_ASKED = 10 * SECOND
"""The base of the wait where a server asks for fewer requests and does not say for how long."""

CEILING = 60 * SECOND
LONGEST_ASKED = 6 * 3600 * SECOND
"""A server's Retry-After is honoured up to this."""

PROGRESS_BYTES = 1 << 20
"""Gaining this much, or a hundredth of the whole, resets the budget; less is a trickle."""

POISON_DEATHS = 3

FEW = {Code.DNS: 2, Code.SERVER_ERROR: 3}
"""Codes that get fewer retries than the job's budget."""


class Retry(Struct, frozen=True):
    """Try again after `wait` µs; `failures` and `mark` are the job's new budget."""

    wait: int
    failures: int
    mark: int


class GiveUp(Struct, frozen=True):
    """Fail with this code."""

    code: Code


def decide(job: Job, code: Code, on_hand: int, retry_after: float | None, now: Moment) -> Retry | GiveUp:
    """What to do after an attempt of `job` ended with `code` and `on_hand` bytes kept.

    The wait is full jitter in [0, min(60 s, 1 s * 2**n)], or what the server asked for plus up to a tenth.
    The worker's death has been counted in `job.deaths` already.
    """
    if code not in TRANSIENT:
        return GiveUp(code)
    if code is Code.WORKER_DIED:
        # a budget of its own, which no progress resets
        if job.deaths >= POISON_DEATHS:
            return GiveUp(Code.POISONED)
        return Retry(_jitter(BASE, job.deaths, now), job.failures, min(job.mark, on_hand))
    gained = on_hand - job.mark
    progressed = gained >= PROGRESS_BYTES or (
        job.total is not None and gained > 0 and gained * 100 >= job.total
    )
    failures = 1 if progressed else job.failures + 1
    mark = on_hand if progressed else min(job.mark, on_hand)
    if failures > min(job.retries, FEW.get(code, job.retries)):
        return GiveUp(code)
    if progressed and code in (Code.RESET, Code.SHORT_BODY):
        return Retry(0, failures, mark)
    if retry_after is not None:
        asked = min(int(retry_after * SECOND), LONGEST_ASKED)
        return Retry(asked + int(asked * 0.1 * now.rand), failures, mark)
    base = BASE_ASKED if code in (Code.RATE_LIMITED, Code.UNAVAILABLE) else BASE
    return Retry(_jitter(base, failures, now), failures, mark)


def _jitter(base: int, failures: int, now: Moment) -> int:
    return int(min(CEILING, base << min(failures - 1, 16)) * now.rand)
