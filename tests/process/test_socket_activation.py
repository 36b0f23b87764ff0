"""Socket activation: the service manager listens, the daemon serves, and the socket outlives it."""

import os
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support.daemon import DaemonProcess, StartError
from support.origin import Origin, Resource
from support.wait import readable

from fetchd.client import Client

PASS = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.execve(sys.argv[2], sys.argv[2:], dict(os.environ, LISTEN_PID=str(os.getpid()), LISTEN_FDS="1"))
"""
"""What systemd does between fork and exec: the socket becomes descriptor 3, and the process is named."""


def give(daemon: DaemonProcess, given: socket.socket, program: str = PASS) -> None:
    """Let the daemon be started as by a service manager that has this socket."""
    daemon.pass_fds = [given.fileno()]
    daemon.command = [sys.executable, "-c", program, str(given.fileno()), *daemon.command]


def listen(daemon: DaemonProcess, given: socket.socket, name: str) -> Path:
    """Listen in the daemon's runtime directory."""
    path = daemon.state / "run" / name
    path.parent.mkdir(parents=True, mode=0o700)
    given.bind(str(path))
    given.listen(64)
    return path


def test_clients_may_come_before_the_daemon(
    daemon_made: DaemonProcess, origin: Origin, downloads: Path
) -> None:
    url = origin.add("/f", Resource(size=1000, seed=7))
    with socket.socket(socket.AF_UNIX) as given, ThreadPoolExecutor(1) as pool:
        path = listen(daemon_made, given, "control")
        give(daemon_made, given)
        with Client(socket=path, start=False) as client:
            early = pool.submit(client.submit, url, directory=downloads)
            readable(given.fileno(), 10)  # it has connected, and nobody serves yet
            daemon_made.start()
            job = early.result(30)
            assert job.result(timeout=30).path
        inode = path.stat().st_ino
        assert daemon_made.terminate() == 0
        assert path.stat().st_ino == inode, "it belongs to the service manager, and stays"
        daemon_made.start()
        with daemon_made.client() as client:
            assert client.get(job.id).snapshot().bytes == 1000
        for child in daemon_made.children():
            held = [os.readlink(f"/proc/{child.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{child.pid}/fd")]
            assert f"socket:[{os.fstat(given.fileno()).st_ino}]" not in held


def test_tcp_is_listened_at_beside_it(daemon_made: DaemonProcess) -> None:
    daemon_made.env |= {"FETCHD_LISTEN": "tcp://127.0.0.1:0", "XDG_CONFIG_HOME": str(daemon_made.root)}
    with socket.socket(socket.AF_UNIX) as given:
        path = listen(daemon_made, given, "control")
        give(daemon_made, given)
        daemon_made.start()
        with Client(socket=path) as client:
            place = urlsplit(client.status().sockets["tcp"])
        with socket.create_connection((place.hostname, place.port), 10) as peer:
            assert peer.recv(1) == b"\xff", "the greeting of ZeroMQ"
        daemon_made.terminate()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((place.hostname, place.port), 10)
        assert path.exists()


def test_descriptors_of_another_process_are_left_alone(daemon_made: DaemonProcess) -> None:
    with socket.socket(socket.AF_UNIX) as given:
        path = listen(daemon_made, given, "control")
        give(daemon_made, given, PASS.replace("os.getpid()", "1"))
        inode = path.stat().st_ino
        daemon_made.start()
        assert path.stat().st_ino != inode


@pytest.mark.parametrize("kind", ["another path", "no socket", "not listening"])
def test_what_is_not_served_is_named(daemon_made: DaemonProcess, kind: str) -> None:
    with socket.socket(socket.AF_UNIX) as given:
        program = PASS
        if kind == "another path":
            listen(daemon_made, given, "other")
        if kind == "no socket":
            program = PASS.replace("int(sys.argv[1])", "os.open('/dev/null', 0)")
        give(daemon_made, given, program)
        with pytest.raises(StartError, match=r"service manager|passed"):
            daemon_made.start()


@pytest.fixture
def daemon_made(make_daemon: type[DaemonProcess]) -> DaemonProcess:
    """A daemon that was not started yet."""
    return make_daemon()
