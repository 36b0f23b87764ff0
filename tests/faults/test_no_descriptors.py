"""A supervisor without descriptors: jobs wait and complete, none fails, even if the process does not last."""

import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from support.content import sha256_file, sha256_of
from support.daemon import DaemonProcess
from support.look import worker_of
from support.origin import Origin, Resource
from support.wait import Deadline, process_exit

from fetchd.client import Client
from fetchd.protocol.events import Metrics
from fetchd.protocol.job import JobSnapshot, State

SIZE = 100_000


@contextmanager
def starved(daemon: DaemonProcess) -> Iterator[None]:
    """What the supervisor has open goes on working; nothing can be opened."""
    supervisor = psutil.Process(daemon.pid)
    before = supervisor.rlimit(resource.RLIMIT_NOFILE)
    used = {int(name) for name in os.listdir(f"/proc/{daemon.pid}/fd")}
    # poll(2) refuses to watch more than the limit, so 0 would be something else
    unused = next(number for number in range(before[1]) if number not in used)
    supervisor.rlimit(resource.RLIMIT_NOFILE, (unused, before[1]))
    try:
        yield
    finally:
        if supervisor.is_running():
            supervisor.rlimit(resource.RLIMIT_NOFILE, before)


class Seen:
    """The events of a job, watched from now on: later a new connection could not be taken, and one is there
    once something has come that nobody asked for."""

    def __init__(self, client: Client, job: str) -> None:
        self._job = job
        self._events = client.events(metrics=True)
        next(event for event in self._events if isinstance(event.data, Metrics))

    def until(self, wanted: Callable[[JobSnapshot], bool], timeout: float = 60.0) -> None:
        deadline = Deadline(timeout)
        for event in self._events:
            deadline.left("the job to be as wanted")
            if event.snapshot is not None and event.snapshot.id == self._job and wanted(event.snapshot):
                return
        raise AssertionError("the job ended otherwise")


def submit(client: Client, origin: Origin, downloads: Path, count: int) -> list[str]:
    specs = [
        {"url": origin.add(f"/f{n}", Resource(size=SIZE, seed=n)), "directory": str(downloads), "id": f"f{n}"}
        for n in range(count)
    ]
    return [job.id for job in client.submit_many(specs)]


def delivered(client: Client, ids: list[str], downloads: Path) -> None:
    for number, name in enumerate(ids):
        job = client.get(name)
        if job.snapshot().state is State.WAITING:
            # it would go on by itself within a minute
            job.retry()
        assert sha256_file(job.result(timeout=90).path) == sha256_of(SIZE, number)
        assert [event for event in (job.snapshot().error,) if event is not None] == []


def test_jobs_wait_for_descriptors(make_daemon: type[DaemonProcess], origin: Origin, downloads: Path) -> None:
    """Its workers finish and die meanwhile: their files cannot be sealed, and no other worker comes."""
    daemon = make_daemon({"FETCHD_WORKERS": "1"}).start()
    gate = origin.gate()
    with daemon.client() as client:
        url = origin.add("/held", Resource(size=SIZE, seed=99), "hold", times=1, after=SIZE // 2, gate=gate)
        held = client.submit(url, directory=downloads, id="held")
        gate.wait_arrived()
        ids = submit(client, origin, downloads, 8)
        seen = Seen(client, ids[0])
        with starved(daemon):
            gate.open()
            seen.until(lambda s: s.error is not None and s.error.code == "exhausted")
        delivered(client, ids, downloads)
        assert sha256_file(held.result(timeout=90).path) == sha256_of(SIZE, 99)


def test_workers_that_cannot_be_replaced(daemon: DaemonProcess, origin: Origin, downloads: Path) -> None:
    gate = origin.gate()
    with daemon.client() as client:
        url = origin.add("/held", Resource(size=SIZE, seed=99), "hold", times=1, after=SIZE // 2, gate=gate)
        held = client.submit(url, directory=downloads, id="held")
        gate.wait_arrived()
        worker = worker_of(client, "held")
        seen = Seen(client, held.id)
        with starved(daemon):
            os.kill(worker, signal.SIGKILL)
            process_exit(worker, 10)
            seen.until(lambda s: s.state is not State.RUNNING)
        gate.open()
        assert sha256_file(held.result(timeout=90).path) == sha256_of(SIZE, 99)


def test_a_client_that_comes_without_descriptors(
    daemon: DaemonProcess, origin: Origin, downloads: Path
) -> None:
    """libzmq ends the process that cannot accept on a Unix socket: that loses nothing."""
    gate = origin.gate()
    with daemon.client() as client:
        url = origin.add("/held", Resource(size=SIZE, seed=99), "hold", times=1, after=SIZE // 2, gate=gate)
        client.submit(url, directory=downloads, id="held")
        gate.wait_arrived()
        submit(client, origin, downloads, 4)
    pid = daemon.pid
    path = daemon.endpoint.control.removeprefix("ipc://")
    with starved(daemon), socket.socket(socket.AF_UNIX) as visitor:
        visitor.connect(path)
        try:
            # it cannot answer; what it does instead is up to the library
            process_exit(pid, 5)
            ended = True
        except TimeoutError:
            ended = False
    gate.open()
    if ended:
        daemon.wait()
        daemon.wait_all_gone()
        daemon.start()
    with daemon.client() as client:
        delivered(client, [f"f{n}" for n in range(4)], downloads)
        assert sha256_file(client.get("held").result(timeout=90).path) == sha256_of(SIZE, 99)
