"""The commands that go to the store, as one batch a turn, before anything outside sees what they are about.

Everybody else imports them from `commands`.
"""

from typing import Literal

from msgspec import Struct

from .gates import Gate, GateKey
from .intents import Intent
from .job import Job


class Command(Struct, frozen=True):
    """Base of all commands."""


class Durable(Command, frozen=True):
    """Goes to the store."""


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


class SaveLimit(Durable, frozen=True):
    """A limit of speed in bytes a second, of `all` or of a `host`; None: there is none any more."""

    kind: Literal["all", "host"]
    name: str
    rate: int | None


class DropSecrets(Durable, frozen=True):
    job: str


class Event(Durable, frozen=True):
    """A lifecycle event, stored with the change and published after it.

    `kind` is a state, `restarted`, `warning` or `removed`.
    """

    revision: int
    kind: str
    time: int
    job: Job
