"""The one ZAP handler (ZeroMQ RFC 27), for all sockets with a domain. Who may come in is for `access` to say.

The user ID that it sets sits on every message of the connection.
"""

from typing import Any

import zmq

from .access import Access

ENDPOINT = "inproc://zeromq.zap.01"

AT_ONCE = 200
"""Requests answered in one turn."""


class Authorizer:
    """Answers libzmq's questions about those who connect."""

    def __init__(self, context: "zmq.Context[Any]", access: Access) -> None:
        self.socket = context.socket(zmq.REP)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(ENDPOINT)
        self._access = access

    def take(self) -> None:
        """Answer the requests that are there, up to a bound so that others get their turn."""
        for _ in range(AT_ONCE):
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            version, number, domain, address = (*frames, b"", b"", b"", b"")[:4]
            who = self._access.connects(domain.decode("ascii", "replace"), address.decode("ascii", "replace"))
            verdict = [b"200", b"OK", who.owner.encode(), b""] if who else [b"400", b"denied", b"", b""]
            self.socket.send_multipart([version, number, *verdict])

    def close(self) -> None:
        self.socket.close(0)
