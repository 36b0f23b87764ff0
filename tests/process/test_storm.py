"""Workers that die as they are born: bounded spawns, the others go on, and no job fails for it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.content import sha256_file, sha256_of
from support.daemon import DaemonProcess
from support.look import nothing_staged
from support.origin import Origin, Resource
from support.wait import Watch

from fetchd.protocol.job import TERMINAL

BREAK = """
import os, sys
STORM = {!r}
def die():
    if sys.argv[:1] == ["-c"] and os.path.exists(STORM):
        with open(STORM + ".deaths", "ab", buffering=0) as file:
            file.write(b"x")
        os._exit(3)
os.register_at_fork(after_in_child=die)
"""
"""Loaded by every Python of the daemon. The fork server, the one with `-c`, forks workers and helpers."""

WORKERS = 2
SIZE = 100_000


class Storm:
    """While it rages every child of the fork server ends at once."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "storm"
        self._deaths = directory / "storm.deaths"
        self._deaths.touch()
        (directory / "sitecustomize.py").write_text(BREAK.format(str(self._file)))
        self.env = {
            "PYTHONPATH": str(directory), "FETCHD_WORKERS": str(WORKERS),
        }  # fmt: skip
        self.begin, self.end = self._file.touch, self._file.unlink

    @property
    def deaths(self) -> int:
        return self._deaths.stat().st_size

    def wait(self, deaths: int, timeout: float) -> None:
        """Wait until so many have died."""
        with Watch(self._deaths.parent) as watch:
            watch.until(lambda: self.deaths >= deaths, timeout, f"{deaths} deaths")


@pytest.fixture
def storm(tmp_path: Path) -> Storm:
    return Storm(tmp_path)


def test_a_storm_is_weathered(
    make_daemon: Callable[..., DaemonProcess], origin: Origin, downloads: Path, storm: Storm
) -> None:
    """Four deaths of a slot come at once, from then on the pauses double; it goes on when one is over."""
    storm.begin()
    daemon = make_daemon(storm.env).start()
    with daemon.client() as client:
        jobs = [
            client.submit(origin.add(f"/f{n}", Resource(size=SIZE, seed=n)), directory=downloads)
            for n in range(3)
        ]
        storm.wait(4 * WORKERS, 30)
        # after 1 s and 2 s more: two of each slot at most
        with pytest.raises(TimeoutError):
            storm.wait(storm.deaths + 2 * WORKERS + 1, 2)
        assert client.status().pid == daemon.pid
        assert not {job.snapshot().state for job in jobs} & TERMINAL, "no job is to blame"
        storm.end()
        for n, job in enumerate(jobs):
            assert sha256_file(job.result(timeout=25).path) == sha256_of(SIZE, n)
            assert job.snapshot().error is None
    nothing_staged(daemon)


def test_other_slots_go_on_in_a_storm(
    make_daemon: Callable[..., DaemonProcess], origin: Origin, downloads: Path, storm: Storm
) -> None:
    """A worker that was there before goes on with its job, and takes what nobody else can."""
    daemon = make_daemon(storm.env).start()
    gate = origin.gate()
    with daemon.client() as client:
        held = origin.add("/held", Resource(size=SIZE, seed=1), "hold", after=1000, gate=gate)
        first = client.submit(held, directory=downloads)
        gate.wait_arrived()
        storm.begin()
        later = client.submit(origin.add("/later", Resource(size=SIZE, seed=2)), directory=downloads)
        storm.wait(4, 30)
        gate.open()
        assert sha256_file(first.result(timeout=30).path) == sha256_of(SIZE, 1)
        assert first.snapshot().attempt == 1
        assert sha256_file(later.result(timeout=30).path) == sha256_of(SIZE, 2)
        storm.end()
    nothing_staged(daemon)
