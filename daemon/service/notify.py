"""sd_notify(3): tell the service manager, if there is one, how we are."""

import contextlib
import os
import socket
import time


class Notifier:
    """Messages to `$NOTIFY_SOCKET`; nothing happens where it is not set."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._status = ""
        microseconds = environment.get("WATCHDOG_USEC", "")
        mine = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog = int(microseconds) / 1e6 if microseconds.isdigit() and mine else None
        """Seconds within which the service manager wants a sign of life, or None."""

    def ready(self, status: str) -> None:
        """The start, or a reload, is over."""
        self._status = status
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """The configuration is read again; `ready` ends that."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def status(self, status: str) -> None:
        """What is going on, if that is something new."""
        if status != self._status:
            self._status = status
            self._send(f"STATUS={status}")

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """A sign of life for the watchdog."""
        self._send("WATCHDOG=1")

    def _send(self, *assignments: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        text = "\n".join(" ".join(one.splitlines()) for one in assignments)
        # a service manager that does not listen must not stop us
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock,
        ):
            sock.setblocking(False)
            sock.sendto(text.encode(errors="backslashreplace"), address)
