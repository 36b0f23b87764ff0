"""A real daemon for a test: its own state directory, a ready signal instead of a guess, and a certain end."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import psutil

from fetchd.daemon.sandbox import room
from fetchd.protocol.paths import Endpoint, read_endpoint

from . import processes
from .tmp import TempDir
from .wait import Deadline, process_exit, read_line

if TYPE_CHECKING:
    from fetchd.client import Client

SANDBOX = "best-effort" if room.missing(room.probe()) else "required"
"""All tests go through the whole sandbox, where this kernel has it."""

states: set[Path] = set()
"""State directories of every daemon started since the last leak check, which empties it."""

started: "list[DaemonProcess]" = []
"""The daemons of the running test, for their logs in its report."""


class StartError(Exception):
    """The daemon did not become ready; the message has its own words and the end of its log."""


class DaemonProcess:
    """A daemon on a state directory of its own. Nothing runs before `start`; `close` ends everything.

    `env` are settings (`FETCHD_WORKERS="3"`), laid over this process's environment without its own FETCHD_*.
    `wrapper` is a command that runs the daemon as its child or in its place (strace, unshare). `args` follow
    `run`.
    """

    def __init__(
        self, env: Mapping[str, str] | None = None, *, wrapper: Sequence[str] = (), args: Sequence[str] = ()
    ) -> None:
        self._temp = TempDir()
        self.root = self._temp.path
        self.state = self.root / "state"
        self.log_path = self.root / os.fsdecode(processes.LOG)
        self.env = {key: value for key, value in os.environ.items() if not key.startswith("FETCHD_")}
        self.env.update({"FETCHD_SANDBOX": SANDBOX} | dict(env or {}), FETCHD_STATE_DIR=str(self.state))
        self.wrapper = list(wrapper)
        self.args = list(args)
        self.process: subprocess.Popen[bytes] | None = None
        self._ready: int | None = None
        self.command: list[str] = [sys.executable, "-m", "fetchd.daemon", "run"]
        states.add(self.state)
        started.append(self)

    # life

    def start(self, timeout: float = 20.0) -> "DaemonProcess":
        """Run the daemon and wait until it says it is ready. StartError where it says something else."""
        assert self.process is None, "the daemon runs already"
        try:
            said = read_line(self.launch(), timeout, "the daemon to be ready")
        except BaseException as error:
            self._put_down()
            if isinstance(error, TimeoutError):
                raise StartError(f"{error}\n{self.log()}") from None
            raise
        finally:
            self._close_ready()
        if said != b"ready\n":
            self._put_down()
            raise StartError(f"{said.decode(errors='replace') or 'it ended'}\n{self.log()}")
        return self

    def launch(self) -> int:
        """Run the daemon and do not wait for it. Returns a descriptor, closed by its end, that is readable
        when it is ready."""
        self._close_ready()
        self._ready, write_end = os.pipe()
        command = [*self.wrapper, *self.command, "--ready-fd", str(write_end), *self.args]
        try:
            with self.log_path.open("ab") as log:
                self.process = subprocess.Popen(
                    command, env=self.env, cwd=self.root, pass_fds=[write_end], start_new_session=True,
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                )  # fmt: skip
        finally:
            os.close(write_end)
        return self._ready

    @property
    def pid(self) -> int:
        """The supervisor's process ID, also behind a wrapper."""
        assert self.process is not None, "the daemon does not run"
        if not self.wrapper:
            return self.process.pid
        pid = self.endpoint.pid
        ours = processes.descendants(self.process.pid) | {self.process.pid}
        assert pid in ours, f"endpoint.json names {pid}, which this test did not start"
        return pid

    @property
    def is_running(self) -> bool:
        """Whether the daemon (or its wrapper) has not ended yet. Reaps it if it has."""
        return self.process is not None and self.process.poll() is None

    def signal(self, number: int) -> None:
        """Send the supervisor a signal."""
        if self.wrapper or self.process is None:
            os.kill(self.pid, number)
        else:
            self.process.send_signal(number)  # nothing happens if it has ended

    def kill(self, timeout: float = 10.0) -> int:
        """`kill -9` of the supervisor alone, and reap it. Its workers are left to die by themselves."""
        self.signal(signal.SIGKILL)
        return self.wait(timeout)

    def terminate(self, timeout: float = 20.0) -> int:
        """SIGTERM, then wait for the drain. Returns the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def wait(self, timeout: float = 20.0) -> int:
        """Wait for the daemon's own end and reap it. Returns the exit status (negative: by a signal)."""
        assert self.process is not None, "the daemon does not run"
        process_exit(self.process.pid, timeout)
        status = self.process.wait()
        self.process = None
        self._close_ready()
        return status

    def wait_all_gone(self, timeout: float = 10.0) -> None:
        """Wait until no process of this state directory is left. Raises TimeoutError naming the others."""
        deadline = Deadline(timeout)
        while family := self.family():  # again: a process may have been born while the others were listed
            if left := processes.await_end(family, deadline.left("the end of all processes")):
                raise TimeoutError("still there: " + "; ".join(map(processes.describe, left)))

    def restart(self, *, kill: bool = False, timeout: float = 20.0) -> "DaemonProcess":
        """End it (by SIGTERM, or by `kill`) if it runs, and start it at once on the same state directory."""
        if self.process is not None:
            self.kill() if kill else self.terminate(timeout)
        return self.start(timeout)

    def close(self, timeout: float = 20.0) -> None:
        """End everything of this state directory and remove it. Fails where something outlives the daemon."""
        try:
            if self.is_running:
                self.terminate(timeout)
            self.process = None
            self.wait_all_gone()
        finally:
            self._put_down()
            self._temp.close()

    # what a test looks at

    @property
    def endpoint(self) -> Endpoint:
        """The endpoints that the daemon wrote."""
        found = read_endpoint(self.state)
        assert found is not None, f"no endpoint.json in {self.state}"
        return found

    def client(self) -> "Client":
        """A client connected to this daemon; the test closes it (`with daemon.client() as client`)."""
        from fetchd.client import Client

        return Client(socket=self.endpoint.control)

    def children(self) -> list[psutil.Process]:
        """Living descendants of the supervisor: forkserver, workers, helpers."""
        return [child for child in psutil.Process(self.pid).children(recursive=True) if child.is_running()]

    def family(self) -> set[int]:
        """All living processes of this state directory, orphans included."""
        return processes.of_state([self.state])

    def log(self) -> str:
        """Everything that the daemon has written to its output."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def _close_ready(self) -> None:
        if self._ready is not None:
            os.close(self._ready)
            self._ready = None

    def _put_down(self) -> None:
        """Kill whatever is left."""
        self._close_ready()
        left = self.family()
        if self.process is not None:
            left |= processes.descendants(self.process.pid) | {self.process.pid}
        processes.kill(left)
        if self.process is not None:
            self.process.wait()
            self.process = None
        processes.await_end(left, 10)

    def __enter__(self) -> "DaemonProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
