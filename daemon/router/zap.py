"""The one ZAP handler (ZeroMQ RFC 27), for all sockets with a domain. Who may come in is for `access` to say.

The user ID that it sets sits on every message of the connection: the key of a peer that has one. Whoever is
refused is logged, but for the many.
"""

import logging
import time
from typing import Any

import zmq
from zmq.utils import z85

from .access import Access

logger = logging.getLogger("fetchd")

ENDPOINT = "inproc://zeromq.zap.01"
KEY_BYTES = 32

PERIOD = 60.0
MOST = 5
"""As many refusals are logged in a period, in seconds."""

AT_ONCE = 200
"""Requests answered in one turn."""


class Authorizer:
    """Answers libzmq's questions about those who connect."""

    def __init__(self, context: "zmq.Context[Any]", access: Access) -> None:
        self.socket = context.socket(zmq.REP)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(ENDPOINT)
        self._access = access
        self._since, self._count = -PERIOD, 0

    def take(self) -> None:
        """Answer the requests that are there, up to a bound so that others get their turn."""
        for _ in range(AT_ONCE):
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            version, number, domain, address, _identity, mechanism, credential = (*frames, *[b""] * 7)[:7]
            peer = address.decode("ascii", "replace")
            key = _key(mechanism, credential)
            known = (
                None if key is None else self._access.connects(domain.decode("ascii", "replace"), peer, key)
            )
            if known is None:
                self._refused(peer, key)
                verdict = [b"400", b"denied", b"", b""]
            else:
                verdict = [b"200", b"OK", (key or known.owner).encode(), b""]
            self.socket.send_multipart([version, number, *verdict])

    def _refused(self, peer: str, key: str | None) -> None:
        now = time.monotonic()
        if now - self._since >= PERIOD:
            if self._count > MOST:
                logger.warning("%d more peers were refused", self._count - MOST)
            self._since, self._count = now, 0
        self._count += 1
        if self._count <= MOST:
            logger.warning("refused: %s%s", peer, f" with the key {key}" if key else "")

    def close(self) -> None:
        self.socket.close(0)


def _key(mechanism: bytes, credential: bytes) -> str | None:
    """The public key of a peer, '' of one that needs none; None: neither."""
    if mechanism == b"NULL":
        return ""
    found = mechanism == b"CURVE" and len(credential) == KEY_BYTES
    return z85.encode(credential).decode() if found else None
