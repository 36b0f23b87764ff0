"""Verbs, totals, workspaces, streams and tools on the command line, against a scripted daemon or none."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.cli import COMMAND, Done, Fetchd
from support.wait import read_line

from fetchd.protocol import control
from fetchd.protocol.control import ErrorBody
from fetchd.protocol.job import State

from .peer import Peer, snapshot
from .test_cli import begin, fetchd, interrupt

__all__ = ["begin"]  # the fixture

Begin = Callable[..., subprocess.Popen[str]]


def jobs(peer: Peer, **states: State) -> None:
    for number, (job_id, state) in enumerate(states.items()):
        peer.store.jobs[job_id] = snapshot(job_id, state=state, revision=number + 1)
    peer.store.revision = len(states)


def test_verbs_take_short_ids(peer: Peer) -> None:
    jobs(peer, abc1=State.QUEUED, abd2=State.QUEUED)
    for verb, word in (("pause", "paused"), ("resume", "resumed"), ("cancel", "cancelled")):
        done = fetchd(verb, "abc", "abd")
        assert (done.returncode, done.stdout) == (0, "")
        assert done.stderr == f"fetchd: abc1: {word}\nfetchd: abd2: {word}\n"
    assert fetchd("retry", "abc").stderr == "fetchd: abc1: queued again\n"
    assert fetchd("rm", "abc").stderr == "fetchd: abc1: removed\n"
    assert list(peer.store.jobs) == ["abd2"]
    several = fetchd("pause", "abd", "nothing")
    assert several.returncode == 4
    assert "pause" in several.args


def test_verbs_say_what_had_no_effect(peer: Peer) -> None:
    jobs(peer, live=State.RUNNING, over=State.COMPLETED)
    done = fetchd("pause", "over", "live", "--json")
    assert done.returncode == 1
    assert [(o["id"], o["state"], o["code"]) for o in json.loads(done.stdout)] == [
        ("over", "completed", "too_late"), ("live", "paused", None),
    ]  # fmt: skip
    error = json.loads(done.stderr)["error"]
    assert (error["code"], error["job"], error["message"]) == (
        "too_late",
        "over",
        "the job is completed already",
    )


def test_bulk_verbs(peer: Peer) -> None:
    for arguments in (["pause"], ["resume"], ["cancel"], ["retry"], ["rm"]):
        done = fetchd(*arguments, "--all")  # no terminal: nothing is asked
        assert (done.returncode, done.stdout) == (0, "")
        assert done.stderr.count("\n") == 1
    assert "failed" in fetchd("retry", "--failed").stderr
    assert json.loads(fetchd("rm", "--failed", "--json").stdout) == []
    sent = [body for _, _, body in peer.requests if isinstance(body, control.Verb)]
    assert [type(body).__name__ for body in sent[:5]] == ["Pause", "Resume", "Cancel", "Retry", "Remove"]
    assert all(body.all for body in sent)
    assert [body.failed for body in sent] == [False] * 5 + [True] * 2


@pytest.mark.parametrize(
    "arguments",
    [["pause"], ["rm"], ["pause", "x", "--all"], ["retry", "x", "--failed"], ["cancel", "--failed"],
     ["pause", "--failed"], ["events", "--no-follow"], ["events", "--since", "-1"], ["workspace", "clean"],
     ["workspace", "path", "x", "../y"], ["workspace", "path", "x", "/etc"], ["completion", "tcsh"],
     ["workspace", "clean", "--older-than", "soon"], ["config"], ["get", "--keep-partial=yes", "http://h/a"]],
)  # fmt: skip
def test_wrong_usage(peer: Peer, arguments: list[str]) -> None:
    done = fetchd(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert not peer.requests


@pytest.mark.parametrize("verb", ["cancel", "rm"])
def test_destroying_everything_is_asked_for_on_a_terminal(peer: Peer, state: Path, verb: str) -> None:
    run = Fetchd(os.environ, state)

    def answering(text: bytes) -> Done:
        """The command's end, once its question has been answered so."""
        answers = [text]

        def react(_pid: int, said: bytes) -> bytes | None:
            return answers.pop() if answers and b"[y/N]" in said else None

        return run.on_terminal(verb, "--all", react=react)

    refused = answering(b"n\n")
    assert (refused.code, "nothing was done" in refused.out) == (1, True)
    assert not [body for _, _, body in peer.requests if isinstance(body, control.Verb)]
    assert answering(b"y\n").code == 0
    unasked = run.on_terminal(verb, "--all", "--yes")
    assert (unasked.code, "[y/N]" in unasked.out) == (0, False)
    assert len([body for _, _, body in peer.requests if isinstance(body, control.Verb)]) == 2


def test_stats(peer: Peer) -> None:
    found = json.loads(fetchd("stats", "--json").stdout)
    assert found["slots"] == {"total": 5, "free": 4}
    assert {"active", "pending", "success_rate", "bytes", "speed"} <= found.keys()
    lines = dict(line.split("  ", 1) for line in fetchd("stats").stdout.splitlines())
    assert lines["workers"].strip() == "1 of 5 busy"


def test_workspaces(peer: Peer) -> None:
    assert [info["job"] for info in json.loads(fetchd("workspace", "ls", "--json").stdout)] == [
        "abd2",
        "abc1",
    ]
    assert "orphan" in fetchd("workspace", "ls").stdout
    assert fetchd("workspace", "path", "abc").stdout == "/s/jobs/abc1\n"
    assert fetchd("workspace", "path", "abc", "data").stdout == "/s/jobs/abc1/data\n"
    assert fetchd("workspace", "path", "ab").returncode == 2
    assert fetchd("workspace", "path", "x").returncode == 4
    cleaned = fetchd("workspace", "clean", "abd", "--older-than", "7d")
    assert (cleaned.returncode, cleaned.stderr) == (0, "fetchd: abd2: workspace deleted\n")
    assert peer.asked("clean")[0][1] == control.Clean(ids=["abd2"], older_than=7 * 86400.0)


def test_reload(peer: Peer) -> None:
    assert json.loads(fetchd("daemon", "reload", "--json").stdout) == {
        "live": ["workers"], "next_worker": [], "restart": ["socket"],
    }  # fmt: skip
    assert fetchd("daemon", "reload").stdout.splitlines() == [
        "in force now     workers", "after a restart  socket",
    ]  # fmt: skip


def test_events_of_the_past(peer: Peer) -> None:
    jobs(peer, j=State.QUEUED)
    for _ in range(3):
        peer.change("j", State.RUNNING, publish=False)
    done = fetchd("events", "--since", "2", "--no-follow")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["revision"] for line in lines] == [3, 4]
    assert all(
        line.keys() == {"topic", "epoch", "seq", "revision", "time", "type", "job", "data"} for line in lines
    )
    assert lines[0]["data"]["id"] == "j"
    peer.refuse["events"] = ErrorBody(code="history_gone", message="events that old are not kept")
    gone = fetchd("events", "--since", "1")
    assert gone.returncode == 1
    assert gone.stderr.startswith("fetchd: history_gone: ")
    assert "hint" in gone.stderr


def test_events_as_they_come(peer: Peer, begin: Begin) -> None:
    jobs(peer, j=State.QUEUED)
    process = begin("events")
    peer.until(lambda: b"job." in peer.subscriptions and len(peer.asked("events")) == 1)
    assert process.stdout is not None
    peer.change("j", State.RUNNING)
    peer.heartbeat()
    assert json.loads(read_line(process.stdout.fileno(), 10))["type"] == "running"
    interrupt(process)
    assert process.wait(10) == 130


def test_follow_ends_with_the_result(peer: Peer, begin: Begin) -> None:
    jobs(peer, good=State.RUNNING, over=State.COMPLETED)
    process = begin("follow", "go", "over", "--progress", "plain", "--json")
    peer.until(lambda: b"job.good." in peer.subscriptions)
    peer.fail("good")
    out, err = process.communicate(timeout=10)
    assert process.returncode == 1
    assert sorted(job["state"] for job in json.loads(out)) == ["completed", "failed"]
    assert "fetchd: over: completed" in err


def test_ctrl_c_leaves_follow_at_once(peer: Peer, begin: Begin) -> None:
    jobs(peer, j=State.RUNNING)
    process = begin("follow", "j")
    assert process.stderr is not None
    assert b"j.iso: running" in read_line(process.stderr.fileno(), 10)
    interrupt(process)
    assert process.wait(10) == 130
    assert not peer.asked("cancel")
    assert "still running: j" in process.stderr.read()


def test_follow_everything(peer: Peer, begin: Begin) -> None:
    jobs(peer, old=State.COMPLETED, first=State.RUNNING)
    process = begin("follow", "--progress", "plain", "--json")
    assert process.stderr is not None
    assert b"first: first.iso: running" in read_line(process.stderr.fileno(), 10)
    peer.store.jobs["second"] = snapshot("second", revision=2)
    peer.change("second", State.RUNNING, publish=False)
    peer.heartbeat()
    assert b"second: second.iso: running" in read_line(process.stderr.fileno(), 10)
    peer.complete("first", publish=False)
    peer.heartbeat()
    assert b"first: completed: /d/first.iso" in read_line(process.stderr.fileno(), 10)
    interrupt(process)
    out, _ = process.communicate(timeout=10)
    assert process.returncode == 130
    assert [job["id"] for job in json.loads(out)] == ["first"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(peer: Peer, shell: str) -> None:
    done = fetchd("completion", shell)
    assert done.returncode == 0
    assert "_FETCHD_COMPLETE" in done.stdout
    jobs(peer, abc1=State.QUEUED, xyz=State.QUEUED)
    env = {"_FETCHD_COMPLETE": "bash_complete", "COMP_WORDS": "fetchd pause ab", "COMP_CWORD": "2"}
    assert fetchd(env=env).stdout == "plain,abc1\n"


def test_completion_starts_nothing(state: Path) -> None:
    env = {"_FETCHD_COMPLETE": "bash_complete", "COMP_WORDS": "fetchd pause ab", "COMP_CWORD": "2"}
    done = fetchd(env=env)
    assert (done.stdout, done.stderr) == ("\n", "")
    assert not (state / "start.lock").exists()


def test_config_and_doctor_need_no_daemon(state: Path) -> None:
    file = state / "f.toml"
    file.write_text("workers = 3\n")
    env = {"FETCHD_CONFIG": str(file), "FETCHD_READ_TIMEOUT": "5"}
    found = {s["key"]: s for s in json.loads(fetchd("config", "show", "--json", env=env).stdout)}
    assert (found["workers"]["value"], found["workers"]["source"], found["workers"]["where"]) == (
        3, "file", str(file),
    )  # fmt: skip
    assert (found["read_timeout"]["value"], found["read_timeout"]["where"]) == (5.0, "FETCHD_READ_TIMEOUT")
    assert found["log_level"]["source"] == "default"
    assert "workers" in fetchd("config", "show", env=env).stdout
    assert "Downloads at once" not in fetchd("config", "show", env=env).stdout
    assert "Downloads at once" in fetchd("config", "show", "--describe", env=env).stdout
    assert found["min_free"]["description"].endswith(
        "Default: 256 MiB, or 1 % of the file system if that is less."
    )
    bad = fetchd("config", "show", env={"FETCHD_WORKERS": "none"})
    assert bad.returncode == 1
    assert "Traceback" not in bad.stderr
    checked = json.loads(fetchd("doctor", "--json", env=env).stdout)
    assert {"check", "level", "message", "advice"} == checked[0].keys()
    assert not (state / "start.lock").exists()


def test_every_command_has_help() -> None:
    for command in (
        ["workspace", "clean"], ["daemon", "logs"], ["daemon", "reload"], ["config", "show"], ["events"],
        ["follow"], ["rm"], ["daemon", "run"],
    ):  # fmt: skip
        done = fetchd(*command, "--help")
        assert done.returncode == 0
        assert done.stdout.startswith(f"Usage: fetchd {' '.join(command)} ")
        assert fetchd("help", *command).stdout == done.stdout


def test_no_summary_is_cut() -> None:
    """What a list of commands says of each is a whole sentence."""
    for group in ([], ["workspace"], ["daemon"], ["config"]):
        done = fetchd(*group, "--help", env={"COLUMNS": "80"})
        commands = done.stdout.partition("Commands:\n")[2].splitlines()
        assert commands
        assert not [line for line in commands if line.endswith("...")]


def test_the_daemon_in_the_foreground_takes_its_options(state: Path) -> None:
    done = fetchd("daemon", "run", "--config", "/nowhere.toml")
    assert (done.returncode, done.stderr) == (1, "fetchd: /nowhere.toml: No such file or directory\n")
    log = state / "its.log"
    done = fetchd("daemon", "run", "--log-file", str(log), env={"FETCHD_STATE_DIR": "/dev/null"})
    assert (done.returncode, done.stderr) == (1, "")
    assert "/dev/null" in log.read_text()


def test_a_reader_that_has_gone_is_no_fault(state: Path) -> None:
    for command in (["config", "show"], ["doctor"], ["help"]):
        read, write = os.pipe()
        os.close(read)
        with os.fdopen(write, "w") as pipe:
            done = subprocess.run(
                [*COMMAND, *command], stdout=pipe, stderr=subprocess.PIPE, text=True, check=False, timeout=30
            )
        assert (done.returncode, done.stderr) == (-signal.SIGPIPE, ""), command
