"""What is published on the events socket.

Frames: topic, `EventHeader`, body. Lifecycle events carry a revision and are in the database; their body is
the job's snapshot. Progress may be dropped, the latest wins; its body is a `Progress`.
"""

from msgspec import Struct

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
    """What the worker in a slot takes: resident bytes, and the share of one processor."""

    slot: int
    memory: int
    cpu: float


class Metrics(Struct, frozen=True, kw_only=True):
    """Body of `sys.metrics`, every two seconds while there are workers: what each of them takes."""

    workers: list[WorkerUsage]


class Heartbeat(Struct, frozen=True, kw_only=True):
    """Body of `sys.heartbeat`: a watcher that has not seen this revision has lost an event."""

    epoch: str
    revision: int
