"""A terminal for one view, by rich: its alternate screen, and keys without an echo. Given back as it was."""

import contextlib
import os
import sys
import termios
import tty
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from .layout import Line


class Screen:
    """A context manager. `keys` is the descriptor that keys come from, None without a terminal for them."""

    def __init__(self) -> None:
        self.keys: int | None = None
        self._console = Console()
        self._stack = contextlib.ExitStack()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        """Take the terminal."""
        with contextlib.ExitStack() as stack:
            if sys.stdin.isatty():
                self.keys = sys.stdin.fileno()
                before = termios.tcgetattr(self.keys)
                stack.callback(termios.tcsetattr, self.keys, termios.TCSADRAIN, before)
                tty.setcbreak(self.keys, termios.TCSADRAIN)
            self._live = stack.enter_context(
                Live(
                    console=self._console, screen=True, auto_refresh=False, redirect_stdout=False,
                    redirect_stderr=False,
                )
            )  # fmt: skip
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Leave the terminal as it was. Harmless when repeated."""
        self._stack.close()

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines, now."""
        return self._console.size

    def draw(self, lines: Sequence[Line]) -> None:
        """Show these lines and no others."""
        assert self._live is not None
        view = Text(no_wrap=True, overflow="crop", end="")
        for line in lines:
            view.append(line.text + "\n", line.style or None)
        self._live.update(view, refresh=True)

    def typed(self) -> str:
        """The keys pressed, where `keys` is readable."""
        assert self.keys is not None
        data = os.read(self.keys, 1024)
        if not data:
            self.keys = None  # nobody can type there any more
        return data.decode(errors="replace")
