"""The command line as real processes, with no daemon or a scripted one."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.wait import read_line

from fetchd.client.cli.main import COMMANDS
from fetchd.protocol.control import ErrorBody
from fetchd.protocol.job import State

from .peer import Peer, snapshot

RUN = "import sys; from fetchd.client.cli.main import main; sys.exit(main())"
URL = "http://h/a.iso"


def fetchd(
    *arguments: str, text: str = "", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", RUN, *arguments], input=text, capture_output=True, text=True, timeout=30,
        env={**os.environ, **(env or {})}, check=False,
    )  # fmt: skip


@pytest.fixture
def begin() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start commands that go on; they are ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", RUN, *arguments]
        started.append(
            subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
            )
        )
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_no_daemon_is_exit_code_3(state: Path) -> None:
    for arguments in (["ls"], ["show", "x"], ["wait", "x"], ["cancel", "x"], ["get", URL], ["add", URL]):
        done = fetchd(*arguments, "--no-start")
        assert (done.returncode, done.stdout) == (3, ""), arguments
        assert done.stderr.startswith("fetchd: no_daemon: ")
    assert not (state / "start.lock").exists()


def test_errors_are_json_when_asked(state: Path) -> None:
    done = fetchd("ls", "--json", "--no-start")
    assert done.returncode == 3
    assert json.loads(done.stderr)["error"]["code"] == "no_daemon"
    done = fetchd("ls", "--json", "--nonsense")
    assert done.returncode == 2
    assert json.loads(done.stderr)["error"]["code"] == "bad_request"


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["get"], ["nonsense"], ["ls", "--state", "happy"], ["ls", "--since", "yesterday"], ["add"],
        ["get", "--header", "nocolon", URL], ["get", "--label", "=v", URL], ["wait"],
        ["wait", "x", "--timeout", "-1"],
        ["get", "-o", "x", URL, URL], ["get", "--id", "x", URL, URL], ["add", "-o", "dir/", URL],
        ["get", "--priority", "101", URL], ["help", "nonsense"], ["add", "-i", "/nonexistent/list"],
    ],
)  # fmt: skip
def test_wrong_usage_is_exit_code_2(state: Path, arguments: list[str]) -> None:
    done = fetchd(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_daemon_status_and_stop_without_a_daemon(state: Path) -> None:
    assert fetchd("daemon", "status", "--json").returncode == 3
    stopped = fetchd("daemon", "stop")
    assert (stopped.returncode, stopped.stderr) == (0, "fetchd: no daemon runs\n")
    assert not (state / "start.lock").exists()


def test_root_by_sudo_starts_no_daemon(state: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be refused for being root")
    done = fetchd("ls", env={"SUDO_UID": "1000"})
    assert done.returncode == 7
    assert "sudo -u" in done.stderr


def test_version_and_help() -> None:
    assert fetchd("--version").stdout.startswith("fetchd 0.")
    assert "130" in fetchd("help", "exit-codes").stdout
    assert "URL" in fetchd("help", "get").stdout
    for name in COMMANDS:
        assert fetchd(name, "--help").returncode == 0 if name != "daemon" else True


def test_reading_commands_import_no_rich(peer: Peer) -> None:
    probe = f"import sys\nsys.argv = ['fetchd', 'ls']\n{RUN.replace('sys.exit(main())', 'main()')}\n"
    probe += "print([m for m in sys.modules if m.split('.')[0] in ('rich', 'requests', 'psutil')])"
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.endswith("[]\n")


def test_the_thin_client_needs_no_command_line_packages() -> None:
    probe = "import sys; import fetchd.client as c; [getattr(c, n) for n in c.__all__]\n"
    probe += "print([m for m in sys.modules if m in ('click', 'rich', 'requests', 'psutil')])"
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "[]\n"


def test_add_prints_ids(peer: Peer) -> None:
    done = fetchd("add", URL, URL)
    assert done.returncode == 0
    assert sorted(done.stdout.split()) == sorted(peer.store.jobs)
    assert done.stderr == ""
    done = fetchd("add", "-", "--label", "a=b", text=f"# a list\n\n{URL}\n  {URL}  \n")
    assert len(done.stdout.split()) == 2
    done = fetchd("add", "-i", "-", "--json", text=URL)
    assert [job["state"] for job in json.loads(done.stdout)] == ["queued"]


def test_refused_input(peer: Peer) -> None:
    for code, exit_code in (("invalid_url", 2), ("path_reserved", 1), ("denied", 7), ("from_the_future", 1)):
        peer.refuse["submit"] = ErrorBody(code=code, message="because\x1b")
        done = fetchd("get", URL)
        assert done.returncode == exit_code
        assert code in done.stderr
        assert "\x1b" not in done.stderr


def test_ids_may_be_short(peer: Peer) -> None:
    for job_id in ("abc1", "abc2", "abc", "xyz"):
        peer.store.jobs[job_id] = snapshot(job_id, revision=len(peer.store.jobs) + 1)
    assert json.loads(fetchd("show", "x", "--json").stdout)["id"] == "xyz"
    assert json.loads(fetchd("show", "abc", "--json").stdout)["id"] == "abc"
    several = fetchd("show", "ab")
    assert several.returncode == 2
    assert "several" in several.stderr
    none = fetchd("cancel", "nothing")
    assert none.returncode == 4
    assert "nothing" in none.stderr
    assert fetchd("show", "a.b").returncode == 2


def test_ls(peer: Peer) -> None:
    for n in range(5):
        peer.store.jobs[f"j{n}"] = snapshot(f"j{n}", revision=n + 1, url=f"http://h/%1b[2Jx{n}")
    table = fetchd("ls")
    assert "\x1b" not in table.stdout
    assert [line.split()[0] for line in table.stdout.splitlines()] == ["ID", "j4", "j3", "j2", "j1", "j0"]
    short = fetchd("ls", "--limit", "2")
    assert len(short.stdout.splitlines()) == 3
    assert "more" in short.stderr
    assert len(json.loads(fetchd("ls", "--json").stdout)) == 5
    peer.store.jobs.clear()
    assert json.loads(fetchd("ls", "--json").stdout) == []
    assert fetchd("ls").stdout == ""


def test_wait_and_its_exit_codes(peer: Peer) -> None:
    ends = {"good": State.COMPLETED, "bad": State.FAILED, "gone": State.CANCELLED}
    for number, (name, end) in enumerate(ends.items()):
        peer.store.jobs[name] = snapshot(name, state=end, revision=number + 1)
    peer.store.jobs["live"] = snapshot("live", revision=9)
    assert fetchd("wait", "good").returncode == 0
    assert fetchd("wait", "good", "gone").returncode == 6
    assert fetchd("wait", "good", "gone", "bad").returncode == 1
    assert fetchd("wait", "live", "--timeout", "0").returncode == 5
    assert fetchd("wait", "live", "good", "--any").returncode == 0


def test_get_follows_to_the_end(peer: Peer, begin: Callable[..., subprocess.Popen[str]]) -> None:
    process = begin("get", URL, "--json", "--id", "g1", "-o", "x.iso", "-d", "/d")
    peer.until(lambda: b"job.g1." in peer.subscriptions)
    peer.change("g1", State.RUNNING, attempt=1, total=10)
    peer.complete("g1")
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert [job["path"] for job in json.loads(out)] == ["/d/g1.iso"]
    assert "fetchd: g1: completed: /d/g1.iso (10 B)" in err


def test_get_of_several(peer: Peer, begin: Callable[..., subprocess.Popen[str]]) -> None:
    process = begin("get", URL, URL, "--progress", "none")
    peer.until(lambda: len(peer.store.jobs) == 2 and len(peer.subscriptions) == 2)
    first, second = peer.store.jobs
    peer.complete(first)
    peer.fail(second)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (1, "")
    assert err.startswith(f"fetchd: {second}: not_found: ")
    assert "Traceback" not in err


def test_json_progress(peer: Peer, begin: Callable[..., subprocess.Popen[str]]) -> None:
    process = begin("get", URL, "--progress", "json", "--id", "g1")
    peer.until(lambda: b"job.g1." in peer.subscriptions)
    peer.change("g1", State.RUNNING, attempt=1)
    peer.complete("g1")
    out, err = process.communicate(timeout=20)
    events = [json.loads(line) for line in err.splitlines()]
    assert events[-1]["data"]["state"] == "completed"
    assert out == ""


def interrupt(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)


def test_ctrl_c_detaches(peer: Peer, begin: Callable[..., subprocess.Popen[str]]) -> None:
    process = begin("get", URL, "--id", "g1")
    peer.until(lambda: b"job.g1." in peer.subscriptions)
    assert process.stderr is not None
    assert read_line(process.stderr.fileno(), 10) == b"fetchd: g1: a.iso: queued\n"
    interrupt(process)
    assert b"still running as g1" in read_line(process.stderr.fileno(), 10)
    assert process.wait(20) == 130
    assert not peer.asked("cancel")


def test_ctrl_c_twice_cancels(peer: Peer, begin: Callable[..., subprocess.Popen[str]]) -> None:
    process = begin("get", URL, "--id", "g1")
    peer.until(lambda: b"job.g1." in peer.subscriptions)
    assert process.stderr is not None
    read_line(process.stderr.fileno(), 10)
    interrupt(process)
    read_line(process.stderr.fileno(), 10)
    interrupt(process)
    assert process.wait(20) == 6
    assert len(peer.asked("cancel")) == 1


def test_ctrl_c_may_cancel_at_once(peer: Peer, begin: Callable[..., subprocess.Popen[str]]) -> None:
    process = begin("get", URL, "--id", "g1", "--on-interrupt", "cancel")
    peer.until(lambda: b"job.g1." in peer.subscriptions)
    assert process.stderr is not None
    read_line(process.stderr.fileno(), 10)
    interrupt(process)
    assert process.wait(20) == 6


def test_ctrl_c_ends_wait(peer: Peer, begin: Callable[..., subprocess.Popen[str]]) -> None:
    peer.store.jobs["live"] = snapshot("live")
    process = begin("wait", "live")
    peer.until(lambda: len(peer.held) == 1)
    interrupt(process)
    assert process.wait(20) == 130
    assert not peer.asked("cancel")


def test_a_reader_that_goes_away_is_no_error(peer: Peer) -> None:
    for n in range(300):
        peer.store.jobs[f"j{n}"] = snapshot(f"j{n}", revision=n + 1, url="http://h/" + "x" * 400)
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, "ls", "--limit", "300"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(20) == -signal.SIGPIPE


def test_a_fault_shows_no_traceback(state: Path) -> None:
    (state / "endpoint.json").write_text(
        '{"pid":1,"version":"0","epoch":"e","control":"bogus:/x","events":"y"}'
    )
    done = fetchd("ls", "--no-start")
    assert done.returncode in {1, 3}
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("fetchd: ")
