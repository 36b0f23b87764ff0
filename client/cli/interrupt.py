"""Ctrl-C while following: in `get` the first detaches (or cancels), a second within two seconds cancels; in
`follow` the first leaves.

`Interrupts` decides and is pure; `catching` turns SIGINT into a readable descriptor meanwhile, so that the
signal is one more thing to poll for and interrupts nothing half-way.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from enum import Enum, auto

WINDOW = 2.0
"""Seconds after the first Ctrl-C in which a second one cancels."""


class Act(Enum):
    """What a Ctrl-C asks for."""

    ANNOUNCE = auto()  # say that the jobs go on, and that another Ctrl-C cancels them
    CANCEL = auto()
    LEAVE = auto()


class Interrupts:
    """The meaning of each Ctrl-C. Times are monotonic seconds."""

    def __init__(self, first: Act = Act.ANNOUNCE) -> None:
        self._first = first
        self._cancelled = False
        self.leave_at: float | None = None
        """When to detach for good, None while nobody asked for it."""

    def pressed(self, now: float) -> Act:
        """Another Ctrl-C."""
        if self._cancelled or self._first is Act.LEAVE:
            return Act.LEAVE  # impatient: the cancelling goes on without us
        if self._first is Act.CANCEL or (self.leave_at is not None and now < self.leave_at):
            self._cancelled, self.leave_at = True, None
            return Act.CANCEL
        self.leave_at = now + WINDOW
        return Act.ANNOUNCE

    def leaving(self, now: float) -> bool:
        """Whether the time for a second Ctrl-C is over."""
        return self.leave_at is not None and now >= self.leave_at


class Presses:
    """The descriptor that is readable after a Ctrl-C or another signal that is caught, and what there was."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def take(self) -> int:
        """How many Ctrl-C since the last call."""
        return self.signals().count(signal.SIGINT)

    def signals(self) -> bytes:
        """The numbers of the signals since the last call."""
        with contextlib.suppress(BlockingIOError):
            return os.read(self.fd, 4096)
        return b""


@contextlib.contextmanager
def waking() -> Iterator[int]:
    """A descriptor that is readable after a signal: for polls, which KeyboardInterrupt may come too late for.

    It is written to by the signal itself; a handler in Python runs only after a poll(2) that has begun just
    then. Main thread only.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(before)
        os.close(reader)
        os.close(writer)


@contextlib.contextmanager
def catching(*others: signal.Signals) -> Iterator[Presses]:
    """Count SIGINT instead of raising KeyboardInterrupt, and `others` in place of what they do. Main thread
    only."""
    with waking() as fd, contextlib.ExitStack() as stack:
        for number in (signal.SIGINT, *others):
            stack.callback(signal.signal, number, signal.signal(number, lambda _signal, _frame: None))
        yield Presses(fd)
