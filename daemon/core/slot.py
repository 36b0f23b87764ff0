"""A slot: the worker that fills it now, the attempt that it runs, and which job it may run.

No download shares a process with another owner's, or with another origin's secrets.
"""

from collections import deque
from typing import Literal

from fetchd.protocol.urls import origin

from .job import Job
from .rights import is_of

MAX_JOBS = 1000
"""A worker is retired after this many jobs."""

CRASH_WINDOW = 60_000_000
CRASH_LIMIT = 3
"""More crashes of a slot than this within the window (µs) and it is left empty for a growing time."""

QUARANTINE = 1_000_000
QUARANTINE_MAX = 60_000_000


Stop = Literal["end", "pause", "drain", "yield"]
"""How an attempt was asked to stop: for good, keeping its bytes for later, because the daemon stops, or to
queue behind a gate that was closed."""


class Run:
    """One attempt in memory. It stays after the worker has finished, until the file is published.

    It wants up to `wish` connections to its `host` and has `connections`. Its own `limit` is in bytes a
    second (0: none), and so is `rate`, what it may receive, last raised at boot time `raised`. `flight` is
    how many bytes it had to fetch when that became known.
    """

    __slots__ = (
        "assigned", "attempt", "bytes", "connections", "ended", "expires", "finished", "flight", "host",
        "job", "keep", "limit", "name", "owner", "raised", "rate", "refusals", "responded", "restarts",
        "sealed", "slot", "speed", "stop", "total", "warnings", "wish",
    )  # fmt: skip

    def __init__(self, job: str, attempt: int, slot: int | None) -> None:
        self.job = job
        self.attempt = attempt
        self.slot = slot
        self.assigned = False
        self.responded = False
        self.restarts = 0
        self.refusals = 0
        self.finished = False
        self.name: str | None = None
        self.sealed: tuple[int, int, int] | None = None
        self.stop: Stop | None = None
        self.ended: Job | None = None
        self.bytes = 0
        self.total: int | None = None
        self.speed: float | None = None
        self.keep = False
        self.warnings = 0
        # what it may take: see `allowances`
        self.host = self.owner = ""
        self.flight = 0
        self.wish = self.connections = 1
        self.limit = self.expires = self.raised = 0
        self.rate: int | None = None


def origins_of(job: Job) -> set[str]:
    """Those that a job names itself."""
    return {origin(url) for url in (job.url, *job.options.mirrors)}


class Slot:
    """A place in the pool. `incarnation` counts the workers that have filled it; 0: none yet.

    An `outdated` worker gets no other job: its room is not what a room is now.
    Everything that changes a slot goes through `Pool`. A `doomed` worker has been killed and is not yet gone:
    what it still says does not count.
    """

    __slots__ = (
        "areas", "crashes", "done", "doomed", "filled", "idle_since", "incarnation", "index", "not_before",
        "origins", "outdated", "owner", "ready", "run", "secret", "start_by", "stop_by",
    )  # fmt: skip

    def __init__(self, index: int) -> None:
        self.index = index
        self.incarnation = 0
        self.crashes: deque[int] = deque(maxlen=16)
        self.not_before = 0
        self.empty()

    def empty(self) -> None:
        """Nobody fills the slot."""
        self.filled = False
        self.ready = False
        self.doomed = False
        self.outdated = False
        self.run: Run | None = None
        self.start_by: int | None = None
        self.stop_by: int | None = None
        self.owner: str | None = None
        self.origins: set[str] = set()
        self.secret = False
        self.areas: frozenset[str] = frozenset()
        self.done = 0
        self.idle_since = 0

    def fill(self, areas: frozenset[str]) -> None:
        """A new worker is on its way."""
        self.empty()
        self.filled = True
        self.incarnation += 1
        self.areas = areas

    def crashed(self, now: int) -> None:
        """Count a death by itself; too many within the window keep the slot empty for a while."""
        self.crashes.append(now)
        recent = sum(1 for at in self.crashes if at > now - CRASH_WINDOW)
        if recent > CRASH_LIMIT:
            self.not_before = now + min(QUARANTINE_MAX, QUARANTINE << (recent - CRASH_LIMIT - 1))

    def fits(self, job: Job) -> bool:
        """Whether the worker here may run this job (it is idle)."""
        if self.outdated or job.area not in self.areas or self.done >= MAX_JOBS:
            return False
        if self.owner is not None and not is_of(job, self.owner):
            return False
        only = {origin(job.url)}
        if self.secret:
            # a mirror elsewhere would be spoken to beside them
            return self.origins | origins_of(job) <= only
        return not job.secret or self.origins <= only

    def start(self, job: Job, run: Run) -> None:
        """The worker here belongs to this job now."""
        self.run = run
        self.owner = job.owner
        self.secret = self.secret or job.secret
        self.origins |= origins_of(job)

    def end(self, now: int) -> None:
        """The worker here is idle again."""
        self.run = None
        self.stop_by = None
        self.done += 1
        self.idle_since = now
