"""What the core wants done.

Three kinds. `Durable` ones go to the store as one batch a turn. `Effect`s wait until the batch of their turn
is on disk. `Query`s and progress do not change anything and are done at once.
"""

from msgspec import Struct, field

from fetchd.protocol.errors import Code

from .durable import (
    Command,
    DropGate,
    DropIntent,
    DropSecrets,
    Durable,
    Event,
    Forget,
    SaveGate,
    SaveIntent,
    SaveJob,
    SaveLimit,
    SaveReply,
    SaveSecrets,
)
from .intents import Intent
from .job import Job, Lane

__all__ = [
    "Allow", "AllowRestart", "AssignJob", "CheckSpace", "Clean", "Command", "DropGate", "DropIntent",
    "DropSecrets", "Durable", "Effect", "Event", "Exit", "Forget", "Kill", "LoadChunk", "LoadDue",
    "LoadLanes", "LoadOverdue", "LoadWindow", "Log", "ProbeName", "Progress", "Publish", "Query",
    "Refuse", "Reply", "SaveGate", "SaveIntent", "SaveJob", "SaveLimit", "SaveReply", "SaveSecrets",
    "Seal", "Spawn", "StopAttempt",
]  # fmt: skip


class Effect(Command, frozen=True):
    """Waits for the commit."""


class Query(Command, frozen=True):
    """Done at once."""


# effects


class Reply(Effect, frozen=True):
    """Answer a request."""

    token: object
    body: Struct


class Refuse(Effect, frozen=True):
    """Answer a request with an error."""

    token: object
    code: Code
    message: str = ""
    details: dict[str, object] = field(default_factory=dict)
    retry_after: float | None = None


class Spawn(Effect, frozen=True):
    """Fill a slot with a new worker that has a room in each of `areas` (empty: the default one)."""

    slot: int
    incarnation: int
    areas: frozenset[str]


class Kill(Effect, frozen=True):
    """End a worker, whatever it does."""

    slot: int
    incarnation: int
    why: str


class AssignJob(Effect, frozen=True):
    """Prepare the workspace, move it into the worker's room and hand the attempt over.

    Until that is done what it may take can change by `Allow`.
    """

    slot: int
    incarnation: int
    job: Job
    connections: int = 1
    rate: int | None = None


class Allow(Effect, frozen=True):
    """Let an attempt take so many connections and bytes a second (None: as many as it likes)."""

    slot: int
    incarnation: int
    job: str
    attempt: int
    connections: int
    rate: int | None


class StopAttempt(Effect, frozen=True):
    """Ask a worker to stop an attempt, keeping its bytes or not."""

    slot: int
    incarnation: int
    job: str
    attempt: int
    keep: bool


class AllowRestart(Effect, frozen=True):
    """Tell a worker that the new content generation is on disk."""

    slot: int
    incarnation: int
    job: str
    attempt: int
    generation: int


class Seal(Effect, frozen=True):
    """Take the finished file from the worker, check it and sync it."""

    job: Job
    size: int


class Publish(Effect, frozen=True):
    """Put the sealed file under its final name. Repeatable."""

    job: Job


class Clean(Effect, frozen=True):
    """Delete the job's workspace."""

    job: Job


class LoadChunk(Effect, frozen=True):
    """Ask for the next jobs of a bulk verb; an effect, so that everything it is for is on disk by then."""

    intent: Intent
    limit: int


class LoadOverdue(Effect, frozen=True):
    """Ask for jobs whose time is over; an effect, so that those that were there are on disk by then."""

    limit: int


class Exit(Effect, frozen=True):
    """Nothing is left to do: end the supervisor."""


# at once


class Progress(Query, frozen=True):
    """Publish how far an attempt is."""

    job: str
    attempt: int
    bytes: int
    total: int | None
    speed: float | None
    owner: str = ""


class LoadWindow(Query, frozen=True):
    """Ask for queued rows of a lane behind the order key `after`."""

    lane: Lane
    after: tuple[int, int] | None
    limit: int


class LoadLanes(Query, frozen=True):
    """Ask for the lanes with the best heads, less those that gates of these (kind, name) hold."""

    limit: int
    without: tuple[tuple[str, str], ...] = ()


class LoadDue(Query, frozen=True):
    """Ask for waiting rows due after boot-time `after`."""

    after: int
    limit: int


class ProbeName(Query, frozen=True):
    """Ask which of these names in the job's directory are taken."""

    job: Job
    names: tuple[str, ...]


class CheckSpace(Query, frozen=True):
    """Ask how much room there is on the file system of a staging area (`''`: of the state directory)."""

    area: str


class Log(Query, frozen=True):
    """Something an administrator may want to know."""

    level: str
    message: str
    job: str | None = None
    worker: int | None = None
    attempt: int | None = None
