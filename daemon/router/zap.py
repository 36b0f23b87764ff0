"""Who may connect: the one ZAP handler (ZeroMQ RFC 27) for all sockets with a domain.

Over ipc the address is `localhost:UID:GID:PID`. The user ID it sets sits on every message of the connection.
"""

import os
from collections.abc import Callable
from typing import Any

import zmq

ENDPOINT = "inproc://zeromq.zap.01"


class Authorizer:
    """Admits the daemon's own user; `is_worker` tells processes that may not be clients."""

    def __init__(self, context: "zmq.Context[Any]", is_worker: Callable[[int], bool]) -> None:
        self.socket = context.socket(zmq.REP)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(ENDPOINT)
        self._is_worker = is_worker
        self._me = os.geteuid()

    def take(self) -> None:
        """Answer all requests that are there."""
        while True:
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            version, number, domain, address = (*frames, b"", b"", b"", b"")[:4]
            owner = self._owner(domain, address.decode("ascii", "replace"))
            verdict = [b"200", b"OK", owner.encode(), b""] if owner else [b"400", b"denied", b"", b""]
            self.socket.send_multipart([version, number, *verdict])

    def _owner(self, domain: bytes, address: str) -> str | None:
        parts = address.split(":")
        if len(parts) != 4 or not (parts[1].isdigit() and parts[3].isdigit()):
            return None
        uid, pid = int(parts[1]), int(parts[3])
        if uid != self._me:
            return None
        if domain != b"mailbox" and self._is_worker(pid):
            return None
        return f"uid:{uid}"

    def close(self) -> None:
        self.socket.close(0)
