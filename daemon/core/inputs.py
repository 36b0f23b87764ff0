"""What the core is told. Every input has been checked for type; the core checks it against its own state.

Rows from the store may be older than what the core knows: what is live or not yet settled in memory wins.
"""

from enum import StrEnum
from typing import Literal

from msgspec import Struct

from fetchd.protocol.errors import Code
from fetchd.protocol.mailbox import Report

from .intake import Intake
from .job import Job, Lane
from .settings import Settings

VerbName = Literal["cancel", "pause", "resume", "retry", "remove"]


class Request(Struct, frozen=True):
    """Who asks. `token` is opaque to the core and comes back with the reply; `digest` is of the body."""

    owner: str
    req: str
    digest: bytes
    token: object
    admin: bool = False


class Submit(Struct, frozen=True):
    """New jobs. `known` are stored jobs with the same IDs, `paths` live reservations of the asked names."""

    request: Request
    jobs: tuple[Intake, ...]
    known: dict[str, Job]
    paths: dict[str, str]


class Verb(Struct, frozen=True):
    """Do something to jobs. `known` are the stored ones; `secrets` are IDs whose secrets are kept."""

    request: Request
    verb: VerbName
    ids: tuple[str, ...]
    known: dict[str, Job]
    secrets: frozenset[str] = frozenset()


class Bulk(Struct, frozen=True):
    """Do something to all jobs of an owner, or to all failed ones."""

    request: Request
    verb: VerbName
    failed: bool


class WindowLoaded(Struct, frozen=True):
    """Queued rows of a lane behind `after`, in order. `more`: the store has further ones."""

    lane: Lane
    rows: tuple[Job, ...]
    more: bool


class LanesLoaded(Struct, frozen=True):
    """Lanes with queued rows, best head first. `more`: the store has further ones."""

    lanes: tuple[Lane, ...]
    more: bool


class DueLoaded(Struct, frozen=True):
    """All waiting rows up to boot-time `until`, ties included; None: there are no later ones."""

    rows: tuple[Job, ...]
    until: int | None


class ChunkLoaded(Struct, frozen=True):
    """The next rows of a bulk verb, in order of seq. `more`: the store has further ones for this step."""

    number: int
    rows: tuple[Job, ...]
    more: bool


class Expired(Struct, frozen=True):
    """Finished jobs whose workspaces have been kept long enough."""

    rows: tuple[Job, ...]


class Outdated(Struct, frozen=True):
    """Finished jobs that the history need not know any longer, and that nothing is kept of."""

    rows: tuple[Job, ...]


class Overdue(Struct, frozen=True):
    """Jobs whose time is over, and that are not being attempted. `more`: the store has further ones."""

    rows: tuple[Job, ...]
    more: bool = False


class Limit(Struct, frozen=True):
    """Limit the speed to `rate` bytes a second (None: do not): of these jobs, of a host, or of everything."""

    request: Request
    rate: int | None
    ids: tuple[str, ...] = ()
    host: str | None = None
    known: dict[str, Job] = {}


class Committed(Struct, frozen=True):
    """Everything saved up to this stamp, the last one of a batch, is on disk."""

    stamp: int


class Gone(StrEnum):
    """Why a worker is no more."""

    DIED = "died"
    KILLED = "killed"
    HUNG = "hung"
    GREEDY = "greedy"
    LEFT = "left"
    SPAWN_FAILED = "spawn_failed"


class WorkerReady(Struct, frozen=True):
    slot: int
    incarnation: int


class WorkerGone(Struct, frozen=True):
    slot: int
    incarnation: int
    cause: Gone
    detail: str = ""


class WorkerReport(Struct, frozen=True):
    """A report from a worker, typed but not trusted."""

    slot: int
    incarnation: int
    report: Report


class Violation(Struct, frozen=True):
    """A worker said what it may not say."""

    slot: int
    incarnation: int
    detail: str


class AssignRefused(Struct, frozen=True):
    """The workspace could not be prepared, so the worker never saw the job.

    `alone`: the disk is not full, but the job is larger than what is free.
    """

    slot: int
    incarnation: int
    job: str
    attempt: int
    code: Code
    message: str
    alone: bool = False


class NameProbed(Struct, frozen=True):
    """Which of the probed names exist in the directory or are reserved by another stored job."""

    job: str
    attempt: int
    names: tuple[str, ...]
    taken: frozenset[str]


class Sealed(Struct, frozen=True):
    """The finished file has been taken from the worker, checked and synced."""

    job: str
    attempt: int
    size: int
    inode: int
    mtime_ns: int


class Published(Struct, frozen=True):
    """The file is under its final name, and the directory synced."""

    job: str
    attempt: int


class FileRefused(Struct, frozen=True):
    """Sealing or publishing did not work. `lost`: the workspace's data is not there any more."""

    job: str
    attempt: int
    code: Code
    message: str
    lost: bool = False


class SpaceFound(Struct, frozen=True):
    """How much room (bytes) there is on the file system of an area (`''`: of the state directory).

    `reserve` is what is to stay free of it. `trouble` says why nothing can be written there at all.
    """

    area: str
    free: int
    reserve: int
    trouble: str = ""


class Configure(Struct, frozen=True):
    """The configuration has changed."""

    settings: Settings


class Drain(Struct, frozen=True):
    """Stop taking work and come to an end; `now` without waiting for anything."""

    now: bool


class Tick(Struct, frozen=True):
    """Time has passed."""


Input = (
    Submit | Verb | Bulk | ChunkLoaded | Expired | Outdated | Overdue | Limit | WindowLoaded | LanesLoaded |
    DueLoaded | Committed | WorkerReady | WorkerGone | WorkerReport | Violation | AssignRefused |
    NameProbed | Sealed | Published | FileRefused | SpaceFound | Configure | Drain | Tick
)  # fmt: skip
