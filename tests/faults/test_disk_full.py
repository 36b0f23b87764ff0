"""A full disk holds what is staged there, loses nothing, and goes on by itself when there is room."""

import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support.cli import Fetchd
from support.content import sha256_file, sha256_of
from support.daemon import DaemonProcess
from support.look import nothing_staged, until
from support.mounts import fill, mounted, remount
from support.origin import Origin, Resource

from fetchd.client import Client, Job
from fetchd.protocol.job import JobSnapshot, Reason, State

MIB = 1 << 20
SIZE = 300_000


@pytest.fixture
def tiny() -> Iterator[Path]:
    """A file system of 8 MiB, apart from the state directory's."""
    with mounted("size=8m,mode=755") as directory:
        yield directory


def held(snapshot: JobSnapshot) -> bool:
    return (snapshot.state, snapshot.reason) == (State.PAUSED, Reason.DISK)


def all_held(jobs: Sequence[Job]) -> None:
    """Wait until the first job has found the disk full, and those that ran beside it have come to rest."""
    until(jobs[0], lambda s: s.attempt > 0 and s.state is not State.RUNNING)
    for job in jobs:
        if job.snapshot().state is State.RUNNING:
            until(job, lambda s: s.state is not State.RUNNING)
    assert [snapshot for job in jobs if not held(snapshot := job.snapshot())] == []


def submit(client: Client, origin: Origin, directory: Path, count: int, size: int = SIZE) -> list[Job]:
    """So many jobs for new files of that size."""
    specs = []
    for number in range(count):
        name = f"{directory.name}-{number}"
        url = origin.add(f"/{name}", Resource(size=size, seed=number))
        specs.append({"url": url, "directory": str(directory), "id": name, "name": f"f{number}"})
    return list(client.submit_many(specs))


def delivered(jobs: Sequence[Job], directory: Path, size: int = SIZE) -> None:
    """All come, whole, and none has failed on the way."""
    for number, job in enumerate(jobs):
        path = job.result(timeout=60).path
        assert path == directory / f"f{number}"
        assert sha256_file(path) == sha256_of(size, number)


def test_twenty_jobs_wait_for_room_and_come(
    daemon: DaemonProcess, origin: Origin, downloads: Path, tiny: Path
) -> None:
    """Jobs for another file system go on meanwhile, and what its user had paused stays so."""
    filler = fill(tiny)
    with daemon.client() as client:
        jobs = submit(client, origin, tiny, 20)
        mine = client.submit(origin.add("/mine", Resource(size=SIZE)), directory=tiny, id="mine")
        mine.pause()
        all_held(jobs)
        delivered(submit(client, origin, downloads, 5), downloads)
        assert all(held(job.snapshot()) for job in jobs)
        (told,) = client.status().held
        assert (told.kind, told.reason) == ("area", Reason.DISK)
        assert "disk_full" in told.detail
        fetchd = Fetchd(daemon.env, downloads)
        assert f"area {told.name}, disk, since" in fetchd("daemon", "status").out
        assert fetchd("ls").out.count("paused: disk") == 20
        filler.unlink()
        delivered(jobs, tiny)
        assert (mine.snapshot().state, mine.snapshot().reason) == (State.PAUSED, Reason.USER)
        assert mine.resume()
        mine.result(timeout=30)
    nothing_staged(daemon)


def test_a_disk_that_fills_up_under_a_running_job(daemon: DaemonProcess, origin: Origin, tiny: Path) -> None:
    """It keeps its bytes, and goes on behind them. Nobody knows before how large the file is."""
    gate = origin.gate()
    resource = Resource(size=4 * MIB, seed=5, framing="chunked")
    url = origin.add("/f", resource, "hold", times=1, after=MIB, gate=gate)
    with daemon.client() as client:
        job = client.submit(url, directory=tiny)
        until(job, lambda s: s.bytes >= MIB // 2)
        filler = fill(tiny, leave=MIB)
        gate.open()
        all_held([job])
        kept = job.snapshot().bytes
        assert kept >= MIB // 2
        filler.unlink()
        assert sha256_file(job.result(timeout=60).path) == sha256_of(4 * MIB, 5)
    assert [request.range for request in origin.requests] == [None, f"bytes={kept}-"]


@pytest.mark.parametrize("how", ["larger", "filler"])
def test_a_file_system_that_is_made_larger(
    daemon: DaemonProcess, origin: Origin, tiny: Path, how: str
) -> None:
    filler = fill(tiny)
    with daemon.client() as client:
        jobs = submit(client, origin, tiny, 3)
        all_held(jobs)
        remount(tiny, "size=16m") if how == "larger" else filler.unlink()
        delivered(jobs, tiny)


def test_below_the_reserve_nothing_begins(
    make_daemon: type[DaemonProcess], origin: Origin, downloads: Path, tiny: Path
) -> None:
    """The reserve is configured, and may be changed while jobs wait for it."""
    config = downloads / "fetchd.toml"
    config.write_text(f"min_free = {4 * MIB}\n")
    daemon = make_daemon({"FETCHD_CONFIG": str(config)}).start()
    fill(tiny, leave=3 * MIB)
    with daemon.client() as client:
        jobs = submit(client, origin, tiny, 3)
        all_held(jobs)
        (told,) = client.status().held
        assert "are to stay free" in told.detail
        config.write_text(f"min_free = {MIB}\n")
        daemon.signal(signal.SIGHUP)
        delivered(jobs, tiny)


def test_a_job_that_cannot_fit_waits_alone(daemon: DaemonProcess, origin: Origin, tiny: Path) -> None:
    """Smaller ones go on; it says how much it needs, and comes when there is as much."""
    url = origin.add("/large", Resource(size=12 * MIB, seed=99))
    with daemon.client() as client:
        large = client.submit(url, directory=tiny, name="large")
        told = until(large, lambda s: s.error is not None and "are needed" in s.error.message, timeout=30)
        assert told.error is not None
        assert told.error.code == "disk_full"
        assert "12.6 MB are needed, 8." in told.error.message
        delivered(submit(client, origin, tiny, 5), tiny)
        assert large.snapshot().reason is Reason.DISK
        assert "12.6 MB are needed" in Fetchd(daemon.env, tiny)("show", large.id).out
        remount(tiny, "size=24m")
        large.retry()
        assert sha256_file(large.result(timeout=60).path) == sha256_of(12 * MIB, 99)
