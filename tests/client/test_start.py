"""Starting a daemon: what its first line on the pipe means, and who may."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fetchd.client import start
from fetchd.protocol.errors import Code, FetchdError

from .peer import Peer


def test_a_running_daemon_is_left_alone(peer: Peer, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_UID", raising=False)
    assert start.start_daemon(state) is None
    assert (state / "start.lock").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("written", "line"),
    [
        ("ready\n", "ready"),
        ("error: bad\n", "error: bad"),
        ("", ""),
        ("rea", "rea"),
        ("ready\nmore", "ready"),
    ],
)
def test_the_first_line(written: str, line: str) -> None:
    reader, writer = os.pipe()
    os.write(writer, written.encode())
    os.close(writer)
    try:
        assert start._first_line(reader, 0.0) == line
    finally:
        os.close(reader)


def test_no_line_in_time() -> None:
    reader, writer = os.pipe()
    try:
        assert start._first_line(reader, 0.0) is None
    finally:
        os.close(reader)
        os.close(writer)


def test_a_directory_that_cannot_be_made(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_UID", raising=False)
    (state / "file").touch()
    with pytest.raises(FetchdError, match="cannot start") as caught:
        start.start_daemon(state / "file" / "state")
    assert caught.value.code is Code.NO_DAEMON


def test_a_daemon_that_cannot_start_says_why(state: Path) -> None:
    run = "import sys; from fetchd.client.cli.main import main; sys.exit(main())"
    env = {**os.environ, "FETCHD_WORKERS": "not a number"}
    env.pop("SUDO_UID", None)
    done = subprocess.run(
        [sys.executable, "-c", run, "ls"], capture_output=True, text=True, timeout=60, env=env, check=False
    )
    assert done.returncode == 3
    assert "no_daemon: the daemon did not start: " in done.stderr or "see " in done.stderr
    assert "hint" not in done.stderr
    assert (state / "log").stat().st_mode & 0o777 == 0o700
