"""What a job is on the wire: its specification, its states and its snapshot.

Times are integer microseconds since 1970-01-01 UTC, sizes bytes, durations seconds.
"""

from enum import StrEnum
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from .codec import MAX_INT


class State(StrEnum):
    """The states of a job. Terminal: completed, failed, cancelled."""

    QUEUED = "queued"
    WAITING = "waiting"
    RUNNING = "running"
    PUBLISHING = "publishing"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})


class Reason(StrEnum):
    """Why a job is in its state, where the state alone does not say it. A closed list."""

    RETRY = "retry"
    SCHEDULE = "schedule"
    HOST_PARKED = "host_parked"
    HOST_LIMIT = "host_limit"
    DISK = "disk"
    USER = "user"
    GROUP = "group"
    JOINED = "joined"
    NOT_MODIFIED = "not_modified"
    EXISTS = "exists"


Policy = Literal["fail", "skip", "rename", "overwrite"]
Size = Annotated[int, Meta(ge=0, le=MAX_INT)]
Time = Annotated[int, Meta(ge=0, le=MAX_INT)]
Text = Annotated[str, Meta(max_length=4096)]


class Cleanup(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Whether the workspace is deleted at the end. Cancelling always deletes it.

    `failure` null: it is kept for the daemon's `keep_failed` time where a validator or a checksum allows to
    resume from it, else deleted. A kept workspace is deleted when that time is over.
    """

    success: bool | None = None
    failure: bool | None = None


Url = Annotated[str, Meta(min_length=1, max_length=65536)]
Rate = Annotated[int, Meta(ge=1, le=MAX_INT)]
Span = Annotated[float, Meta(gt=0, le=366 * 86400)]

MAX_SEGMENTS = 32


class JobSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What was asked for. An unknown field is an error (`unsupported_field`), never ignored.

    `directory` is absolute; `name` is one plain file name, derived from the response when absent.
    `umask` is the submitter's, for the mode of the published file. `headers` and `credentials` (user,
    password) are sent to the URL's origin only. `mirrors` are other URLs of the same file. `checksum` is
    `ALGORITHM:HEX`, or `ALGORITHM:@URL` for a list in the format of sha256sum(1). `segments` 0 leaves their
    number to the daemon. Rates are bytes a second, times seconds; `deadline` counts from the acceptance.
    `cookies` is the content of a Netscape cookie file, `client_certificate` (with its key) and `ca` are PEM.
    `proxy` is a URL. `downgrade` allows a redirect from https to http. `if_newer` replaces the file under
    the name only by a newer one. `keep_time` gives it the server's modification time.
    """

    url: Url
    directory: Text
    name: Annotated[str, Meta(min_length=1, max_length=1024)] | None = None
    checksum: Annotated[str, Meta(max_length=8192)] | None = None
    if_exists: Policy = "fail"
    priority: Annotated[int, Meta(ge=-100, le=100)] = 0
    retries: Annotated[int, Meta(ge=0, le=1000)] = 8
    headers: Annotated[
        dict[Annotated[str, Meta(max_length=256)], Annotated[str, Meta(max_length=8192)]], Meta(max_length=64)
    ] = field(default_factory=dict)
    labels: Annotated[
        dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=256)]], Meta(max_length=32)
    ] = field(default_factory=dict)
    umask: Annotated[int, Meta(ge=0, le=0o777)] = 0o022
    cleanup: Cleanup = Cleanup()
    mirrors: Annotated[list[Url], Meta(max_length=31)] = field(default_factory=list)
    segments: Annotated[int, Meta(ge=0, le=MAX_SEGMENTS)] = 0
    limit_rate: Rate | None = None
    min_speed: Size | None = None
    min_speed_time: Span | None = None
    deadline: Span | None = None
    max_size: Size | None = None
    connect_timeout: Span | None = None
    read_timeout: Span | None = None
    user_agent: Annotated[str, Meta(min_length=1, max_length=1024)] | None = None
    credentials: tuple[
        Annotated[str, Meta(max_length=1024)], Annotated[str, Meta(max_length=8192)]
    ] | None = None  # fmt: skip
    cookies: Annotated[str, Meta(max_length=262144)] = ""
    proxy: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None
    client_certificate: Annotated[str, Meta(min_length=1, max_length=65536)] | None = None
    ca: Annotated[str, Meta(min_length=1, max_length=524288)] | None = None
    insecure: bool = False
    downgrade: bool = False
    if_newer: bool = False
    keep_time: bool = True


class JobError(Struct, frozen=True):
    """Why a job failed, or why its last attempt did."""

    code: str
    message: str


class JobSnapshot(Struct, frozen=True, kw_only=True):
    """One job as the outside sees it. Unknown is null. More fields may be added, none renamed.

    `seq` is the number of the last event published for the job in this epoch (0: none yet), so that a
    subscriber knows which events the snapshot already contains. `warning` is the last thing that was not
    right and was borne with: a mirror that was dropped, say.
    """

    id: str
    owner: str
    state: State
    reason: Reason | None
    url: str
    path: str | None
    workspace: str | None
    options: dict[str, object]
    group: str | None
    labels: dict[str, str]
    priority: int
    bytes: int
    total: int | None
    speed: float | None
    eta: float | None
    attempt: int
    error: JobError | None
    checksum: str | None
    created: int
    started: int | None
    finished: int | None
    not_before: int | None
    bytes_wasted: int
    revision: int
    seq: int = 0
    warning: JobError | None = None
