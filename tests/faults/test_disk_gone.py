"""A disk that is read-only or not mounted: nothing is written under its mount point, and jobs wait for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import Fetchd
from support.content import sha256_file, sha256_of
from support.daemon import DaemonProcess
from support.exchange import Framing
from support.gate import Gate
from support.look import nothing_staged, until
from support.mounts import bound, mounted, remount
from support.origin import Origin, Resource
from support.tmp import TempDir

from fetchd.client import Client, Job
from fetchd.protocol.job import JobSnapshot, Reason, State

MIB = 1 << 20
SIZE = 300_000


def held(snapshot: JobSnapshot) -> bool:
    return (snapshot.state, snapshot.reason) == (State.PAUSED, Reason.DISK)


@pytest.fixture
def one(make_daemon: type[DaemonProcess]) -> DaemonProcess:
    """A daemon with one worker: what is behind the first job waits for it."""
    return make_daemon({"FETCHD_WORKERS": "1"}).start()


@pytest.fixture
def disk() -> Iterator[Path]:
    """A file system that is mounted elsewhere too, as a disk that can be plugged in."""
    with mounted("size=8m,mode=755") as directory:
        yield directory


@pytest.fixture
def point() -> Iterator[Path]:
    """A place to mount it at."""
    with TempDir() as directory:
        yield directory


def block(client: Client, origin: Origin, downloads: Path) -> Gate:
    """Keep the only worker busy, elsewhere."""
    gate = origin.gate()
    client.submit(origin.add("/block", Resource(size=10), "stall", gate=gate), directory=downloads)
    gate.wait_arrived()
    return gate


def submit(client: Client, origin: Origin, directory: Path, count: int = 3) -> list[Job]:
    urls = [origin.add(f"/f{n}", Resource(size=SIZE, seed=n)) for n in range(count)]
    return [client.submit(url, directory=directory) for url in urls]


def delivered(jobs: list[Job]) -> None:
    for number, job in enumerate(jobs):
        assert sha256_file(job.result(timeout=60).path) == sha256_of(SIZE, number)


def all_held(jobs: list[Job]) -> None:
    until(jobs[0], lambda s: s.attempt > 0 and s.state is not State.RUNNING)
    assert [snapshot for job in jobs if not held(snapshot := job.snapshot())] == []


def test_a_file_system_that_becomes_read_only(
    one: DaemonProcess, origin: Origin, downloads: Path, disk: Path
) -> None:
    with one.client() as client:
        gate = block(client, origin, downloads)
        jobs = submit(client, origin, disk)
        remount(disk, "ro")
        gate.open()
        all_held(jobs)
        (told,) = client.status().held
        assert "read-only" in told.detail
        assert "read-only" in Fetchd(one.env, downloads)("daemon", "status").out
        remount(disk, "rw")
        delivered(jobs)
    nothing_staged(one)


def test_a_file_system_that_is_taken_away_while_jobs_are_queued(
    one: DaemonProcess, origin: Origin, downloads: Path, disk: Path, point: Path
) -> None:
    with one.client() as client:
        gate = block(client, origin, downloads)
        with bound(disk, point):
            jobs = submit(client, origin, point / "new")
        gate.open()
        all_held(jobs)
        (told,) = client.status().held
        assert f"{point} is not mounted" in told.detail
        assert list(point.iterdir()) == [], "nothing is made under the mount point"
        with bound(disk, point):
            delivered(jobs)
        assert sorted(path.name for path in (disk / "new").iterdir()) == ["f0", "f1", "f2"]
    assert list(point.iterdir()) == []


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_file_system_that_is_taken_away_under_a_running_job(
    one: DaemonProcess, origin: Origin, disk: Path, point: Path, framing: Framing
) -> None:
    """Its worker goes on and finishes; the file is taken from its room when it is there again."""
    gate = origin.gate()
    resource = Resource(size=SIZE, seed=0, framing=framing)
    url = origin.add("/first", resource, "hold", after=SIZE // 2, gate=gate)
    with one.client() as client:
        with bound(disk, point):
            first = client.submit(url, directory=point)
            second = client.submit(origin.add("/second", Resource(size=SIZE, seed=1)), directory=point)
            gate.wait_arrived()
            until(first, lambda s: s.bytes > 0)
        gate.open()
        all_held([second])
        assert list(point.iterdir()) == []
        assert first.snapshot().state is State.RUNNING
        with bound(disk, point):
            delivered([first, second])
        assert {path.name for path in disk.iterdir()} == {".fetchd", "first", "second"}
    assert len(origin.requests) == 2, "nothing was fetched twice"


@pytest.mark.parametrize("end", ["drained", "killed"])
def test_a_restart_without_the_disk(
    daemon: DaemonProcess, origin: Origin, disk: Path, point: Path, end: str
) -> None:
    """What an ended daemon's worker has left there is found when the disk is back, and gone on with.

    Of a killed one nobody knows how much got to the disk before it went: what was synced counts.
    """
    gate = origin.gate()
    url = origin.add("/f", Resource(size=SIZE, seed=4), "hold", times=1, after=SIZE // 2, gate=gate)
    with bound(disk, point):
        with daemon.client() as client:
            job = client.submit(url, directory=point, id="job")
            until(job, lambda s: s.bytes >= SIZE // 2)
        if end == "killed":
            daemon.kill()
            daemon.wait_all_gone()
        else:
            daemon.terminate()
    gate.open()
    daemon.start()
    with daemon.client() as client:
        job = client.get("job")
        until(job, held)
        assert list(point.iterdir()) == []
        with bound(disk, point):
            assert sha256_file(job.result(timeout=60).path) == sha256_of(SIZE, 4)
            job.remove()
    expected = {f"bytes={SIZE // 2}-"} if end == "drained" else {f"bytes={SIZE // 2}-", None}
    first, second = (request.range for request in origin.requests)
    assert first is None
    assert second in expected
