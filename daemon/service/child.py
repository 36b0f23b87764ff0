"""What every child of the fork server does first, so that none outlives the supervisor.

With multiprocessing's fork server a child's parent is the fork server, and the child inherits descriptors
that keep it alive, the write end of its alive pipe above all: after `kill -9` of the supervisor everything
would live on.
"""

import ctypes
import fcntl
import os
import signal
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15

AUTHORITIES = "FETCHD_AUTHORITIES"
"""The variable that tells the fork server which bundle its workers will use."""

libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, value: int | bytes) -> None:
    """prctl(2) with one argument, or OSError."""
    argument = ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.c_ulong(value)
    if libc.prctl(option, argument, ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def bind_to_parent(parent: int) -> None:
    """Die when the parent dies; exit at once if it is dead already."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def close_inherited(keep: set[int]) -> None:
    """Close all descriptors but the standard ones and `keep`."""
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd > 2 and fd not in keep:
            try:
                os.close(fd)
            except OSError:
                continue


def settle(parent: int, workers_lock: Path, name: str, keep: set[int] | None = None) -> None:
    """The first thing in a child: bound to its parent, alone with its descriptors, counted by the lock.

    The shared lock is how a starting daemon learns that the children of an earlier one are really gone.
    """
    bind_to_parent(parent)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # the supervisor decides when children end, also when a terminal signals the whole group
        signal.signal(number, signal.SIG_IGN)
    close_inherited(keep or set())
    lock = os.open(workers_lock, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(lock, fcntl.LOCK_SH)
    prctl(PR_SET_NAME, name.encode()[:15])
