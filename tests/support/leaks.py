"""What a test leaves behind: processes, descriptors, threads, temporary directories.

`snapshot` before and `leaks` after; both are quick (well below a millisecond) while nothing leaks. Things
that are ending by themselves get a short grace, waited for by descriptor or join.
"""

import gc
import os
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from . import daemon as daemons
from . import processes, tmp

GRACE = 2.0
"""Seconds for processes and threads that are on their way out."""

lasting: set[int] = set()
"""Processes of session fixtures that a test may restart (nginx): never a leak."""


@dataclass(frozen=True)
class Snapshot:
    """What this process has: descriptors with their targets, descendants, threads, temporary directories."""

    fds: frozenset[tuple[int, str]]
    children: frozenset[int]
    threads: frozenset[threading.Thread]
    directories: frozenset[Path]


def snapshot() -> Snapshot:
    """What there is now."""
    return Snapshot(
        frozenset(_fds()),
        frozenset(processes.descendants()),
        frozenset(threading.enumerate()),
        frozenset(tmp.live),
    )


def leaks(before: Snapshot) -> list[str]:
    """One line for each thing that is there now and was not before. Leaked processes are killed."""
    states, daemons.states = daemons.states, set()
    daemons.started.clear()
    found = [*_threads(before), *_processes(before, states), *_descriptors(before)]
    return found + [f"temporary directory {path}" for path in tmp.live - before.directories]


def _threads(before: Snapshot) -> Iterable[str]:
    for thread in threading.enumerate():
        if thread not in before.threads:
            thread.join(GRACE)
            if thread.is_alive():
                yield f"thread {thread.name}"


def _processes(before: Snapshot, states: set[Path]) -> list[str]:
    new = _new_descendants(before)
    if new:
        _end_multiprocessing()
    new |= processes.of_state(states)
    if not new:
        return []
    processes.await_end(new, GRACE)
    left = _new_descendants(before) | processes.of_state(states)
    found = [f"process {processes.describe(pid)}" for pid in sorted(left)]
    processes.kill(left)
    for pid in left:
        with suppress(ChildProcessError):  # only our own children can be reaped
            os.waitpid(pid, 0)
    return found


def _new_descendants(before: Snapshot) -> set[int]:
    new = processes.descendants() - before.children
    if new:
        new -= lasting.union(*map(processes.descendants, lasting))
    return new


def _descriptors(before: Snapshot) -> list[str]:
    new = _fds() - before.fds
    if new:
        gc.collect()  # what only a reference cycle keeps open has its own warning: ResourceWarning
        new = _fds() - before.fds
    return [f"descriptor {fd} -> {target}" for fd, target in sorted(new)]


def _fds() -> set[tuple[int, str]]:
    found = set()
    for entry in set(processes.names("/proc/self/fd")) - {"0", "1", "2"}:  # pytest's capture moves these
        with suppress(FileNotFoundError):  # the listing's own descriptor
            found.add((int(entry), os.readlink(f"/proc/self/fd/{entry}")))
    return found


def _end_multiprocessing() -> None:
    """The standard library's fork server and resource tracker live as long as their process: end them here.

    A test that starts workers in this process cannot do it by itself, as there is no public way to.
    """
    for name, holder in (("forkserver", "_forkserver"), ("resource_tracker", "_resource_tracker")):
        module = sys.modules.get(f"multiprocessing.{name}")
        if module is not None:
            getattr(module, holder)._stop()
