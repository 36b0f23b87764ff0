"""What the core wants done.

Three kinds. `Durable` ones go to the store as one batch a turn. `Effect`s wait until the batch of their turn
is on disk. `Query`s and progress do not change anything and are done at once.
"""

from msgspec import Struct

from fetchd.protocol.errors import Code

from .gates import Gate, GateKey
from .intents import Intent
from .job import Job, Lane


class Command(Struct, frozen=True):
    """Base of all commands."""


class Durable(Command, frozen=True):
    """Goes to the store."""


class Effect(Command, frozen=True):
    """Waits for the commit."""


class Query(Command, frozen=True):
    """Done at once."""


# durable


class SaveJob(Durable, frozen=True):
    """The job as it is now. A terminal job goes to the history, a revived one comes back from it."""

    stamp: int
    job: Job


class SaveReply(Durable, frozen=True):
    """The answer to a request, kept for its repetition. `stamp` counts on with those of `SaveJob`."""

    owner: str
    req: str
    digest: bytes
    reply: Struct
    time: int
    stamp: int = 0


class Forget(Durable, frozen=True):
    """The job is known no more; its ID is free."""

    stamp: int
    job: Job


class SaveGate(Durable, frozen=True):
    gate: Gate


class DropGate(Durable, frozen=True):
    key: GateKey


class SaveIntent(Durable, frozen=True):
    """A bulk verb, or how far it is by now."""

    intent: Intent


class DropIntent(Durable, frozen=True):
    number: int


class SaveSecrets(Durable, frozen=True):
    job: str
    payload: bytes


class DropSecrets(Durable, frozen=True):
    job: str


class Event(Durable, frozen=True):
    """A lifecycle event, stored with the change and published after it. `kind` is a state or `restarted`."""

    revision: int
    kind: str
    time: int
    job: Job


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
    details: dict[str, object] = {}


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
    """Prepare the workspace, move it into the worker's room and hand the attempt over."""

    slot: int
    incarnation: int
    job: Job


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


class Log(Query, frozen=True):
    """Something an administrator may want to know."""

    level: str
    message: str
    job: str | None = None
