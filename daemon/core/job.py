"""The record of one job: what the store keeps and the core decides on. A change is a new record."""

from typing import NamedTuple

from msgspec import Struct, field
from msgspec.structs import replace

from fetchd.protocol.job import TERMINAL, Policy, Reason, State
from fetchd.protocol.mailbox import Options


class Lane(NamedTuple):
    """The unit of refill and fairness. `area` is part of it so that a full file system holds whole lanes."""

    host: str
    owner: str
    group: str
    area: str


class Moment(NamedTuple):
    """The present: boot-time clock and wall clock in µs, and a fresh random number in [0, 1)."""

    mono: int
    wall: int
    rand: float = 0.5


Ranges = tuple[tuple[int, int], ...]


class Job(Struct, frozen=True, kw_only=True):
    """One job. Times are wall-clock µs UTC, sizes bytes; `seq` is the order of submission.

    `wanted` is the name that was asked for, `name` the one that is reserved.

    `url` is redacted; with `secret` the real one and the headers are in the secrets database. `area` is the
    staging area. `generation` counts contents of the workspace: ranges of one never mix with another's.
    `synced` is what of it survives a power cut. `mark` is where the retry budget was last reset. A wait is
    (`wait_since` wall µs, `wait_for` µs, `wait_until` boot-time µs), all 0 without one. `inode`, `size` and
    `mtime_ns` identify the sealed file while it is being published. `cleanup_*` say whether the workspace is
    deleted at the end (None: as configured); a finished job's is kept until wall-clock `kept_until` (0: it is
    gone).

    `options` is how it wants to be fetched. `limit_rate` is in bytes a second (0: none). `deadline` is wall
    µs, `expires` the same on the boot-time clock (0: none). `source` is which of (url, *mirrors) the next
    attempt begins with, `refused` a bit for each of them that will not do, `mismatches` how often the
    checksum was wrong; with `alone` the bytes come from one source. `restarts` counts ranges that were not
    answered as such. `modified` is the server's modification time in µs UTC (0: not known).
    """

    seq: int
    id: str
    owner: str
    host: str
    area: str
    url: str
    directory: str
    spec_hash: bytes
    created: int
    group: str = ""
    priority: int = 0
    state: State = State.QUEUED
    reason: Reason | None = None
    secret: bool = False
    name: str | None = None
    wanted: str | None = None
    checksum: str | None = None
    if_exists: Policy = "fail"
    retries: int = 8
    labels: dict[str, str] = field(default_factory=dict)
    umask: int = 0o022
    attempt: int = 0
    failures: int = 0
    deaths: int = 0
    mark: int = 0
    generation: int = 0
    etag: str | None = None
    last_modified: str | None = None
    total: int | None = None
    bytes: int = 0
    synced: Ranges = ()
    wasted: int = 0
    wait_since: int = 0
    wait_for: int = 0
    wait_until: int = 0
    inode: int = 0
    size: int = 0
    mtime_ns: int = 0
    digest: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    started: int | None = None
    finished: int | None = None
    revision: int = 0
    cleanup_success: bool | None = None
    cleanup_failure: bool | None = None
    kept_until: int = 0
    options: Options = Options()
    limit_rate: int = 0
    deadline: int = 0
    expires: int = 0
    source: int = 0
    refused: int = 0
    mismatches: int = 0
    alone: bool = False
    restarts: int = 0
    modified: int = 0
    warning_code: str | None = None
    warning_message: str | None = None

    @property
    def lane(self) -> Lane:
        return Lane(self.host, self.owner, self.group, self.area)

    @property
    def order(self) -> tuple[int, int]:
        """Sort key within the queue: higher priority first, then first come, first served."""
        return (-self.priority, self.seq)

    @property
    def path(self) -> str | None:
        """The final path, once the name is known."""
        return None if self.name is None else join(self.directory, self.name)

    @property
    def has_workspace(self) -> bool:
        """Whether a workspace of this job may lie in its area; any other one of that name is a leftover."""
        return self.kept_until > 0 if self.terminal else self.attempt > 0

    @property
    def terminal(self) -> bool:
        return self.state in TERMINAL


def join(directory: str, name: str) -> str:
    """The path of `name` in an absolute, canonical directory."""
    return directory.rstrip("/") + "/" + name


def emptied(job: Job) -> Job:
    """The job with nothing in its workspace: what lies there, if anything, is of an older generation."""
    return replace(
        job, generation=job.generation + 1, synced=(), bytes=0, mark=0, wasted=job.wasted + job.bytes,
        etag=None, last_modified=None, total=None,
    )  # fmt: skip
