"""A command on a terminal of its own, of a size that may change: what is on its screen, and what is typed."""

import fcntl
import os
import re
import signal
import struct
import termios
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from .cli import COMMAND, Fetchd
from .wait import Deadline, process_exit, readable

ALTERNATE, NORMAL = "\x1b[?1049h", "\x1b[?1049l"
SHOWN = "\x1b[?25h"
"""The cursor is."""

HOME = "\x1b[H"
_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A context manager. `said` is all that the command has written; its end is waited for by `end`."""

    def __init__(self, fetchd: Fetchd, *arguments: str, columns: int = 80, rows: int = 24) -> None:
        self.said = ""
        self._master, self._slave = os.openpty()
        self._data = b""
        self.resize(columns, rows)
        self.settings = self.current()
        # a terminal is what is asked for here, also where the environment would speak against it
        env = {k: v for k, v in fetchd.env.items() if k not in ("CI", "NO_COLOR", "COLUMNS", "LINES")}
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._master)
            os.login_tty(self._slave)
            os.chdir(fetchd.cwd)
            os.execve(COMMAND[0], [*COMMAND, *arguments], {**env, "TERM": "xterm"})
        self._status: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._master)
        os.close(self._slave)

    def current(self) -> list[Any]:
        """The terminal's settings now (termios)."""
        return termios.tcgetattr(self._slave)

    def resize(self, columns: int, rows: int) -> None:
        """Another size; the command is told by a signal."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    @property
    def screen(self) -> list[str]:
        """The lines of what was drawn last."""
        return [line.rstrip() for line in _SEQUENCE.sub("", self.said.rpartition(HOME)[2]).splitlines()]

    def until(self, wanted: Callable[[list[str]], object], timeout: float = 20.0) -> list[str]:
        """Read until the screen is as wanted; the screen."""
        deadline = Deadline(timeout)
        while not wanted(self.screen):
            what = "\n".join(["another screen than", *self.screen])
            readable(self._master, deadline.left(what), what)
            self._read()
        return self.screen

    def end(self, timeout: float = 20.0) -> int:
        """Wait for the command's end: its exit code, or the signal that ended it as a negative number."""
        process_exit(self.pid, timeout)
        self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.set_blocking(self._master, False)
        try:
            while True:
                self._read()
        except BlockingIOError:
            return self._status

    def _read(self) -> None:
        self._data += os.read(self._master, 1 << 16)
        self.said = self._data.decode(errors="replace")
