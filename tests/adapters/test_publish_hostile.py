"""Publishing while somebody plays tricks: at the destination, or in the workspace that a worker has left."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from fetchd.daemon.supervise.publish import publish, taken
from fetchd.protocol.errors import Code, FetchdError

from .flipping import flipping
from .publishing import names, published, refusal, run
from .staged import CONTENT, House


@pytest.fixture
def house(downloads: Path) -> House:
    (downloads / "target").mkdir()
    return House(downloads, downloads / "target")


def test_a_directory_that_has_become_a_link_since(any_house: House, downloads: Path) -> None:
    """Between submit and publish somebody has put a link in the place of a directory."""
    elsewhere = downloads / "elsewhere"
    (elsewhere / "below").mkdir(parents=True)
    any_house.target.mkdir(parents=True, exist_ok=True)
    for number, below in enumerate(("", "/below", "/new/deeper")):
        link = any_house.target / f"was-a-directory-{number}"
        link.symlink_to(elsewhere)
        job = any_house.sealed(id=f"job-{number}", directory=f"{link}{below}")
        with pytest.raises(FetchdError) as caught:
            publish(job)
        assert (caught.value.code, str(link) in caught.value.message) == (Code.DESTINATION, True)
        assert any_house.data(job).read_bytes() == CONTENT
        with pytest.raises(FetchdError):
            taken(job.directory, ("f",))
        # mended: another try does it
        link.unlink()
        assert taken(job.directory, ("f",)) == frozenset()
        publish(job)
        assert Path(job.directory, "f").read_bytes() == CONTENT
    assert [path.name for path in elsewhere.rglob("*")] == ["below"]


def test_a_directory_that_flips_between_itself_and_a_link(house: House, downloads: Path) -> None:
    """An attacker who may write above the directory: a file gets there or nowhere."""
    (downloads / "elsewhere").mkdir()
    said: dict[str, Code | None] = {}
    with flipping(house.target / "d", downloads / "elsewhere") as real:
        for number in range(2000):
            below = "" if number % 2 else f"/new-{number}"
            job = house.sealed(id=f"job-{number}", name=f"f{number}", directory=f"{house.target}/d{below}")
            try:
                publish(job)
                said[f"f{number}"] = None
            except FetchdError as error:
                said[f"f{number}"] = error.code
            if number >= 100 and len(set(said.values())) > 1:
                break
    assert set(said.values()) == {None, Code.DESTINATION}
    assert names(downloads / "elsewhere") == []
    found = {path.name for path in real().rglob("f*")}
    assert found == {name for name, code in said.items() if code is None}


def test_without_openat2(house: House, downloads: Path) -> None:
    """As under a sandbox that denies it."""
    injection = "openat2:error=ENOSYS"
    job = house.sealed()
    assert run(job, injection) == "done"
    published(house, job)
    (house.target / "link").symlink_to(downloads)
    linked = house.sealed(id="two", directory=str(house.target / "link"))
    assert run(linked, injection) == "destination"
    assert not (downloads / "f").exists()


@pytest.mark.parametrize("kind", ["dangling", "fifo", "device"])
def test_something_strange_under_the_final_name(any_house: House, kind: str) -> None:
    """It is neither opened nor followed: a name that is taken, and replaced where that was asked for."""
    any_house.target.mkdir(parents=True, exist_ok=True)
    path = any_house.target / "f"
    if kind == "dangling":
        path.symlink_to(any_house.target.parent / "not-there")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        if os.geteuid() != 0:
            pytest.skip("devices are made by root alone")
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    before = path.lstat()
    assert refusal(any_house.sealed()) is Code.EXISTS
    assert (path.lstat().st_ino, path.lstat().st_mode) == (before.st_ino, before.st_mode)
    job = any_house.sealed(id="two", if_exists="overwrite")
    publish(job)
    published(any_house, job)
    assert not (any_house.target.parent / "not-there").exists()


# what a worker may have left


def hard_link(data: Path) -> object:
    return os.link(data, data.parent.parent.parent / "kept")


def symbolic_link(data: Path) -> object:
    return data.rename(data.with_name("real")).with_name("data").symlink_to("real")


def fifo(data: Path) -> object:
    data.unlink()
    return os.mkfifo(data)


def directory(data: Path) -> object:
    data.unlink()
    return data.mkdir()


def linked_workspace(data: Path) -> object:
    moved = data.parent.rename(data.parent.parent.parent / "moved")
    return data.parent.symlink_to(moved)


@pytest.mark.parametrize("leave", [hard_link, symbolic_link, fifo, directory, linked_workspace])
def test_what_is_not_a_plain_file_of_our_own(any_house: House, leave: Callable[[Path], object]) -> None:
    job = any_house.sealed()
    leave(any_house.data(job))
    assert refusal(job) is Code.IO_ERROR
    assert not any_house.target.exists() or names(any_house.target) == []


def test_a_writer_that_is_still_open(any_house: House) -> None:
    job = any_house.sealed()
    with any_house.data(job).open("r+b"):
        assert refusal(job) is Code.IO_ERROR
        assert names(any_house.target) == []
    publish(job)
    published(any_house, job)
