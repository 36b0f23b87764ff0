"""One example or more of every message of the public protocol: what the golden vectors are made from.

Add to this file when the protocol grows, then run `make_vectors.py`. Changing an entry changes a golden
vector, which is right only when the wire was meant to change.
"""

from msgspec.structs import replace

from fetchd.protocol import control as c
from fetchd.protocol import events as e
from fetchd.protocol import status as s
from fetchd.protocol.errors import MEANINGS
from fetchd.protocol.job import Reason, State
from fetchd.protocol.version import PROTOCOL

from .sample_jobs import (
    COMPLETED,
    COMPLETED_THEN,
    FULL_SPEC,
    MAX,
    MINIMAL_SPEC,
    NEWER_SPEC,
    QUEUED,
    TIME,
    WAITING,
    WAITING_THEN,
    WARNED,
)

EPOCH = "9f1c27d0a4b35e68"
LINEAGE = "3a7be01f54d2c689"

REQUEST_BODIES: list[tuple[str, object]] = [
    ("hello", c.Hello(client="example/1.0")),
    ("hello, nothing said", c.Hello()),
    ("hello, over TCP", c.Hello(client="example/1.0", host="downloads.example.org")),
    ("submit one job", c.Submit(jobs=[c.NewJob(id="import-1", spec=MINIMAL_SPEC)])),
    (
        "submit, every field",
        c.Submit(jobs=[c.NewJob(id="A_z-9", spec=FULL_SPEC), c.NewJob(spec=MINIMAL_SPEC)]),
    ),
    (
        "submit, every field that speaks of TLS or the file at hand",
        c.Submit(jobs=[c.NewJob(id="import-4", spec=NEWER_SPEC)]),
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
    ("cancel all", c.Cancel(all=True)),
    ("pause", c.Pause(ids=["import-1", "import-2"])),
    ("pause all", c.Pause(all=True)),
    ("resume", c.Resume(ids=["import-1"])),
    ("resume all", c.Resume(all=True)),
    ("retry", c.Retry(ids=["import-2"])),
    ("retry all", c.Retry(all=True)),
    ("retry failed", c.Retry(failed=True)),
    ("remove", c.Remove(ids=["import-1"])),
    ("remove all", c.Remove(all=True)),
    ("remove failed, with all", c.Remove(all=True, failed=True)),
    ("limit everything", c.Limit(rate=MAX)),
    ("limit jobs", c.Limit(rate=512_000, ids=["import-1", "import-2"])),
    ("lift the limit of a host", c.Limit(rate=None, host="example.org:8443")),
    ("limits", c.Limits()),
    ("events, all there are", c.Replay(since=0)),
    ("events, every field", c.Replay(since=41, limit=1, lineage=LINEAGE)),
    ("stats", c.Stats()),
    ("workspaces", c.Workspaces()),
    ("clean", c.Clean(ids=["import-2"])),
    ("clean orphans", c.Clean(orphans=True)),
    ("clean what is a week old", c.Clean(older_than=604_800.0)),
    ("status", c.Status()),
    ("reload", c.Reload()),
    ("shutdown", c.Shutdown()),
    ("shutdown now", c.Shutdown(now=True)),
]

WELCOME = c.Welcome(
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
)

REPLY_BODIES: list[tuple[str, object]] = [
    ("welcome", WELCOME),
    (
        "welcome, over TCP",
        replace(WELCOME, owner="key:alice", events="tcp://downloads.example.org:7412"),
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
    ("outcomes, an intent", c.Outcomes(jobs=[], intent=7)),
    (
        "outcomes of retry",
        c.Outcomes(
            jobs=[
                c.Outcome(id="import-2", state=State.QUEUED, revision=62),
                c.Outcome(id="import-1", state=State.COMPLETED, revision=60, code="too_late"),
                c.Outcome(id="import-3", state=State.CANCELLED, revision=61, code="secrets_gone"),
            ]
        ),
    ),
    (
        "outcomes of resume and remove",
        c.Outcomes(
            jobs=[
                c.Outcome(id="import-1", state=State.PAUSED, revision=41, code="queue_paused"),
                c.Outcome(id="import-2", state=None, revision=64),
            ]
        ),
    ),
    (
        "outcomes of clean",
        c.Outcomes(
            jobs=[
                c.Outcome(id="import-1", state=State.FAILED, revision=60),
                c.Outcome(id="import-2", state=State.PAUSED, revision=57, code="not_finished"),
                c.Outcome(id="an-orphan", state=None, revision=0),
            ]
        ),
    ),
    ("limits in force, none", c.LimitsInForce(total=None, hosts={})),
    (
        "limits in force, every field",
        c.LimitsInForce(
            total=1 << 20,
            hosts={"example.org": 512_000, "example.org:8443": 1},
            jobs=[c.Outcome(id="import-1", state=State.COMPLETED, revision=60, code="too_late")],
        ),
    ),
    (
        "history, more to come",
        c.History(
            events=[
                c.PastEvent(revision=41, time=TIME, type="queued", job="import-1", data=QUEUED),
                c.PastEvent(revision=57, time=TIME, type="waiting", job="import-2", data=WAITING_THEN),
            ],
            revision=57,
            more=True,
        ),
    ),
    (
        "history, a job that was removed",
        c.History(
            events=[
                c.PastEvent(
                    revision=63,
                    time=MAX,
                    type="removed",
                    job="import-1",
                    data=replace(COMPLETED_THEN, revision=63),
                ),
            ],
            revision=70,
            more=False,
        ),
    ),
    ("history, nothing new", c.History(events=[], revision=MAX, more=False)),
    (
        "statistics",
        c.Statistics(
            active=1,
            pending=3,
            slots=c.Slots(total=5, free=4),
            completed=3,
            failed=1,
            cancelled=2,
            success_rate=0.75,
            bytes=MAX,
            speed=262_144.5,
            counts={"queued": 3, "running": 1, "completed": 3, "failed": 1, "cancelled": 2},
            intents=1,
            uptime=3600.25,
        ),
    ),
    (
        "statistics of the first minute",
        c.Statistics(
            active=0,
            pending=0,
            slots=c.Slots(total=5, free=5),
            completed=0,
            failed=0,
            cancelled=0,
            success_rate=None,
            bytes=0,
            speed=0.0,
            counts={},
            intents=0,
            uptime=0.5,
        ),
    ),
    (
        "workspaces",
        c.WorkspaceList(
            workspaces=[
                c.WorkspaceInfo(
                    job="an-orphan",
                    path="/srv/.fetchd/d2719a0e/an-orphan",
                    bytes=4096,
                    age=604_800.5,
                    state=None,
                ),
                c.WorkspaceInfo(
                    job="import-2",
                    path="/srv/.fetchd/d2719a0e/import-2",
                    bytes=1 << 20,
                    age=2.0,
                    state=State.WAITING,
                ),
            ]
        ),
    ),
    ("workspaces, none", c.WorkspaceList(workspaces=[])),
    (
        "status",
        s.DaemonStatus(
            pid=4242,
            version="0.1.0",
            epoch=EPOCH,
            lineage=LINEAGE,
            revision=60,
            state_dir="/var/lib/fetchd",
            started=TIME,
            draining=False,
            sockets={
                "control": "ipc:///run/fetchd/control",
                "events": "tcp://192.0.2.1:7413",
                "tcp": "tcp://192.0.2.1:7411",
                "server_key": "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID",
            },
            sandbox={"landlock": "abi 7", "seccomp": "filter"},
            workers=[
                s.WorkerStatus(slot=0, state="busy", pid=4250, job="import-1", connections=4),
                s.WorkerStatus(slot=1, state="empty", pid=None, job=None),
            ],
            counts={"queued": 3, "running": 1},
            loop_p99=0.00125,
            held=[
                s.Held(
                    kind="area",
                    name="/data/.fetchd/one",
                    reason=Reason.DISK,
                    since=TIME,
                    detail="disk_full: 12 MB are free, and 256 MB are to stay free",
                ),
                s.Held(kind="owner", name="uid:1000", reason=Reason.USER, since=TIME, detail=""),
            ],
            slots=s.Slots(total=2, free=1),
        ),
    ),
    (
        "reloaded",
        c.Reloaded(live=["log_level", "stop_grace"], next_worker=["ca_bundle"], restart=["state_dir"]),
    ),
    ("reloaded, nothing changed", c.Reloaded(live=[], next_worker=[], restart=[])),
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

LIFECYCLE = [*(state.value for state in State), "restarted", "removed", "warning"]
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
    ("body of a lifecycle event, waiting", WAITING_THEN),
    ("body of a lifecycle event, completed", COMPLETED_THEN),
    ("body of a lifecycle event, warning", WARNED),
    ("progress", e.Progress(attempt=1, bytes=524_288, total=1_048_576, speed=262_144.0, eta=2.0)),
    ("progress, nothing known", e.Progress(attempt=1, bytes=0, total=None, speed=None, eta=None)),
    ("heartbeat", e.Heartbeat(epoch=EPOCH, revision=60)),
    (
        "metrics",
        e.Metrics(
            workers=[
                e.WorkerUsage(slot=0, memory=12_000_000, cpu=0.25, pid=4250, job="import-1", connections=4),
                e.WorkerUsage(slot=1, memory=9_000_000, cpu=0.0, pid=4251),
            ],
            counts={"queued": 3, "running": 1},
            held=[s.Held(kind="daemon", name="", reason=Reason.DISK, since=TIME, detail="disk_full: full")],
            slots=s.Slots(total=2, free=1),
        ),
    ),
]
