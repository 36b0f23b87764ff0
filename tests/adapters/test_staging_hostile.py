"""Whoever owns a destination puts something else in the place of the staging area in it, or of what is in it.

The daemon may write in more places than they: what they name must not become the daemon's to move or delete.
"""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fetchd.daemon.core.recovery import Adopt, Finding, Park, Sweep
from fetchd.daemon.supervise.leftovers import carry_out, collect
from fetchd.daemon.supervise.removal import remove_tree
from fetchd.daemon.supervise.untrusted import LostError
from fetchd.daemon.supervise.workspace import empty_rooms
from fetchd.protocol.errors import Code, FetchdError

from .flipping import flipping
from .staged import CONTENT, House


@pytest.fixture
def house(downloads: Path) -> House:
    return House(downloads, downloads / "target")


@pytest.fixture
def precious(downloads: Path) -> Path:
    """What the daemon can reach and its user cannot. A job can be called like what is in it."""
    path = downloads / "precious"
    (path / "job").mkdir(parents=True, mode=0o755)
    (path / "job" / "data").write_bytes(CONTENT)
    return path


def inventory(directory: Path) -> list[tuple[str, int, bytes]]:
    return sorted(
        (str(path), path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in directory.rglob("*")
    )


def finding(house: House, where: str) -> Finding:
    place = house.area / where / ("r/job" if where == "rooms" else "job")
    return Finding(area=str(house.area), where=where, name="job", path=str(place), sound=True)  # type: ignore[arg-type]


DEEDS: dict[str, Callable[[House], object]] = {
    "prepare": lambda house: house.workspaces.prepare(house.job(), str(house.room)),
    "retrieve": lambda house: house.workspaces.retrieve(house.job()),
    "seal": lambda house: house.workspaces.seal(house.job(), len(CONTENT)),
    "clean": lambda house: house.workspaces.clean(house.job()),
    "vacate": lambda house: house.workspaces.vacate(str(house.room)),
    "discard": lambda house: remove_tree(f"{house.area}/jobs/job"),
    "empty rooms": lambda house: empty_rooms(str(house.area)),
    "collect": lambda house: collect(str(house.area)),
    "adopt": lambda house: carry_out(
        str(house.area), [Adopt(job="job", found=finding(house, "rooms"), why="")]
    ),
    "park": lambda house: carry_out(str(house.area), [Park(job="job", found=finding(house, "jobs"), why="")]),
    "sweep": lambda house: carry_out(
        str(house.area), [Sweep(job="job", found=finding(house, "jobs"), why="")]
    ),
}


@pytest.mark.parametrize("swapped", ["jobs", "rooms", "rooms/r", "."])
@pytest.mark.parametrize("deed", DEEDS)
def test_a_link_in_the_place_of_a_directory(house: House, precious: Path, swapped: str, deed: str) -> None:
    job = house.job()
    house.prepared(job)
    for path in (precious / "r", precious / "jobs", precious / "rooms" / "r"):
        (path / "job").mkdir(parents=True)
        (path / "job" / "data").write_bytes(CONTENT)
    before = inventory(precious)
    place = house.area / swapped
    place.rename(place.with_name("moved") if swapped != "." else house.area.with_name("moved"))
    (house.area if swapped == "." else place).symlink_to(precious)
    # some of them have nothing to do there
    with contextlib.suppress(OSError, FetchdError, LostError):
        DEEDS[deed](house)
    assert inventory(precious) == before


def test_it_is_the_fault_of_no_download(house: House, precious: Path) -> None:
    """The job is told what is wrong, and goes on when that is mended."""
    job = house.job()
    jobs = house.area / "jobs"
    jobs.rename(house.area / "moved")
    jobs.symlink_to(precious)
    with pytest.raises(FetchdError) as caught:
        house.workspaces.prepare(job, str(house.room))
    assert (caught.value.code, str(jobs) in caught.value.message) == (Code.IO_ERROR, True)
    jobs.unlink()
    (house.area / "moved").rename(jobs)
    assert house.prepared(job).is_dir()


def test_a_directory_of_somebody_else_or_open_to_others(house: House) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    jobs = house.area / "jobs"
    for owner, mode in ((12345, 0o700), (0, 0o777)):
        os.chown(jobs, owner, -1)
        jobs.chmod(mode)
        with pytest.raises(FetchdError) as caught:
            house.workspaces.prepare(house.job(), str(house.room))
        assert caught.value.code is Code.IO_ERROR
    assert list(jobs.iterdir()) == []


def test_a_directory_that_flips_between_itself_and_a_link(house: House, precious: Path) -> None:
    """All the time, while jobs come and go."""
    before = inventory(precious)
    said = set()
    (house.area / "jobs").rmdir()
    with flipping(house.area / "jobs", precious):
        for _ in range(3000):
            # without a room: what is done is done at home
            for deed in ("discard", "seal", "sweep"):
                with contextlib.suppress(LostError):
                    try:
                        DEEDS[deed](house)
                        said.add("done")
                    except FetchdError as error:
                        said.add(error.code)
    assert said == {"done", Code.IO_ERROR}
    assert inventory(precious) == before
