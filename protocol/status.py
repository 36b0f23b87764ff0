"""How the daemon is: the request `status` and its answer."""

from msgspec import Struct, field

from .job import Reason


class Status(Struct, frozen=True, kw_only=True):
    """How is the daemon?"""


class WorkerStatus(Struct, frozen=True, kw_only=True):
    """One slot of the pool. `pid` is null while no worker fills it, `job` while it is idle.

    `memory` is resident, in bytes; `cpu` is the share of one processor. Null until they are measured.
    """

    slot: int
    state: str
    pid: int | None
    job: str | None
    memory: int | None = None
    cpu: float | None = None


class Held(Struct, frozen=True, kw_only=True):
    """Jobs that are held together: all, or those of an `area`, a `host` or an `owner`.

    `since` is in µs since 1970; `detail` says more, for people, of a disk with a code before it.
    """

    kind: str
    name: str
    reason: Reason
    since: int
    detail: str


class DaemonStatus(Struct, frozen=True, kw_only=True):
    """Answer to `status`. `loop_p99` is the 99th percentile of the loop's turn, in seconds.

    `held` are at most 100 of what holds jobs; `keys_trouble` is what is wrong with `authorized_keys`, for
    admins.
    """

    pid: int
    version: str
    epoch: str
    lineage: str
    revision: int
    state_dir: str
    started: int
    draining: bool
    sockets: dict[str, str]
    sandbox: dict[str, str]
    workers: list[WorkerStatus]
    counts: dict[str, int]
    loop_p99: float
    held: list[Held] = field(default_factory=list)
    keys_trouble: str | None = None
