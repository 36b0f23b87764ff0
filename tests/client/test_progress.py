"""What progress looks like without a terminal, and what Ctrl-C means when."""

import io
import json
from typing import Any

import pytest

from fetchd.client.cli.interrupt import WINDOW, Act, Interrupts
from fetchd.client.cli.progress import EVERY, JsonLines, Plain, Silent, choose
from fetchd.client.session import Event
from fetchd.protocol.job import JobError, Reason, State

from .peer import TIME, snapshot

TERMINAL = {"TERM": "xterm"}


def event(**fields: Any) -> Event:
    job = snapshot("j", total=100, path="/d/a\x1b.iso", **fields)
    return Event(
        type="x", topic="t", epoch="e", seq=1, revision=None, time=TIME, job="j", data=job, snapshot=job
    )


@pytest.mark.parametrize(
    ("mode", "terminal", "env", "chosen"),
    [
        ("auto", True, TERMINAL, "bar"),
        ("auto", False, TERMINAL, "plain"),
        ("auto", True, {**TERMINAL, "NO_COLOR": "1"}, "plain"),
        ("auto", True, {**TERMINAL, "NO_COLOR": ""}, "bar"),
        ("auto", True, {**TERMINAL, "CI": "true"}, "plain"),
        ("auto", True, {**TERMINAL, "CI": ""}, "bar"),
        ("auto", True, {"TERM": "dumb"}, "plain"),
        ("bar", False, {"CI": "1"}, "bar"),
        ("json", True, TERMINAL, "json"),
        ("none", True, TERMINAL, "none"),
    ],
)
def test_mode(mode: str, terminal: bool, env: dict[str, str], chosen: str) -> None:
    assert choose(mode, terminal=terminal, env=env) == chosen


def test_plain_lines_per_state_and_per_ten_percent() -> None:
    lines: list[str] = []
    view = Plain(lines.append)
    view.show(event(state=State.QUEUED), 0.0)
    view.show(event(state=State.QUEUED), 0.0)
    for done in range(101):
        view.show(event(state=State.RUNNING, bytes=done), 0.0)
    view.show(event(state=State.PUBLISHING, bytes=100), 0.0)
    view.show(event(state=State.COMPLETED, bytes=100), 0.0)
    assert lines[0] == "fetchd: j: a\\x1b.iso: queued"
    assert lines[1] == "fetchd: j: a\\x1b.iso: running"
    assert lines[2] == "fetchd: j: a\\x1b.iso: 10 %, 10 B of 100 B"
    assert len(lines) == 2 + 10 + 1
    assert view.tick(10 * EVERY) is None


def test_plain_lines_every_thirty_seconds() -> None:
    lines: list[str] = []
    view = Plain(lines.append)
    view.show(event(state=State.RUNNING, bytes=1), 0.0)
    assert view.tick(1.0) == EVERY
    assert len(lines) == 1
    assert view.tick(EVERY) == 2 * EVERY
    assert lines[1].endswith("1 %, 1 B of 100 B")


def test_a_retry_says_why() -> None:
    lines: list[str] = []
    error = JobError("reset", "the server\nbroke off")
    Plain(lines.append).show(event(state=State.WAITING, reason=Reason.RETRY, error=error), 0.0)
    assert lines == ["fetchd: j: a\\x1b.iso: waiting (retry), reset: the server\\nbroke off"]
    Plain(lines.append).show(event(state=State.RUNNING, error=error), 0.0)
    assert lines[1:] == ["fetchd: j: a\\x1b.iso: running"]


def test_json_lines_and_silence() -> None:
    lines: list[str] = []
    JsonLines(lines.append).show(event(state=State.RUNNING), 0.0)
    assert json.loads(lines.pop())["data"]["state"] == "running"
    silent = Silent(lines.append)
    silent.show(event(state=State.RUNNING), 0.0)
    silent.note("nice to know")
    assert lines == []
    silent.alert("must be known")
    assert lines == ["fetchd: must be known"]


def test_bars_are_drawn_and_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    from fetchd.client.cli.bars import Bars

    screen = io.StringIO()
    monkeypatch.setattr("sys.stderr", screen)
    view = Bars()
    view.show(event(state=State.RUNNING, bytes=50, speed=10.0, eta=5.0), 100.0)
    view.show(event(state=State.RUNNING, bytes=60), 100.01)
    assert view.tick(100.05) == pytest.approx(100.1)
    assert view.tick(100.2) is None
    view.alert("[red]not markup[/red]")
    view.show(event(state=State.COMPLETED, bytes=100), 101.0)
    view.close()
    assert "[red]not markup[/red]" in screen.getvalue()
    assert "a\x1b.iso" not in screen.getvalue()


def test_first_ctrl_c_detaches_after_the_window() -> None:
    interrupts = Interrupts()
    assert interrupts.pressed(10.0) is Act.ANNOUNCE
    assert not interrupts.leaving(10.0 + WINDOW - 0.1)
    assert interrupts.leaving(10.0 + WINDOW)


def test_second_ctrl_c_cancels_and_the_third_leaves() -> None:
    interrupts = Interrupts()
    interrupts.pressed(10.0)
    assert interrupts.pressed(11.0) is Act.CANCEL
    assert not interrupts.leaving(99.0)
    assert interrupts.pressed(12.0) is Act.LEAVE


def test_ctrl_c_may_cancel_at_once() -> None:
    assert Interrupts(Act.CANCEL).pressed(0.0) is Act.CANCEL
