"""DaemonProcess reads the ready signal, tells failures with the log, and leaves nothing behind.

A stand-in takes the daemon's place: a few lines of Python that keep the same contract.
"""

import os
import sys
from pathlib import Path

import pytest
from support import processes
from support.daemon import DaemonProcess, StartError

STAND_IN = """
import json, os, pathlib, signal, subprocess, sys
state = pathlib.Path(os.environ["FETCHD_STATE_DIR"])
state.mkdir(exist_ok=True)
print("hello from the log", flush=True)
endpoint = dict(pid=os.getpid(), version="0", epoch="0", control="ipc://c", events="ipc://e")
(state / "endpoint.json").write_text(json.dumps(endpoint))
fd = int(sys.argv[sys.argv.index("--ready-fd") + 1])
%s
"""
RUN = """
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
read_end, write_end = os.pipe()
worker = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=read_end)
os.close(read_end)
os.write(fd, b"ready\\n")
os.close(fd)
signal.pause()
"""


def stand_in(code: str, tmp: Path, wrapper: tuple[str, ...] = ()) -> DaemonProcess:
    """A DaemonProcess that runs `code` instead of the daemon."""
    script = tmp / "stand_in.py"
    script.write_text(STAND_IN % code)
    daemon = DaemonProcess(wrapper=wrapper)
    daemon.command = [sys.executable, str(script)]
    return daemon


@pytest.mark.parametrize(
    "wrapper",
    [
        (),
        (
            sys.executable,
            "-c",
            "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:], close_fds=False).returncode)",
        ),
    ],
)
def test_life(tmp_path: Path, wrapper: tuple[str, ...]) -> None:
    with stand_in(RUN, tmp_path, wrapper) as daemon:
        daemon.start()
        first = daemon.pid
        assert daemon.endpoint.pid == first
        assert len(daemon.children()) == 1
        assert daemon.family() >= {first, daemon.children()[0].pid}
        assert daemon.terminate() == 3
        daemon.wait_all_gone()
        assert daemon.start().pid != first
        assert daemon.restart(kill=True).pid != first
        assert daemon.is_running
        assert "hello" in daemon.log()
    assert not daemon.root.exists()
    assert processes.of_state([daemon.state]) == set()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("os.write(fd, b'error: no room\\n')", "error: no room\n"),
        ("sys.exit(1)", "it ended"),
        ("1 / 0", "ZeroDivision"),
    ],
)
def test_failed_start_is_told_with_the_log(tmp_path: Path, code: str, message: str) -> None:
    with stand_in(code, tmp_path) as daemon:
        with pytest.raises(StartError, match=message) as error:
            daemon.start()
        assert "hello from the log" in str(error.value)


def test_start_that_takes_too_long(tmp_path: Path) -> None:
    with stand_in("signal.pause()", tmp_path) as daemon:
        with pytest.raises(StartError, match="ready: not within"):
            daemon.start(timeout=0.2)
        assert daemon.family() == set()


def test_settings_are_isolated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FETCHD_SOCKET", "/somewhere")
    with DaemonProcess({"FETCHD_WORKERS": "3"}) as daemon:
        assert "FETCHD_SOCKET" not in daemon.env
        assert daemon.env["FETCHD_WORKERS"] == "3"
        assert len(os.fsencode(daemon.state)) < 40
