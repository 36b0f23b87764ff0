"""SIGTERM at any time: the daemon ends within its deadline and what it had is gone on with later."""

import os
import shutil
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from support.content import sha256_file, sha256_of
from support.daemon import DaemonProcess
from support.look import nothing_staged, until, worker_of
from support.origin import Origin, Resource
from support.wait import Deadline, Watch, exists, process_exit

from fetchd.client import Client, Job
from fetchd.protocol.errors import FetchdError
from fetchd.protocol.job import State

SIZE, HALF = 400_000, 150_000


class Downloads:
    """Downloads that stop at half on their first visit, and what becomes of them."""

    def __init__(self, origin: Origin, directory: Path) -> None:
        self.origin, self.directory, self.gate = origin, directory, origin.gate()
        self.names: list[str] = []

    def start(self, client: Client, count: int) -> None:
        """Have so many run, half of each on hand."""
        self.names = [f"d{n}" for n in range(count)]
        for n, name in enumerate(self.names):
            resource = Resource(size=SIZE, seed=n, etag=f'"{n}"')
            url = self.origin.add(f"/{name}", resource, "hold", times=1, after=HALF, gate=self.gate)
            client.submit(url, directory=self.directory, id=name)
        for name in self.names:
            until(client.get(name), lambda s: s.bytes == HALF, 30)

    def complete(self, daemon: DaemonProcess) -> None:
        """They are gone on with, no byte is fetched twice, and the files are right."""
        with daemon.client() as client:
            for n, name in enumerate(self.names):
                path = client.get(name).result(timeout=30).path
                assert sha256_file(path) == sha256_of(SIZE, n)
                asked = [request.range for request in self.origin.requests_for(f"/{name}")]
                assert asked == [None, f"bytes={HALF}-"]
        self.gate.open()
        nothing_staged(daemon)


@pytest.fixture
def running(origin: Origin, downloads: Path) -> Downloads:
    return Downloads(origin, downloads)


def rows(daemon: DaemonProcess) -> dict[str, tuple[str, int]]:
    """State and synced bytes of every live job."""
    with closing(sqlite3.connect(f"file:{daemon.state}/fetchd.db?mode=ro", uri=True)) as database:
        found = database.execute("SELECT id, state, bytes, synced FROM jobs").fetchall()
    return {name: (state, size if synced != b"\x90" else 0) for name, state, size, synced in found}


def put_right(daemon: DaemonProcess, statement: str) -> None:
    """Change the database behind the daemon's back."""
    with closing(sqlite3.connect(daemon.state / "fetchd.db", timeout=10)) as database:
        database.execute(statement)
        database.commit()


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is missing: nothing can hold up a rename")
def test_five_downloads_and_a_publish(
    make_daemon: type[DaemonProcess], origin: Origin, downloads: Path, running: Downloads
) -> None:
    target = downloads / "published"
    slow = [
        "strace", "-f", "-qq", "-o", "/dev/null", "-P", str(downloads),
        "-e", "trace=renameat2", "-e", "inject=renameat2:delay_enter=2500000",
    ]  # fmt: skip
    daemon = make_daemon(wrapper=slow).start(60)
    with daemon.client() as client:
        url = origin.add("/published", Resource(size=1000, seed=99))
        publishing = client.submit(url, directory=downloads, id="published")
        until(publishing, lambda s: s.state is State.PUBLISHING, 30)
        running.start(client, 5)
        assert len(client.status().workers) >= 5
    assert daemon.terminate(15) == 0
    assert not (daemon.state / "endpoint.json").exists()
    assert daemon.family() == set()
    left = rows(daemon)
    assert left.pop("published", ("publishing", 0))[0] == "publishing"
    assert left == dict.fromkeys(running.names, ("queued", HALF)), "all that there was is synced"
    daemon.wrapper = []
    daemon.start()
    with daemon.client() as client:
        assert client.get("published").result(timeout=30).path == target
    assert sha256_file(target) == sha256_of(1000, 99)
    assert len(origin.requests_for("/published")) == 1
    running.complete(daemon)


def test_a_worker_that_does_not_answer_is_killed_at_the_deadline(
    make_daemon: type[DaemonProcess], running: Downloads
) -> None:
    daemon = make_daemon({"FETCHD_DRAIN_TIMEOUT": "1", "FETCHD_STOP_GRACE": "0.5"}).start()
    with daemon.client() as client:
        running.start(client, 3)
        worker = worker_of(client, "d1")
        os.kill(worker, signal.SIGSTOP)
    assert daemon.terminate(15) == 0
    process_exit(worker, 5)
    left = rows(daemon)
    assert (left["d0"], left["d2"]) == (("queued", HALF), ("queued", HALF))
    # the page cache has its bytes: what was not synced is lost to a power cut only
    assert left["d1"][0] in ("queued", "running", "waiting")
    daemon.start()
    running.complete(daemon)


def test_the_second_signal_ends_it_at_once(make_daemon: type[DaemonProcess], running: Downloads) -> None:
    daemon = make_daemon({"FETCHD_DRAIN_TIMEOUT": "600"}).start()
    with daemon.client() as client:
        running.start(client, 3)
        os.kill(worker_of(client, "d0"), signal.SIGSTOP)
        with Watch(daemon.root) as watch:
            daemon.signal(signal.SIGTERM)
            watch.until(lambda: "SIGTERM: stopping" in daemon.log(), 10)
        daemon.signal(signal.SIGTERM)
        assert daemon.wait(10) == 0
    assert not (daemon.state / "endpoint.json").exists()
    daemon.wait_all_gone()
    daemon.start()
    running.complete(daemon)


@pytest.mark.parametrize("stage", ["lock", "run/control", "endpoint.json"])
def test_while_it_starts(make_daemon: type[DaemonProcess], running: Downloads, stage: str) -> None:
    """Before it listens to signals it dies of one, and that is as good as any other end."""
    daemon = make_daemon().start()
    with daemon.client() as client:
        running.start(client, 1)
    daemon.kill()
    daemon.wait_all_gone()
    (daemon.state / stage).unlink()
    with daemon.log_path.open("ab") as log:
        process = subprocess.Popen(
            daemon.command, env=daemon.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        exists(daemon.state / stage)
        process.send_signal(signal.SIGTERM)
        process_exit(process.pid, 20)
    finally:
        process.kill()
        status = process.wait()
    assert status in (0, -signal.SIGTERM)
    daemon.wait_all_gone()
    assert "Traceback" not in daemon.log()
    daemon.start()
    running.complete(daemon)


def test_while_the_database_is_in_trouble(daemon: DaemonProcess, running: Downloads, downloads: Path) -> None:
    with daemon.client() as client:
        running.start(client, 2)
    put_right(
        daemon, "CREATE TRIGGER fault BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'injected'); END"
    )
    with Client(socket=daemon.endpoint.control, timeout=0.3) as client, pytest.raises(FetchdError) as caught:
        client.submit("http://127.0.0.1:9/f", directory=downloads, id="unlucky")
    assert caught.value.code == "store_failed"
    assert daemon.terminate(15) == 0
    assert not (daemon.state / "endpoint.json").exists()
    put_right(daemon, "DROP TRIGGER fault")
    daemon.start()
    with daemon.client() as client:
        assert client.find(["unlucky"]) == {}
    running.complete(daemon)


def test_while_a_bulk_verb_is_carried_out(
    daemon: DaemonProcess, origin: Origin, downloads: Path, running: Downloads
) -> None:
    url = origin.add("/x", Resource(size=10), "stall", gate=running.gate)
    specs = [{"url": url, "directory": str(downloads), "name": f"n{n}"} for n in range(1500)]
    with daemon.client() as client:
        jobs = client.submit_many(specs)
        client.cancel(all=True)
    assert daemon.terminate(15) == 0
    daemon.start()
    with daemon.client() as client:
        ended(client, jobs)
    running.gate.open()
    assert os.listdir(downloads) == []


def ended(client: Client, jobs: list[Job]) -> None:
    """Wait until all are cancelled."""
    deadline = Deadline(30)
    for job in jobs[-1:] + jobs[:1]:
        until(client.get(job.id), lambda s: s.state is State.CANCELLED, deadline.left("the bulk verb"))
    states = {
        s.state
        for at in range(0, len(jobs), 500)
        for s in client.snapshots([j.id for j in jobs[at : at + 500]])
    }
    assert states == {State.CANCELLED}
