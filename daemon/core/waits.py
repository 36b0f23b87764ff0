"""How long to wait before something is tried again, in µs."""

from .job import Moment

SECOND = 1_000_000
BASE = 1 * SECOND
BASE_ASKED = 10 * SECOND
"""The base of the wait where a server asks for fewer requests and does not say for how long."""

CEILING = 60 * SECOND
LONGEST_ASKED = 6 * 3600 * SECOND
"""A server's Retry-After is honoured up to this."""


def jitter(base: int, failures: int, now: Moment) -> int:
    """T: full jitter below a bound that doubles with each failure."""
    return int(min(CEILING, base << min(failures - 1, 16)) * now.rand)


def asked(retry_after: float | None, failures: int, now: Moment) -> int:
    """H: what the server asked for (s) and up to a tenth more; else T with a base of its own."""
    if retry_after is None:
        return jitter(BASE_ASKED, failures, now)
    wait = min(int(retry_after * SECOND), LONGEST_ASKED)
    return wait + int(wait * 0.1 * now.rand)


def pause(now: Moment) -> int:
    """One to ten seconds: a wait that does not grow."""
    return BASE + int((BASE_ASKED - BASE) * now.rand)
