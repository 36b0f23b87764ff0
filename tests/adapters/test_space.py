"""How much room there is: measured, kept free, and refused to what cannot fit."""

import errno
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.mounts import bound, mounted, remount
from support.wait import readable

from fetchd.daemon.core import commands, inputs
from fetchd.daemon.core.job import Job
from fetchd.daemon.service.ballast import LEAST, Ballast, fitting
from fetchd.daemon.supervise.area import HIDDEN, Areas
from fetchd.daemon.supervise.helpers import Helpers
from fetchd.daemon.supervise.space import RESERVE, Space, look, shown
from fetchd.daemon.supervise.workspace import Workspaces
from fetchd.protocol.errors import Code, FetchdError

from .staged import BOOT, House, no_descriptors
from .store_jobs import job as plain_job

MIB = 1 << 20


class Stage:
    """Space over a state directory on a file system of 8 MiB, with nothing kept free."""

    def __init__(self, mount: Path) -> None:
        self.mount = mount
        self.state = mount / "state"
        self.state.mkdir(mode=0o700)
        self.areas = Areas(self.state, "i", {})
        self.helpers = Helpers()
        self.ballast = Ballast(self.state / "ballast", fitting(self.state))
        self.space = Space(self.state, self.ballast, self.helpers, self.areas.check, 0)
        self.found: list[inputs.Input] = []
        self.space.feed = self.found.append

    def fill(self, leave: int) -> Path:
        """Take everything but so many bytes."""
        filler = self.mount / "filler"
        filler.unlink(missing_ok=True)
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, self.free() - leave)
        return filler

    def free(self) -> int:
        return look(str(self.mount), 0).free

    def close(self) -> None:
        self.helpers.close()
        self.areas.close()


@pytest.fixture
def stage() -> Iterator[Stage]:
    with mounted("size=8m,mode=755") as mount:
        made = Stage(mount)
        yield made
        made.close()


def test_what_is_free_and_what_is_to_stay_so(stage: Stage) -> None:
    usual = look(str(stage.mount / "not" / "there"), None)
    assert usual.reserve == 8 * MIB // 100
    assert 7 * MIB < usual.free <= 8 * MIB
    assert look(str(stage.mount), 5).reserve == 5
    big = os.statvfs("/")
    if big.f_blocks * big.f_frsize > 100 * RESERVE:
        assert look("/", None).reserve == RESERVE


def test_a_file_system_that_is_read_only(stage: Stage) -> None:
    _, area = stage.areas.for_directory(str(stage.mount))
    remount(stage.mount, "ro")
    found = stage.space.measure(area)
    assert found.trouble == "the file system is read-only"
    with pytest.raises(FetchdError, match="read-only") as caught:
        stage.space.fit(plain_job(1, area=area), f"{area}/jobs/j/data")
    assert caught.value.code is Code.DISK_GONE
    assert stage.space.measure("").trouble == "the file system is read-only"
    remount(stage.mount, "rw")
    assert stage.space.measure(area).trouble == ""


def test_a_file_system_that_is_not_mounted(stage: Stage, downloads: Path) -> None:
    point = downloads / "usb"
    point.mkdir()
    with bound(stage.mount, point):
        area = f"{point}/{HIDDEN}/i2"
        areas = Areas(downloads, "i2", {area: str(point)})
        space = Space(stage.state, stage.ballast, stage.helpers, areas.check, 0)
        assert space.measure(area).trouble == ""
        assert not Path(area).exists(), "to look is enough"
    assert f"{point} is not mounted" in space.measure(area).trouble
    assert list(point.iterdir()) == []
    areas.close()


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOTCONN])
def test_a_file_system_that_does_not_answer(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """What lies above its mount point is not asked instead."""

    def broken(_path: str) -> os.statvfs_result:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "statvfs", broken)
    assert stage.space.measure("").trouble == os.strerror(number)


def test_one_that_hangs_holds_one_helper(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is asked for; what is asked of another one is answered meanwhile."""
    real, gate, arrived = os.statvfs, threading.Event(), threading.Semaphore(0)

    def slow(path: str) -> os.statvfs_result:
        arrived.release()
        if path.endswith("slow"):
            gate.wait(30)
        return real(stage.mount)

    monkeypatch.setattr(os, "statvfs", slow)
    for _ in range(20):
        stage.space.check(commands.CheckSpace("/slow"))
    stage.space.check(commands.CheckSpace("/other"))
    _take(stage, lambda: len(stage.found) == 1)
    assert [event.area for event in stage.found] == ["/other"]  # type: ignore[union-attr]
    gate.set()
    _take(stage, stage.helpers.idle)
    assert [event.area for event in stage.found] == ["/other", "/slow"]  # type: ignore[union-attr]
    stage.space.check(commands.CheckSpace("/slow"))
    _take(stage, stage.helpers.idle)
    assert len(stage.found) == 3, "it is asked again after its answer"


def _take(stage: Stage, done: Callable[[], bool]) -> None:
    while not done():
        readable(stage.helpers.wake, 10)
        stage.helpers.take()


# the state directory and its ballast


def test_the_ballast_is_taken_when_there_is_room_for_it(stage: Stage) -> None:
    assert stage.ballast.size == LEAST == MIB
    before = stage.free()
    found = stage.space.measure("")
    assert stage.ballast.held
    assert (found.free, found.reserve, found.trouble) == (stage.free(), 0, "")
    assert found.free <= before - MIB


def test_a_missing_ballast_is_too_little_room(stage: Stage) -> None:
    """Until it and the reserve fit; then it comes back by itself."""
    stage.space.min_free = MIB
    stage.space.measure("")
    stage.ballast.release()
    filler = stage.fill(2 * MIB - 4096)
    found = stage.space.measure("")
    assert found.free < found.reserve == 2 * MIB
    assert not stage.ballast.held
    filler.unlink()
    found = stage.space.measure("")
    assert found.free >= found.reserve == MIB
    assert stage.ballast.held


def test_a_ballast_that_cannot_be_made_though_there_is_room(stage: Stage) -> None:
    """As with a quota: where the ballast has no room, the database has none."""
    (stage.state / "ballast").mkdir()
    assert stage.space.measure("").trouble == "its ballast cannot be made"


def test_a_ballast_where_room_cannot_be_reserved(downloads: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is missing (apt-get install strace)")
    script = (
        "import sys; from pathlib import Path; from fetchd.daemon.service.ballast import Ballast\n"
        "made = Ballast(Path(sys.argv[1]), 3 << 20); print(made.restore(), made.held)"
    )
    wrapper = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=fallocate:error=EOPNOTSUPP"]
    command = [*wrapper, sys.executable, "-c", script, str(downloads / "ballast")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "True True\n"
    assert (downloads / "ballast").stat().st_blocks * 512 >= 3 << 20


# what fits


@pytest.fixture
def house(stage: Stage) -> House:
    (stage.mount / "target").mkdir()
    made = House(stage.mount, stage.mount / "target")
    made.workspaces = Workspaces(BOOT, fit=stage.space.fit)
    return made


def refusal(house: House, job: Job) -> FetchdError:
    with pytest.raises(FetchdError) as caught:
        house.workspaces.prepare(job, str(house.room))
    assert caught.value.code is Code.DISK_FULL
    return caught.value


def test_a_job_that_cannot_fit_waits_alone(stage: Stage, house: House) -> None:
    stage.space.min_free = 2 * MIB
    error = refusal(house, house.job(total=7 * MIB))
    assert error.details == {"alone": True}
    assert "7.3 MB are needed, 6.3 MB are free" in error.message
    assert not (house.area / "jobs" / "job").exists()
    house.prepared(house.job(id="smaller", total=5 * MIB))
    house.prepared(house.job(id="unknown"))


def test_what_is_there_already_is_not_needed_again(stage: Stage, house: House) -> None:
    """Room that is taken counts, not how long the file seems to be."""
    job = house.job(total=5 * MIB)
    data = house.prepared(job) / "data"
    with data.open("r+b") as file:
        file.truncate(5 * MIB)
    filler = stage.fill(4 * MIB)
    refusal(house, job)
    filler.unlink()
    with data.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, 4 * MIB)
    assert stage.free() < 4 * MIB
    house.prepared(job)


def test_below_the_reserve_nothing_begins(stage: Stage, house: House) -> None:
    stage.fill(MIB)
    stage.space.min_free = 2 * MIB
    error = refusal(house, house.job())
    assert error.details == {}
    assert "1.0 MB are free, and 2.1 MB are to stay free" in error.message
    stage.space.min_free = 0
    house.prepared(house.job())


def test_out_of_descriptors_is_said_as_such(house: House) -> None:
    """Preparing and sealing raise the error itself, and what is there stays as it is."""
    job = house.job()
    data = house.prepared(job) / "data"
    data.write_bytes(b"kept")
    for act in (lambda: house.prepared(job), lambda: house.workspaces.seal(job, 4)):
        with no_descriptors(), pytest.raises(OSError, match="Too many open files"):
            act()
    assert Path(house.workspaces.path(job), "data").read_bytes() == b"kept"


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (2_340_000_000_000_000, "2340.0 TB")],
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert shown(size) == text
