"""Specifications and snapshots of jobs, for the samples of messages."""

from msgspec.structs import replace

from fetchd.protocol.job import Cleanup, JobError, JobSnapshot, JobSpec, Reason, State

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
    cleanup=Cleanup(success=False, failure=True),
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
WAITING_THEN = replace(WAITING, workspace=None, seq=0)
COMPLETED_THEN = replace(COMPLETED, workspace=None, seq=0)
"""As in the bodies of events, which are stored before they are published."""
