"""The live view: what a board makes of what it is fed with, and lines that fit any screen."""

from typing import Any

import pytest
from msgspec.structs import replace
from rich.cells import cell_len

from fetchd.client.cli.board import FEW, MOST, Board
from fetchd.client.cli.layout import draw
from fetchd.client.session import Event
from fetchd.protocol.events import Metrics, Progress, WorkerUsage
from fetchd.protocol.job import JobError, JobSnapshot, Reason, State
from fetchd.protocol.status import DaemonStatus, Held, Slots, WorkerStatus

from .peer import TIME, snapshot

NOW = TIME / 1e6 + 61
MIB = 1 << 20
SCREENS = [(40, 24), (80, 24), (200, 60), (40, 10), (80, 5), (12, 3), (1, 1)]


def status(**fields: Any) -> DaemonStatus:
    values: dict[str, Any] = {
        "pid": 4711, "version": "1.2", "epoch": "e", "lineage": "l", "revision": 2, "state_dir": "/s",
        "started": TIME, "draining": False, "sockets": {}, "sandbox": {"landlock": "on"}, "counts": {},
        "loop_p99": 0.1, "workers": [], "slots": Slots(total=5, free=3),
    }  # fmt: skip
    return DaemonStatus(**{**values, **fields})


def running(number: int, **fields: Any) -> JobSnapshot:
    values = {
        "state": State.RUNNING, "path": f"/d/f{number}.iso", "url": f"http://h{number % 3}.test:8080/f",
        "bytes": 4 * MIB, "total": 10 * MIB, "speed": 1.0 * MIB, "eta": 6.0, "attempt": 2,
        "started": TIME + number,
    }  # fmt: skip
    return snapshot(f"run{number}", **{**values, **fields})


def event(job: JobSnapshot | None, kind: str = "x", data: Any = None) -> Event:
    return Event(
        type=kind, topic="t", epoch="e", seq=1, revision=None if job is None else job.revision, time=TIME,
        job=None if job is None else job.id, data=data or job, snapshot=job,
    )  # fmt: skip


def board(*jobs: JobSnapshot, **fields: Any) -> Board:
    """A board that knows these jobs."""
    counts: dict[str, int] = {}
    for job in jobs:
        counts[job.state] = counts.get(job.state, 0) + 1
    made = Board(status(**{"counts": counts, **fields}))
    made.begin()
    made.know(jobs)
    made.settle()
    return made


def view(seen: Board, width: int | None = None, height: int | None = None) -> list[str]:
    return [line.text for line in draw(seen, NOW, width, height)]


def full(runs: int = 500, waits: int = 300) -> Board:
    """Much of everything, and names that are wide."""
    jobs = [running(number, path=f"/d/長い名前のファイル{number}{'x' * 80}.iso") for number in range(runs)]
    jobs += [snapshot(f"w{number}" * 4, url=f"http://{number}.test/f") for number in range(waits)]
    workers = [
        WorkerStatus(slot=n, state="busy", pid=n, job=f"run{n}", memory=31 * MIB, cpu=0.125, connections=8)
        for n in range(runs)
    ]
    held = [
        Held(kind="area", name=f"/{n}", reason=Reason.DISK, since=TIME, detail="full " * 30) for n in range(9)
    ]
    return board(*jobs, workers=workers, held=held, sandbox={"seccomp": "unavailable: no"})


def test_the_whole_of_it() -> None:
    worker = WorkerStatus(
        slot=0, state="busy", pid=9, job="run1", memory=31 * MIB, cpu=0.125, connections=8
    )  # fmt: skip
    seen = board(
        running(1), running(2, state=State.PUBLISHING, bytes=10 * MIB, speed=None, eta=None), snapshot("w1"),
        snapshot("w2", state=State.WAITING, reason=Reason.RETRY, error=JobError("reset", "broke off"),
                 not_before=TIME + 65_000_000),
        workers=[worker],
    )  # fmt: skip
    seen.counts["completed"] = 12_345
    assert view(seen) == [
        "1.0 MiB/s, 2 of 5 slots busy, up 1:01, fetchd 1.2, pid 4711",
        "1 running, 1 publishing, 1 queued, 1 waiting, 12,345 completed",
        "",
        "ID    NAME    HOST           DONE               SIZE       SPEED   ETA  TRY  CONN    MEMORY   CPU",
        "run1  f1.iso  h1.test:8080   40 %   4.0 MiB/10.0 MiB   1.0 MiB/s  0:06    2     8  31.0 MiB  12 %",
        "run2  f2.iso  h2.test:8080  100 %  10.0 MiB/10.0 MiB  publishing     ?    2     ?         ?     ?",
        "",
        "waiting: 1 queued, 1 retry",
        "ID  NAME    HOST  WHY",
        "w1  w1.iso  h     queued",
        "w2  w2.iso  h     waiting (retry), goes on in 0:04, reset: broke off",
        "",
        "HOST          RUNNING      SPEED  WAITING",
        "h1.test:8080        1  1.0 MiB/s        0",
        "h2.test:8080        1      0 B/s        0",
        "h                   0      0 B/s        2",
    ]
    assert view(Board(status()))[1:] == ["no jobs"]


@pytest.mark.parametrize(("width", "height"), SCREENS)
def test_everything_fits(width: int, height: int) -> None:
    for seen in (full(), full(3, 1), full(0, 40), full(1, 0), Board(status())):
        lines = view(seen, width, height)
        assert len(lines) <= height
        assert max(map(cell_len, lines)) <= width


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        (40, "NAME DONE SPEED ETA"),
        (80, "ID NAME HOST DONE SPEED ETA MEMORY CPU"),
        (200, "ID NAME HOST DONE SIZE SPEED ETA TRY CONN MEMORY CPU"),
    ],
)
def test_what_matters_most_finds_a_place(width: int, columns: str) -> None:
    (head,) = [line.split() for line in view(full(), width, 40) if "DONE" in line]
    assert head == columns.split()


def test_of_many_the_rest_is_counted() -> None:
    lines = view(full(), 80, 24)
    shown = sum("長い" in line for line in lines)
    assert shown >= 5
    assert f"… and {500 - shown} more" in lines
    assert any(line.startswith("waiting: 300 queued") for line in lines)
    assert sum("h1.test" in line for line in view(full())) >= 500 // 3, "nothing is cut without a screen"


def test_trouble_is_said() -> None:
    held = Held(kind="daemon", name="", reason=Reason.DISK, since=TIME, detail="disk_full: \x1b[2J")
    seen = board(held=[held], sandbox={"landlock": "on", "seccomp": "unavailable: \x1b"}, draining=True)
    lines = view(seen)
    assert any(line.startswith("held: everything, disk, since ") for line in lines)
    assert any(line.endswith(": disk_full: \\x1b[2J") for line in lines)
    assert "sandbox: seccomp: unavailable: \\x1b" in lines
    assert "the daemon is stopping" in lines
    assert seen.connection(False)
    assert "the daemon is gone; waiting for it" in view(seen)
    assert (seen.connection(False), seen.connection(True), seen.stale) == (False, True, True)
    seen.greet(status(epoch="another"))
    assert "restarted" in view(seen)[0]


def test_nothing_from_outside_acts_on_the_terminal() -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\u202e\r\n[red]"
    job = running(1, path=f"/d/{evil}", url=f"http://h{evil}/x")
    wait = snapshot("w", path=f"/d/{evil}", state=State.WAITING, error=JobError("x\x1b", evil))
    gone = Held(kind="host", name=evil, reason=Reason.DISK, since=TIME, detail=evil)
    other = running(2, url="http://h\x1b\u202e.test/x")
    seen = board(job, other, wait, held=[gone], version=evil, sandbox={evil: evil}, counts={evil: 1})
    for width in (None, 40, 200):
        assert all(line.isprintable() for line in view(seen, width))
    assert any("[red]" in line for line in view(seen))


def test_what_runs_comes_and_goes_with_events() -> None:
    seen = board(running(1, revision=5), workers=[WorkerStatus(slot=0, state="busy", pid=1, job="run1")])
    seen.hear(event(running(1, revision=5, bytes=5 * MIB), "progress", Progress(
        attempt=2, bytes=5 * MIB, total=10 * MIB, speed=None, eta=None)))  # fmt: skip
    assert seen.jobs["run1"].bytes == 5 * MIB
    seen.hear(event(running(1, revision=4)))
    assert seen.jobs["run1"].bytes == 5 * MIB, "an older state"
    seen.hear(event(running(2, revision=6)))
    assert [job.id for job in seen.running] == ["run1", "run2"]
    seen.hear(event(running(1, revision=7, state=State.COMPLETED)))
    seen.hear(event(running(2, revision=8), "removed"))
    assert (seen.running, seen.workers) == ([], {})


def test_events_during_a_survey_are_newer_than_its_lists() -> None:
    seen = board(running(1), running(2), running(3))
    seen.begin()
    seen.hear(event(running(1, revision=5, state=State.COMPLETED)))
    seen.hear(event(running(4, revision=6)))
    seen.know([running(1, revision=4), running(2, revision=2)])
    seen.settle()
    assert [job.id for job in seen.running] == ["run2", "run4"]


def test_metrics() -> None:
    seen = board(running(1))
    usage = WorkerUsage(slot=0, memory=MIB, cpu=0.5, pid=7, job="run1", connections=3)
    metrics = Metrics(workers=[usage], counts={"running": 1}, slots=Slots(total=9, free=8))
    seen.hear(event(None, "metrics", metrics))
    assert not seen.stale
    assert "1 of 9 slots busy" in view(seen)[0]
    assert view(seen)[4].split()[-5:] == ["3", "1.0", "MiB", "50", "%"]
    held = [Held(kind="daemon", name="", reason=Reason.USER, since=TIME, detail="")]
    seen.hear(event(None, "metrics", replace(metrics, held=held)))
    assert seen.stale, "jobs may be shown as held now"


def test_when_few_are_known_of_many_that_wait_more_are_asked_for() -> None:
    waits = [snapshot(f"w{number}") for number in range(FEW + 1)]
    seen = board(*waits, counts={"queued": 5000})
    metrics = Metrics(workers=[], counts={"queued": 5000})
    seen.hear(event(None, "metrics", metrics))
    assert not seen.stale
    assert "waiting: 5,000; of 21 of them 21 queued" in view(seen)
    for job in waits[:2]:
        seen.hear(event(replace(job, state=State.CANCELLED, revision=9)))
    seen.hear(event(None, "metrics", metrics))
    assert seen.stale


def test_not_every_job_that_waits_is_remembered() -> None:
    seen = board(running(0))
    for number in range(3 * MOST):
        seen.hear(event(snapshot(f"w{number}", revision=number + 2)))
    assert MOST < len(seen.jobs) <= 2 * MOST
    seen.hear(event(running(1, revision=9999)))
    assert [job.id for job in seen.running] == ["run0", "run1"]


def test_who_is_next() -> None:
    jobs = [
        snapshot("paused", state=State.PAUSED), snapshot("late", created=TIME + 5),
        snapshot("held", reason=Reason.DISK), snapshot("soon", state=State.WAITING, not_before=TIME + 1),
        snapshot("later", state=State.WAITING, not_before=TIME + 2), snapshot("first", priority=5),
        snapshot("early"), snapshot("a", created=TIME + 3, revision=8),
        snapshot("b", created=TIME + 3, revision=7),
    ]  # fmt: skip
    order = [job.id for job in board(*jobs).waiting]
    assert order == ["first", "early", "b", "a", "late", "held", "soon", "later", "paused"], (
        "b and a were submitted at once, in this order"
    )


def test_json() -> None:
    usage = WorkerStatus(slot=2, state="busy", pid=9, job="run1", memory=MIB, cpu=0.5, connections=3)
    held = Held(kind="daemon", name="", reason=Reason.DISK, since=TIME, detail="")
    seen = board(running(1), running(2), snapshot("a"), snapshot("b"), workers=[usage], held=[held])
    found = seen.json(1)
    assert found["daemon"].keys() >= {"pid", "version", "started", "connected", "restarted", "draining"}
    assert [job["id"] for job in found["running"]] == ["run1", "run2"]
    assert found["running"][0]["worker"] == {
        "slot": 2, "pid": 9, "memory": MIB, "cpu": 0.5, "connections": 3,
    }  # fmt: skip
    assert found["running"][1]["worker"] is None
    assert (found["pending"], found["reasons"]) == (2, {"queued": 2})
    assert [job["id"] for job in found["next"]] == ["a"]
    assert found["hosts"]["h1.test:8080"] == {"running": 1, "pending": 0, "speed": 1.0 * MIB}
    assert found["held"][0]["since"] == "2026-11-20T16:00:00.000000Z"
    assert found["speed"] == 2.0 * MIB
