"""Rooms, staging directories and mounts that vanish while a daemon runs: nothing that is there is lost."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.mounts import bound

from fetchd.daemon.core import commands, inputs
from fetchd.daemon.supervise.delivery import Delivery
from fetchd.daemon.supervise.workspace import RoomGoneError, Workspaces
from fetchd.protocol.errors import Code, FetchdError

from .staged import BOOT, CONTENT, House


@pytest.fixture
def house(downloads: Path) -> House:
    (downloads / "target").mkdir()
    return House(downloads, downloads / "target")


def test_a_room_that_is_missing(house: House) -> None:
    """The workspace stays where it is, for another worker."""
    job = house.job()
    (house.prepared(job) / "data").write_bytes(b"kept")
    house.workspaces.retrieve(job)
    with pytest.raises(RoomGoneError):
        house.workspaces.prepare(job, str(house.area / "rooms" / "missing"))
    assert house.data(job).read_bytes() == b"kept"
    assert Path(house.workspaces.prepare(job, str(house.room)).path, "data").read_bytes() == b"kept"


def test_a_staging_directory_that_was_removed(house: House) -> None:
    """The job begins from zero; nothing is made where the area itself is missing."""
    job = house.job()
    (house.prepared(job) / "data").write_bytes(b"gone")
    shutil.rmtree(house.area)
    with pytest.raises(FileNotFoundError):
        house.workspaces.prepare(job, str(house.room))
    assert not house.area.exists()
    for path in (house.area / "jobs", house.room):
        path.mkdir(parents=True)
    assert (house.prepared(job) / "data").read_bytes() == b""


def test_nothing_is_lost_with_a_mount_that_comes_back(house: House) -> None:
    """While the file system is not there its workspaces are neither missed nor made anew."""
    gone = [False]

    def check(_area: str) -> None:
        if gone[0]:
            raise FetchdError(Code.DISK_GONE, "not mounted")

    house.workspaces = Workspaces(BOOT, check)
    job = house.job()
    (house.prepared(job) / "data").write_bytes(CONTENT)
    away = house.area.with_name("away")
    house.area.rename(away)
    gone[0] = True
    acts: list[Callable[[], object]] = [
        lambda: house.workspaces.retrieve(job),
        lambda: house.workspaces.seal(job, len(CONTENT)),
        lambda: house.workspaces.prepare(job, str(house.room)),
    ]
    for act in acts:
        with pytest.raises(FetchdError, match="not mounted"):
            act()
    assert not house.area.exists()
    away.rename(house.area)
    gone[0] = False
    assert house.workspaces.seal(job, len(CONTENT)).size == len(CONTENT)


def test_what_cannot_be_removed_is_not_used(house: House, downloads: Path) -> None:
    job = house.job()
    data = house.prepared(job) / "data"
    data.unlink()
    data.mkdir()
    with bound(downloads, data), pytest.raises(FetchdError, match="cannot be removed"):
        house.prepared(job)
    assert (house.prepared(job) / "data").is_file()


class AtOnce:
    """Helpers that do their work before they return."""

    def run(
        self, _key: str, function: Callable[[], Any], then: Callable[..., None], *, long: bool = False
    ) -> None:
        try:
            result = function()
        except Exception as error:
            then(None, error)
        else:
            then(result, None)


class Unmounted:
    """Areas none of which is there."""

    def check(self, area: str) -> None:
        raise FetchdError(Code.DISK_GONE, f"{area} is not mounted")


def test_nothing_is_published_under_a_mount_point(house: House) -> None:
    """Neither is a name looked for there: it is free until the file is published, which finds out."""
    job = house.sealed(directory=str(house.target / "new"))
    fed: list[inputs.Input] = []
    delivery = Delivery(
        helpers=AtOnce(), workspaces=house.workspaces, areas=Unmounted(),  # type: ignore[arg-type]
        reserved=lambda _directory, _names, then: then({}, None), feed=fed.append,
    )  # fmt: skip
    delivery.publish(commands.Publish(job))
    delivery.probe(commands.ProbeName(job, ("f",)))
    delivery.clean(commands.Clean(job))
    refused, probed = fed
    assert isinstance(refused, inputs.FileRefused)
    assert refused.code is Code.DISK_GONE
    assert probed == inputs.NameProbed(job.id, job.attempt, ("f",), frozenset())
    assert list(house.target.iterdir()) == []
    assert house.data(job).read_bytes() == CONTENT
