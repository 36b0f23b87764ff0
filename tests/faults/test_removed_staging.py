"""Somebody removes the staging directory while jobs run: they begin again, and come whole."""

import shutil
from pathlib import Path

from support.content import sha256_file, sha256_of
from support.daemon import DaemonProcess
from support.look import nothing_staged, until, worker_of
from support.origin import Origin, Resource

from fetchd.protocol.job import State

SIZE = 2_000_000
ENDS = (State.WAITING, State.COMPLETED, State.FAILED)


def test_the_staging_directory_is_removed_under_running_jobs(
    daemon: DaemonProcess, origin: Origin, downloads: Path
) -> None:
    """Their workers go on writing to what has no name any more, and are replaced: they have no room."""
    gate = origin.gate()
    with daemon.client() as client:
        jobs = []
        for n in range(3):
            resource = Resource(size=SIZE, seed=n)
            url = origin.add(f"/f{n}", resource, "hold", times=1, after=SIZE // 2, gate=gate)
            jobs.append(client.submit(url, directory=downloads, id=f"f{n}"))
        for job in jobs:
            until(job, lambda s: s.bytes >= SIZE // 4)
        workers = {worker_of(client, job.id) for job in jobs}
        shutil.rmtree(daemon.state / ".fetchd")
        gate.open()
        for number, job in enumerate(jobs):
            while until(job, lambda s: s.state in ENDS, timeout=60).state is State.WAITING:
                # it would go on by itself within a minute
                job.retry()
            assert sha256_file(job.result(timeout=60).path) == sha256_of(SIZE, number)
        after = {worker.pid for worker in client.status().workers}
    assert not after & workers, "whoever has no room is of no use"
    assert sorted(path.name for path in downloads.iterdir()) == ["f0", "f1", "f2"]
    nothing_staged(daemon)
