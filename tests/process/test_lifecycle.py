"""Every verb in every state against a live daemon; after each, nothing is left that should not be."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.content import sha256_file, sha256_of
from support.daemon import DaemonProcess
from support.look import nothing_staged, staged, until, worker_of
from support.origin import Origin, Resource
from support.wait import Watch, process_exit, vanished

from fetchd.client import Client, DownloadError, Job
from fetchd.protocol.errors import FetchdError
from fetchd.protocol.job import State

SIZE = 3_000_000
HALF = 1_500_000


class Stage:
    """A daemon with one worker, and jobs brought into each state."""

    def __init__(self, daemon: DaemonProcess, client: Client, origin: Origin, downloads: Path) -> None:
        self.daemon = daemon
        self.client = client
        self.origin = origin
        self.downloads = downloads
        self.gate = origin.gate()

    def bring(self, state: str) -> Job:
        """A job called `job` in this state; where it is not running itself, another one holds the worker."""
        resource = Resource(size=SIZE, seed=9, etag='"e"')
        if state == "running":
            url = self.origin.add("/job", resource, "hold", times=1, after=HALF, gate=self.gate)
            job = self.client.submit(url, directory=self.downloads, id="job")
            until(job, lambda s: s.bytes == HALF)
            return job
        if state == "waiting":
            url = self.origin.add("/job", resource, "status", times=1, code=503, retry_after="3600")
            job = self.client.submit(url, directory=self.downloads, id="job")
            until(job, lambda s: s.state is State.WAITING)
            return job
        if state == "failed":
            url = self.origin.add("/job", resource, "status", times=1, code=404)
            job = self.client.submit(url, directory=self.downloads, id="job")
            assert job.exception(timeout=20) is not None
            return job
        if state == "completed":
            job = self.client.submit(self.origin.add("/job", resource), directory=self.downloads, id="job")
            job.result(timeout=20)
            return job
        self.block()
        job = self.client.submit(self.origin.add("/job", resource), directory=self.downloads, id="job")
        if state == "paused":
            assert self.client.pause(["job"])[0].code is None
        elif state == "cancelled":
            assert job.cancel()
        else:
            assert state == "queued"
        return job

    def block(self) -> None:
        """Keep the only worker busy until the gate opens."""
        url = self.origin.add("/block", Resource(size=10), "stall", gate=self.gate)
        self.client.submit(url, directory=self.downloads, id="block")
        self.gate.wait_arrived()


@pytest.fixture
def stage(make_daemon: type[DaemonProcess], origin: Origin, downloads: Path) -> Iterator[Stage]:
    daemon = make_daemon({"FETCHD_WORKERS": "1"}).start()
    with daemon.client() as client:
        yield Stage(daemon, client, origin, downloads)


EXPECTED: dict[str, dict[str, tuple[str | None, str | None]]] = {
    "pause": {
        "queued": ("paused", None), "running": ("paused", None), "waiting": ("paused", None),
        "paused": ("paused", None), "completed": ("completed", "too_late"), "failed": ("failed", "too_late"),
        "cancelled": ("cancelled", "too_late"),
    },
    "resume": {
        "queued": ("queued", None), "running": ("running", None), "waiting": ("waiting", None),
        "paused": ("queued", None), "completed": ("completed", "too_late"), "failed": ("failed", "too_late"),
        "cancelled": ("cancelled", "too_late"),
    },
    "retry": {
        "queued": ("queued", None), "running": ("running", None), "waiting": ("queued", None),
        "paused": ("paused", None), "completed": ("completed", "too_late"), "failed": ("queued", None),
        "cancelled": ("queued", None),
    },
    "cancel": {
        "queued": ("cancelled", None), "running": ("cancelled", None), "waiting": ("cancelled", None),
        "paused": ("cancelled", None), "completed": ("completed", "too_late"),
        "failed": ("failed", "too_late"), "cancelled": ("cancelled", None),
    },
    "remove": dict.fromkeys(
        ("queued", "running", "waiting", "paused", "completed", "failed", "cancelled"), (None, None)
    ),
}  # fmt: skip


@pytest.mark.parametrize("state", list(EXPECTED["pause"]))
@pytest.mark.parametrize("verb", list(EXPECTED))
def test_each_verb_in_each_state(stage: Stage, verb: str, state: str) -> None:
    job = stage.bring(state)
    outcome = getattr(stage.client, verb)(["job"])[0]
    # a job that goes on may have got further by the time of the answer
    wanted, code = EXPECTED[verb][state]
    assert (outcome.state, outcome.code) == (wanted, code)
    again = getattr(stage.client, verb)(["job"])[0]
    assert again.code == ("no_such_job" if verb == "remove" else code), "a verb is idempotent"
    stage.gate.open()
    if verb == "remove":
        assert stage.client.find(["job"]) == {}
    elif verb in ("pause", "cancel") or state == "paused":
        if verb == "cancel":
            nothing_staged(stage.daemon)
        if verb == "pause" and state in ("running", "queued", "waiting", "paused"):
            assert stage.client.resume(["job"])[0].code is None
    if verb != "remove" and wanted in ("queued", "running", "waiting", "paused") and verb != "cancel":
        if job.state is State.WAITING:
            assert stage.client.retry(["job"])[0].code is None
        if job.state is State.PAUSED:
            assert stage.client.resume(["job"])[0].code is None
        # a handle that has seen the end of a job keeps to it, so take a new one
        assert sha256_file(stage.client.get("job").result(timeout=30).path) == sha256_of(SIZE, 9)
    nothing_staged(stage.daemon)
    there = (stage.downloads / "job").exists()
    assert there == (
        state == "completed" or (verb not in ("cancel", "remove") and wanted not in ("failed", "cancelled"))
    )


def test_a_paused_download_goes_on_where_it_was(stage: Stage) -> None:
    job = stage.bring("running")
    stage.client.pause([job])
    with Watch(stage.daemon.state) as watch:
        watch.until(lambda: job.snapshot().bytes == HALF, 5)
    assert job.snapshot().reason == "user"
    stage.daemon.restart(kill=True)
    with stage.daemon.client() as client:
        again = client.get("job")
        assert again.state is State.PAUSED
        client.resume(["job"])
        assert sha256_file(again.result(timeout=30).path) == sha256_of(SIZE, 9)
    stage.gate.open()
    assert [request.range for request in stage.origin.requests] == [None, f"bytes={HALF}-"]


def test_a_worker_that_does_not_listen_is_paused_by_force(
    make_daemon: type[DaemonProcess], origin: Origin, downloads: Path
) -> None:
    daemon = make_daemon({"FETCHD_STOP_GRACE": "0.2"}).start()
    with daemon.client() as client:
        stage = Stage(daemon, client, origin, downloads)
        job = stage.bring("running")
        worker = worker_of(client, "job")
        os.kill(worker, signal.SIGSTOP)
        assert client.pause(["job"])[0].state is State.PAUSED
        process_exit(worker, 10)
        client.resume(["job"])
        assert sha256_file(job.result(timeout=30).path) == sha256_of(SIZE, 9)
        stage.gate.open()
    assert [request.range for request in origin.requests] == [None, f"bytes={HALF}-"]


def test_the_whole_queue(stage: Stage) -> None:
    job = stage.bring("running")
    later = [
        stage.client.submit(stage.origin.add(f"/l{n}", Resource(size=10)), directory=stage.downloads)
        for n in range(5)
    ]
    stage.client.pause(all=True)
    assert {job.state, *(other.state for other in later)} == {State.PAUSED}
    newer = stage.client.submit(stage.origin.add("/new", Resource(size=10)), directory=stage.downloads)
    assert newer.state is State.PAUSED
    assert newer.snapshot().reason == "user"
    assert {entry.id for entry in stage.client.list(states=["paused"])} == {
        job.id,
        newer.id,
        *(o.id for o in later),
    }
    assert stage.client.resume([newer])[0].code == "queue_paused"
    stage.daemon.restart(kill=True)
    with stage.daemon.client() as client:
        assert client.get(newer.id).state is State.PAUSED, "the gate outlives the daemon"
        client.resume(all=True)
        for entry in (job, newer, *later):
            client.get(entry.id).result(timeout=30)
    stage.gate.open()


def test_cancel_all_is_for_what_there_was(stage: Stage) -> None:
    running = stage.bring("running")
    specs = [
        {"url": stage.origin.add("/x", Resource(size=10)), "directory": str(stage.downloads), "name": f"n{n}"}
        for n in range(500)
    ]
    queued = stage.client.submit_many(specs)
    stage.client.cancel(all=True)
    stage.gate.open()
    after = stage.client.submit(stage.origin.add("/after", Resource(size=10)), directory=stage.downloads)
    after.result(timeout=30)
    assert running.state is State.CANCELLED
    assert {snapshot.state for snapshot in stage.client.snapshots([job.id for job in queued])} == {
        State.CANCELLED
    }
    assert sorted(os.listdir(stage.downloads)) == ["after"]
    nothing_staged(stage.daemon)


def test_retry_and_remove_failed_ones(stage: Stage) -> None:
    ids = [f"f{n}" for n in range(5)]
    for name in ids:
        url = stage.origin.add(f"/{name}", Resource(size=10), "status", times=1, code=404)
        assert stage.client.submit(url, directory=stage.downloads, id=name).exception(timeout=20) is not None
    stage.client.retry(failed=True)
    completed: set[str | None] = set()
    for event in stage.client.events(since=0):
        completed |= {event.job} if event.type == "completed" else set()
        if completed == set(ids):
            break
    bad = stage.client.submit(
        stage.origin.add("/bad", Resource(size=10), "status", code=404), directory=stage.downloads, id="bad"
    )
    assert bad.exception(timeout=20) is not None
    stage.client.remove(failed=True)
    assert next(event for event in stage.client.events(since=0) if event.type == "removed").job == "bad"
    assert stage.client.find(["bad"]) == {}
    assert len(stage.client.find(ids)) == 5
    stage.gate.open()


def test_an_id_is_free_after_rm(stage: Stage) -> None:
    job = stage.bring("completed")
    path = job.result().path
    stage.client.remove(["job"])
    assert path.exists(), "a delivered file is never touched"
    other = stage.client.submit(
        stage.origin.add("/other", Resource(size=10)), directory=stage.downloads, id="job"
    )
    assert not other.duplicate
    assert other.result(timeout=20).path == stage.downloads / "other"
    stage.gate.open()


def test_removing_and_resubmitting_a_running_job(stage: Stage) -> None:
    """The new job waits until the old attempt is really over, and gets a workspace of its own."""
    stage.bring("running")
    stage.client.remove(["job"])
    other = stage.client.submit(
        stage.origin.add("/other", Resource(size=SIZE, seed=2)), directory=stage.downloads, id="job"
    )
    assert sha256_file(other.result(timeout=30).path) == sha256_of(SIZE, 2)
    stage.gate.open()
    nothing_staged(stage.daemon)


def failing(stage: Stage, **options: object) -> Job:
    """A job that fails for good with half of its bytes on hand."""
    url = stage.origin.add("/job", Resource(size=SIZE, seed=9, etag='"e"'), "cut", times=1, after=HALF)
    job = stage.client.submit(url, directory=stage.downloads, id="job", retries=0, **options)  # type: ignore[arg-type]
    with pytest.raises(DownloadError):
        job.result(timeout=20)
    return job


def test_the_bytes_of_a_failed_job_are_kept(stage: Stage) -> None:
    job = failing(stage)
    assert job.snapshot().bytes == HALF
    listed = stage.client.workspaces()
    assert [(entry.job, entry.state) for entry in listed] == [("job", State.FAILED)]
    assert listed[0].bytes >= HALF
    stage.daemon.restart()
    with stage.daemon.client() as client:
        assert client.retry(["job"])[0].code is None
        assert sha256_file(client.get("job").result(timeout=30).path) == sha256_of(SIZE, 9)
    assert [request.range for request in stage.origin.requests] == [None, f"bytes={HALF}-"]
    nothing_staged(stage.daemon)
    stage.gate.open()


def test_unless_it_was_asked_otherwise(stage: Stage) -> None:
    failing(stage, keep_partial=False)
    nothing_staged(stage.daemon)
    stage.client.retry(["job"])
    assert sha256_file(stage.client.get("job").result(timeout=30).path) == sha256_of(SIZE, 9)
    assert [request.range for request in stage.origin.requests] == [None, None]
    stage.gate.open()


def test_workspaces_can_be_cleaned(stage: Stage) -> None:
    job = failing(stage)
    workspace = Path(stage.client.workspaces()[0].path)
    orphan = workspace.parent / "orphan"
    orphan.mkdir()
    (orphan / "data").write_bytes(b"x" * 1000)
    assert {(e.job, e.state) for e in stage.client.workspaces()} == {("job", State.FAILED), ("orphan", None)}
    assert [o.id for o in stage.client.clean_workspaces(orphans=True)] == ["orphan"]
    vanished(orphan)
    assert stage.client.clean_workspaces(older_than=3600) == []
    assert [(o.id, o.code) for o in stage.client.clean_workspaces(["job", "nobody"])] == [
        ("job", None), ("nobody", "no_such_job")
    ]  # fmt: skip
    vanished(workspace)
    assert staged(stage.daemon) == []
    stage.gate.open()
    blocked = stage.client.submit(
        stage.origin.add("/w", Resource(size=10), "status", code=503, retry_after="99"),
        directory=stage.downloads,
    )
    until(blocked, lambda s: s.state is State.WAITING)
    assert stage.client.clean_workspaces([blocked.id])[0].code == "not_finished"
    assert job.state is State.FAILED


def test_secrets_live_as_long_as_a_retry_may_need_them(stage: Stage) -> None:
    url = stage.origin.add("/s", Resource(size=10), "status", times=1, code=404)
    job = stage.client.submit(url, directory=stage.downloads, headers={"X-Key": "canary"}, id="s")
    assert job.exception(timeout=20) is not None
    assert b"canary" in (stage.daemon.state / "secrets.db").read_bytes()
    stage.client.retry(["s"])
    job = stage.client.get("s")
    job.result(timeout=20)
    assert stage.origin.requests_for("/s")[1].header("x-key") == "canary"
    assert b"canary" not in (stage.daemon.state / "secrets.db").read_bytes()
    other = stage.client.submit(
        stage.origin.add("/t", Resource(size=10), "status", code=503, retry_after="99"),
        directory=stage.downloads, headers={"X-Key": "canary"}, id="t",
    )  # fmt: skip
    until(other, lambda s: s.state is State.WAITING)
    assert other.cancel()
    assert stage.client.retry(["t"])[0].code == "secrets_gone"
    stage.gate.open()


def test_a_reload(stage: Stage) -> None:
    path = stage.daemon.root / "fetchd.toml"
    daemon = stage.daemon
    daemon.env["FETCHD_CONFIG"] = str(path)
    del daemon.env["FETCHD_WORKERS"]
    path.write_text("workers = 1\n")
    daemon.restart()
    names = ["a", "b", "c"]
    with daemon.client() as client:
        jobs = [
            client.submit(
                stage.origin.add(f"/{n}", Resource(size=10), "stall", gate=stage.gate),
                directory=stage.downloads,
            )
            for n in names
        ]
        stage.gate.wait_arrived(1)
        assert client.stats().slots.total == 1
        path.write_text("workers = 3\nread_timeout = 5\n")
        assert sorted(client.reload().live) == ["read_timeout", "workers"]
        stage.gate.wait_arrived(3)
        path.write_text("workers = 0\n")
        with pytest.raises(FetchdError) as caught:
            client.reload()
        assert caught.value.code == "invalid_config"
        assert client.stats().slots.total == 3
        path.write_text("workers = 1\n")
        daemon.signal(signal.SIGHUP)
        with Watch(daemon.root, mask=2) as watch:
            watch.until(lambda: daemon.log().count("configuration read again") == 2, 10)
        assert client.stats().slots.total == 1
        assert {job.state for job in jobs} == {State.RUNNING}, "fewer workers drain, none is killed"
        stage.gate.open()
        for job in jobs:
            job.result(timeout=20)
