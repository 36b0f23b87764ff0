"""Client and daemon: requests and replies.

A request is `[RequestHeader, body]`, its answer `[ReplyHeader, body]` with the same `req`. The body's type
follows from the header's `type`; a refused request has an `ErrorBody`. Repeating a request under the same
`req` repeats the answer and does nothing twice.
"""

from typing import Annotated

from msgspec import Meta, Struct, field

from .codec import MAX_INT, MAX_ITEMS
from .job import JobSnapshot, JobSpec, State
from .status import DaemonStatus, Status

Id = Annotated[str, Meta(min_length=1, max_length=64)]
Ids = Annotated[list[Id], Meta(min_length=1, max_length=MAX_ITEMS)]

MAX_WAIT = 30.0
"""Longest `wait` in seconds; a client that wants more asks again."""


class RequestHeader(Struct, frozen=True):
    """First frame of a request."""

    v: int
    type: Annotated[str, Meta(max_length=64)]
    req: Annotated[str, Meta(pattern=r"^[0-9a-f]{32}$", max_length=32)]  # `$` alone allows a newline


class ReplyHeader(Struct, frozen=True):
    """First frame of a reply. `epoch` names one life of the daemon, `lineage` the history of its database."""

    v: int
    type: str
    req: str
    ok: bool
    epoch: str
    lineage: str


class ErrorBody(Struct, frozen=True, kw_only=True):
    """Body of a reply with `ok` false. `retry_after` is in seconds."""

    code: str
    message: str
    retry_after: float | None = None
    details: dict[str, object] = field(default_factory=dict)


class Hello(Struct, frozen=True, kw_only=True):
    """Who are you? Sent first by every client; needs no state. `host` is what was dialled over TCP."""

    client: Annotated[str, Meta(max_length=256)] = ""
    host: Annotated[str, Meta(max_length=255)] | None = None


class Welcome(Struct, frozen=True, kw_only=True):
    """Answer to `hello`. `events` is the endpoint to subscribe at; clients never compute it."""

    version: str
    protocol: int
    epoch: str
    lineage: str
    revision: int
    owner: str
    pid: int
    events: str
    features: list[str]
    max_message: int
    max_items: int


class NewJob(Struct, frozen=True, kw_only=True):
    """One job of a submit. Without an `id` the daemon chooses one."""

    spec: JobSpec
    id: Id | None = None


class Submit(Struct, frozen=True, kw_only=True):
    """Submit up to 1,000 jobs, all or nothing."""

    jobs: Annotated[list[NewJob], Meta(min_length=1, max_length=MAX_ITEMS)]


class Accepted(Struct, frozen=True, kw_only=True):
    """One job of an accepted submit. `duplicate`: it existed with the same specification."""

    id: str
    state: State
    revision: int
    duplicate: bool = False


class Submitted(Struct, frozen=True, kw_only=True):
    """Answer to `submit`, in the order of the request."""

    jobs: list[Accepted]


class Get(Struct, frozen=True, kw_only=True):
    """Snapshots of jobs by their exact IDs."""

    ids: Ids


class Jobs(Struct, frozen=True, kw_only=True):
    """Answer to `get` and `wait`. `missing` are the IDs that name no job of the caller."""

    jobs: list[JobSnapshot]
    missing: list[str]
    revision: int


class List(Struct, frozen=True, kw_only=True):
    """A page of jobs, live and finished, newest activity first. `cursor` continues an earlier page."""

    states: Annotated[list[State], Meta(max_length=16)] = field(default_factory=list)
    prefix: Annotated[str, Meta(max_length=64)] = ""
    labels: Annotated[dict[str, str], Meta(max_length=8)] = field(default_factory=dict)
    since: Annotated[int, Meta(ge=0, le=MAX_INT)] = 0
    limit: Annotated[int, Meta(ge=1, le=MAX_ITEMS)] = 100
    cursor: Annotated[int, Meta(ge=0, le=MAX_INT)] | None = None


class Page(Struct, frozen=True, kw_only=True):
    """Answer to `list`. `cursor` is null on the last page."""

    jobs: list[JobSnapshot]
    cursor: int | None


class Wait(Struct, frozen=True, kw_only=True):
    """Answer once one of the jobs has a revision above `since`, or with no job after `timeout` seconds.

    With `final` only completed, failed, cancelled or removed jobs count.
    """

    ids: Ids
    since: Annotated[int, Meta(ge=0, le=MAX_INT)] = 0
    timeout: Annotated[float, Meta(ge=0, le=MAX_WAIT)] = MAX_WAIT
    final: bool = False


class Verb(Struct, frozen=True, kw_only=True):
    """Which jobs a verb is for: these, or all of the caller's that it can apply to.

    `all` is an intent: it is on disk when it is acknowledged, applies to the jobs there are at that moment,
    and is carried out a few hundred jobs at a time. `failed` narrows `all` to failed ones.
    """

    ids: Annotated[list[Id], Meta(max_length=MAX_ITEMS)] = field(default_factory=list)
    all: bool = False
    failed: bool = False


class Cancel(Verb, frozen=True, kw_only=True):
    """Cancel jobs for good and delete what was fetched. Finished ones stay as they are (`too_late`)."""


class Pause(Verb, frozen=True, kw_only=True):
    """Hold jobs, keeping their bytes. With `all`: the caller's whole queue, later submits too."""


class Resume(Verb, frozen=True, kw_only=True):
    """Let paused jobs go on. With `all`: open the caller's queue, and resume every paused job."""


class Retry(Verb, frozen=True, kw_only=True):
    """Queue failed or cancelled jobs again, and let waiting ones go on at once."""


class Remove(Verb, frozen=True, kw_only=True):
    """Cancel what is live, then forget it. A delivered file is never touched. The ID is free again."""


class Limit(Struct, frozen=True, kw_only=True):
    """Limit the speed, from now on and after a restart: of jobs, of a host, or of everything together.

    `rate` is in bytes a second; null lifts the limit. `host` is `host` or `host:port`, as in a URL.
    """

    rate: Annotated[int, Meta(ge=1, le=MAX_INT)] | None
    ids: Annotated[list[Id], Meta(max_length=MAX_ITEMS)] = field(default_factory=list)
    host: Annotated[str, Meta(min_length=1, max_length=512)] | None = None


class Limits(Struct, frozen=True, kw_only=True):
    """Which limits of speed are in force?"""


class Outcome(Struct, frozen=True, kw_only=True):
    """What a verb did to one job. `code` is null where the verb has its effect, now or before."""

    id: str
    state: State | None
    revision: int
    code: str | None = None


class Outcomes(Struct, frozen=True, kw_only=True):
    """Answer to a verb, in the order of the request. `intent` numbers a bulk verb under way."""

    jobs: list[Outcome]
    intent: int | None = None


class LimitsInForce(Struct, frozen=True, kw_only=True):
    """Answer to `limit` and `limits`, in bytes a second. `jobs` are the outcomes for the IDs of `limit`."""

    total: int | None
    hosts: dict[str, int]
    jobs: list[Outcome] = field(default_factory=list)


class Stats(Struct, frozen=True, kw_only=True):
    """How much is done, and how fast?"""


class Slots(Struct, frozen=True, kw_only=True):
    """The pool of workers."""

    total: int
    free: int


class Statistics(Struct, frozen=True, kw_only=True):
    """Answer to `stats`. Over all jobs that the daemon remembers.

    `active` jobs are running or publishing, `pending` ones queued, waiting or paused. `success_rate` is the
    share of completed ones among the completed and failed, null before the first. `bytes` were delivered,
    `speed` is the present one in bytes a second. `intents` are bulk verbs that are still being carried out.
    """

    active: int
    pending: int
    slots: Slots
    completed: int
    failed: int
    cancelled: int
    success_rate: float | None
    bytes: int
    speed: float
    counts: dict[str, int]
    intents: int
    uptime: float


class Replay(Struct, frozen=True, kw_only=True):
    """Lifecycle events after a revision, oldest first.

    `lineage` is that of the revision; another one, or a revision that is too old, is `history_gone`.
    """

    since: Annotated[int, Meta(ge=0, le=MAX_INT)]
    limit: Annotated[int, Meta(ge=1, le=MAX_ITEMS)] = MAX_ITEMS
    lineage: Annotated[str, Meta(max_length=64)] | None = None


class PastEvent(Struct, frozen=True, kw_only=True):
    """One lifecycle event as it was published. `data` is the job's snapshot then."""

    revision: int
    time: int
    type: str
    job: str
    data: JobSnapshot


class History(Struct, frozen=True, kw_only=True):
    """Answer to `events`. Up to `revision` it tells everything: that is the next `since`."""

    events: list[PastEvent]
    revision: int
    more: bool


class Workspaces(Struct, frozen=True, kw_only=True):
    """Which workspaces lie in the staging areas?"""


class WorkspaceInfo(Struct, frozen=True, kw_only=True):
    """A workspace. `age` in seconds since it was last written; `state` null: it belongs to no known job."""

    job: str
    path: str
    bytes: int
    age: float
    state: State | None


class WorkspaceList(Struct, frozen=True, kw_only=True):
    """Answer to `workspaces`."""

    workspaces: list[WorkspaceInfo]


class Clean(Struct, frozen=True, kw_only=True):
    """Delete workspaces of finished jobs: these, orphans, or those not written for `older_than` s."""

    ids: Annotated[list[Id], Meta(max_length=MAX_ITEMS)] = field(default_factory=list)
    orphans: bool = False
    older_than: Annotated[float, Meta(ge=0)] | None = None


class Reload(Struct, frozen=True, kw_only=True):
    """Read the configuration again."""


class Reloaded(Struct, frozen=True, kw_only=True):
    """Answer to `reload`: changed keys that are in force now, for the next worker, or after a restart."""

    live: list[str]
    next_worker: list[str]
    restart: list[str]


class Shutdown(Struct, frozen=True, kw_only=True):
    """Stop the daemon: running attempts checkpoint and stop first, unless `now`."""

    now: bool = False


class Done(Struct, frozen=True, kw_only=True):
    """An answer with nothing to say."""


REQUESTS: dict[str, type[Struct]] = {
    "hello": Hello,
    "submit": Submit,
    "get": Get,
    "list": List,
    "wait": Wait,
    "cancel": Cancel,
    "pause": Pause,
    "resume": Resume,
    "retry": Retry,
    "remove": Remove,
    "limit": Limit,
    "limits": Limits,
    "events": Replay,
    "stats": Stats,
    "workspaces": Workspaces,
    "clean": Clean,
    "status": Status,
    "reload": Reload,
    "shutdown": Shutdown,
}

REPLIES: dict[str, type[Struct]] = {
    "hello": Welcome,
    "submit": Submitted,
    "get": Jobs,
    "list": Page,
    "wait": Jobs,
    "cancel": Outcomes,
    "pause": Outcomes,
    "resume": Outcomes,
    "retry": Outcomes,
    "remove": Outcomes,
    "limit": LimitsInForce,
    "limits": LimitsInForce,
    "events": History,
    "stats": Statistics,
    "workspaces": WorkspaceList,
    "clean": Outcomes,
    "status": DaemonStatus,
    "reload": Reloaded,
    "shutdown": Done,
}
