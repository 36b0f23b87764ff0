"""Waits end by what they wait for, or by their deadline."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support import processes, wait
from support.net import refused_port, silent_port


def test_file_appears_below_directories_that_do_not_exist_yet(downloads: Path) -> None:
    path = downloads / "a" / "b" / "f"

    def make() -> None:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")

    maker = threading.Thread(target=make)
    maker.start()
    wait.exists(path)
    maker.join()
    remover = threading.Thread(target=path.unlink)
    remover.start()
    wait.vanished(path)
    remover.join()


def test_deadlines(downloads: Path) -> None:
    (downloads / "f").touch()
    with pytest.raises(TimeoutError, match="to vanish"):
        wait.vanished(downloads / "f", 0.01)
    with pytest.raises(TimeoutError, match="to appear"):
        wait.exists(downloads / "g", 0.01)
    with pytest.raises(TimeoutError, match=str(os.getpid())):
        wait.process_exit(os.getpid(), 0.01)


def test_watch_sees_names_and_conditions(downloads: Path) -> None:
    with wait.Watch(downloads, mask=wait.IN_MOVED_TO) as watch:
        (downloads / "part").write_bytes(b"x")
        (downloads / "part").rename(downloads / "final")
        assert watch.next(10) == [(wait.IN_MOVED_TO, "final")]
        watch.until((downloads / "final").exists, 10)
    with pytest.raises(FileNotFoundError):
        wait.Watch(downloads / "nothing")


def test_process_exit_does_not_reap() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        wait.process_exit(process.pid, 10)
        assert not processes.is_alive(process.pid)
        assert process.pid in processes.descendants()
    wait.process_exit(process.pid, 10)


def test_read_line() -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, b"ready\n")
    assert wait.read_line(read_end, 10) == b"ready\n"
    with pytest.raises(TimeoutError):
        wait.read_line(read_end, 0.01)
    os.close(write_end)
    assert wait.read_line(read_end, 10) == b""
    os.close(read_end)


@pytest.mark.parametrize("how", ["environment", "command", "lock"])
def test_processes_of_a_state_directory(downloads: Path, how: str) -> None:
    state = downloads / "state"
    state.mkdir()
    code = "import sys, signal; print(flush=True); signal.pause()"
    env = dict(os.environ)
    argument = ""
    if how == "environment":
        env["FETCHD_STATE_DIR"] = str(state)
    elif how == "command":
        argument = str(state / "x")
    else:
        (downloads / "link").symlink_to(state)
        code = f"f = open({str(downloads / 'link')!r} + '/workers.lock', 'w'); {code}"
    command = [sys.executable, "-c", code, argument]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        assert processes.of_state([state]) == {process.pid}
        assert processes.of_state([downloads / "stat"]) == set()
        assert "signal.pause" in processes.describe(process.pid)
        process.send_signal(signal.SIGKILL)
    assert processes.of_state([state]) == set()


def test_ports_that_fail() -> None:
    import socket

    with refused_port() as port, pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 10)
    with silent_port() as port, socket.create_connection(("127.0.0.1", port), 10) as silent:
        silent.settimeout(0.01)
        with pytest.raises(TimeoutError):
            silent.recv(1)
