"""What an earlier life left on real disks: found whatever it is, put where it belongs, and told about."""

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from fetchd.daemon import recovery
from fetchd.daemon.core.commands import SaveJob
from fetchd.daemon.core.job import Job
from fetchd.daemon.core.recovery import plan
from fetchd.daemon.recovery import recover
from fetchd.daemon.service.report import MOST, NAME, note, read
from fetchd.daemon.store.database import Database
from fetchd.daemon.supervise.area import Areas
from fetchd.daemon.supervise.leftovers import ROOM_LIMIT, carry_out, collect
from fetchd.daemon.supervise.workspace import Workspaces, survey
from fetchd.protocol import journal
from fetchd.protocol.job import State

from .staged import CONTENT, write_frontier
from .store_jobs import job as plain_job

BOOT = journal.boot_id()
LOST = "0123456789abcdef0123456789abcdef"


class Start:
    """A state directory, and starts on it: what the composition root does, without the rest of it."""

    def __init__(self, state: Path) -> None:
        self.state = state
        with self.database() as database:
            self.lineage = database.identity("lineage", 8).hex()
            self.instance = database.identity("instance").hex()
        self.area = state.resolve() / ".fetchd" / self.instance
        self.run()

    def database(self) -> "Closing":
        return Closing(self.state)

    def save(self, *jobs: Job) -> None:
        with self.database() as database:
            database.apply([(SaveJob(0, one), None) for one in jobs])

    def job(self, job_id: str = "job", **fields: object) -> Job:
        values: dict[str, object] = {"id": job_id, "area": str(self.area), "attempt": 1, **fields}
        return plain_job(values.pop("seq", 1), values.pop("state", State.WAITING), **values)  # type: ignore[arg-type]

    def leave(self, place: str, name: str = "job", content: bytes = CONTENT) -> Path:
        """A workspace."""
        here = self.area / place / name
        here.mkdir(parents=True)
        (here / "data").write_bytes(content)
        return here

    def run(self, *, restored: bool = False, publishing: tuple[Job, ...] = ()) -> list[str]:
        """A start. What lies in the area afterwards, rooms and all."""
        with self.database() as database:
            areas = Areas(self.state, self.instance, database.areas())
            try:
                recover(areas, database, self.state, publishing, restored=restored)
                return self.lying()
            finally:
                areas.close()

    def lying(self) -> list[str]:
        return sorted(
            str(path.relative_to(self.area))
            for path in (*self.area.glob("*/*"), *self.area.glob("rooms/*/*"))
        )  # fmt: skip


class Closing:
    """A database for a moment."""

    def __init__(self, state: Path) -> None:
        self._state = state

    def __enter__(self) -> Database:
        self._database = Database(self._state)
        return self._database

    def __exit__(self, *_error: object) -> None:
        self._database.close()


@pytest.fixture
def start(downloads: Path) -> Start:
    (downloads / "state").mkdir(mode=0o700)
    return Start(downloads / "state")


def test_workspaces_of_dead_workers_come_home(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fetchd")
    job = start.job()
    start.save(job, start.job("done", seq=2, state=State.COMPLETED))
    write_frontier(start.leave("rooms/r"), 3, boot=BOOT)
    start.leave("rooms/r", "done")
    start.leave("jobs", "nobody")
    (start.area / "rooms" / "stray").touch()
    (start.area / "rooms" / "r" / "file").touch()
    assert start.run() == ["jobs/job"]
    (start.area / "rooms" / "new").mkdir()
    assert Workspaces(BOOT).prepare(job, str(start.area / "rooms" / "new")).have == ((0, 3),)
    last = read(start.state)["recovery"]
    assert {key: last[key] for key in last if key != "time"} == {
        "adopted": 1, "republished": 0, "parked": 0, "swept": 2, "bytes": len(CONTENT),
    }  # fmt: skip
    assert [r.message for r in caplog.records] == [
        f"workspaces: 1 adopted, 0 republished, 0 parked, 2 swept, {len(CONTENT)} bytes kept"
    ]


def test_a_start_with_nothing_to_recover_says_and_writes_nothing(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    before = (start.state / NAME).stat().st_mtime_ns
    caplog.set_level(logging.INFO, "fetchd")
    assert start.run() == []
    assert caplog.records == []
    assert (start.state / NAME).stat().st_mtime_ns == before


def test_what_workers_may_leave(start: Start, downloads: Path) -> None:
    """No link is followed, nobody waits at a FIFO, closed directories and a crowd do not stop the start."""
    start.save(
        *(start.job(name, seq=n) for n, name in enumerate(("closed", "home", "pipe", "link", "fresh")))
    )
    precious = downloads / "precious"
    precious.mkdir()
    (precious / "data").write_bytes(CONTENT)
    room = start.area / "rooms" / "r"
    start.leave("rooms/r", "closed").chmod(0)
    start.leave("rooms/r", "home", b"forged")
    start.leave("jobs", "home", b"home")
    (start.leave("rooms/r", "pipe") / "frontier").unlink(missing_ok=True)
    os.mkfifo(room / "pipe" / "frontier")
    (room / "link").symlink_to(precious)
    (start.area / "jobs" / "fresh").symlink_to(precious)
    (start.area / "rooms" / "linked-room").symlink_to(precious)
    os.mkdir(os.fsencode(room) + b"/\xff")
    (Path(os.fsdecode(os.fsencode(room) + b"/\xff")) / "data").touch()
    crowd = start.area / "rooms" / "crowd"
    for number in range(1000):
        (crowd / str(number)).mkdir(parents=True)
    room.chmod(0)
    found = collect(str(start.area))
    assert sum("crowd" in one.path for one in found) == ROOM_LIMIT
    assert start.run() == ["jobs/closed", "jobs/home"]
    assert (start.area / "jobs" / "home" / "data").read_bytes() == b"home"
    assert (precious / "data").read_bytes() == CONTENT


def test_only_the_frontiers_of_copies_are_read(start: Start) -> None:
    for place in ("jobs", "rooms/r"):
        write_frontier(start.leave(place, "twice"), 3, boot=BOOT, generation=2)
        write_frontier(start.leave(place, place[0]), 3, boot=BOOT)
    found = {one.path: one for one in collect(str(start.area))}
    assert {one.name for one in found.values() if one.frontier is not None} == {"twice"}
    seen = found[f"{start.area}/rooms/r/twice"]
    assert seen.frontier is not None
    assert (seen.frontier.generation, seen.frontier.bytes, seen.size) == (2, 3, len(CONTENT))


def test_the_content_of_the_row_beats_another_at_home(start: Start) -> None:
    start.save(start.job(generation=2))
    write_frontier(start.leave("jobs", content=b"old"), 3, boot=BOOT, generation=1)
    write_frontier(start.leave("rooms/r", content=b"new"), 3, boot=BOOT, generation=2)
    assert start.run() == ["jobs/job"]
    assert (start.area / "jobs" / "job" / "data").read_bytes() == b"new"


def test_what_an_older_database_does_not_know_is_parked_for_good(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    start.save(start.job())
    start.leave("rooms/r", "unknown")
    start.leave("jobs", "unknown")
    start.leave("jobs")
    assert start.run(restored=True) == ["jobs/job", "parked/unknown", "parked/unknown-2"]
    assert len([r for r in caplog.records if "parked" in r.message]) == 2
    assert start.run() == ["jobs/job", "parked/unknown", "parked/unknown-2"]
    assert read(start.state)["recovery"]["adopted"] == 1
    found = {Path(path).name: parked for _, path, _, _, parked in survey([str(start.area)], 0)}
    assert found == {"job": False, "unknown": True, "unknown-2": True}
    start.leave("rooms/r", "unknown")
    assert start.run() == ["jobs/job", "parked/unknown", "parked/unknown-2"], "now the database is known"


def test_an_area_with_something_parked_is_not_removed(start: Start, downloads: Path) -> None:
    """Others than the default one go when they are empty, and with the last that was parked there."""
    area = downloads / ".fetchd" / start.instance
    with start.database() as database:
        database.add_area(str(area), "", 0)
    for place in ("jobs", "rooms"):
        (area / place).mkdir(parents=True, mode=0o700)
    for directory in (area.parent, area):
        directory.chmod(0o700)
    (area / "rooms" / "r" / "unknown").mkdir(parents=True)
    (area / "rooms" / "r" / "unknown" / "data").write_bytes(CONTENT)
    start.run(restored=True)
    start.run()
    assert (area / "parked" / "unknown" / "data").read_bytes() == CONTENT
    assert {path.name for path in area.iterdir()} == {"jobs", "rooms", "parked", "lock"}
    shutil.rmtree(area / "parked" / "unknown")
    start.run()
    assert not area.parent.exists()


def test_an_area_that_was_out_of_reach_is_parked_when_it_is_back(start: Start, downloads: Path) -> None:
    area = downloads / ".fetchd" / start.instance
    with start.database() as database:
        database.add_area(str(area), "", 0)
    start.run(restored=True)
    for name in ("unknown", "later"):
        for place in ("jobs", "rooms"):
            (area / place).mkdir(parents=True, exist_ok=True, mode=0o700)
        for directory in (area.parent, area):
            directory.chmod(0o700)
        (area / "jobs" / name).mkdir()
        (area / "jobs" / name / "data").write_bytes(CONTENT)
        start.run()
    assert [path.name for path in (area / "parked").iterdir()] == ["unknown"], "once"
    assert list((area / "jobs").iterdir()) == []


def test_an_area_that_cannot_be_trusted_any_more_is_left_alone(start: Start, downloads: Path) -> None:
    """Somebody else could have put anything there."""
    with start.database() as database:
        areas = Areas(start.state, start.instance, [])
        area = str(downloads / ".fetchd" / start.instance)
        areas.open(area)
        (Path(area) / "jobs" / "unknown").mkdir()
        (Path(area) / "jobs" / "unknown" / "data").write_bytes(CONTENT)
        Path(area).chmod(0o777)
        recover(areas, database, start.state, (), restored=False)
        assert (Path(area) / "jobs" / "unknown" / "data").exists()
        areas.close()


def test_an_interrupted_recovery_after_a_restore_still_parks(start: Start) -> None:
    """The daemon was killed after the database had been replaced: the next one is not told of that."""
    start.leave("rooms/r", "unknown")
    note(start.state, "lineage", "another")
    assert start.run(restored=False) == ["parked/unknown"]
    assert read(start.state)["lineage"] == start.lineage


def test_the_area_of_a_lost_database(start: Start) -> None:
    """It was made under another instance; a new database finds and parks what lies there."""
    lost = start.area.parent / LOST
    for place in ("jobs", "rooms"):
        (lost / place).mkdir(parents=True, mode=0o700)
        lost.chmod(0o700)
    (lost / "rooms" / "r" / "old").mkdir(parents=True)
    (lost / "rooms" / "r" / "old" / "data").write_bytes(CONTENT)
    start.run()
    assert (lost / "rooms" / "r" / "old").exists(), "the database is the one of the last time"
    start.run(restored=True)
    assert (lost / "parked" / "old" / "data").read_bytes() == CONTENT


def test_a_job_in_publishing_without_a_workspace(start: Start) -> None:
    job = start.job(state=State.PUBLISHING)
    other = start.job("other", seq=2, state=State.PUBLISHING)
    start.save(job, other)
    start.leave("jobs", "other")
    assert start.run(publishing=(job, other)) == ["jobs/other"]
    assert read(start.state)["recovery"]["republished"] == 2


def test_a_workspace_that_cannot_be_moved_stays(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """Its room with it; the next start tries again."""
    start.save(start.job())
    start.leave("rooms/r")
    start.leave("rooms/other", "other")
    (start.area / "jobs").rmdir()
    area = str(start.area)
    jobs = {name: start.job(name) for name in ("job", "other")}
    carry_out(area, list(plan(collect(area), jobs, BOOT, restored=False)))
    assert "rooms/r/job" in start.lying()
    assert caplog.text.count("cannot be put in order") == 2
    start.save(start.job("other", seq=2))
    assert start.run() == ["jobs/job", "jobs/other"]


def test_surprises_are_told_in_bounds(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fetchd")
    for number in range(recovery.TOLD + 5):
        start.leave("jobs", f"u{number}")
    start.run(restored=True)
    assert len(caplog.records) == recovery.TOLD + 1
    assert caplog.records[-1].message.endswith("5 more of this are not listed")


def test_queued_jobs_are_not_read(start: Start) -> None:
    """What is looked up are the jobs of what lies there."""
    start.save(*(start.job(f"j{n}", seq=n, state=State.QUEUED, attempt=0) for n in range(2000)))
    start.leave("rooms/r", "j7")
    asked: list[str] = []
    with start.database() as database:
        by_ids = database.by_ids

        def listen(ids: object) -> object:
            asked.extend(ids)  # type: ignore[arg-type]
            return by_ids(ids)  # type: ignore[arg-type]

        database.by_ids = listen  # type: ignore[method-assign,assignment]
        areas = Areas(start.state, start.instance, [])
        recover(areas, database, start.state, (), restored=False)
        areas.close()
    assert asked == ["j7"]
    assert start.lying() == [], "never attempted: it was left by another job of that ID"


# the report


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b" " * (MOST + 2)])
def test_a_report_that_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    assert read(tmp_path) == {}
    note(tmp_path, "one", 1)
    note(tmp_path, "two", [2])
    assert json.loads((tmp_path / NAME).read_text()) == read(tmp_path) == {"one": 1, "two": [2]}


def test_a_report_is_bounded(tmp_path: Path) -> None:
    note(tmp_path, "one", 1)
    note(tmp_path, "two", "x" * MOST)
    assert read(tmp_path) == {"one": 1}


def test_the_doctor_shows_the_last_recovery(start: Start) -> None:
    def doctor() -> dict[str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "fetchd.daemon", "doctor", "--json"],
            env={**os.environ, "FETCHD_STATE_DIR": str(start.state)},
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        return next(one for one in json.loads(done.stdout) if one["check"] == "recovery")

    assert doctor()["message"] == "never needed"
    start.leave("jobs", "unknown", b"x" * 3_000_000)
    start.save(replace(start.job(), id="mine"))
    start.leave("rooms/r", "mine", b"x" * 3_000_000)
    start.run(restored=True)
    said = doctor()
    assert "1 adopted, 0 republished, 1 parked, 0 swept; 2.9 MiB kept" in said["message"]
    assert "clean --orphans" in said["advice"]
