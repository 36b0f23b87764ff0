"""What is published on the events socket.

Frames: topic, `EventHeader`, body. Lifecycle events carry a revision and are in the database; their body is
the job's snapshot. Progress may be dropped, the latest wins; its body is a `Progress`.
"""

from msgspec import Struct, field

from .status import Held, Slots

PROGRESS = "progress"
HEARTBEAT = "heartbeat"
METRICS = "metrics"


class EventHeader(Struct, frozen=True, kw_only=True):
    """Second frame. `seq` counts the events published for this job in this epoch, from 1; 0 for `sys.`.

    `revision` is null on progress; on a heartbeat it is the newest revision there is. `job` is null on
    `sys.` events. `time` is integer microseconds UTC.
    """

    v: int
    epoch: str
    seq: int
    revision: int | None
    time: int
    type: str
    job: str | None


class Progress(Struct, frozen=True, kw_only=True):
    """How far an attempt is. `speed` in bytes a second, `eta` in seconds, null where unknown."""

    attempt: int
    bytes: int
    total: int | None
    speed: float | None
    eta: float | None


class WorkerUsage(Struct, frozen=True, kw_only=True):
    """What the worker in a slot takes: resident bytes, and the share of one processor. The rest is as in
    `WorkerStatus`."""

    slot: int
    memory: int
    cpu: float
    pid: int | None = None
    job: str | None = None
    connections: int | None = None


class Metrics(Struct, frozen=True, kw_only=True):
    """Body of `sys.metrics`, every two seconds: what of a `DaemonStatus` changes, for the same eyes.

    `workers` are those that have been measured.
    """

    workers: list[WorkerUsage]
    counts: dict[str, int] = field(default_factory=dict)
    held: list[Held] = field(default_factory=list)
    slots: Slots | None = None
    draining: bool = False


class Heartbeat(Struct, frozen=True, kw_only=True):
    """Body of `sys.heartbeat`: a watcher that has not seen this revision has lost an event."""

    epoch: str
    revision: int
