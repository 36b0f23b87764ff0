"""One events socket: of an owner, or of the admins, who hear everything. Never waits for a subscriber."""

from collections.abc import Iterator
from pathlib import Path

import zmq

from fetchd.daemon.service import sockets
from fetchd.daemon.service.doors import Doors
from fetchd.daemon.service.tcp import Tcp

AT_ONCE = 200
"""Subscriptions looked at in one turn."""

QUEUE = 10_000
"""Messages queued for one slow subscriber before it begins to lose them."""


class Outlet:
    """An XPUB at an ipc path. `owner` None: for admins, or of a private daemon; `passed`: a socket that
    listens already."""

    def __init__(self, doors: Doors, path: Path | None, owner: str | None, passed: int | None = None) -> None:
        self._doors = doors
        self._passed = passed is not None
        self._listener = None if path is None else sockets.listener(path, passed)
        self.path = path
        self.owner = owner
        self._open()

    def _open(self) -> None:
        self._topics: set[bytes] = set()
        # a plain XPUB would tell of the first of several equal subscriptions only
        options = {zmq.XPUB_VERBOSE: 1, zmq.SNDHWM: QUEUE, zmq.MAXMSGSIZE: 4096}
        domain = b"events" if self.owner is None else f"events {self.owner}".encode()
        self._door = self._doors.make(zmq.XPUB, domain, options)
        self.socket = self._door.socket
        self._bind()

    def _bind(self) -> None:
        assert self._listener is not None
        self._door.bind(self._listener, self.endpoint)

    def reopen(self) -> None:
        """Drop everybody: who still may comes again by itself, since the place stays."""
        self._door.close()
        self._open()

    def close(self) -> None:
        self._door.close()
        if self._listener is not None:
            self._listener.close()
        if self.path is not None and not self._passed:  # else the service manager goes on listening there
            self.path.unlink(missing_ok=True)

    def at(self, _host: str | None) -> str:
        """Its endpoint for a caller who has dialled this host."""
        return f"ipc://{self.path}"

    @property
    def endpoint(self) -> str:
        return self.at(None)

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
            elif frame.startswith(b"\x00"):
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


class FarOutlet(Outlet):
    """The same at a TCP port of its own. FetchdError `busy` where none is free."""

    def __init__(self, doors: Doors, tcp: Tcp, owner: str | None) -> None:
        self._tcp = tcp
        self._port = tcp.another()
        super().__init__(doors, None, owner)

    def _bind(self) -> None:
        self._tcp.bind(self._door, self._port)

    def close(self) -> None:
        super().close()
        self._port.close()

    def at(self, host: str | None) -> str:
        return self._port.at(host)
