"""Cancelling: final, answered at once, and nothing is left."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from support.content import sha256_file, sha256_of
from support.daemon import DaemonProcess
from support.look import nothing_staged, until, worker_of
from support.origin import Origin, Resource
from support.wait import vanished

from fetchd.client import Job
from fetchd.protocol.job import State

SIZE = 2_000_000


def workspace_of(job: Job) -> Path:
    """The workspace of a job that has its first half."""
    until(job, lambda s: s.bytes == SIZE // 2)
    path = job.snapshot().workspace
    assert path is not None
    assert (Path(path) / "data").stat().st_size == SIZE // 2
    return Path(path)


def test_a_queued_job(make_daemon: type[DaemonProcess], origin: Origin, downloads: Path) -> None:
    one = make_daemon({"FETCHD_WORKERS": "1"}).start()
    gate = origin.gate()
    first = origin.add("/first", Resource(size=10), "stall", gate=gate)
    second = origin.add("/second", Resource(size=10))
    with one.client() as client:
        running = client.submit(first, directory=downloads)
        gate.wait_arrived()
        queued = client.submit(second, directory=downloads)
        assert queued.state is State.QUEUED
        assert queued.cancel()
        assert queued.state is State.CANCELLED
        gate.open()
        running.result(timeout=20)
    assert os.listdir(downloads) == ["first"]
    assert origin.requests_for("/second") == []
    nothing_staged(one)


def test_a_running_job(daemon: DaemonProcess, origin: Origin, downloads: Path) -> None:
    gate = origin.gate()
    url = origin.add("/f", Resource(size=SIZE), "hold", after=SIZE // 2, gate=gate)
    with daemon.client() as client:
        job = client.submit(url, directory=downloads)
        workspace = workspace_of(job)
        assert job.cancel()
        assert job.state is State.CANCELLED
        vanished(workspace)
        # the worker that was asked to stop can work again
        again = client.submit(origin.add("/g", Resource(size=10)), directory=downloads)
        again.result(timeout=20)
    gate.open()
    assert os.listdir(downloads) == ["g"]
    nothing_staged(daemon)


def test_a_job_whose_worker_does_not_listen(
    make_daemon: type[DaemonProcess], origin: Origin, downloads: Path
) -> None:
    """A stopped worker cannot be asked, so it is killed after the grace time."""
    daemon = make_daemon({"FETCHD_STOP_GRACE": "0.2"}).start()
    gate = origin.gate()
    url = origin.add("/f", Resource(size=SIZE), "hold", after=SIZE // 2, gate=gate)
    with daemon.client() as client:
        job = client.submit(url, directory=downloads)
        workspace = workspace_of(job)
        os.kill(worker_of(client, job.id), signal.SIGSTOP)
        assert job.cancel()
        vanished(workspace)
    gate.open()
    assert os.listdir(downloads) == []
    nothing_staged(daemon)


def test_a_waiting_job(daemon: DaemonProcess, origin: Origin, downloads: Path) -> None:
    url = origin.add("/f", Resource(size=10), "status", code=503, retry_after="3600")
    with daemon.client() as client:
        job = client.submit(url, directory=downloads)
        waiting = until(job, lambda s: s.state is State.WAITING)
        assert waiting.reason == "host_parked"
        assert waiting.not_before is not None
        assert waiting.error is not None
        assert waiting.error.code == "unavailable"
        assert job.cancel()
        assert job.state is State.CANCELLED
    nothing_staged(daemon)


def test_a_finished_job_stays_as_it_is(daemon: DaemonProcess, origin: Origin, downloads: Path) -> None:
    with daemon.client() as client:
        job = client.submit(origin.add("/f", Resource(size=10)), directory=downloads)
        path = job.result(timeout=20).path
        assert not job.cancel()
        assert job.snapshot().state is State.COMPLETED
        assert path.exists()


def test_a_killed_client_cancels_nothing(daemon: DaemonProcess, origin: Origin, downloads: Path) -> None:
    gate = origin.gate()
    url = origin.add("/f", Resource(size=SIZE, seed=4), "hold", after=10, gate=gate)
    program = (
        "import sys; from fetchd.client import Client\n"
        "client = Client(socket=sys.argv[1])\n"
        "job = client.submit(sys.argv[2], directory=sys.argv[3], id='orphan')\n"
        "print('submitted', flush=True)\n"
        "job.result()\n"
    )
    command = [sys.executable, "-c", program, daemon.endpoint.control, url, str(downloads)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"submitted\n"
        gate.wait_arrived()
        child.kill()
        child.wait()
    gate.open()
    with daemon.client() as client:
        assert sha256_file(client.get("orphan").result(timeout=20).path) == sha256_of(SIZE, 4)
