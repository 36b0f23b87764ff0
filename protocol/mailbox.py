"""Supervisor and worker: private messages, changed in lockstep, one frame each.

The supervisor never trusts a report: it is checked for type here, and for slot, incarnation, phase, job and
attempt where it arrives. A range is `[start, end)` in bytes.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from .codec import MAX_INT

Count = Annotated[int, Meta(ge=0, le=MAX_INT)]
Range = tuple[Count, Count]
Ranges = Annotated[list[Range], Meta(max_length=1024)]
Short = Annotated[str, Meta(max_length=1024)]


class Validator(Struct, frozen=True, kw_only=True):
    """What a server said to recognise this content again (RFC 9110 section 8.8)."""

    etag: Short | None = None
    last_modified: Short | None = None


class Options(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a job wants to be fetched, as far as it is no secret; see `JobSpec`. None: as configured.

    `mirrors` and `proxy` are as they may be shown, like the URL of the job.
    """

    mirrors: tuple[str, ...] = ()
    segments: int = 0
    min_speed: int | None = None
    min_speed_time: float | None = None
    max_size: int | None = None
    connect_timeout: float | None = None
    read_timeout: float | None = None
    user_agent: str | None = None
    proxy: str | None = None
    insecure: bool = False
    downgrade: bool = False
    if_newer: bool = False
    keep_time: bool = True


class Secrets(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the secrets database holds for one job. `url`, `mirrors` and `proxy`: where shown ones differ."""

    url: str | None = None
    mirrors: tuple[str, ...] = ()
    headers: dict[str, str] = {}
    credentials: tuple[str, str] | None = None
    cookies: str = ""
    proxy: str | None = None
    client_certificate: str | None = None
    ca: str | None = None


class Network(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where transfers may connect to. Hosts are names, `*.` and a name, or networks by their numbers.

    Without `allow_private` only public addresses, and networks that `allow_hosts` has by their numbers. Where
    `allow_hosts` is not empty, nothing but that. `ports` None: all of them.
    """

    allow_private: bool = True
    allow_hosts: tuple[str, ...] = ()
    deny_hosts: tuple[str, ...] = ()
    ports: tuple[int, ...] | None = None


class Start(Struct, frozen=True, kw_only=True):
    """What a worker is told at spawn, before there is a mailbox. `parent` is the fork server's process.

    It may write beneath `rooms`, `home` is the first of them; it may connect to `ports` (None: to any).
    """

    endpoint: str
    secret: str
    parent: int
    workers_lock: str
    home: str
    ca_bundle: str
    beat: float
    """Seconds of silence after which a sign of life is sent."""

    rooms: list[str] = field(default_factory=list)
    ports: list[int] | None = None
    file_size: int | None = None
    sandbox: Literal["required", "best-effort", "off"] = "best-effort"


# supervisor to worker


class Assign(Struct, frozen=True, kw_only=True, tag="assign", tag_field="t"):
    """Run one attempt in `workspace` (a path beneath the worker's room).

    `have` are the ranges of content `generation` that may be kept; `validator` and `total` belong to them.
    `source` is which of (url, *mirrors) to begin with; with `alone` no other is used. `ranges` false: the
    server has answered ranges badly, a plain request is to be sent. `rate` (bytes a second, None: no limit)
    and `connections` may be changed by `Allow`. With `newer_than` (µs UTC) only a newer file is wanted.
    """

    job: str
    attempt: int
    workspace: str
    url: str
    headers: dict[str, str]
    checksum: str | None
    generation: int
    have: Ranges
    validator: Validator
    total: int | None
    connect_timeout: float
    read_timeout: float
    options: Options = Options()
    mirrors: list[str] = field(default_factory=list)
    source: int = 0
    alone: bool = False
    ranges: bool = True
    credentials: tuple[str, str] | None = None
    cookies: str = ""
    proxy: str | None = None
    client_certificate: str | None = None
    ca: str | None = None
    min_speed: int = 0
    min_speed_time: float = 60.0
    max_size: int | None = None
    rate: int | None = None
    connections: int = 1
    newer_than: int | None = None
    network: Network = Network()


class Allow(Struct, frozen=True, kw_only=True, tag="allow", tag_field="t"):
    """From now on this attempt may have so many connections, and receive so many bytes a second."""

    job: str
    attempt: int
    connections: int
    rate: int | None


class Proceed(Struct, frozen=True, kw_only=True, tag="proceed", tag_field="t"):
    """Answer to `Restart`: the new generation is on disk, the old content may be overwritten."""

    job: str
    attempt: int
    generation: int


class Stop(Struct, frozen=True, kw_only=True, tag="stop", tag_field="t"):
    """Stop this attempt. With `keep`, sync what there is and report it; else drop everything at once."""

    job: str
    attempt: int
    keep: bool


class Leave(Struct, frozen=True, kw_only=True, tag="leave", tag_field="t"):
    """Exit now; no attempt is running."""


class Admitted(Struct, frozen=True, kw_only=True, tag="admitted", tag_field="t"):
    """Answer to `Arrived`: the connection stands, so that the room can be locked for good."""


ToWorker = Admitted | Assign | Allow | Proceed | Stop | Leave


# worker to supervisor


class Arrived(Struct, frozen=True, kw_only=True, tag="arrived", tag_field="t"):
    """First message: the secret that was handed over at spawn proves who speaks."""

    secret: Annotated[str, Meta(max_length=64)]


class Locked(Struct, frozen=True, kw_only=True, tag="locked", tag_field="t"):
    """The room is locked, with these layers, and asks for work."""

    layers: Annotated[dict[Short, Short], Meta(max_length=16)]


class Beat(Struct, frozen=True, kw_only=True, tag="beat", tag_field="t"):
    """I am alive."""


class Responded(Struct, frozen=True, kw_only=True, tag="responded", tag_field="t"):
    """The final response's head is here. Header values are raw, as the server sent them.

    `origins` are all (scheme, host, port) spoken to, redirects included, as `scheme://host:port`.
    `kept` is how many bytes of earlier attempts stay, and `have` which. `modified` is the server's
    modification time, µs UTC.
    """

    job: str
    attempt: int
    generation: Count
    status: Annotated[int, Meta(ge=100, le=999)]
    url: Annotated[str, Meta(max_length=65536)]
    total: Count | None
    kept: Count
    validator: Validator
    disposition: Annotated[str, Meta(max_length=8192)] | None
    origins: Annotated[list[Short], Meta(max_length=64)]
    have: Ranges = field(default_factory=list)
    modified: Count | None = None


class NotModified(Struct, frozen=True, kw_only=True, tag="not_modified", tag_field="t"):
    """The server has nothing newer than `newer_than`: the attempt is over, and nothing was fetched."""

    job: str
    attempt: int
    origins: Annotated[list[Short], Meta(max_length=64)] = field(default_factory=list)


class Warned(Struct, frozen=True, kw_only=True, tag="warned", tag_field="t"):
    """Something was not right and is borne with."""

    job: str
    attempt: int
    code: Annotated[str, Meta(max_length=64)]
    message: Annotated[str, Meta(max_length=2048)]


class Restart(Struct, frozen=True, kw_only=True, tag="restart", tag_field="t"):
    """The kept bytes belong to other content. May I start over? Nothing is overwritten before `Proceed`."""

    job: str
    attempt: int
    generation: Count
    why: Short


class Progressed(Struct, frozen=True, kw_only=True, tag="progressed", tag_field="t"):
    """Bytes on hand, kept ones included."""

    job: str
    attempt: int
    bytes: Count
    total: Count | None
    speed: Annotated[float, Meta(ge=0)] | None


class Synced(Struct, frozen=True, kw_only=True, tag="synced", tag_field="t"):
    """These ranges of this generation are on the disk (fdatasync has returned)."""

    job: str
    attempt: int
    generation: Count
    ranges: Ranges


class Finished(Struct, frozen=True, kw_only=True, tag="finished", tag_field="t"):
    """All bytes are in the workspace and verified as far as was asked. `origins` as in `Responded`."""

    job: str
    attempt: int
    size: Count
    digests: Annotated[dict[Short, Short], Meta(max_length=8)] = field(default_factory=dict)
    origins: Annotated[list[Short], Meta(max_length=64)] = field(default_factory=list)


class Failed(Struct, frozen=True, kw_only=True, tag="failed", tag_field="t"):
    """The attempt failed. `retry_after` is in seconds, as the server asked.

    `source` is which of (url, *mirrors) failed. `mixed`: bytes of several are in the workspace.
    """

    job: str
    attempt: int
    code: Annotated[str, Meta(max_length=64)]
    message: Annotated[str, Meta(max_length=2048)]
    bytes: Count
    retry_after: Annotated[float, Meta(ge=0, le=MAX_INT)] | None = None
    source: Annotated[int, Meta(ge=0, le=31)] = 0
    mixed: bool = False
    origins: Annotated[list[Short], Meta(max_length=64)] = field(default_factory=list)


class Stopped(Struct, frozen=True, kw_only=True, tag="stopped", tag_field="t"):
    """Answer to `Stop`. What was kept has been reported by `Synced`."""

    job: str
    attempt: int
    bytes: Count
    origins: Annotated[list[Short], Meta(max_length=64)] = field(default_factory=list)


FromWorker = (
    Arrived
    | Locked
    | Beat
    | Responded
    | Restart
    | Progressed
    | Synced
    | Warned
    | Finished
    | NotModified
    | Failed
    | Stopped
)
Report = Responded | Restart | Progressed | Synced | Warned | Finished | NotModified | Failed | Stopped
FINAL = (Finished, NotModified, Failed, Stopped)
"""The reports that end an attempt."""
