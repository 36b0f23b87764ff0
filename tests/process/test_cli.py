"""Every command against a real daemon, as a user runs it: output, exit codes, JSON, Ctrl-C, a terminal."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import Done, Fetchd
from support.content import sha256_file, sha256_of
from support.daemon import DaemonProcess
from support.gate import Gate
from support.look import nothing_staged, until
from support.origin import Origin, Resource
from support.wait import Deadline

SIZE = 2_000_000
HALF = 1_000_000
JOB = {
    "id", "state", "reason", "url", "path", "workspace", "options", "group", "labels", "priority", "bytes",
    "total", "speed", "eta", "attempt", "error", "checksum", "created", "started", "finished", "not_before",
    "bytes_wasted", "revision",
}  # fmt: skip
EVENT = {"topic", "epoch", "seq", "revision", "time", "type", "job", "data"}


class Stage:
    """A running daemon, its commands, an origin, and a directory to download into."""

    def __init__(self, daemon: DaemonProcess, origin: Origin, downloads: Path) -> None:
        self.daemon = daemon
        self.origin = origin
        self.downloads = downloads
        self.run = Fetchd(daemon.env, downloads)

    def url(self, name: str = "file", size: int = 1000) -> str:
        return self.origin.add(f"/{name}", Resource(size=size, seed=7))

    def missing(self, name: str = "missing") -> str:
        return self.origin.add(f"/{name}", Resource(size=1), "status", code=404)

    def hold(self, job_id: str = "held") -> Gate:
        """A job of this ID that stands half-way until the gate is opened."""
        gate = self.origin.gate()
        resource = Resource(size=SIZE, seed=7, etag='"e"')
        url = self.origin.add(f"/{job_id}", resource, "hold", times=1, after=HALF, gate=gate)
        assert self.run("add", url, "--id", job_id).code == 0
        with self.daemon.client() as client:
            until(client.get(job_id), lambda s: s.bytes == HALF)
        return gate

    def show(self, job_id: str) -> dict[str, object]:
        found = self.run("show", job_id, "--json").json()
        assert found.keys() >= JOB
        assert isinstance(found, dict)
        return found


@pytest.fixture
def stage(downloads: Path, daemon: DaemonProcess, origin: Origin) -> Iterator[Stage]:
    made = Stage(daemon, origin, downloads)
    yield made
    made.run.close()


def refused(done: Done, code: int, words: str) -> None:
    assert done.code == code, done
    assert done.out == ""
    assert words in done.err
    assert "Traceback" not in done.err


def test_get(stage: Stage) -> None:
    done = stage.run("get", stage.url(size=SIZE), "--checksum", f"sha256:{sha256_of(SIZE, 7)}", "--json")
    assert done.code == 0, done
    (job,) = done.json()
    assert job.keys() >= JOB
    assert (job["state"], job["path"], job["bytes"]) == ("completed", str(stage.downloads / "file"), SIZE)
    assert job["created"].endswith("Z")
    assert sha256_file(stage.downloads / "file") == sha256_of(SIZE, 7)
    lines = done.err.splitlines()
    assert all(line.startswith(f"fetchd: {job['id']}: ") for line in lines)
    assert lines[-1] == f"fetchd: {job['id']}: completed: {stage.downloads}/file (1.9 MiB)"
    again = stage.run("get", stage.url(size=SIZE), "--no-keep-partial")
    refused(again, 1, ": exists: ")
    assert "hint: " in again.err
    assert stage.run("get", stage.url(size=SIZE), "--if-exists", "rename", "--progress", "none").code == 0
    refused(stage.run("get", stage.missing()), 1, ": not_found: ")
    refused(stage.run("get", "gopher://h/x"), 2, "unsupported_scheme")
    lines = stage.run("get", stage.url("other"), "--progress", "json").err.splitlines()
    assert all(json.loads(line).keys() >= EVENT for line in lines)
    nothing_staged(stage.daemon)


def test_add_ls_show_wait(stage: Stage) -> None:
    done = stage.run("add", "-", "--label", "kind=test", text=f"{stage.url('a')}\n{stage.url('b')}\n")
    ids = done.out.split()
    assert (done.code, len(ids), done.err) == (0, 2, "")
    waited = stage.run("wait", *ids, "--json")
    assert waited.code == 0
    assert [job["id"] for job in waited.json()] == ids
    listed = stage.run("ls", "--json", "--label", "kind=test", "--state", "completed").json()
    assert {job["id"] for job in listed} == set(ids)
    assert all(job.keys() >= JOB for job in listed)
    assert stage.run("ls").out.splitlines()[0].split()[:2] == ["ID", "STATE"]
    assert stage.show(ids[0][:8])["labels"] == {"kind": "test"}
    assert "completed" in stage.run("show", ids[0]).out
    refused(stage.run("show", "nothing"), 4, "no_such_job")
    (failed,) = stage.run("add", stage.missing(), "--json").json()
    refused(stage.run("wait", failed["id"]), 1, "not_found")


def test_the_same_id_is_the_same_job(stage: Stage) -> None:
    for _ in range(2):
        assert stage.run("get", stage.url(), "--id", "mine").code == 0
    refused(stage.run("add", stage.url("else"), "--id", "mine"), 2, "conflict")
    assert len(stage.origin.requests) == 1


def test_pause_and_resume(stage: Stage) -> None:
    gate = stage.hold()
    assert stage.run("wait", "held", "--timeout", "0").code == 5
    assert stage.run("pause", "hel").err == "fetchd: held: paused\n"
    assert stage.show("held")["state"] == "paused"
    assert stage.run("resume", "held").code == 0
    gate.open()
    assert stage.run("wait", "held").code == 0
    (outcome,) = json.loads(stage.run("pause", "held", "--json").out)
    assert outcome.keys() >= {"id", "state", "revision", "code"}
    refused(stage.run("pause", "held"), 1, "the job is completed already")
    assert sha256_file(stage.downloads / "held") == sha256_of(SIZE, 7)
    assert stage.origin.requests_for("/held")[-1].range == f"bytes={HALF}-"


def test_the_whole_queue(stage: Stage) -> None:
    assert "fetchd resume --all" in stage.run("pause", "--all").err
    stage.run("add", stage.url("one"), "--id", "one")
    assert stage.show("one")["state"] == "paused"
    assert stage.run("resume", "--all").code == 0
    assert stage.run("wait", "one").code == 0
    stage.hold()
    assert stage.run("cancel", "--all", "--yes").code == 0
    refused(stage.run("wait", "held"), 6, "cancelled")
    stage.run("get", stage.missing("m"), "--id", "bad")
    stage.origin.add("/m", Resource(size=10))
    with stage.daemon.client() as client, client.events() as stream:
        deadline, seen = Deadline(20), set[tuple[str | None, str]]()
        while stream.revision is None:
            stream.step(time.monotonic() + deadline.left("the present"))
        assert stage.run("retry", "--failed").code == 0
        while ("bad", "completed") not in seen:
            news = stream.step(time.monotonic() + deadline.left("the retry"))
            seen |= {(event.job, event.type) for event in news}
    assert stage.run("rm", "--all", "--yes").code == 0
    assert stage.run("stats", "--json").json().keys() >= {"intents", "active", "pending", "slots"}
    assert (stage.downloads / "one").exists(), "delivered files stay"


def test_cancel_retry_rm(stage: Stage) -> None:
    stage.hold().open()
    stage.run("wait", "held")
    refused(stage.run("cancel", "held"), 1, "too_late")
    refused(stage.run("retry", "held"), 1, "too_late")
    assert stage.run("rm", "held").err == "fetchd: held: removed\n"
    refused(stage.run("show", "held"), 4, "no_such_job")
    stage.hold("again")
    assert stage.run("cancel", "again").err == "fetchd: again: cancelled\n"
    assert stage.run("retry", "again").err == "fetchd: again: queued again\n"
    assert stage.run("wait", "again").code == 0
    refused(stage.run("pause", "nothing"), 4, "no_such_job")


def test_workspaces(stage: Stage) -> None:
    gate = stage.origin.gate()
    resource = Resource(size=SIZE, seed=7, etag='"e"')
    url = stage.origin.add("/part", resource, "cut", after=HALF)
    refused(stage.run("get", url, "--id", "part", "--retries", "0", "--keep-partial"), 1, "")
    (info,) = stage.run("workspace", "ls", "--json").json()
    assert info.keys() >= {"job", "path", "bytes", "age", "state"}
    assert (info["job"], info["state"]) == ("part", "failed")
    path = stage.run("workspace", "path", "par").out.strip()
    assert Path(path).is_dir()
    assert path == info["path"]
    assert "part" in stage.run("workspace", "ls").out
    assert stage.run("workspace", "clean", "part").code == 0
    assert stage.run("workspace", "ls", "--json").json() == []
    nothing = stage.run("workspace", "clean", "--orphans", "--older-than", "7d")
    assert (nothing.code, nothing.err) == (0, "fetchd: nothing to clean up\n")
    gate.open()
    url = stage.origin.add("/gone", resource, "cut", after=HALF)
    refused(stage.run("get", url, "--id", "gone", "--retries", "0", "--no-keep-partial"), 1, "")
    nothing_staged(stage.daemon)


def test_events(stage: Stage) -> None:
    stage.run("get", stage.url(), "--id", "one")
    done = stage.run("events", "--since", "0", "--no-follow")
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert all(line.keys() == EVENT for line in lines)
    assert [line["type"] for line in lines][-1] == "completed"
    assert lines[-1]["topic"] == "job.one.completed"
    assert lines[-1]["data"].keys() >= JOB
    assert [line["revision"] for line in lines] == list(range(1, len(lines) + 1))
    stream = stage.run.begin("events", "--since", str(len(lines)))
    stage.run("get", stage.url("two"), "--id", "two")
    seen: list[dict[str, object]] = []
    while not seen or seen[-1]["type"] != "completed":
        seen += stream.read()
    assert {event["job"] for event in seen} == {"two"}
    stream.interrupt()
    assert stream.end().code == 130


def test_the_daemon_itself(stage: Stage) -> None:
    status = stage.run("daemon", "status", "--json").json()
    assert status.keys() >= {"pid", "version", "epoch", "revision", "state_dir", "sockets", "sandbox",
                             "workers", "counts"}  # fmt: skip
    assert str(status["pid"]) in stage.run("daemon", "status").out
    assert stage.run("daemon", "start").err == f"fetchd: the daemon runs already (pid {status['pid']})\n"
    reloaded = stage.run("daemon", "reload", "--json").json()
    assert reloaded.keys() >= {"live", "next_worker", "restart"}
    assert stage.run("stats").out.startswith("active")
    elsewhere = stage.run("daemon", "logs")
    refused(elsewhere, 1, str(stage.daemon.log_path))
    doctor = stage.run("doctor", "--json").json()
    (runs,) = [finding for finding in doctor if finding["check"] == "daemon"]
    assert (runs["level"], f"pid {status['pid']}" in runs["message"]) == ("ok", True)
    stopped = stage.run("daemon", "stop")
    assert (stopped.code, stage.daemon.wait()) == (0, 0)
    refused(stage.run("daemon", "status"), 3, "no_daemon")
    refused(stage.run("ls", "--no-start"), 3, "no_daemon")


def test_ctrl_c_in_get_detaches(stage: Stage) -> None:
    gate = stage.origin.gate()
    url = stage.origin.add("/f", Resource(size=SIZE, seed=7), "hold", after=HALF, gate=gate)
    process = stage.run.begin("get", url, "--id", "g", "--progress", "plain")
    process.until("running")
    gate.wait_arrived()
    process.interrupt()
    process.until("still running as g")
    assert process.end().code == 130
    gate.open()
    assert stage.run("wait", "g").code == 0


def test_ctrl_c_twice_in_get_cancels(stage: Stage) -> None:
    gate = stage.origin.gate()
    url = stage.origin.add("/f", Resource(size=SIZE, seed=7), "hold", after=HALF, gate=gate)
    process = stage.run.begin("get", url, "--id", "g", "--progress", "plain")
    process.until("running")
    gate.wait_arrived()
    process.interrupt()
    process.until("to cancel: fetchd cancel g")
    process.until("press Ctrl-C again")
    process.interrupt()
    assert process.end().code == 6
    assert stage.show("g")["state"] == "cancelled"
    nothing_staged(stage.daemon)


def test_ctrl_c_in_follow_and_wait_leaves_the_job(stage: Stage) -> None:
    gate = stage.hold()
    follower = stage.run.begin("follow", "held", "--progress", "plain")
    follower.until("held: held: running")
    follower.interrupt()
    assert follower.end().code == 130
    waiter = stage.run.begin("wait", "held", "--timeout", "1h")
    assert stage.show("held")["state"] == "running"
    gate.open()
    assert waiter.end().code == 0


def test_bars_on_a_terminal(stage: Stage) -> None:
    gate = stage.hold("bar")

    def react(pid: int, said: bytes) -> None:
        if b"50 %" in said:
            gate.open()

    done = stage.run.on_terminal("follow", "bar", react=react)
    assert done.code == 0, done
    assert "\x1b[" in done.out
    assert "50 %" in done.out
    assert "completed" in done.out
    assert "Traceback" not in done.out
    plain = stage.run.on_terminal("get", stage.url(), "--progress", "plain")
    assert "\x1b[" not in plain.out


def test_ctrl_c_at_the_bars(stage: Stage) -> None:
    gate = stage.hold("bar")
    pressed: list[int] = []

    def react(pid: int, said: bytes) -> None:
        if b"50 %" in said and not pressed:
            pressed.append(pid)
            os.kill(pid, signal.SIGINT)

    done = stage.run.on_terminal("follow", react=react)
    assert done.code == 130, done
    assert "Traceback" not in done.out
    gate.open()
    assert stage.run("wait", "bar").code == 0


def test_what_was_asked_for_is_shown_and_secrets_are_not(stage: Stage) -> None:
    stage.run("pause", "--all")
    cookies = stage.downloads / "cookies.txt"
    cookies.write_text("h.test\tFALSE\t/\tFALSE\t0\tname\tcanary\n")
    done = stage.run(
        "add", stage.url(), "--id", "asked", "--mirror", "http://u:canary@m.test/f?token=canary",
        "--user", "me:canary", "--cookie-file", str(cookies), "--proxy", "http://u:canary@p.test:3128",
        "--segments", "4", "--limit-rate", "1M", "--deadline", "1h", "--if-newer",
    )  # fmt: skip
    assert (done.code, done.out) == (0, "asked\n"), done
    options = stage.show("asked")["options"]
    assert isinstance(options, dict)
    expected = {
        "mirrors": ["http://m.test/f?token=***"], "proxy": "http://p.test:3128", "segments": 4,
        "limit_rate": 1 << 20, "if_newer": True, "secrets": True,
    }  # fmt: skip
    assert options.items() >= expected.items()
    assert "http://m.test/f?token=***" in stage.run("show", "asked").out
    assert "canary" not in stage.run("events", "--since", "0", "--no-follow").out
    holding = {
        path.name
        for path in stage.daemon.root.rglob("*")
        if path.is_file() and b"canary" in path.read_bytes()
    }
    assert holding
    assert holding <= {"secrets.db", "secrets.db-wal"}
    refused(stage.run("add", stage.url(), "--id", "asked", "--user", "me:other"), 2, "conflict")
    refused(stage.run("add", stage.url(), "--mirror", "gopher://m.test/f"), 2, "unsupported_scheme")
