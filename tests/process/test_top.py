"""`fetchd top` of a real daemon: on a terminal, over its restart, in a pipe; and what it leaves behind."""

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import Fetchd
from support.daemon import DaemonProcess
from support.gate import Gate
from support.look import until
from support.origin import Origin, Resource
from support.terminal import ALTERNATE, HOME, NORMAL, SHOWN, Terminal

SIZE, PART = 2_000_000, 500_000
RUNS = re.compile(r"held +127\.0\.0\.1\S* +\d+ % .* \d+\.\d MiB +\d+ %$")
"""A row with what the worker takes, which was measured and pushed."""


class Stage:
    """A running daemon, its commands, and an origin."""

    def __init__(self, daemon: DaemonProcess, origin: Origin, downloads: Path) -> None:
        self.daemon = daemon
        self.origin = origin
        self.downloads = downloads
        self.run = Fetchd(daemon.env, downloads)

    def hold(self, job_id: str = "held") -> Gate:
        """A job that stands part of the way until the gate is opened."""
        gate = self.origin.gate()
        resource = Resource(size=SIZE, seed=7, etag='"e"')
        url = self.origin.add(f"/{job_id}", resource, "hold", after=PART, gate=gate)
        with self.daemon.client() as client:
            job = client.submit(url, directory=self.downloads, id=job_id)
            until(job, lambda s: s.bytes == PART)
        return gate

    def finish(self, gate: Gate, job_id: str = "held") -> None:
        gate.open()
        with self.daemon.client() as client:
            client.get(job_id).result(timeout=30)


@pytest.fixture
def stage(downloads: Path, daemon: DaemonProcess, origin: Origin) -> Iterator[Stage]:
    made = Stage(daemon, origin, downloads)
    yield made
    made.run.close()


def shows(words: str) -> "re.Pattern[str]":
    return re.compile(re.escape(words))


def sees(terminal: Terminal, pattern: "re.Pattern[str]") -> list[str]:
    """Wait until a line matches; the screen."""
    return terminal.until(lambda screen: any(map(pattern.search, screen)))


def left_tidy(terminal: Terminal) -> bool:
    """Whether the terminal is as it was, with the screen that it had before."""
    *_, last = re.findall(r"\x1b\[\?(?:1049|25)[hl]", terminal.said)
    return (
        terminal.current() == terminal.settings
        and last == NORMAL
        and terminal.said.rfind(SHOWN) > terminal.said.rfind(HOME)
    )


def test_a_download_over_a_restart_of_the_daemon(stage: Stage) -> None:
    gate = stage.hold()
    with Terminal(stage.run, "top", "--interval", "0.1") as terminal:
        sees(terminal, RUNS)
        # below it, and read in another piece perhaps
        screen = sees(terminal, re.compile("^HOST "))
        assert ALTERNATE in terminal.said
        assert terminal.current() != terminal.settings
        assert f"pid {stage.daemon.pid}" in screen[0]
        assert screen[1] == "1 running"

        terminal.resize(40, 10)
        terminal.until(lambda screen: max(map(len, screen)) <= 40 and len(screen) <= 10)
        sees(terminal, re.compile(r"^held +25 % "))
        terminal.resize(120, 30)

        stage.daemon.kill()
        sees(terminal, shows("the daemon is gone; waiting for it"))
        stage.daemon.start()
        screen = sees(terminal, shows(", restarted"))
        assert not any("gone" in line for line in screen)
        sees(terminal, RUNS)
        stage.finish(gate)
        terminal.until(lambda screen: "1 completed" in screen and not any(map(RUNS.search, screen)))
        terminal.type("xq")
        assert terminal.end() == 0
        assert left_tidy(terminal)


@pytest.mark.parametrize(
    ("keys", "number", "code"), [("\x03", None, 130), ("", signal.SIGTERM, -15), ("", signal.SIGINT, 130)]
)
def test_however_it_ends_the_terminal_is_as_it_was(
    stage: Stage, keys: str, number: int | None, code: int
) -> None:
    with Terminal(stage.run, "top") as terminal:
        sees(terminal, shows("no jobs"))
        terminal.type(keys)
        if number is not None:
            os.kill(terminal.pid, number)
        assert terminal.end() == code
        assert left_tidy(terminal)


def test_a_stopped_view_gives_the_terminal_back_and_takes_it_again(stage: Stage) -> None:
    with Terminal(stage.run, "top") as terminal:
        sees(terminal, shows("no jobs"))
        terminal.type("\x1a")
        assert os.WIFSTOPPED(os.waitpid(terminal.pid, os.WUNTRACED)[1])
        terminal.until(lambda _screen: NORMAL in terminal.said)
        assert left_tidy(terminal)
        os.kill(terminal.pid, signal.SIGCONT)
        terminal.until(lambda _screen: "no jobs" in terminal.said.rpartition(ALTERNATE)[2])
        terminal.type("q")
        assert terminal.end() == 0
        assert left_tidy(terminal)


def test_names_cannot_act_on_the_terminal(stage: Stage) -> None:
    with stage.daemon.client() as client:
        client.pause(all=True)
        evil = f"{stage.origin.url('/')}%1b%5d0;owned%07%1b%5b2Jx"
        client.submit(evil, directory=stage.downloads, id="evil")
    clean = r"\x1b]0;owned\x07\x1b[2Jx"
    with Terminal(stage.run, "top", columns=120) as terminal:
        sees(terminal, shows(clean))
        terminal.type("q")
        assert terminal.end() == 0
        assert "\x1b]" not in terminal.said
        assert "\x07" not in terminal.said
    once = stage.run("top", "--once").out
    assert clean in once
    assert once.replace("\n", "").isprintable()


def test_once_and_in_a_pipe(stage: Stage) -> None:
    gate = stage.hold()
    with stage.daemon.client() as client:
        client.pause(all=True)
        client.resume(["held"])
        client.submit(stage.origin.url("/later"), directory=stage.downloads, id="later")
    once, piped = stage.run("top", "--once"), stage.run("top")
    for done in (once, piped):
        assert (done.code, done.err) == (0, "")
        assert "\x1b" not in done.out
        assert re.search(r"^later .* paused \(user\)$", done.out, re.MULTILINE)
        assert "waiting: " in done.out
    found = stage.run("top", "--once", "--json").json()
    assert found["daemon"]["pid"] == stage.daemon.pid
    assert found["counts"]["paused"] + found["counts"]["queued"] == 2
    assert {job["id"] for job in found["next"]} == {"held", "later"}
    with Terminal(stage.run, "top", "--once", columns=60) as terminal:
        assert terminal.end() == 0
        assert ALTERNATE not in terminal.said
        assert max(map(len, terminal.said.splitlines())) <= 60
    gate.open()


def test_json_lines_follow_what_happens(stage: Stage) -> None:
    stream = stage.run.begin("top", "--json", "--interval", "0.1")
    assert stream.read()[0]["running"] == []
    gate = stage.hold()
    seen: list[dict[str, object]] = []

    def taken() -> bool:
        rows = [row for found in seen for row in found["running"]]  # type: ignore[attr-defined]
        return any(row["bytes"] == PART and (row["worker"] or {}).get("memory") for row in rows)

    while not taken():
        seen += stream.read()
    stage.finish(gate)
    while not json.loads(json.dumps(seen[-1]))["counts"]["completed"]:
        seen += stream.read()
    stream.interrupt()
    assert stream.end().code == 130


def test_without_a_daemon(stage: Stage) -> None:
    stage.daemon.terminate()
    done = stage.run("top", "--no-start")
    assert (done.code, done.out) == (3, "")
    assert "no_daemon" in done.err
    assert stage.run("top", "--interval", "0").code == 2
