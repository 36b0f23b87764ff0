"""The daemon that a command starts: it comes up by itself, logs to a file that is rotated, and is stopped."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import processes
from support.cli import Fetchd
from support.origin import Origin, Resource
from support.tmp import TempDir

from fetchd.protocol.paths import read_endpoint


@pytest.fixture
def fetchd(downloads: Path) -> Iterator[Fetchd]:
    """Commands of a user without a daemon; one that they start is ended with the test."""
    with TempDir() as directory:
        state = directory / "state"
        env = {key: value for key, value in os.environ.items() if key[:7] != "FETCHD_" and key != "SUDO_UID"}
        made = Fetchd({**env, "FETCHD_STATE_DIR": str(state)}, downloads)
        yield made
        made.close()
        family = processes.of_state([state])
        made("daemon", "stop")
        left = processes.await_end(family | processes.of_state([state]), 10)
        processes.kill(left)
        assert not left


def state_of(fetchd: Fetchd) -> Path:
    return Path(fetchd.env["FETCHD_STATE_DIR"])


def test_a_command_starts_the_daemon(fetchd: Fetchd, origin: Origin, downloads: Path) -> None:
    for arguments in (["daemon", "status"], ["ls", "--no-start"]):
        assert fetchd(*arguments).code == 3
    for arguments in (["doctor"], ["config", "show"], ["help", "exit-codes"], ["completion", "bash"]):
        assert fetchd(*arguments).code == 0, arguments
    assert not (state_of(fetchd) / "start.lock").exists()
    done = fetchd("get", origin.add("/f", Resource(size=10)))
    assert done.code == 0, done
    assert "started the daemon (pid " in done.err
    assert (downloads / "f").stat().st_size == 10
    assert "started" not in fetchd("stats").err
    logs = fetchd("daemon", "logs")
    assert logs.code == 0
    assert "ready: fetchd" in logs.out
    assert "stopped the daemon" in fetchd("daemon", "stop").err
    assert "stopped" in fetchd("daemon", "logs", "-n", "1").out
    again = fetchd("wait", fetchd("ls", "--json").json()[0]["id"])
    assert again.code == 0


def test_it_is_no_part_of_the_service_that_starts_it(fetchd: Fetchd, downloads: Path) -> None:
    """What the client's service manager hears of a daemon would be taken for the client's own."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(downloads / "notify"))
        fetchd.env["NOTIFY_SOCKET"] = str(downloads / "notify")
        assert fetchd("daemon", "start").code == 0
        assert fetchd("daemon", "stop").code == 0
        with pytest.raises(BlockingIOError):
            manager.recv(4096, socket.MSG_DONTWAIT)


def test_a_log_that_has_grown_is_put_aside(fetchd: Fetchd) -> None:
    log = state_of(fetchd) / "log" / "daemon.log"
    log.parent.mkdir(parents=True, mode=0o700)
    log.write_text("x" * 5_000_100 + "\n")
    assert fetchd("daemon", "start").code == 0
    assert log.with_name("daemon.log.1").stat().st_size > 5_000_000
    assert log.stat().st_size < 10_000
    assert log.stat().st_mode & 0o077 == 0
    assert "ready: fetchd" in fetchd("daemon", "logs").out
    endpoint = read_endpoint(state_of(fetchd))
    assert endpoint is not None
    for descriptor in (1, 2):
        assert Path(f"/proc/{endpoint.pid}/fd/{descriptor}").readlink() == log


def test_two_commands_start_one_daemon(fetchd: Fetchd) -> None:
    both = [fetchd.begin("daemon", "start") for _ in range(3)]
    said = [command.end().err for command in both]
    assert sum("started the daemon" in text for text in said) == 1
    assert sum("runs already" in text for text in said) == 2
