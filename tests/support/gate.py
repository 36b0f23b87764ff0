"""Gates: a test decides when something that waits may go on.

A gate is an eventfd, so that whoever waits at it can also watch its socket and notice a peer that hangs up.
"""

import os
from threading import Condition


class Gate:
    """Closed until the test opens it. Made by `Origin.gate`, which also closes its descriptor."""

    def __init__(self, changed: Condition) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._changed = changed
        self._opened = False
        self._waiting = 0
        self._arrived = 0

    @property
    def is_open(self) -> bool:
        """Whether `open` was called."""
        return self._opened

    @property
    def waiting(self) -> int:
        """How many wait at it now."""
        return self._waiting

    @property
    def arrived(self) -> int:
        """How many have ever come to it, gone ones included."""
        return self._arrived

    def open(self) -> None:
        """Let everyone through, now and later."""
        with self._changed:
            if not self._opened:
                os.eventfd_write(self._fd, 1)
            self._opened = True
            self._changed.notify_all()

    def wait_arrived(self, count: int = 1, timeout: float = 10.0) -> None:
        """Wait until `count` have come: all that they send before it has been handed to the kernel."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._arrived >= count, timeout):
                raise TimeoutError(f"{self._arrived} of {count} came to the gate within {timeout} s")

    def fileno(self) -> int:
        """A descriptor that is readable while the gate is open."""
        return self._fd

    def enter(self) -> None:
        """Someone starts to wait (called by the one who waits)."""
        with self._changed:
            self._arrived += 1
            self._waiting += 1
            self._changed.notify_all()

    def leave(self) -> None:
        """Someone no longer waits (called by the one who waited)."""
        with self._changed:
            self._waiting -= 1
            self._changed.notify_all()

    def close(self) -> None:
        """Give the descriptor back; nobody may wait any more."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
