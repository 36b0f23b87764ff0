"""One example or more of every message of the public protocol: what the golden vectors are made from.

Add to this file when the protocol grows, then run `make_vectors.py`. Changing an entry changes a golden
vector, which is right only when the wire was meant to change.
"""

from fetchd.protocol import control as c
from fetchd.protocol import events as e
from fetchd.protocol.errors import MEANINGS
from fetchd.protocol.job import JobError, JobSnapshot, JobSpec, Reason, State
from fetchd.protocol.version import PROTOCOL

EPOCH = "9f1c27d0a4b35e68"
LINEAGE = "3a7be01f54d2c689"
TIME = 1_795_190_400_000_000
MAX = 2**53 - 1

MINIMAL_SPEC = JobSpec(url="https://example.org/a.iso", directory="/srv/files")
FULL_SPEC = JobSpec(
    url="https://example.org/päth/a.iso?part=1",
    directory="/srv/files",
    name="image.iso",
    checksum="sha256:" + "0123456789abcdef" * 4,
    if_exists="rename",
    priority=-100,
    retries=0,
    headers={"Accept-Language": "de"},
    labels={"batch": "2026-11", "näme": "ü"},
    umask=0o077,
)

QUEUED = JobSnapshot(
    id="import-1",
    owner="uid:1000",
    state=State.QUEUED,
    reason=None,
    url="https://example.org/a.iso",
    path=None,
    workspace=None,
    options={"if_exists": "fail", "retries": 8},
    group=None,
    labels={},
    priority=0,
    bytes=0,
    total=None,
    speed=None,
    eta=None,
    attempt=0,
    error=None,
    checksum=None,
    created=TIME,
    started=None,
    finished=None,
    not_before=None,
    bytes_wasted=0,
    revision=41,
)
WAITING = JobSnapshot(
    id="import-2",
    owner="uid:1000",
    state=State.WAITING,
    reason=Reason.RETRY,
    url="https://example.org/b.iso?token=***",
    path="/srv/files/b.iso",
    workspace="/srv/.fetchd/d2719a0e/import-2",
    options={"if_exists": "overwrite", "retries": 3},
    group=None,
    labels={"batch": "2026-11"},
    priority=5,
    bytes=1 << 20,
    total=MAX,
    speed=None,
    eta=None,
    attempt=2,
    error=JobError("short_body", "the server sent less than it announced"),
    checksum="md5:" + "0" * 32,
    created=TIME,
    started=TIME + 1_000_000,
    finished=None,
    not_before=TIME + 5_000_000,
    bytes_wasted=65_536,
    revision=57,
    seq=12,
)
COMPLETED = JobSnapshot(
    id="import-1",
    owner="uid:1000",
    state=State.COMPLETED,
    reason=None,
    url="https://example.org/a.iso",
    path="/srv/files/a.iso",
    workspace=None,
    options={"if_exists": "fail", "retries": 8},
    group=None,
    labels={},
    priority=0,
    bytes=1_048_576,
    total=1_048_576,
    speed=524_288.5,
    eta=0.0,
    attempt=1,
    error=None,
    checksum="sha256:" + "0123456789abcdef" * 4,
    created=TIME,
    started=TIME + 1_000_000,
    finished=TIME + 3_000_000,
    not_before=None,
    bytes_wasted=0,
    revision=60,
    seq=9,
)

REQUEST_BODIES: list[tuple[str, object]] = [
    ("hello", c.Hello(client="example/1.0")),
    ("hello, nothing said", c.Hello()),
    ("submit one job", c.Submit(jobs=[c.NewJob(id="import-1", spec=MINIMAL_SPEC)])),
    (
        "submit, every field",
        c.Submit(jobs=[c.NewJob(id="A_z-9", spec=FULL_SPEC), c.NewJob(spec=MINIMAL_SPEC)]),
    ),
    ("get", c.Get(ids=["import-1", "import-2"])),
    ("list, first page", c.List()),
    (
        "list, every field",
        c.List(
            states=[State.FAILED, State.CANCELLED],
            prefix="import-",
            labels={"batch": "2026-11"},
            since=TIME,
            limit=1000,
            cursor=MAX,
        ),
    ),
    ("wait", c.Wait(ids=["import-1"], since=41, timeout=2.5)),
    ("wait, defaults", c.Wait(ids=["import-1"])),
    ("cancel", c.Cancel(ids=["import-1"])),
    ("status", c.Status()),
    ("shutdown", c.Shutdown()),
    ("shutdown now", c.Shutdown(now=True)),
]

REPLY_BODIES: list[tuple[str, object]] = [
    (
        "welcome",
        c.Welcome(
            version="0.1.0",
            protocol=PROTOCOL,
            epoch=EPOCH,
            lineage=LINEAGE,
            revision=41,
            owner="uid:1000",
            pid=4242,
            events="ipc:///run/user/1000/fetchd/events",
            features=[],
            max_message=1 << 20,
            max_items=1000,
        ),
    ),
    (
        "submitted",
        c.Submitted(
            jobs=[
                c.Accepted(id="import-1", state=State.QUEUED, revision=41),
                c.Accepted(id="import-2", state=State.WAITING, revision=57, duplicate=True),
            ]
        ),
    ),
    (
        "submitted, one job",
        c.Submitted(jobs=[c.Accepted(id="import-1", state=State.QUEUED, revision=41)]),
    ),
    ("jobs", c.Jobs(jobs=[COMPLETED, WAITING], missing=["nothing-like-it"], revision=60)),
    ("jobs, a wait that timed out", c.Jobs(jobs=[], missing=[], revision=60)),
    ("page, more to come", c.Page(jobs=[COMPLETED], cursor=60)),
    ("page, the last", c.Page(jobs=[], cursor=None)),
    (
        "outcomes",
        c.Outcomes(
            jobs=[
                c.Outcome(id="import-1", state=State.CANCELLED, revision=61),
                c.Outcome(id="import-3", state=State.PUBLISHING, revision=59, code="too_late"),
                c.Outcome(id="nothing-like-it", state=None, revision=0, code="no_such_job"),
            ]
        ),
    ),
    (
        "status",
        c.DaemonStatus(
            pid=4242,
            version="0.1.0",
            epoch=EPOCH,
            lineage=LINEAGE,
            revision=60,
            state_dir="/var/lib/fetchd",
            started=TIME,
            draining=False,
            sockets={"control": "ipc:///run/fetchd/control", "events": "ipc:///run/fetchd/events"},
            sandbox={"landlock": "abi 7", "seccomp": "filter"},
            workers=[
                c.WorkerStatus(slot=0, state="busy", pid=4250, job="import-1"),
                c.WorkerStatus(slot=1, state="empty", pid=None, job=None),
            ],
            counts={"queued": 3, "running": 1},
            loop_p99=0.00125,
        ),
    ),
    ("done", c.Done()),
]

ERROR_BODIES: list[tuple[str, object]] = [
    (f"error {code.value}", c.ErrorBody(code=code.value, message="for people")) for code in MEANINGS
] + [
    ("busy, with a time", c.ErrorBody(code="busy", message="too many requests in hand", retry_after=1.5)),
    (
        "unsupported_version, with details",
        c.ErrorBody(code="unsupported_version", message="version 2", details={"supported": [PROTOCOL]}),
    ),
]

HEADERS: list[tuple[str, object]] = [
    (f"request header {name}", c.RequestHeader(PROTOCOL, name, f"{n:032x}"))
    for n, name in enumerate(c.REQUESTS, 1)
] + [
    (f"reply header {name}", c.ReplyHeader(PROTOCOL, name, f"{n:032x}", True, EPOCH, LINEAGE))
    for n, name in enumerate(c.REPLIES, 1)
]
HEADERS.append(
    ("reply header of a refusal", c.ReplyHeader(PROTOCOL, "submit", "f" * 32, False, EPOCH, LINEAGE))
)

LIFECYCLE = [*(state.value for state in State), "restarted"]
"""The `type` of every event that changes a job for good."""

EVENTS: list[tuple[str, object]] = [
    (
        f"event header {name}",
        e.EventHeader(v=PROTOCOL, epoch=EPOCH, seq=n, revision=40 + n, time=TIME, type=name, job="import-1"),
    )
    for n, name in enumerate(LIFECYCLE, 1)
] + [
    (
        "event header progress",
        e.EventHeader(
            v=PROTOCOL, epoch=EPOCH, seq=5, revision=None, time=TIME, type=e.PROGRESS, job="import-1"
        ),
    ),
    (
        "event header heartbeat",
        e.EventHeader(v=PROTOCOL, epoch=EPOCH, seq=0, revision=60, time=TIME, type=e.HEARTBEAT, job=None),
    ),
    ("body of a lifecycle event, queued", QUEUED),
    ("body of a lifecycle event, waiting", WAITING),
    ("body of a lifecycle event, completed", COMPLETED),
    ("progress", e.Progress(attempt=1, bytes=524_288, total=1_048_576, speed=262_144.0, eta=2.0)),
    ("progress, nothing known", e.Progress(attempt=1, bytes=0, total=None, speed=None, eta=None)),
    ("heartbeat", e.Heartbeat(epoch=EPOCH, revision=60)),
]
