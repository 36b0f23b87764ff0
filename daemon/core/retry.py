"""What follows a failed attempt, as a decision object: the retry table, and nothing that acts on it.

T is full jitter in [0, min(60 s, 1 s * 2**n)]; H is what the server asked for plus up to a tenth, at most six
hours, else T with a base of ten seconds. n counts failures without progress: of a job with mirrors, rounds
over all its sources. A source that will not do is refused: it is not asked again by itself.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from msgspec import Struct

from fetchd.protocol.errors import Code
from fetchd.protocol.urls import host_key, split_url

from .job import Job, Moment
from .waits import BASE, asked, jitter, pause

PROGRESS_BYTES = 1 << 20
"""Gaining this much, or a hundredth of the whole, resets the budget; less is a trickle."""

POISON_DEATHS = 3
IO_ERRORS = 3
UNBOUNDED = 1 << 30


class Failure(Struct, frozen=True, kw_only=True):
    """How an attempt failed. `source` of (url, *mirrors) did, None: it was not the server's fault."""

    code: Code
    message: str = ""
    retry_after: float | None = None
    source: int | None = None
    mixed: bool = False


class Retry(Struct, frozen=True, kw_only=True):
    """Try again after `wait` µs, with this budget and from this source.

    With `parks` the whole host waits so long. `anew`: from zero. `alone`: the bytes of one source only.
    """

    failures: int
    mark: int
    source: int
    refused: int
    wait: int = 0
    parks: bool = False
    anew: bool = False
    alone: bool = False


class GiveUp(Struct, frozen=True):
    """Fail with this code. The other jobs of the host have to wait `park` µs (0: they need not)."""

    code: Code
    park: int = 0


class Case(NamedTuple):
    """A failure and what it leaves of the budget: `spent` failures without progress since `mark` bytes."""

    job: Job
    failure: Failure
    now: Moment
    spent: int
    mark: int
    progressed: bool

    @property
    def at(self) -> int:
        """The source that failed; one that is refused is not tried, whatever the worker says."""
        job, said = self.job, self.failure.source
        return job.source if said is None or job.refused >> said & 1 else said

    def retry(self, source: int | None = None, **fields: Any) -> Retry:
        """Again with the budget as it is; without another source from the one that failed."""
        job = self.job
        plan = {"failures": self.spent, "mark": self.mark, "refused": job.refused, "alone": job.alone}
        return Retry(source=self.at if source is None else source, **{**plan, **fields})


def decide(job: Job, failure: Failure, now: Moment) -> Retry | GiveUp:
    """What to do after an attempt of `job` failed; `job.bytes` are kept, a worker's death is counted."""
    gained = job.bytes - job.mark
    progressed = gained >= PROGRESS_BYTES or (
        job.total is not None and gained > 0 and gained * 100 >= job.total
    )
    spent = 0 if progressed else job.failures
    mark = job.bytes if progressed else min(job.mark, job.bytes)
    row = TABLE.get(failure.code)
    if row is None:
        return GiveUp(failure.code)
    rule, most = row
    return rule(Case(job, failure, now, spent, mark, progressed), most)


# the rules of the table


def elsewhere(case: Case, most: int) -> Retry | GiveUp:
    """The next source at once while there is one in this round; then a new round after T.

    A source that has had its `most` retries is refused, unless the last one was for something else.
    """
    if case.spent >= most and case.job.error_code == case.failure.code:
        return refuse(case, most)
    following = _later(case)
    return again(case, most) if following is None else case.retry(following)


def again(case: Case, _most: int) -> Retry | GiveUp:
    """After T, as long as the budget lasts; from the first source, if it was the fault of one."""
    failures = case.spent + 1
    if failures > case.job.retries:
        return GiveUp(case.failure.code)
    source = None if case.failure.source is None else _first(case)
    return case.retry(source, wait=jitter(BASE, failures, case.now), failures=failures)


def resume(case: Case, most: int) -> Retry | GiveUp:
    """At once where it had progressed, and from the same source; else as any other trouble on the way."""
    if case.progressed and case.job.retries > 0:
        return case.retry(failures=1)
    return elsewhere(case, most)


def park(case: Case, _most: int) -> Retry | GiveUp:
    """After H, and all other jobs of the host too. Where a mirror asked for it, it is left alone instead."""
    failures = case.spent + 1
    wait = asked(case.failure.retry_after, failures, case.now)
    parks = _host(case.job, case.at) == case.job.host
    if not parks and (following := _later(case)) is not None:
        return case.retry(following)
    if failures > case.job.retries:
        return GiveUp(case.failure.code, wait if parks else 0)
    return case.retry(None if parks else _first(case), wait=wait, parks=parks, failures=failures)


def refuse(case: Case, _most: int) -> Retry | GiveUp:
    """Never again from this source: the next one at once. The job fails with what the last one said."""
    refused = case.job.refused | 1 << case.at
    following = _next(case, refused)
    return GiveUp(case.failure.code) if following is None else case.retry(following, refused=refused)


def anew(case: Case, _most: int) -> Retry | GiveUp:
    """The bytes are wrong: once from zero, from another source if there is one; each gets one try.

    Nobody knows whose bytes are wrong where they are mixed; from then on they are not.
    """
    job = case.job
    if case.failure.mixed and not job.alone:
        following = _next(case, job.refused)
        return case.retry(following, mark=0, anew=True, alone=True)
    refused = job.refused | 1 << case.at
    following = _next(case, refused)
    if following is not None:
        return case.retry(following, mark=0, refused=refused, anew=True)
    return GiveUp(case.failure.code) if job.mismatches else case.retry(mark=0, anew=True)


def poison(case: Case, most: int) -> Retry | GiveUp:
    """After T, with a budget of its own, which no progress resets."""
    job = case.job
    if job.deaths >= most:
        return GiveUp(Code.POISONED)
    mark = min(job.mark, job.bytes)
    return case.retry(wait=jitter(BASE, job.deaths, case.now), failures=job.failures, mark=mark)


def from_zero(case: Case, most: int) -> Retry | GiveUp:
    """The disk did not keep what it was given: from zero after T, `most` times in a row.

    More bytes than ever before are progress, and not those that are only fetched once more.
    """
    job, failures = case.job, case.spent + 1
    if failures > job.retries or (case.spent >= most and job.error_code == case.failure.code):
        return GiveUp(case.failure.code)
    mark, wait = max(job.mark, job.bytes), jitter(BASE, failures, case.now)
    return case.retry(job.source, wait=wait, failures=failures, mark=mark, anew=True)


def bide(case: Case, _most: int) -> Retry | GiveUp:
    """Our own trouble: after a while, and it costs nothing."""
    job = case.job
    return case.retry(job.source, wait=pause(case.now), failures=job.failures, mark=min(job.mark, job.bytes))


TABLE: dict[Code, tuple[Callable[[Case, int], Retry | GiveUp], int]] = {
    # what went wrong              what follows, after how many failures the source is refused
    Code.DNS: (elsewhere, 2),
    Code.CONNECT: (elsewhere, UNBOUNDED),
    Code.TIMEOUT: (elsewhere, UNBOUNDED),
    Code.TLS: (elsewhere, UNBOUNDED),
    Code.TOO_SLOW: (elsewhere, UNBOUNDED),
    Code.PROXY: (elsewhere, UNBOUNDED),
    Code.RESET: (resume, UNBOUNDED),
    Code.SHORT_BODY: (resume, UNBOUNDED),
    Code.SERVER_ERROR: (elsewhere, 3),
    Code.RATE_LIMITED: (park, UNBOUNDED),
    Code.UNAVAILABLE: (park, UNBOUNDED),
    Code.TLS_CERT: (refuse, 0),
    Code.UNAUTHORIZED: (refuse, 0),
    Code.FORBIDDEN: (refuse, 0),
    Code.NOT_FOUND: (refuse, 0),
    Code.GONE: (refuse, 0),
    Code.HTTP_ERROR: (refuse, 0),
    Code.BAD_RESPONSE: (refuse, 0),
    Code.REDIRECT_LOOP: (refuse, 0),
    Code.REDIRECT_REFUSED: (refuse, 0),
    Code.CHECKSUM_MISMATCH: (anew, 0),
    Code.WORKER_DIED: (poison, POISON_DEATHS),
    Code.WORKER_HUNG: (again, 0),
    Code.WORKER_KILLED: (again, 0),
    Code.WORKER_MEMORY: (again, 0),
    Code.IO_ERROR: (from_zero, IO_ERRORS),
    Code.EXHAUSTED: (bide, UNBOUNDED),
}
"""Whatever is not here is not mended by a retry."""


# sources


def usable(job: Job, refused: int) -> list[int]:
    """The sources that are not refused."""
    return [index for index in range(1 + len(job.options.mirrors)) if not refused >> index & 1]


def _later(case: Case) -> int | None:
    """The next source of this round, or None where it is over."""
    behind = max(case.at, case.job.source)
    return next((index for index in usable(case.job, case.job.refused) if index > behind), None)


def _next(case: Case, refused: int) -> int | None:
    """The next usable source behind the one that failed, around the end."""
    left = usable(case.job, refused)
    return next((index for index in left if index > case.at), left[0] if left else None)


def _first(case: Case) -> int:
    """Where a new round begins."""
    return next(iter(usable(case.job, case.job.refused)), case.at)


def _host(job: Job, source: int) -> str:
    return job.host if source == 0 else host_key(split_url(job.options.mirrors[source - 1]))
