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
from types import FrameType

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
    """The descriptor that is readable after a Ctrl-C, and how many there were."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def take(self) -> int:
        """How many since the last call."""
        with contextlib.suppress(BlockingIOError):
            return os.eventfd_read(self.fd)
        return 0


@contextlib.contextmanager
def catching() -> Iterator[Presses]:
    """Count SIGINT instead of raising KeyboardInterrupt. Main thread only."""
    fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def handler(_signal: int, _frame: FrameType | None) -> None:
        os.eventfd_write(fd, 1)

    before = signal.signal(signal.SIGINT, handler)
    try:
        yield Presses(fd)
    finally:
        signal.signal(signal.SIGINT, before)
        os.close(fd)
