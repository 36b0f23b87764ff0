"""One events socket: of an owner, or of the admins, who hear everything. Never waits for a subscriber."""

from collections.abc import Iterator
from pathlib import Path

import zmq

from fetchd.daemon.service.doors import Doors

AT_ONCE = 200
"""Subscriptions looked at in one turn."""

QUEUE = 10_000
"""Messages queued for one slow subscriber before it begins to lose them."""


class Outlet:
    """An XPUB. `owner` None: for admins, or of a private daemon; `passed`: a socket that listens already."""

    def __init__(self, doors: Doors, path: Path, owner: str | None, passed: int | None = None) -> None:
        self.path = path
        self.owner = owner
        self._topics: set[bytes] = set()
        # a plain XPUB would tell of the first of several equal subscriptions only
        options = {zmq.XPUB_VERBOSE: 1, zmq.SNDHWM: QUEUE, zmq.MAXMSGSIZE: 4096}
        domain = b"events" if owner is None else f"events {owner}".encode()
        self._door = doors.make(zmq.XPUB, path, domain, options, passed)
        self.endpoint = self._door.endpoint
        self.socket = self._door.socket

    def close(self) -> None:
        self._door.close()

    def subscriptions(self) -> Iterator[bytes]:
        """New subscriptions, up to a bound so that others get their turn."""
        for _ in range(AT_ONCE):
            try:
                frame = self.socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            if frame.startswith(b"\x01"):
                self._topics.add(frame[1:])
                yield frame[1:]
            else:
                # the last one with this topic has gone
                self._topics.discard(frame[1:])

    @property
    def heard(self) -> bool:
        """Whether anybody listens, as far as the subscriptions have been looked at."""
        return bool(self._topics)

    @property
    def news(self) -> bool:
        """Whether there are subscriptions to look at."""
        return bool(self.socket.getsockopt(zmq.EVENTS) & zmq.POLLIN)

    def send(self, frames: list[bytes]) -> None:
        """Send an event; XPUB drops it for a subscriber whose queue is full, so this never blocks."""
        self.socket.send_multipart(frames, zmq.NOBLOCK)
