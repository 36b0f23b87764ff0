"""`fetchd daemon logs`: the file of the auto-started daemon, as it grows and is put aside."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.wait import read_line

from .test_cli import begin, fetchd, interrupt

__all__ = ["begin"]  # the fixture


@pytest.fixture
def log(state: Path) -> Path:
    """A log of thirty lines."""
    path = state / "log" / "daemon.log"
    path.parent.mkdir()
    path.write_text("".join(f"line {number}\n" for number in range(30)))
    return path


def test_the_last_lines(log: Path) -> None:
    assert len(fetchd("daemon", "logs").stdout.splitlines()) == 20
    assert fetchd("daemon", "logs", "-n", "2").stdout == "line 28\nline 29\n"
    assert fetchd("daemon", "logs", "-n", "0").stdout == ""
    log.write_text("a \x1b[2J b\n")
    assert "\x1b" not in fetchd("daemon", "logs").stdout


def test_following_it_into_the_next_file(log: Path, begin: Callable[..., subprocess.Popen[str]]) -> None:
    process = begin("daemon", "logs", "-f", "-n", "1")
    assert process.stdout is not None
    out = process.stdout.fileno()
    assert read_line(out, 10) == b"line 29\n"
    with log.open("a") as file:
        file.write("more\n")
        file.flush()
        assert read_line(out, 10) == b"more\n"
        log.rename(log.with_suffix(".log.1"))
        file.write("last\n")
    log.write_text("first\n")
    assert read_line(out, 10) in {b"last\n", b"last\nfirst\n"}
    with log.open("a") as file:
        file.write("second\n")
    while b"second" not in (line := read_line(out, 10)):
        assert line in {b"first\n", b"last\n"}
    interrupt(process)
    assert process.wait(10) == 130


def test_no_log(state: Path) -> None:
    done = fetchd("daemon", "logs")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no daemon was started in the background" in done.stderr


def test_a_daemon_that_logs_elsewhere(state: Path) -> None:
    with (state / "elsewhere").open("w") as elsewhere:
        process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stderr=elsewhere)
        endpoint = {"pid": process.pid, "version": "0", "epoch": "e", "control": "ipc:///x", "events": "y"}
        (state / "endpoint.json").write_text(json.dumps(endpoint))
        done = fetchd("daemon", "logs")
        assert process.stdin is not None
        process.stdin.close()
        process.wait(10)
    assert done.returncode == 1
    assert os.fspath(state / "elsewhere") in done.stderr
