"""Limits of speed, warnings and what is not newer, against a scripted daemon."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.cli import Fetchd

from fetchd.client import Client
from fetchd.protocol import control
from fetchd.protocol.job import JobError, Reason, State

from .peer import TIME, Peer, snapshot
from .test_cli import begin, fetchd, interrupt
from .test_commands import jobs

__all__ = ["begin"]  # the fixture

Begin = Callable[..., subprocess.Popen[str]]
URL = "http://h/a.iso"
DIFFERS = JobError("mirror_differs", "http://m/a.iso has another\x1b file")


def test_limits_of_a_client(peer: Peer) -> None:
    jobs(peer, live=State.RUNNING, over=State.COMPLETED)
    with Client() as client:
        assert client.limits() == control.LimitsInForce(total=None, hosts={})
        assert client.limit(1 << 20).total == 1 << 20
        assert client.limit(512_000, host="h:8080").hosts == {"h:8080": 512_000}
        assert client.limit(None).total is None
        outcomes = client.limit(7, ids=[client.get("over"), "live"]).jobs
        assert [(o.id, o.code) for o in outcomes] == [("over", "too_late"), ("live", None)]
        with pytest.raises(ValueError, match="not both"):
            client.limit(1, ids=["live"], host="h")
    assert peer.asked("limit")[-1][1] == control.Limit(rate=7, ids=["over", "live"])


def test_many_jobs_are_limited_in_parts(peer: Peer) -> None:
    with Client() as client:
        made = client.submit_many([URL] * 450)
        assert [o.id for o in client.limit(1024, ids=made).jobs] == [job.id for job in made]
    assert len(peer.asked("limit")) == 3


def test_limit_on_the_command_line(peer: Peer) -> None:
    jobs(peer, abc1=State.RUNNING, over=State.COMPLETED)
    assert fetchd("limit").stdout == "everything together  no limit\n"
    assert fetchd("limit", "2M/s").stderr == "fetchd: everything together: limited to 2.0 MiB/s\n"
    assert fetchd("limit", "--host", "h", "500K").stderr == "fetchd: h: limited to 500.0 KiB/s\n"
    assert fetchd("limit").stdout.splitlines() == [
        "everything together  2.0 MiB/s", "h                    500.0 KiB/s",
    ]  # fmt: skip
    assert json.loads(fetchd("limit", "--json").stdout) == {
        "total": 2 << 20,
        "hosts": {"h": 512_000},
        "jobs": [],
    }
    assert fetchd("limit", "off", "--host", "h").stderr == "fetchd: h: no limit any more\n"
    assert fetchd("limit", "abc", "1K").stderr == "fetchd: abc1: limited to 1.0 KiB/s\n"
    done = fetchd("limit", "abc", "over", "off", "--json")
    assert done.returncode == 1
    assert [job["code"] for job in json.loads(done.stdout)["jobs"]] == [None, "too_late"]
    assert json.loads(done.stderr)["error"]["job"] == "over"
    assert fetchd("limit", "nothing", "off").returncode == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["abc1"], "'abc1' is not a rate such as 500K"),
        (["abc1", "500KB"], "'500KB' is not a rate such as 500K"),
        (["0"], "would stop it"),
        (["--host", "h"], "to what?"),
        (["abc1", "1K", "--host", "h"], "not both"),
    ],
)
def test_limits_that_are_none(peer: Peer, arguments: list[str], words: str) -> None:
    done = fetchd("limit", *arguments)
    assert (done.returncode, words in done.stderr) == (2, True)
    assert not peer.requests


def test_ids_are_completed(peer: Peer) -> None:
    jobs(peer, abc1=State.QUEUED, xyz=State.QUEUED)
    env = {"_FETCHD_COMPLETE": "bash_complete", "COMP_WORDS": "fetchd limit ab", "COMP_CWORD": "2"}
    assert fetchd(env=env).stdout == "plain,abc1\n"


def test_show_tells_what_was_asked_for_and_what_is_wrong(peer: Peer) -> None:
    peer.store.jobs["j"] = snapshot(
        "j", state=State.WAITING, reason=Reason.HOST_PARKED, not_before=TIME, warning=DIFFERS,
        options={
            "retries": 8, "name": None, "limit_rate": 512_000, "expires": TIME,
            "mirrors": ["http://m/1", "http://n/2"],
        },
    )  # fmt: skip
    lines = [line.split("  ", 1) for line in fetchd("show", "j").stdout.splitlines()]
    shown = {name: value.strip() for name, value in lines}
    assert shown["state"] == "waiting (host_parked)"
    assert "asked for a break" in shown["because"]
    assert shown["warning"] == "mirror_differs: http://m/a.iso has another\\x1b file"
    assert [value.strip() for name, value in lines if name == "mirror"] == ["http://m/1", "http://n/2"]
    assert (shown["limit"], shown["options"]) == ("500.0 KiB/s", "retries=8")
    assert shown["deadline"] == shown["goes on"] != "-"
    asked = json.loads(fetchd("show", "j", "--json").stdout)
    assert asked["warning"] == {"code": DIFFERS.code, "message": DIFFERS.message}


@pytest.mark.parametrize("mode", ["plain", "none"])
def test_a_warning_is_told_once(peer: Peer, begin: Begin, mode: str) -> None:
    process = begin("get", URL, "--id", "g1", "--progress", mode)
    peer.until(lambda: b"job.g1." in peer.subscriptions)
    peer.change("g1", State.RUNNING, attempt=1, total=10)
    peer.change("g1", State.RUNNING, warning=DIFFERS)
    peer.complete("g1")
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert [line for line in err.splitlines() if "warning" in line] == [
        "fetchd: g1: warning: mirror_differs: http://m/a.iso has another\\x1b file"
    ]


def test_a_warning_for_scripts(peer: Peer, begin: Begin) -> None:
    jobs(peer, j=State.RUNNING)
    peer.change("j", State.RUNNING, warning=DIFFERS)
    process = begin("follow", "j", "--json", "--progress", "none")
    peer.until(lambda: b"job.j." in peer.subscriptions)
    peer.complete("j")
    _, err = process.communicate(timeout=20)
    (line,) = err.splitlines()
    assert json.loads(line) == {"warning": {"code": DIFFERS.code, "message": DIFFERS.message, "job": "j"}}


def test_warnings_of_all_jobs(peer: Peer, begin: Begin) -> None:
    jobs(peer, j=State.RUNNING)
    process = begin("follow", "--progress", "none")
    peer.until(lambda: b"job." in peer.subscriptions and len(peer.asked("list")) == 1)
    peer.change("j", State.RUNNING, warning=DIFFERS)
    peer.fail("j")
    assert process.stderr is not None
    assert process.stderr.readline().startswith("fetchd: j: warning: mirror_differs")
    assert process.stderr.readline().startswith("fetchd: j: not_found")
    interrupt(process)
    assert process.wait(10) == 130


def test_what_is_not_newer_is_a_success(peer: Peer, begin: Begin) -> None:
    process = begin("get", URL, "--if-newer", "--id", "g1")
    peer.until(lambda: b"job.g1." in peer.subscriptions)
    peer.change("g1", State.COMPLETED, reason=Reason.NOT_MODIFIED, path="/d/a.iso")
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert err.splitlines()[-1] == "fetchd: g1: not modified, kept /d/a.iso"
    waited = fetchd("wait", "g1")
    assert (waited.returncode, waited.stderr) == (0, "fetchd: g1: not modified, kept /d/a.iso\n")


def test_a_password_is_asked_for_and_not_shown(peer: Peer, state: Path) -> None:
    answers = [b"SECRET\n"]

    def react(_pid: int, said: bytes) -> bytes | None:
        return answers.pop() if answers and b"Password of me" in said else None

    done = Fetchd(os.environ, state).on_terminal("add", URL, "--user", "me", react=react)
    assert (done.code, "SECRET" in done.out) == (0, False)
    ((_, body),) = peer.asked("submit")
    assert isinstance(body, control.Submit)
    assert body.jobs[0].spec.credentials == ("me", "SECRET")
