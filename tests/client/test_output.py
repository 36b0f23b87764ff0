"""The JSON that scripts rely on, errors as people read them, and exit codes."""

import json

import msgspec
import pytest

from fetchd.client.cli import daemon, exits, output
from fetchd.client.jobs import RETRYABLE, failure
from fetchd.client.session import Event
from fetchd.protocol.errors import MEANINGS, Code, FetchdError
from fetchd.protocol.events import Progress
from fetchd.protocol.job import JobError, Reason, State
from fetchd.protocol.status import DaemonStatus, Held, WorkerStatus

from .peer import TIME, snapshot

JOB_FIELDS = (
    "id, state, reason, url, path, workspace, options, group, labels, priority, bytes, total, speed, eta,"
    " attempt, error, checksum, created, started, finished, not_before, bytes_wasted, revision"
)
STATUS_FIELDS = "pid, version, epoch, revision, state_dir, sockets, sandbox, workers, counts"
EVENT_FIELDS = "topic, epoch, seq, revision, time, type, job, data"


def test_job_json_has_the_promised_fields() -> None:
    job = snapshot("j", state=State.FAILED, error=JobError("dns", "no such host"), finished=TIME)
    fields = json.loads(json.dumps(output.job_json(job)))
    assert set(JOB_FIELDS.split(", ")) <= set(fields)
    assert fields["error"] == {"code": "dns", "message": "no such host"}
    assert (fields["finished"], fields["started"]) == ("2026-11-20T16:00:00.000000Z", None)
    assert fields["state"] == "failed"


def daemon_status() -> DaemonStatus:
    return DaemonStatus(
        pid=1, version="0", epoch="e", lineage="l", revision=2, state_dir="/s", started=TIME, draining=False,
        sockets={"control": "ipc:///c", "events": "ipc:///e"}, sandbox={}, counts={"queued": 1}, loop_p99=0.1,
        workers=[WorkerStatus(slot=0, state="idle", pid=2, job=None)],
        held=[Held(kind="daemon", name="", reason=Reason.DISK, since=TIME, detail="disk_full: no room")],
    )  # fmt: skip


def test_status_json_has_the_promised_fields() -> None:
    status = daemon_status()
    fields = json.loads(json.dumps(output.status_json(status)))
    assert set(STATUS_FIELDS.split(", ")) <= set(fields)
    assert {"slot", "pid", "job"} <= set(fields["workers"][0])
    assert fields["held"][0]["since"] == "2026-11-20T16:00:00.000000Z"


def test_the_status_tells_what_is_wrong_with_the_keys() -> None:
    assert "keys" not in dict(daemon.status_lines(daemon_status()))
    troubled = msgspec.structs.replace(daemon_status(), keys_trouble="/etc/x: line 3\x1b[2J")
    assert dict(daemon.status_lines(troubled))["keys"].startswith("not in force: /etc/x: line 3")
    assert "\x1b" not in dict(daemon.status_lines(troubled))["keys"]


def test_the_status_tells_what_is_held() -> None:
    held = [value for name, value in daemon.status_lines(daemon_status()) if name == "held"]
    assert len(held) == 1
    assert held[0].startswith("everything, disk, since ")
    assert held[0].endswith(": disk_full: no room")


def test_event_json_has_the_promised_fields() -> None:
    progress = Progress(attempt=1, bytes=2, total=None, speed=None, eta=None)
    event = Event(
        type="progress", topic="job.j.progress", epoch="e", seq=3, revision=None, time=TIME, job="j",
        data=progress,
    )  # fmt: skip
    fields = json.loads(output.json_line(output.event_json(event)))
    assert list(fields) == EVENT_FIELDS.split(", ")
    assert fields["data"]["bytes"] == 2


def test_json_on_stdout_cannot_act_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json(output.job_json(snapshot("j", path="/d/\x1b[2J\u202e")))
    shown = capsys.readouterr().out
    assert shown.replace("\n", "").isprintable()
    assert shown.isascii()


def test_errors_for_people_and_for_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    error = FetchdError(Code.EXISTS, "/d/a\x1b exists", job="j1")
    output.report(error, as_json=False)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "fetchd: j1: exists: /d/a\\x1b exists"
    assert "--if-exists" in lines[1]
    output.report(error, as_json=True)
    assert json.loads(capsys.readouterr().err) == {
        "error": {"code": "exists", "message": "/d/a\x1b exists", "job": "j1"}
    }


def test_a_refused_job_is_named_by_what_the_user_wrote(capsys: pytest.CaptureFixture[str]) -> None:
    error = FetchdError(Code.INVALID_URL, "no", job="j1", url="foo\x1b")
    output.report(error, as_json=False)
    assert capsys.readouterr().err.startswith("fetchd: foo\\x1b: invalid_url: no\n")
    assert output.error_json(error)["error"] == {
        "code": "invalid_url", "message": "no", "job": "j1", "url": "foo\x1b",
    }  # fmt: skip
    taken = FetchdError(Code.CONFLICT, "no", job="j1", url="http://h/")
    assert output.error_lines(taken)[0] == "j1: conflict: no"


@pytest.mark.parametrize(
    ("codes", "exit_code"),
    [
        ({Code.INVALID_URL, Code.UNSUPPORTED_SCHEME, Code.INVALID_CHECKSUM, Code.INVALID_ID, Code.CONFLICT,
          Code.UNSUPPORTED_FIELD, Code.INVALID_DIRECTORY, Code.INVALID_NAME, Code.BAD_REQUEST,
          Code.TOO_LARGE, Code.INVALID_COOKIES}, 2),
        ({Code.NO_DAEMON}, 3),
        ({Code.NO_SUCH_JOB}, 4),
        ({Code.WAIT_TIMEOUT}, 5),
        ({Code.CANCELLED}, 6),
        ({Code.DENIED}, 7),
    ],
)  # fmt: skip
def test_exit_codes_of_refusals(codes: set[Code], exit_code: int) -> None:
    assert {code for code in Code if exits.of_refusal(code) == exit_code} == codes


def test_every_exit_code_is_explained() -> None:
    assert {*exits.REFUSALS.values(), 0, 1, 130} == set(exits.MEANINGS)
    assert set(exits.HINTS) <= set(MEANINGS)


@pytest.mark.parametrize(
    ("states", "exit_code"),
    [([], 0), (["completed"], 0), (["completed", "cancelled"], 6), (["cancelled", "failed", "completed"], 1)],
)
def test_exit_codes_of_jobs(states: list[str], exit_code: int) -> None:
    assert exits.of_jobs(snapshot("j", state=State(state)) for state in states) == exit_code


def test_failures_as_exceptions() -> None:
    assert failure(snapshot("j", state=State.COMPLETED)) is None
    cancelled = failure(snapshot("j", state=State.CANCELLED))
    assert cancelled is not None
    assert (cancelled.code, cancelled.retryable) == (Code.CANCELLED, False)
    silent = failure(snapshot("j", state=State.FAILED))
    assert silent is not None
    assert silent.code is Code.INTERNAL
    assert Code.NOT_FOUND not in RETRYABLE


def test_columns_are_aligned() -> None:
    assert output.columns([("ID", "NAME"), ("abc", "x y")]) == "ID   NAME\nabc  x y\n"
