"""Who is running: descendants of this process, and everyone who belongs to a daemon's state directory.

Orphans are adopted by init, so descent alone does not find them; they are known by the FETCHD_STATE_DIR they
were started with, by their command line, or by what they hold open there (`workers.lock`, the log). The last
also finds those in the middle of an execve, which for a moment show neither environment nor command line.
"""

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from .wait import Deadline, process_exit

LOG = b"daemon.log"
"""Beside the state directory: where `DaemonProcess` sends the output of the daemon and its children."""


def names(directory: str) -> list[str]:
    """The entries of a directory of /proc. Much quicker than pathlib, and it matters here."""
    with os.scandir(directory) as entries:
        return [entry.name for entry in entries]


def descendants(pid: int | None = None) -> set[int]:
    """All descendants of a process (this one by default), zombies included. Quick."""
    found: set[int] = set()
    todo = [pid or os.getpid()]
    while todo:
        for child in _children(todo.pop()):
            if child not in found:
                found.add(child)
                todo.append(child)
    return found


def describe(pid: int) -> str:
    """A process in one line, for messages."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        command = (
            Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        )
    except OSError:
        return f"{pid} (gone)"
    return f"{pid} (state {stat[0]}, parent {stat[1]}): {command[:300] or '?'}"


def is_alive(pid: int) -> bool:
    """Whether a process exists and is no zombie, nor on its way there without descriptors (PF_EXITING)."""
    try:
        state, *_, flags = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:7]
    except (OSError, ValueError):
        return False
    return state not in "ZX" and not int(flags) & 0x4


def of_state(states: Iterable[Path]) -> set[int]:
    """Living processes, except this one, that belong to one of these state directories."""
    wanted = [os.fsencode(state) for state in states]
    if not wanted:
        return set()
    everyone = {int(entry) for entry in names("/proc") if entry.isdecimal()} - {os.getpid()}
    found = {pid for pid in everyone if _belongs(pid, wanted)}
    found = found.union(*map(descendants, found))
    return {pid for pid in found if is_alive(pid)}


def await_end(pids: Iterable[int], timeout: float) -> set[int]:
    """Wait until all these processes have ended; returns those that have not within `timeout` seconds."""
    deadline = Deadline(timeout)
    left: set[int] = set()
    for pid in pids:
        try:
            process_exit(pid, deadline.left("the end of a process"))
        except TimeoutError:
            if is_alive(pid):
                left.add(pid)
    return left


def kill(pids: Iterable[int]) -> None:
    """SIGKILL these processes (only ever ones that a test started)."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _children(pid: int) -> Iterator[int]:
    try:
        for task in names(f"/proc/{pid}/task"):
            with suppress(OSError):
                yield from map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    except OSError:  # it has ended
        return


def _belongs(pid: int, wanted: list[bytes]) -> bool:
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        if any(b"FETCHD_STATE_DIR=" + name in environ for name in wanted):
            return True
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        if any(name + end in command + b"\0" for name in wanted for end in (b"\0", b"/")):
            return True
        targets = [os.fsencode(_target(f"/proc/{pid}/fd/{fd}")) for fd in names(f"/proc/{pid}/fd")]
        return any(
            target.startswith(name + b"/") or target == os.path.join(os.path.dirname(name), LOG)
            for name in wanted
            for target in targets
        )
    except OSError:  # it has ended, or belongs to someone else
        return False


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""
