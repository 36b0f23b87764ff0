"""What `kill -9` does: nothing is lost, nothing mixed, nothing fetched again that was written."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
from support.content import sha256_file, sha256_of
from support.daemon import DaemonProcess
from support.look import nothing_staged, until, worker_of
from support.origin import Origin, Resource, Step
from support.wait import process_exit

from fetchd.client import Client
from fetchd.protocol.job import State

SIZE = 8_000_000
FIRST = 3_000_000


def held(origin: Origin, *, etag: str | None = '"v1"') -> tuple[str, object]:
    """A URL whose first visit stops after FIRST bytes until the gate opens; later ones are honest."""
    gate = origin.gate()
    url = origin.add("/f", Resource(size=SIZE, seed=7, etag=etag), "hold", times=1, after=FIRST, gate=gate)
    return url, gate


def test_a_killed_worker(daemon: DaemonProcess, origin: Origin, downloads: Path) -> None:
    url, gate = held(origin)
    with daemon.client() as client:
        job = client.submit(url, directory=downloads)
        until(job, lambda s: s.bytes == FIRST)
        os.kill(worker_of(client, job.id), signal.SIGKILL)
        result = job.result(timeout=30)
        snapshot = job.snapshot()
    gate.open()  # type: ignore[attr-defined]
    assert sha256_file(result.path) == sha256_of(SIZE, 7)
    assert snapshot.attempt == 2
    assert [request.range for request in origin.requests] == [None, f"bytes={FIRST}-"]
    nothing_staged(daemon)


def span(asked: str) -> tuple[int, int | None]:
    """First and last byte of a Range header."""
    first, _, last = asked.removeprefix("bytes=").partition("-")
    return int(first), int(last) if last else None


def test_a_killed_worker_of_several_connections(
    daemon: DaemonProcess, origin: Origin, downloads: Path
) -> None:
    """What each of them had written is where the next attempt goes on: four holes, and nothing else."""
    gate, each = origin.gate(), 300_000
    url = origin.script(
        "/f", Step(Resource(size=SIZE, seed=7), "hold", times=4, after=each, gate=gate),
        Step(Resource(size=SIZE, seed=7)),
    )  # fmt: skip
    with daemon.client() as client:
        job = client.submit(url, directory=downloads, segments=4)
        until(job, lambda s: s.bytes == 4 * each)
        os.kill(worker_of(client, job.id), signal.SIGKILL)
        result = job.result(timeout=30)
    gate.open()
    assert sha256_file(result.path) == sha256_of(SIZE, 7)
    begun = [span(request.range or "bytes=0-")[0] for request in origin.requests[:4]]
    asked = [span(request.range or "") for request in origin.requests[4:]]
    assert {start + each for start in begun} <= {start for start, _ in asked}
    # a hole is divided further where a connection has nothing to do: its beginning stays where it was
    assert not [at for at, _ in asked for start in begun if start <= at < start + each]
    nothing_staged(daemon)


def test_a_killed_supervisor_takes_everything_with_it(
    daemon: DaemonProcess, origin: Origin, downloads: Path
) -> None:
    url, gate = held(origin)
    with daemon.client() as client:
        job = client.submit(url, directory=downloads)
        until(job, lambda s: s.bytes == FIRST)
        family = daemon.family()
        assert worker_of(client, job.id) in family
    daemon.kill()
    for pid in family:
        if psutil.pid_exists(pid):
            process_exit(pid, 2.0)
    daemon.wait_all_gone(2.0)
    gate.open()  # type: ignore[attr-defined]
    daemon.start()
    with daemon.client() as client:
        assert sha256_file(client.get(job.id).result(timeout=30).path) == sha256_of(SIZE, 7)
    assert [request.range for request in origin.requests] == [None, f"bytes={FIRST}-"]
    nothing_staged(daemon)


def test_restarted_at_once_after_a_kill(daemon: DaemonProcess, origin: Origin, downloads: Path) -> None:
    url, gate = held(origin)
    with daemon.client() as client:
        job = client.submit(url, directory=downloads)
        until(job, lambda s: s.bytes == FIRST)
        daemon.restart(kill=True)
        # the same handle, over the restart: new sockets, new epoch
        result = Client(socket=daemon.endpoint.control)
        with result as again:
            assert sha256_file(again.get(job.id).result(timeout=30).path) == sha256_of(SIZE, 7)
    gate.open()  # type: ignore[attr-defined]
    assert [request.range for request in origin.requests] == [None, f"bytes={FIRST}-"]
    assert origin.requests[0].broken or origin.requests[0].sent == FIRST
    nothing_staged(daemon)


def test_result_survives_a_restart(daemon: DaemonProcess, origin: Origin, downloads: Path) -> None:
    url, gate = held(origin)
    with Client(socket=None if os.environ.get("FETCHD_SOCKET") else daemon.endpoint.control) as client:
        job = client.submit(url, directory=downloads)
        until(job, lambda s: s.bytes == FIRST)
        done: list[object] = []
        job.add_done_callback(done.append)
        daemon.restart(kill=True)
        assert sha256_file(job.result(timeout=60).path) == sha256_of(SIZE, 7)
    gate.open()  # type: ignore[attr-defined]


def test_changed_content_is_never_mixed(daemon: DaemonProcess, origin: Origin, downloads: Path) -> None:
    gate = origin.gate()
    old, new = Resource(size=SIZE, seed=1, etag='"old"'), Resource(size=SIZE, seed=2, etag='"new"')
    url = origin.script("/f", Step(old, "hold", 1, after=FIRST, gate=gate), Step(new))  # type: ignore[call-arg]
    with daemon.client() as client:
        job = client.submit(url, directory=downloads)
        until(job, lambda s: s.bytes == FIRST)
        os.kill(worker_of(client, job.id), signal.SIGKILL)
        assert sha256_file(job.result(timeout=30).path) == sha256_of(SIZE, 2)
        assert job.snapshot().bytes_wasted == FIRST
    gate.open()


def test_without_a_validator_it_starts_again(daemon: DaemonProcess, origin: Origin, downloads: Path) -> None:
    url, gate = held(origin, etag=None)
    with daemon.client() as client:
        job = client.submit(url, directory=downloads)
        until(job, lambda s: s.bytes == FIRST)
        os.kill(worker_of(client, job.id), signal.SIGKILL)
        assert sha256_file(job.result(timeout=30).path) == sha256_of(SIZE, 7)
    gate.open()  # type: ignore[attr-defined]
    assert [request.range for request in origin.requests] == [None, None]


def test_a_poison_job_is_parked(make_daemon: type[DaemonProcess], origin: Origin, downloads: Path) -> None:
    """A job whose worker dies three times is failed; another one goes on beside it."""
    daemon = make_daemon({"FETCHD_WORKERS": "2"}).start()
    gate = origin.gate()
    poison = origin.add("/p", Resource(size=10), "stall", gate=gate)
    with daemon.client() as client:
        job = client.submit(poison, directory=downloads, id="poison")
        for attempt in (1, 2, 3):
            until(job, lambda s, attempt=attempt: s.attempt == attempt and s.state is State.RUNNING, 60)
            gate.wait_arrived(attempt, 60)
            os.kill(worker_of(client, job.id), signal.SIGKILL)
        error = job.exception(timeout=30)
        assert error is not None
        assert error.code == "poisoned"
        fine = client.submit(origin.add("/ok", Resource(size=10)), directory=downloads)
        fine.result(timeout=20)
    gate.open()
    nothing_staged(daemon)


def test_the_fork_server_is_replaced(daemon: DaemonProcess, origin: Origin, downloads: Path) -> None:
    """When the fork server dies, all workers do; no job is to blame and the work goes on."""
    url, gate = held(origin)
    with daemon.client() as client:
        job = client.submit(url, directory=downloads)
        until(job, lambda s: s.bytes == FIRST)
        server = psutil.Process(worker_of(client, job.id)).ppid()
        os.kill(server, signal.SIGKILL)
        assert sha256_file(job.result(timeout=30).path) == sha256_of(SIZE, 7)
    gate.open()  # type: ignore[attr-defined]


def test_a_second_daemon_is_refused(daemon: DaemonProcess, make_daemon: type[DaemonProcess]) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "fetchd.daemon", "run"],
        check=False,
        env=daemon.env,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert second.returncode == 1
    assert "another daemon uses" in second.stderr
    assert "Traceback" not in second.stderr
    with daemon.client() as client:
        assert client.status().pid == daemon.pid
