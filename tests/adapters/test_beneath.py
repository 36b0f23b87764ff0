"""Directories by descriptor: no link is followed, with openat2 and without, and what is missing is made."""

import os
import threading
from pathlib import Path

import pytest

from fetchd.daemon.supervise.beneath import make_directories, open_directory
from fetchd.protocol.errors import Code, FetchdError

from .flipping import flipping
from .staged import no_descriptors

both_ways = pytest.mark.parametrize("walk", [False, True], ids=["openat2", "walk"])


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def same(fd: int, path: Path) -> bool:
    """Whether the descriptor, which is closed, is one of this directory, and can be synced."""
    try:
        os.fsync(fd)
        return os.path.samestat(os.fstat(fd), path.stat())
    finally:
        os.close(fd)


def refused(root: Path, relative: str, walk: bool) -> str:
    """The message of both functions, which say the same."""
    before, said = descriptors(), set()
    for attempt in (
        lambda: open_directory(str(root), relative, walk=walk),
        lambda: make_directories(str(root), relative, 0o755, walk=walk),
    ):
        with pytest.raises(FetchdError) as caught:
            attempt()
        assert caught.value.code is Code.DESTINATION
        said.add(caught.value.message)
    assert descriptors() == before
    return said.pop()


@both_ways
def test_a_directory_below_a_root(downloads: Path, walk: bool) -> None:
    (downloads / "a" / "b").mkdir(parents=True)
    before = descriptors()
    assert same(open_directory(str(downloads), "a/b", walk=walk), downloads / "a" / "b")
    assert same(open_directory("/", str(downloads / "a"), walk=walk), downloads / "a")
    assert same(open_directory(str(downloads), "", walk=walk), downloads)
    assert same(make_directories(str(downloads), "a/b", 0o755, walk=walk), downloads / "a" / "b")
    with pytest.raises(FileNotFoundError):
        open_directory(str(downloads), "a/c", walk=walk)
    assert descriptors() == before


@both_ways
def test_no_link_is_followed(downloads: Path, walk: bool) -> None:
    """Not even one that stays below the root; the message names the component."""
    (downloads / "real" / "below").mkdir(parents=True)
    (downloads / "link").symlink_to("real")
    (downloads / "away").symlink_to("/")
    (downloads / "dangling").symlink_to("nowhere")
    (downloads / "real" / "last").symlink_to("below")
    for relative, name in {
        "link": "link", "link/below": "link", "away/tmp": "away", "dangling": "dangling",
        "dangling/x": "dangling", "real/last": "real/last",
    }.items():  # fmt: skip
        assert refused(downloads, relative, walk) == f"{downloads / name} has become a link"
    assert not (downloads / "nowhere").exists()


@both_ways
def test_a_magic_link_is_no_directory_either(walk: bool) -> None:
    assert refused(Path("/proc/self"), "cwd", walk) == "/proc/self/cwd has become a link"


@both_ways
def test_what_is_no_directory(downloads: Path, walk: bool) -> None:
    (downloads / "file").touch()
    os.mkfifo(downloads / "fifo")
    for relative in ("file", "file/x", "fifo"):
        where = downloads / relative.split("/")[0]
        assert refused(downloads, relative, walk) == f"{where} is not a directory"
    refused(downloads, "../x", walk)


@both_ways
def test_what_is_missing_is_made_with_its_mode(downloads: Path, walk: bool) -> None:
    (downloads / "old").mkdir(mode=0o700)
    before = descriptors()
    made = make_directories(str(downloads), "old/a/b", 0o750, walk=walk)
    assert same(made, downloads / "old" / "a" / "b")
    assert descriptors() == before
    modes = [(downloads / path).stat().st_mode & 0o7777 for path in ("old", "old/a", "old/a/b")]
    assert modes == [0o700, 0o750, 0o750]


def test_the_group_of_the_parent_is_kept(downloads: Path) -> None:
    (downloads / "shared").mkdir()
    (downloads / "shared").chmod(0o2775)
    os.close(make_directories(str(downloads), "shared/a", 0o770))
    assert (downloads / "shared" / "a").stat().st_mode & 0o7777 == 0o2770


@both_ways
def test_many_make_the_same(downloads: Path, walk: bool) -> None:
    """One makes a directory and another one is already in it: each has its mode at last."""
    for number in range(50):
        barrier = threading.Barrier(4)
        made: list[int] = []

        def work(relative: str, barrier: threading.Barrier, made: list[int]) -> None:
            barrier.wait(10)
            made.append(make_directories(str(downloads), relative, 0o755, walk=walk))

        relative = f"{number}/a/b"
        threads = [threading.Thread(target=work, args=(relative, barrier, made)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert [same(fd, downloads / relative) for fd in made] == [True] * 4
        for path in (str(number), f"{number}/a", relative):
            assert (downloads / path).stat().st_mode & 0o7777 == 0o755


@both_ways
def test_nothing_is_made_behind_a_link_that_comes_and_goes(downloads: Path, walk: bool) -> None:
    elsewhere = downloads / "elsewhere"
    elsewhere.mkdir()
    before, said = descriptors(), set()
    with flipping(downloads / "d", elsewhere):
        for number in range(5000):
            try:
                os.close(make_directories(str(downloads), f"d/{number}", 0o755, walk=walk))
                said.add("made")
            except FetchdError as error:
                said.add(error.code)
            if number >= 200 and len(said) > 1:
                break
    assert said == {"made", Code.DESTINATION}
    assert list(elsewhere.iterdir()) == []
    assert descriptors() == before


@both_ways
def test_out_of_descriptors_is_not_the_destination(downloads: Path, walk: bool) -> None:
    """It passes, and nobody is told to mend the destination."""
    (downloads / "a").mkdir()
    with no_descriptors(), pytest.raises(OSError, match="Too many open files"):
        open_directory(str(downloads), "a", walk=walk)
