"""Another boot, another clock: only synced bytes are trusted, and no wait is longer than was asked for.

The daemon runs in a mount namespace with another boot ID bound over the kernel's, and in a time namespace.
"""

import shutil
import sqlite3
import subprocess
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgpack
import pytest
from support.content import sha256_file, sha256_of
from support.daemon import DaemonProcess
from support.look import nothing_staged, until
from support.origin import Origin, Resource

from fetchd.protocol.job import State

SIZE, FIRST = 3_000_000, 1_500_000
BOOT_ID = "/proc/sys/kernel/random/boot_id"
TEN_YEARS = 10 * 365 * 86_400


def other_boot(directory: Path, *, ahead: int = 0) -> list[str]:
    """A wrapper for another boot, its clock ahead by so many seconds; skips where that cannot be had."""
    path = directory / "boot_id"
    path.write_text(f"{uuid.uuid4()}\n")
    time = ["-T", "--boottime", str(ahead), "--monotonic", str(ahead), "--fork"] if ahead else []
    script = f'mount --bind "$0" {BOOT_ID} && exec "$@"'
    wrapper = ["unshare", "-m", *time, "sh", "-c", script, str(path)]
    if shutil.which("unshare") is None:
        pytest.skip("unshare(1) is not installed")
    tried = subprocess.run([*wrapper, "cat", BOOT_ID], capture_output=True, text=True, check=False)
    if tried.returncode != 0 or tried.stdout != path.read_text():
        pytest.skip(f"another boot ID cannot be shown here: {tried.stderr.strip()}")
    return wrapper


def synced(daemon: DaemonProcess, job_id: str) -> list[list[int]]:
    """The ranges of a job that were on the disk for certain."""
    with closing(sqlite3.connect(daemon.state / "fetchd.db")) as database:
        (ranges,) = database.execute("SELECT synced FROM jobs WHERE id = ?", (job_id,)).fetchone()
    return list(msgpack.unpackb(ranges))


@pytest.mark.parametrize("again", [False, True], ids=["another boot", "the same boot"])
def test_after_another_boot_only_what_was_synced_is_trusted(
    make_daemon: Callable[..., DaemonProcess], origin: Origin, downloads: Path, tmp_path: Path, again: bool
) -> None:
    """All was written in the first second, before the first sync: the page cache had it, and nothing else."""
    gate = origin.gate()
    url = origin.add("/f", Resource(size=SIZE, seed=3), "hold", times=1, after=FIRST, gate=gate)
    daemon = make_daemon(wrapper=other_boot(tmp_path)).start()
    with daemon.client() as client:
        job = client.submit(url, directory=downloads, id="job", segments=1)
        until(job, lambda s: s.bytes == FIRST)
    daemon.kill()
    daemon.wait_all_gone()
    known = synced(daemon, "job")
    if not again:
        other_boot(tmp_path)
    daemon.start()
    with daemon.client() as client:
        assert sha256_file(client.get("job").result(timeout=30).path) == sha256_of(SIZE, 3)
    gate.open()
    start = FIRST if again else known[0][1] if known else 0
    assert origin.requests[-1].range == (f"bytes={start}-" if start else None)
    nothing_staged(daemon)


@pytest.mark.parametrize("forward", [True, False])
def test_a_wait_is_never_longer_than_was_asked_for(
    make_daemon: Callable[..., DaemonProcess],
    origin: Origin,
    downloads: Path,
    tmp_path: Path,
    forward: bool,
) -> None:
    """The clock that waits are counted on begins anew at every boot: ten years ahead, or behind."""
    url = origin.add("/f", Resource(size=1000, seed=3), "status", times=1, code=500)
    daemon = make_daemon(wrapper=other_boot(tmp_path, ahead=0 if forward else TEN_YEARS)).start()
    with daemon.client() as client:
        job = client.submit(url, directory=downloads, id="job")
        until(job, lambda s: s.state is State.WAITING)
    daemon.kill()
    daemon.wait_all_gone()
    daemon.wrapper = other_boot(tmp_path, ahead=TEN_YEARS if forward else 0)
    daemon.start()
    with daemon.client() as client:
        assert sha256_file(client.get("job").result(timeout=20).path) == sha256_of(1000, 3)
