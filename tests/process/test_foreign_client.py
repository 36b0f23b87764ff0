"""SPEC.md is enough: a program that has nothing of fetchd downloads a file through a real daemon."""

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

import pytest
from support.cli import Fetchd
from support.content import sha256_file, sha256_of
from support.daemon import DaemonProcess
from support.exchange import Resource
from support.origin import Origin
from support.tmp import TempDir
from support.wait import Deadline, read_line

from fetchd.protocol import keys

PROGRAM = Path(__file__).with_name("foreign_client.py")
SIZE = 3_000_000

Run = Callable[..., "Foreign"]


class Foreign:
    """A running foreign client and what it has printed."""

    def __init__(self, env: Mapping[str, str], *args: str) -> None:
        self.lines: list[list[str]] = []
        self.process = subprocess.Popen(
            [sys.executable, "-I", str(PROGRAM), *args],
            env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0,
        )  # fmt: skip

    @property
    def output(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def read_until(self, word: str, timeout: float = 20.0) -> list[str]:
        """The next line that begins with `word`, and everything before it kept."""
        deadline = Deadline(timeout)
        while lines := read_line(self.output.fileno(), deadline.left(f"{word} after {self.lines}"), word):
            found = [line.split() for line in lines.decode().splitlines()]
            self.lines += found
            for line in found:
                if line[0] == word:
                    return line
        raise AssertionError(f"it ended without {word}: {self.lines}")

    def finish(self, timeout: float = 30.0) -> int:
        """Read the rest and return the exit status."""
        deadline = Deadline(timeout)
        while lines := read_line(self.output.fileno(), deadline.left("the end"), "the end"):
            self.lines += [line.split() for line in lines.decode().splitlines()]
        return self.process.wait(timeout)

    def said(self, word: str) -> list[list[str]]:
        return [line[1:] for line in self.lines if line[0] == word]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.output.close()


@pytest.fixture
def run() -> Iterator[Run]:
    started: list[Foreign] = []

    def start(state: Path, *args: str | Path, env: Mapping[str, str] | None = None) -> Foreign:
        started.append(Foreign(env or {"FETCHD_STATE_DIR": str(state)}, *map(str, args)))
        return started[-1]

    yield start
    for client in started:
        client.close()


def test_it_imports_nothing_of_ours() -> None:
    tree = ast.parse(PROGRAM.read_text(encoding="utf-8"))
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or "."] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        )
    }
    assert imported - sys.stdlib_module_names == {"zmq", "msgpack"}
    assert not {"importlib", "runpy", "subprocess"} & imported


def test_no_daemon(run: Run) -> None:
    with TempDir() as state:
        client = run(state, "http://127.0.0.1/", state)
        assert client.finish() == 1
        assert client.said("error")[0][0] == "no_daemon"


def test_download(run: Run, daemon: DaemonProcess, origin: Origin, downloads: Path) -> None:
    gate = origin.gate()
    url = origin.add("/a.bin", Resource(size=SIZE), "hold", after=SIZE // 2, gate=gate)
    client = run(daemon.state, url, downloads, "foreign-1")
    client.read_until("progress")
    gate.open()
    assert client.finish() == 0
    assert client.said("accepted") == [["foreign-1", "queued", "new"]]
    assert client.said("result") == [["completed", str(downloads / "a.bin")]]
    assert sha256_file(downloads / "a.bin") == sha256_of(SIZE)
    numbers = [int(line[1]) for line in client.lines if line[0] in ("event", "progress")]
    assert numbers == sorted(set(numbers))
    assert all(0 <= int(done) <= int(total) == SIZE for _, done, total in client.said("progress"))
    states = {"queued", "waiting", "running", "publishing", "completed"}
    assert {kind for _, kind, *_ in client.said("event")} <= states
    assert all(kind == state for _, kind, state, _ in client.said("event"))


def test_the_same_again_is_a_duplicate_and_another_spec_a_conflict(
    run: Run, daemon: DaemonProcess, origin: Origin, downloads: Path
) -> None:
    url = origin.add("/a.bin", Resource(size=1000))
    assert run(daemon.state, url, downloads, "foreign-1").finish() == 0
    again = run(daemon.state, url, downloads, "foreign-1")
    assert again.finish() == 0
    assert again.said("accepted") == [["foreign-1", "completed", "duplicate"]]
    other = run(daemon.state, url + "?other", downloads, "foreign-1")
    assert other.finish() == 1
    assert other.said("error")[0][0] == "conflict"
    assert len(origin.requests_for("/a.bin")) == 1


def test_a_failed_job(run: Run, daemon: DaemonProcess, origin: Origin, downloads: Path) -> None:
    client = run(daemon.state, origin.url("/nothing"), downloads)
    assert client.finish() == 1
    assert client.said("result") == [["failed", "not_found"]]


def test_a_restart_of_the_daemon_in_between(
    run: Run, daemon: DaemonProcess, origin: Origin, downloads: Path
) -> None:
    gate = origin.gate()
    url = origin.add("/a.bin", Resource(size=SIZE), "hold", after=SIZE // 2, gate=gate)
    client = run(daemon.state, url, downloads, "foreign-1")
    client.read_until("progress")
    daemon.restart(kill=True)
    gate.open()
    assert client.finish(60) == 0
    assert sha256_file(downloads / "a.bin") == sha256_of(SIZE)


def test_over_tcp(
    run: Run, make_daemon: Callable[..., DaemonProcess], origin: Origin, downloads: Path
) -> None:
    with TempDir() as home:
        daemon = make_daemon({"FETCHD_LISTEN": "tcp://127.0.0.1:0", "XDG_CONFIG_HOME": str(home)}).start()
        with daemon.client() as client:
            there = client.status().sockets
        pair = keys.write_secret(home / "foreign.key")
        far = {
            "FETCHD_SOCKET": there["tcp"], "FETCHD_SERVER_KEY": there["server_key"],
            "FETCHD_KEY": str(home / "foreign.key"),
        }  # fmt: skip
        authorize = Fetchd(daemon.env, home)("keys", "authorize", "far", pair.public)
        assert authorize.code == 0, authorize
        gate = origin.gate()
        url = origin.add("/a.bin", Resource(size=SIZE), "hold", after=SIZE // 2, gate=gate)
        client_there = run(daemon.state, url, downloads, "foreign-1", env=far)
        client_there.read_until("progress")
        gate.open()
        assert client_there.finish() == 0
        assert client_there.said("hello")[0][0] == "key:far"
        assert sha256_file(downloads / "a.bin") == sha256_of(SIZE)
