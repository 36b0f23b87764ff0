"""Staging areas on disks that come and go."""

import os
import shutil
from pathlib import Path

import pytest
from support.mounts import bound, mounted_at

from fetchd.daemon.supervise.area import HIDDEN, Areas
from fetchd.daemon.supervise.untrusted import FILES
from fetchd.protocol.errors import Code, FetchdError

from .staged import INSTANCE


def refusal(areas: Areas, directory: Path | str) -> str:
    with pytest.raises(FetchdError) as caught:
        areas.for_directory(str(directory))
    assert caught.value.code is Code.DESTINATION
    return caught.value.message


@pytest.fixture
def unplugged(areas: Areas, downloads: Path, mount: Path) -> tuple[Path, str]:
    """A mount point of a file system that can be taken away, and an area that was made on it."""
    point = downloads / "usb"
    point.mkdir()
    with bound(mount, point):
        assert areas.for_directory(str(point))[1] == f"{point}/{HIDDEN}/{INSTANCE}"
    return point, f"{point}/{HIDDEN}/{INSTANCE}"


def test_an_area_is_gone_while_its_mount_is(areas: Areas, unplugged: tuple[Path, str], mount: Path) -> None:
    """Nothing is made under the mount point; once it is mounted again everything goes on there."""
    point, area = unplugged
    assert areas.point(area) == str(point)
    for attempt in (areas.open, areas.check):
        with pytest.raises(FetchdError, match=f"{point} is not mounted") as caught:
            attempt(area)
        assert caught.value.code is Code.DISK_GONE
    assert list(point.iterdir()) == []
    assert area not in areas.known(), "and its lock does not keep a detached mount alive"
    with bound(mount, point):
        areas.open(area)
        assert area in areas.known()
        areas.drop_empty(area)
    assert list(mount.iterdir()) == []


@pytest.mark.parametrize("told", [True, False])
def test_a_disk_that_was_pulled_is_believed_what_was_synced_alone(
    areas: Areas, unplugged: tuple[Path, str], mount: Path, told: bool
) -> None:
    """A frontier may be on it, and not the bytes that it speaks of. Nobody need have seen that."""
    point, area = unplugged
    areas.recovered = True
    workspaces = [Path(area, "jobs", "home"), Path(area, "rooms", "r", "inside")]
    with bound(mount, point):
        areas.open(area)
        for path in workspaces:
            path.mkdir(parents=True, mode=0o700)
            for name in FILES:
                (path / name).write_bytes(b"x")
        areas.check(area)
        areas.open(area)
        assert all((path / "frontier").exists() for path in workspaces), "nothing has happened"
    if told:
        with pytest.raises(FetchdError):
            areas.check(area)
    with bound(mount, point):
        (areas.open if told else areas.check)(area)
        assert [[file.name for file in path.iterdir()] for path in workspaces] == [["data"], ["data"]]
        assert area in areas.known()
        for path in (*workspaces, workspaces[1].parent):
            shutil.rmtree(path)
        areas.drop_empty(area)


def test_a_new_destination_there_is_refused_for_the_area_of_an_earlier_one(
    state: Path, unplugged: tuple[Path, str], mount: Path
) -> None:
    point, area = unplugged
    other = Areas(mount / "state", INSTANCE + "0", {f"{area}0": str(point)})
    try:
        assert refusal(other, point) == f"{point} is not mounted, which {area}0 lies on"
        assert list(point.iterdir()) == []
    finally:
        other.close()
        shutil.rmtree(mount / "state")


def test_what_is_mounted_over_an_area_hides_it(areas: Areas, mount: Path) -> None:
    _, area = areas.for_directory(str(mount))
    (Path(area) / "jobs" / "x").mkdir()
    with mounted_at(Path(area).parent):
        with pytest.raises(FetchdError, match="hides it"):
            areas.open(area)
        assert list(Path(area).parent.iterdir()) == []
    areas.open(area)
    assert [path.name for path in (Path(area) / "jobs").iterdir()] == ["x"]
    (Path(area) / "jobs" / "x").rmdir()


def test_an_area_that_comes_late_is_swept_once(state: Path, downloads: Path, mount: Path) -> None:
    """Its rooms are of an earlier life the first time, and of this one afterwards."""
    point = downloads / "usb"
    point.mkdir()
    area = f"{point}/{HIDDEN}/{INSTANCE}"
    areas = Areas(state, INSTANCE, {area: str(point)})
    areas.recovered = True
    room = mount / HIDDEN / INSTANCE / "rooms" / "dead"
    for path in (mount / HIDDEN, mount / HIDDEN / INSTANCE, room.parent, room, room / "job"):
        path.mkdir(mode=0o700)
    (room / "job" / "data").write_bytes(b"kept")
    try:
        with bound(mount, point):
            areas.open(area)
            assert Path(area, "jobs", "job", "data").read_bytes() == b"kept"
            assert not room.exists()
            room.mkdir()
            os.unlink(f"{area}/lock")
            areas.open(area)
            assert room.exists()
            assert os.path.exists(f"{area}/lock"), "locked anew"
    finally:
        areas.close()
