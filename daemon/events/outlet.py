"""One events socket: of an owner, or of the admins, who hear everything. Never waits for a subscriber."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zmq

from fetchd.daemon.service import sockets

AT_ONCE = 200
"""Subscriptions looked at in one turn."""

QUEUE = 10_000
"""Messages queued for one slow subscriber before it begins to lose them."""


class Outlet:
    """An XPUB. `owner` None: for admins, or of a private daemon; `passed`: a socket that listens already."""

    def __init__(
        self, context: "zmq.Context[Any]", path: Path, owner: str | None, passed: int | None = None
    ) -> None:
        self._context = context
        self._passed = passed is not None
        self._listening = sockets.listen(path) if passed is None else passed
        # for a moment two sockets may accept at it
        os.set_blocking(self._listening, False)
        self.path = path
        self.owner = owner
        self.endpoint = f"ipc://{path}"
        self._open()

    def _open(self) -> None:
        self._topics: set[bytes] = set()
        # a plain XPUB would tell of the first of several equal subscriptions only
        options = {zmq.XPUB_VERBOSE: 1, zmq.SNDHWM: QUEUE, zmq.MAXMSGSIZE: 4096}
        domain = b"events" if self.owner is None else f"events {self.owner}".encode()
        listening = os.dup(self._listening)
        self.socket = sockets.public(self._context, zmq.XPUB, self.path, domain, options, listening)

    def reopen(self) -> None:
        """Drop everybody: who still may comes again by itself."""
        self.socket.close(0)
        self._open()

    def close(self) -> None:
        self.socket.close(0)
        os.close(self._listening)
        if not self._passed:  # else the service manager goes on listening there
            self.path.unlink(missing_ok=True)

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
