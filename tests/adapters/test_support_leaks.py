"""The leak check sees every kind of leak, and is quick where there is none."""

import os
import subprocess
import sys
import threading
import timeit
from pathlib import Path

import pytest
from support import daemon as daemons
from support import leaks
from support.tmp import TempDir

HOLD = "import sys; sys.stdin.read()"
PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {HOLD!r}], stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
"""


def test_nothing_is_nothing() -> None:
    assert leaks.leaks(leaks.snapshot()) == []


def test_descriptor() -> None:
    before = leaks.snapshot()
    fd = os.open("/dev/zero", os.O_RDONLY)
    assert leaks.leaks(before) == [f"descriptor {fd} -> /dev/zero"]
    os.close(fd)


def test_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "GRACE", 0.01)
    before = leaks.snapshot()
    go_on = threading.Event()
    thread = threading.Thread(target=go_on.wait, name="forgotten")
    thread.start()
    assert leaks.leaks(before) == ["thread forgotten"]
    go_on.set()
    thread.join()


def test_child_and_grandchild_are_found_and_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "GRACE", 0.01)
    before = leaks.snapshot()
    command = [sys.executable, "-c", f"{PARENT}child.wait()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        grandchild = int(process.stdout.readline())
        found = [line for line in leaks.leaks(before) if line.startswith("process")]
        assert {int(line.split()[1]) for line in found} == {process.pid, grandchild}


def test_zombie() -> None:
    before = leaks.snapshot()
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", ""], os.environ)
    assert [line.split("(")[1].split(",")[0] for line in leaks.leaks(before)] == ["state Z"]
    assert leaks.leaks(before) == []
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, 0)


def test_orphan_of_a_daemon(downloads: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that init has adopted is known by its state directory."""
    monkeypatch.setattr(leaks, "GRACE", 0.01)
    before = leaks.snapshot()
    daemons.states.add(downloads / "state")
    env = {**os.environ, "FETCHD_STATE_DIR": str(downloads / "state")}
    read_end, write_end = os.pipe()  # held open, so that the orphan does not end by itself
    done = subprocess.run(
        [sys.executable, "-c", PARENT], stdin=read_end, stdout=subprocess.PIPE, env=env, check=True
    )
    found = [line for line in leaks.leaks(before) if line.startswith("process")]
    assert [int(line.split()[1]) for line in found] == [int(done.stdout)]
    os.close(read_end)
    os.close(write_end)


def test_temporary_directory() -> None:
    before = leaks.snapshot()
    directory = TempDir()
    assert leaks.leaks(before) == [f"temporary directory {directory.path}"]
    (directory.path / "closed").mkdir(mode=0)
    directory.close()
    assert not directory.path.exists()


def test_the_fixture_fails_a_test_that_leaks(tmp_path: Path) -> None:
    """The whole of it, in a pytest of its own with our conftest."""
    tests = Path(__file__).parents[1]
    (tmp_path / "conftest.py").write_text((tests / "conftest.py").read_text())
    (tmp_path / "test_it.py").write_text(
        "import os\ndef test_leaks():\n    os.open('/dev/zero', os.O_RDONLY)\ndef test_clean():\n    pass\n"
    )
    options = ["-q", "-p", "no:cacheprovider", "-o", f"pythonpath={tests}"]
    command = [sys.executable, "-m", "pytest", *options, str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 passed, 1 error" in done.stdout
    assert "the test left behind:\n  descriptor" in done.stdout.replace("E   ", "")


def test_it_is_quick() -> None:
    def once() -> None:
        leaks.leaks(leaks.snapshot())

    assert min(timeit.repeat(once, number=10, repeat=5)) / 10 < 0.002
