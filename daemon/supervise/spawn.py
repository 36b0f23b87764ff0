"""Children through multiprocessing's fork server: warm, single-threaded at fork, and never our own fork.

`Process.start` blocks for milliseconds, so it is called from the helper pool.
"""

import multiprocessing
import multiprocessing.forkserver
import multiprocessing.process
import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

from fetchd.daemon.service import entry
from fetchd.daemon.service.lock import StateLock, start_time


class Child:
    """A running child of the fork server `server`. `sentinel` becomes readable when it is gone."""

    def __init__(self, process: Any, server: int) -> None:
        self._process = process
        self.server = server
        self.pid: int = process.pid
        self.sentinel: int = process.sentinel
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            # done already, and the fork server has taken note
            self._pidfd = -1

    def kill(self) -> None:
        """End it now. A descriptor names the process, so that a recycled number is never hit."""
        if self._pidfd >= 0:
            try:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            except ProcessLookupError:
                return

    def close(self) -> None:
        """Give its descriptor back."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
        self._pidfd = -1

    def reap(self) -> str:
        """After it is gone: how it ended, in words."""
        self._process.join()
        code = self._process.exitcode
        self._process.close()
        self.close()
        if code is not None and code < 0:
            return f"signal {signal.Signals(-code).name}"
        return f"exit status {code}"


class Spawner:
    """Starts children; one fork server for the life of the supervisor, restarted if it dies."""

    def __init__(self, lock: StateLock, preload: Sequence[str]) -> None:
        self._lock = lock
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(preload))
        self._server = 0

    def start(self) -> None:
        """Start the fork server; it imports what is to be warm while we go on."""
        multiprocessing.forkserver.ensure_running()
        pid = self._server_pid()
        if pid != self._server:
            self._server = pid
            self._lock.record(pid)

    def spawn(self, module: str, arguments: Callable[[int], tuple[Any, ...]]) -> Child:
        """Run `main(*arguments(pid of the fork server))` of a module in a new child. For helper threads."""
        self.start()
        arguments_now = (module, *arguments(self._server))
        process = self._context.Process(target=entry.call, args=arguments_now, daemon=True)
        process.start()
        child = None
        try:
            child = Child(process, self._server)
            self._lock.record(child.pid)
            return child
        except OSError:
            if child is not None:
                child.close()
            # no descriptors are left: a child that cannot be watched is not to live
            process.kill()
            process.join()
            process.close()
            raise
        finally:
            # multiprocessing looks at its children at every start, in this thread, while the loop reaps them
            multiprocessing.process._children.discard(process)  # type: ignore[attr-defined]

    def healthy(self, server: int) -> bool:
        """Whether a fork server lives. When it dies, all its children do, and none of them is to blame."""
        return server != 0 and start_time(server) != 0 and not _is_zombie(server)

    def stop(self) -> None:
        """End the fork server, and with it every child that is left."""
        if self.healthy(self._server):
            os.kill(self._server, signal.SIGKILL)
            os.waitpid(self._server, 0)

    @staticmethod
    def _server_pid() -> int:
        # there is no public way to ask; children need it to notice a parent that died before they could bind
        server: Any = multiprocessing.forkserver._forkserver
        return int(server._forkserver_pid or 0)


def _is_zombie(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
