"""Signals as something the loop can poll."""

import os
import signal
import socket


class Signals:
    """Catches the given signals; `fd` becomes readable, `take` says which came."""

    def __init__(self, *numbers: signal.Signals) -> None:
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)
        self.fd = self._read.fileno()
        self._numbers = numbers
        for number in numbers:
            signal.signal(number, _noted)
        # the kernel sends this when somebody opens a file that we have a lease on, and by default it kills
        signal.signal(signal.SIGIO, signal.SIG_IGN)
        signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)

    def take(self) -> list[signal.Signals]:
        """The signals that have come since the last call."""
        try:
            data = os.read(self.fd, 64)
        except BlockingIOError:
            return []
        return [signal.Signals(number) for number in data if number in self._numbers]

    def close(self) -> None:
        signal.set_wakeup_fd(-1)
        for number in self._numbers:
            signal.signal(number, signal.SIG_DFL)
        self._read.close()
        self._write.close()


def _noted(_number: int, _frame: object) -> None:
    """The wake-up descriptor has already told the loop."""
