"""What processes cost: wall time, CPU of a whole family, and its peak memory.

CPU is user and system time from /proc/<pid>/stat, children that have been reaped included; what the kernel
writes back by itself is nobody's. Memory is the sum of PSS over the family, sampled by a thread, so a peak
shorter than the sampling interval can be missed.
"""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tests.support.processes import descendants

INTERVAL = 0.1
"""Seconds between two samples of memory; one sample of a daemon with five workers takes 2 to 3 ms."""

_TICK = os.sysconf("SC_CLK_TCK")


class Cost(NamedTuple):
    """One run: wall and CPU time in seconds, peak PSS in bytes."""

    wall: float
    cpu: float
    memory: int


class Memory(NamedTuple):
    """Memory of one process in bytes; `private` is what its end would give back."""

    pss: int
    private: int


def family(root: int) -> set[int]:
    """A process and all its descendants."""
    return {root, *descendants(root)}


def cpu_times(pids: Iterable[int]) -> tuple[float, float]:
    """User and system seconds that these processes and their reaped children have used so far."""
    user = system = 0
    for pid in pids:
        with suppress(OSError):  # it has ended; its parent counts it once it is reaped
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            user += int(fields[11]) + int(fields[13])
            system += int(fields[12]) + int(fields[14])
    return user / _TICK, system / _TICK


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time that these processes and their reaped children have used so far."""
    return sum(cpu_times(pids))


def memory(pid: int) -> Memory:
    """Memory of a process; nothing if it has ended."""
    pss = private = 0
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "Pss":
                pss = int(value.split()[0]) << 10
            elif name in ("Private_Clean", "Private_Dirty"):
                private += int(value.split()[0]) << 10
    return Memory(pss, private)


def total_pss(pids: Iterable[int]) -> int:
    """PSS of all of them together in bytes."""
    return sum(memory(pid).pss for pid in pids)


def name(pid: int) -> str:
    """What a process calls itself."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "?"


class Sampler:
    """The peak of a family's memory while the `with` block runs."""

    def __init__(self, pids: Callable[[], Collection[int]], interval: float = INTERVAL) -> None:
        self.peak = 0
        self._pids = pids
        self._interval = interval
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler")

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(self._interval):
            self.peak = max(self.peak, total_pss(self._pids()))


class Meter:
    """The cost of what a running family did during `metered`."""

    cost: Cost


@contextmanager
def metered(root: int) -> Iterator[Meter]:
    """Measure a block in which a running process and its family do the work; `cost` is there afterwards."""
    meter = Meter()
    with Sampler(lambda: family(root)) as sampler:
        before = cpu_seconds(family(root))
        began = time.perf_counter()
        yield meter
        wall = time.perf_counter() - began
        used = cpu_seconds(family(root)) - before
    meter.cost = Cost(wall, used, max(sampler.peak, total_pss(family(root))))


def run(command: Sequence[str], log: Path) -> Cost:
    """Run a program to its end; RuntimeError with what it said (in `log`) if it did not succeed."""
    with log.open("wb") as output:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            with Sampler(lambda: family(process.pid)) as sampler:
                _, status, usage = os.wait4(process.pid, 0)
                wall = time.perf_counter() - began
        except BaseException:
            process.kill()
            process.wait()
            raise
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        said = log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{' '.join(command)[:300]} ended with {process.returncode}:\n{said}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, sampler.peak or usage.ru_maxrss << 10)
