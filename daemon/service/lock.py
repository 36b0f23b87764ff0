"""Whose state directory this is: locks, and the end of an earlier daemon's children."""

import contextlib
import fcntl
import os
import signal
import threading
from pathlib import Path


class LockedError(Exception):
    """Another daemon has the directory, or its children are not gone."""


class StateLock:
    """The exclusive lock on a state directory, held for the life of the process. Taken before any bind.

    `workers_file` is locked shared by every child, `pids_file` records them.
    """

    def __init__(self, state: Path) -> None:
        self.workers_file = state / "workers.lock"
        self.pids_file = state / "workers.pids"
        self._fd = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise LockedError(f"another daemon uses {state}") from None
        os.close(os.open(self.workers_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def close(self) -> None:
        os.close(self._fd)

    def record(self, pid: int) -> None:
        """Remember a child, so that a later daemon can end it if this one cannot."""
        if started := start_time(pid):
            with self.pids_file.open("a") as file:
                file.write(f"{pid} {started}\n")

    def outlive_children(self, deadline: float) -> None:
        """End what an earlier daemon left running and wait, up to `deadline` s, until it is gone."""
        self._kill_recorded()
        done = threading.Event()

        def wait() -> None:
            fd = os.open(self.workers_file, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
            finally:
                os.close(fd)
            done.set()

        # a blocking lock in a thread: flock(2) has no deadline, and polling it is not our way
        threading.Thread(target=wait, name="workers-lock", daemon=True).start()
        if not done.wait(deadline):
            raise LockedError("workers of an earlier daemon are still running and cannot be ended")
        self.pids_file.unlink(missing_ok=True)

    def _kill_recorded(self) -> None:
        try:
            lines = self.pids_file.read_text().splitlines()
        except (OSError, UnicodeDecodeError):
            return
        for line in lines:
            pid, _, started = line.partition(" ")
            if not (pid.isdecimal() and started.isdecimal()):
                continue
            # 0 for a start time: it was gone before it could be recorded. 0 for a PID would be our own group
            if int(pid) > 1 and int(started) > 0 and start_time(int(pid)) == int(started):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(int(pid), signal.SIGKILL)


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot (proc(5): field 22 of stat); 0 for no process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (OSError, UnicodeDecodeError):
        return 0
    # the command name may contain anything, so count from the last parenthesis
    fields = stat.rpartition(")")[2].split()
    return int(fields[19])
