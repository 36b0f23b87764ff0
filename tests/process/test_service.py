"""The daemon as a service: notification, drain, trouble with the database, bad configuration."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.content import sha256_file, sha256_of
from support.daemon import DaemonProcess, StartError
from support.look import nothing_staged, until
from support.origin import Origin, Resource
from support.tmp import TempDir
from support.wait import Watch

from fetchd.client import Client
from fetchd.protocol.errors import FetchdError
from fetchd.protocol.job import State

SIZE = 6_000_000
IN_MODIFY = 2


def test_the_service_manager_is_told(make_daemon: type[DaemonProcess]) -> None:
    with TempDir() as directory, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(directory / "notify"))
        manager.settimeout(10)
        daemon = make_daemon({"NOTIFY_SOCKET": str(directory / "notify"), "WATCHDOG_USEC": "200000"}).start()
        assert manager.recv(1000).startswith(b"READY=1\n")
        assert manager.recv(1000) == b"WATCHDOG=1"
        assert daemon.terminate() == 0
        said = []
        while b"STOPPING=1" not in said:
            said.append(manager.recv(1000))


def test_the_service_manager_is_told_what_goes_on(
    make_daemon: type[DaemonProcess], origin: Origin, downloads: Path
) -> None:
    """A reload, a bad one too, has a beginning and an end (sd_notify(3)); a drain says what it waits for."""
    with TempDir() as directory, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(directory / "notify"))
        manager.settimeout(10)
        config = directory / "\udcff"
        told = f"{directory}/\\udcff"
        config.write_text("")
        daemon = make_daemon(
            {"NOTIFY_SOCKET": str(directory / "notify"), "FETCHD_CONFIG": str(config)}
        ).start()
        assert manager.recv(1000) == b"READY=1\nSTATUS=serving, 0 running, 0 queued"
        for text, status in (
            ("workers = 2", "serving, 0 running, 0 queued"),
            ("workers = 0", f"serving, 0 running, 0 queued; the configuration stays as it was: {told}: "),
        ):
            config.write_text(text)
            before = time.monotonic_ns() // 1000
            daemon.signal(signal.SIGHUP)
            begun, at = manager.recv(1000).decode().split("\n")
            assert begun == "RELOADING=1"
            assert before <= int(at.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
            assert manager.recv(1000).decode().startswith(f"READY=1\nSTATUS={status}")
        gate = origin.gate()
        url = origin.add("/f", Resource(size=SIZE), "hold", after=10, gate=gate)
        with daemon.client() as client:
            until(client.submit(url, directory=downloads), lambda s: s.bytes == 10)
        assert daemon.terminate() == 0
        said = [manager.recv(1000)]
        while said[-2:] != [b"STOPPING=1", b"STATUS=draining, 1 downloads save their progress"]:
            said.append(manager.recv(1000))
        gate.open()


def test_a_drain_keeps_the_bytes(daemon: DaemonProcess, origin: Origin, downloads: Path) -> None:
    gate = origin.gate()
    url = origin.add(
        "/f", Resource(size=SIZE, seed=5, etag='"e"'), "hold", times=1, after=SIZE // 2, gate=gate
    )
    with daemon.client() as client:
        job = client.submit(url, directory=downloads)
        until(job, lambda s: s.bytes == SIZE // 2)
    assert daemon.terminate() == 0
    gate.open()
    with sqlite3.connect(f"file:{daemon.state}/fetchd.db?mode=ro", uri=True) as database:
        assert database.execute("SELECT state, bytes FROM jobs").fetchall() == [("queued", SIZE // 2)]
    database.close()
    daemon.start()
    with daemon.client() as client:
        assert sha256_file(client.get(job.id).result(timeout=30).path) == sha256_of(SIZE, 5)
        assert client.get(job.id).snapshot().error is None
    assert [request.range for request in origin.requests] == [None, f"bytes={SIZE // 2}-"]
    nothing_staged(daemon)


def test_a_second_signal_is_immediate(
    make_daemon: type[DaemonProcess], origin: Origin, downloads: Path
) -> None:
    """A worker that does not stop holds the drain up; the second SIGTERM does not wait for it."""
    daemon = make_daemon({"FETCHD_DRAIN_TIMEOUT": "600"}).start()
    gate = origin.gate()
    url = origin.add("/f", Resource(size=SIZE), "hold", after=10, gate=gate)
    with daemon.client() as client:
        job = client.submit(url, directory=downloads)
        until(job, lambda s: s.bytes == 10)
        worker = next(w.pid for w in client.status().workers if w.job == job.id)
        assert worker is not None
        os.kill(worker, signal.SIGSTOP)
        daemon.signal(signal.SIGTERM)
        with Watch(daemon.root, mask=IN_MODIFY) as watch:
            watch.until(lambda: "SIGTERM: stopping" in daemon.log(), 10)
        with pytest.raises(FetchdError) as caught:
            client.submit(url, directory=downloads, name="n")
        assert caught.value.code == "draining"
        daemon.signal(signal.SIGTERM)
        assert daemon.wait(5.0) == 0
    gate.open()


def test_a_commit_that_fails_does_nothing(daemon: DaemonProcess, origin: Origin, downloads: Path) -> None:
    """Whoever asked is told, nobody sees what is not on disk, and the daemon goes on from the database."""
    url = origin.add("/f", Resource(size=1000, seed=6))
    fault = "CREATE TRIGGER fault BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'injected'); END"
    # the library would try again for as long as it may
    with Client(socket=daemon.endpoint.control, timeout=0.3) as client:
        client.status()
        change(daemon, fault)
        with pytest.raises(FetchdError) as caught:
            client.submit(url, directory=downloads, id="unlucky")
        assert caught.value.code == "store_failed"
    with daemon.client() as client:
        change(daemon, "DROP TRIGGER fault")
        with Watch(daemon.root, mask=IN_MODIFY) as watch:
            watch.until(lambda: "started anew from the database" in daemon.log(), 15)
        job = client.submit(url, directory=downloads, id="unlucky")
        assert not job.duplicate, "the failed submit must have left nothing"
        assert sha256_file(job.result(timeout=30).path) == sha256_of(1000, 6)
    assert "injected" in daemon.log()


def change(daemon: DaemonProcess, statement: str) -> None:
    database = sqlite3.connect(daemon.state / "fetchd.db", timeout=10)
    try:
        database.execute(statement)
        database.commit()
    finally:
        database.close()


def test_a_newer_database_is_refused(make_daemon: type[DaemonProcess]) -> None:
    daemon = make_daemon().start()
    daemon.terminate()
    change(daemon, "PRAGMA user_version = 99")
    with pytest.raises(StartError, match="schema 99"):
        daemon.start()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("FETCHD_WORKERS", "0", "workers"), ("FETCHD_WORKERS", "many", "workers"),
     ("FETCHD_UNHEARD", "1", "no such"), ("FETCHD_LOG_LEVEL", "loud", "log_level"),
     ("FETCHD_CA_BUNDLE", "/nope", "CA bundle"), ("FETCHD_CA_BUNDLE", "/\udcff", r"/\\udcff is not")],
)  # fmt: skip
def test_a_bad_setting_is_named(make_daemon: type[DaemonProcess], name: str, value: str, words: str) -> None:
    with pytest.raises(StartError, match=words):
        make_daemon({name: value}).start()


def test_a_state_directory_that_cannot_be_told(make_daemon: type[DaemonProcess], downloads: Path) -> None:
    """Messages are UTF-8, and a daemon that cannot answer could not even be stopped."""
    odd = downloads / "\udcff"
    daemon = make_daemon()
    daemon.env["FETCHD_STATE_DIR"] = str(odd)
    with pytest.raises(StartError, match="UTF-8"):
        daemon.start()
    assert not odd.exists()


def test_a_package_that_is_too_old_is_named(make_daemon: type[DaemonProcess]) -> None:
    daemon = make_daemon()
    old = daemon.root / "urllib3-2.7.9.dist-info"
    old.mkdir()
    old.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: urllib3\nVersion: 2.7.9\n")
    daemon.env["PYTHONPATH"] = str(daemon.root)
    with pytest.raises(StartError, match=r"urllib3 is 2\.7\.9, and 2\.8\.0 or newer is needed"):
        daemon.start()
    assert not daemon.state.exists(), "nothing is touched"
    verdict = ["-m", "fetchd.daemon", "doctor"]
    done = subprocess.run(
        [sys.executable, *verdict], env=daemon.env, capture_output=True, text=True, check=False
    )
    assert "fail  urllib3: 2.7.9; 2.8.0 is needed" in done.stdout, "the doctor says the same"


def test_a_bad_file_is_named(daemon: DaemonProcess) -> None:
    path = daemon.root / "fetchd.toml"
    for text, words in (
        ("workers = ", "Invalid value"),
        ("nonsense = 1", "nonsense"),
        ("workers = '3'", "workers"),
    ):
        path.write_text(text)
        command = [sys.executable, "-m", "fetchd.daemon", "run", "--config", str(path)]
        found = subprocess.run(
            command, check=False, capture_output=True, text=True, env=daemon.env, timeout=20
        )
        assert found.returncode == 1
        assert words in found.stderr
        assert "Traceback" not in found.stderr


def test_a_waiting_job_waits_on_after_a_restart(
    daemon: DaemonProcess, origin: Origin, downloads: Path
) -> None:
    url = origin.add("/f", Resource(size=10), "status", times=1, code=503, retry_after="3600")
    with daemon.client() as client:
        job = client.submit(url, directory=downloads)
        before = until(job, lambda s: s.state is State.WAITING)
    daemon.restart(kill=True)
    with daemon.client() as client:
        after = client.get(job.id).snapshot()
        assert after.state is State.WAITING
        assert after.not_before is not None
        assert before.not_before is not None
        # told from two clocks, which are not read at one moment
        assert abs(after.not_before - before.not_before) < 60_000_000
    assert len(origin.requests) == 1
