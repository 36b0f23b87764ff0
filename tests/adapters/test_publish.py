"""Publishing: under the final name whole or not at all, once, whatever crashes in between."""

import errno
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from support.mounts import mounted
from support.tmp import TempDir

from fetchd.daemon.core.job import Job
from fetchd.daemon.supervise import publish as module
from fetchd.daemon.supervise.publish import publish, taken
from fetchd.daemon.supervise.untrusted import LostError
from fetchd.protocol.errors import Code

from .publishing import SCRIPT, names, published, refusal, run
from .staged import CONTENT, House

STEPS = ["renameat2", "unlinkat", "mkdirat", "fsync", "utimensat", "fchmod"]
"""System calls that change something."""


@pytest.fixture
def house(downloads: Path) -> House:
    (downloads / "target").mkdir()
    return House(downloads, downloads / "target")


def test_a_file_under_its_name(any_house: House) -> None:
    job = any_house.sealed(umask=0o027)
    publish(job)
    published(any_house, job)
    publish(job)
    published(any_house, job)


def test_new_directories_have_the_submitters_mode(house: House) -> None:
    job = house.sealed(directory=str(house.target / "a" / "b"), umask=0o007)
    publish(job)
    for path in (house.target / "a", house.target / "a" / "b"):
        assert path.stat().st_mode & 0o777 == 0o770
    assert (house.target / "a" / "b" / "f").read_bytes() == CONTENT


def together(jobs: list[Job]) -> list[BaseException]:
    """Publish them at the same time, each in a thread; the errors."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(len(jobs))

    def work(job: Job) -> None:
        barrier.wait(10)
        try:
            publish(job)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    return errors


def test_many_jobs_make_one_new_directory(house: House) -> None:
    """The helper threads publish the first files of an album at the same time."""
    for number in range(30):
        directory = house.target / f"album-{number}" / "disc"
        jobs = [
            house.sealed(id=f"job-{number}-{n}", name=f"f{n}", directory=str(directory)) for n in range(4)
        ]
        assert together(jobs) == []
        assert names(directory) == ["f0", "f1", "f2", "f3"]
        assert {path.stat().st_mode & 0o7777 for path in (directory, directory.parent)} == {0o755}


# what is in the way


def test_a_file_in_the_way_is_kept(any_house: House) -> None:
    any_house.target.mkdir(parents=True, exist_ok=True)
    (any_house.target / "f").write_bytes(b"mine")
    job = any_house.sealed()
    assert refusal(job) is Code.EXISTS
    assert (any_house.target / "f").read_bytes() == b"mine"
    assert names(any_house.target) == ["f"]
    assert any_house.data(job).exists()


def test_a_file_in_the_way_is_replaced_where_that_was_asked_for(any_house: House) -> None:
    any_house.target.mkdir(parents=True, exist_ok=True)
    (any_house.target / "f").write_bytes(b"old")
    job = any_house.sealed(if_exists="overwrite")
    publish(job)
    published(any_house, job)


@pytest.mark.parametrize("policy", ["fail", "overwrite"])
def test_a_directory_in_the_way(any_house: House, policy: str) -> None:
    (any_house.target / "f").mkdir(parents=True)
    assert refusal(any_house.sealed(if_exists=policy)) is Code.EXISTS


def test_a_link_in_the_way_is_a_name_that_is_taken(house: House, downloads: Path) -> None:
    (house.target / "f").symlink_to(downloads / "elsewhere")
    assert refusal(house.sealed()) is Code.EXISTS
    publish(house.sealed(id="two", if_exists="overwrite"))
    assert not (house.target / "f").is_symlink()
    assert not (downloads / "elsewhere").exists()


def test_something_else_where_the_directory_should_be(house: House) -> None:
    (house.target / "file").touch()
    assert refusal(house.sealed(directory=str(house.target / "file"))) is Code.DESTINATION
    assert refusal(house.sealed(id="b", directory=str(house.target / "file" / "x"))) is Code.DESTINATION


def test_which_names_are_taken(house: House) -> None:
    (house.target / "a").touch()
    (house.target / "dangling").symlink_to("nowhere")
    found = taken(str(house.target), ("a", "b", "dangling", "x" * 300))
    assert found == {"a", "dangling"}


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"x" * len(CONTENT)),
        lambda path: (path.unlink(), path.write_bytes(CONTENT)),
        lambda path: path.write_bytes(CONTENT + b"x"),
    ],
    ids=["rewritten", "replaced", "longer"],
)
def test_a_file_that_was_changed_since_it_was_sealed(house: House, change: Callable[[Path], object]) -> None:
    job = house.sealed()
    # a file that is opened for writing gets another time, unless the clock of the file system is too coarse
    os.utime(house.data(job), ns=(job.mtime_ns - 10**9, job.mtime_ns - 10**9))
    job = replace(job, mtime_ns=job.mtime_ns - 10**9)
    change(house.data(job))
    assert refusal(job) is Code.IO_ERROR
    assert names(house.target) == []


# crashes


@pytest.mark.parametrize("call", STEPS)
def test_a_crash_between_any_two_steps(any_house: House, call: str) -> None:
    """Killed before the Nth call of a kind, for every N: nothing half is seen, another try does it."""
    for number in range(1, 20):
        job = any_house.sealed(id=f"job-{number}")
        said = run(job, f"{call}:signal=KILL:when={number}")
        visible = any_house.target / "f"
        assert not visible.exists() or visible.read_bytes() == CONTENT
        assert run(job) == "done"
        published(any_house, job)
        visible.unlink()
        if said == "done":
            return
    pytest.fail("it does not come to an end")


def test_when_neither_has_the_file(any_house: House) -> None:
    job = any_house.sealed()
    any_house.data(job).unlink()
    with pytest.raises(LostError):
        publish(job)
    any_house.target.mkdir(parents=True, exist_ok=True)
    (any_house.target / "f").write_bytes(CONTENT)
    with pytest.raises(LostError):
        publish(job)


def test_across_mounts_the_name_is_on_disk_before_the_other_copy_goes(downloads: Path) -> None:
    """Two file systems have no common order: a power cut could leave neither."""
    if shutil.which("strace") is None:
        pytest.skip("strace is missing (apt-get install strace)")
    with mounted() as other:
        house = House(downloads, other)
        job = house.sealed()
        log = downloads / "trace"
        calls = "trace=renameat,renameat2,fsync,unlinkat,openat"
        command = ["strace", "-f", "-qq", "-y", "-o", str(log), "-e", calls, sys.executable, "-c", SCRIPT]
        subprocess.run([*command, msgspec.json.encode(job).decode()], check=True, capture_output=True)
        steps = []
        for line in log.read_text().splitlines():
            if "renameat2(" in line and line.endswith("= 0"):
                steps.append("named")
            elif "fsync(" in line and f"<{other}>" in line:
                steps.append("directory synced")
            elif "fsync(" in line and ".part>" in line:
                steps.append("copy synced")
            elif "unlinkat(" in line and f"<{house.data(job).parent}>" in line:
                steps.append("source gone")
        assert steps[:4] == ["copy synced", "named", "directory synced", "source gone"]


def test_a_hidden_file_that_somebody_has_put_there_is_not_written_to(downloads: Path) -> None:
    with mounted() as other:
        house = House(downloads, other)
        job = house.sealed()
        precious = downloads / "precious"
        precious.write_bytes(b"precious")
        (other / f".fetchd-{job.id}.part").symlink_to(precious)
        publish(job)
        assert precious.read_bytes() == b"precious"
        published(house, job)


def test_a_copy_that_does_not_fit(downloads: Path) -> None:
    with mounted() as other:
        house = House(downloads, other)
        job = house.sealed(bytes(9 << 20))
        assert refusal(job) is Code.DISK_FULL
        assert names(other) == []
        assert house.data(job).exists()


def test_another_mount_of_the_same_device(downloads: Path) -> None:
    """As under systemd: a rename fails on one device. After a crash the copy is still known as ours."""
    (downloads / "bound").mkdir()
    (downloads / "target").mkdir()
    bind = ["mount", "--bind", str(downloads / "target"), str(downloads / "bound")]
    if subprocess.run(bind, check=False, capture_output=True).returncode != 0:
        pytest.skip("no bind mounts here")
    try:
        house = House(downloads, downloads / "bound")
        job = house.sealed()
        publish(job)
        published(house, job)
        publish(job)
    finally:
        subprocess.run(["umount", str(downloads / "bound")], check=True)


# faults of the disk


def steps(house: House, job: Job, *injections: str) -> tuple[str, list[str]]:
    """What a process says that publishes the job, and what it does to the target directory, in order."""
    with TempDir() as directory:
        log = directory / "trace"
        calls = "trace=renameat,renameat2,fsync,unlinkat,openat"
        said = run(job, *injections, trace=("-y", "-e", calls, "-o", str(log)))
        lines = [line for line in log.read_text().splitlines() if str(house.target) in line]
    steps = {"rename": "moved", f"fsync.*<{house.target}>": "synced", ".sync.*O_CREAT": "changed"}
    done = [name for line in lines for call, name in steps.items() if re.search(f"{call}.*= [0-9]+", line)]
    return said, done


def test_a_directory_that_cannot_be_synced_is_changed_before_it_is_synced_again(any_house: House) -> None:
    """The kernel takes for written what it could not write: a second sync of that says nothing."""
    any_house.target.mkdir(parents=True, exist_ok=True)
    job = any_house.sealed()
    # across mounts the copy itself is synced first
    across = any_house.target.parent != any_house.area.parent
    said, done = steps(any_house, job, f"fsync:error=EIO:when={2 if across else 1}")
    assert said == "io_error"
    assert done == ["moved"]
    said, done = steps(any_house, job)
    assert said == "done"
    assert done[:2] == ["changed", "synced"]
    published(any_house, job)


def test_a_new_directory_that_cannot_be_synced_is_made_again(house: House) -> None:
    job = house.sealed(directory=str(house.target / "new"))
    assert run(job, "fsync:error=EIO:when=1") == "io_error"
    assert names(house.target) == []
    said, done = steps(house, job)
    assert (said, done[0]) == ("done", "synced"), "the directory above it"
    assert (house.target / "new" / "f").read_bytes() == CONTENT


# file systems that cannot do everything


@pytest.mark.parametrize("missing", ["EINVAL", "ENOSYS"])
def test_without_renameat2(house: House, missing: str) -> None:
    job = house.sealed()
    assert run(job, f"renameat2:error={missing}") == "done"
    published(house, job)
    (house.target / "f").write_bytes(b"mine")
    assert run(house.sealed(id="two"), f"renameat2:error={missing}") == "exists"
    assert (house.target / "f").read_bytes() == b"mine"


def test_without_renameat2_killed_between_link_and_unlink(house: House) -> None:
    job = house.sealed()
    assert run(job, "renameat2:error=EINVAL", "unlinkat:signal=KILL") == ""
    assert (house.target / "f").stat().st_nlink == 2
    assert run(job, "renameat2:error=EINVAL") == "done"
    published(house, job)


@pytest.mark.parametrize("missing", ["EPERM", "EOPNOTSUPP"])
def test_without_links_either(house: House, missing: str) -> None:
    injections = ("renameat2:error=EINVAL", f"linkat,link:error={missing}")
    job = house.sealed()
    assert run(job, *injections) == "done"
    published(house, job)
    (house.target / "f").write_bytes(b"")
    assert run(house.sealed(id="two"), *injections) == "exists"
    assert (house.target / "f").read_bytes() == b""


def test_without_links_killed_after_the_placeholder(house: House) -> None:
    injections = ("renameat2:error=EINVAL", "linkat,link:error=EPERM")
    job = house.sealed()
    assert run(job, *injections, "renameat:signal=KILL") == ""
    assert (house.target / "f").stat().st_size == 0
    assert run(job, *injections) == "done"
    published(house, job)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.EEXIST, Code.EXISTS), (errno.ENOSPC, Code.DISK_FULL), (errno.EDQUOT, Code.DISK_FULL),
        (errno.EACCES, Code.DESTINATION), (errno.ELOOP, Code.DESTINATION), (errno.EROFS, Code.DISK_GONE),
        (errno.EMFILE, Code.EXHAUSTED), (errno.ENOENT, Code.DESTINATION),
        (errno.EIO, Code.IO_ERROR),
    ],
)  # fmt: skip
def test_codes(number: int, code: Code) -> None:
    assert module._refusal(OSError(number, os.strerror(number)), "/x").code is code
