"""The mailboxes of the workers: one ROUTER socket for each incarnation, so that none can crowd out another.

A peer is a worker once it has shown the secret that was handed over at its spawn; everything else is a
violation. What a worker says is typed here, judged by the core.
"""

import hmac
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import zmq

from fetchd.daemon.core import inputs
from fetchd.protocol import mailbox
from fetchd.protocol.codec import MAX_MESSAGE, decode, encode
from fetchd.protocol.errors import Code, ProtocolError

from .loop import Loop, boot_time

logger = logging.getLogger("fetchd")

HANG = 30_000_000
"""µs of silence after which a worker counts as hung, unless configured otherwise."""

AT_ONCE = 64
"""Messages taken from one worker in a turn."""

Key = tuple[int, int]


class Box:
    """The mailbox of one incarnation."""

    def __init__(self, socket: "zmq.Socket[bytes]", path: Path, secret: str) -> None:
        self.socket = socket
        self.path = path
        self.secret = secret
        self.peer: bytes | None = None
        self.heard = boot_time()


class Mailboxes:
    """All mailboxes; `arrived` and `reported` receive what workers say, `hung` those that say nothing."""

    def __init__(self, context: "zmq.Context[Any]", loop: Loop, directory: Path) -> None:
        self._context = context
        self._loop = loop
        self._directory = directory
        self._boxes: dict[Key, Box] = {}
        self._looked = boot_time()
        self.hang_timeout = HANG
        self.arrived: Callable[[int, int, dict[str, str]], None]
        self.reported: Callable[[int, int, mailbox.Report], None]
        self.hung: Callable[[int, int], None]
        self.feed: Callable[[inputs.Input], None]

    def open(self, slot: int, incarnation: int, secret: str) -> str:
        """A fresh mailbox; the endpoint to connect to."""
        path = self._directory / f"w{slot}-{incarnation}"
        socket = self._context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE)
        socket.setsockopt(zmq.ZAP_DOMAIN, b"mailbox")
        socket.bind(f"ipc://{path}")
        self._boxes[slot, incarnation] = Box(socket, path, secret)
        self._loop.add(socket, lambda: self._take(slot, incarnation))
        return f"ipc://{path}"

    def send(self, slot: int, incarnation: int, message: mailbox.ToWorker) -> None:
        """Tell a worker something; one that cannot hear is dying, and its sentinel will say so."""
        box = self._boxes.get((slot, incarnation))
        if box is None or box.peer is None:
            return
        try:
            box.socket.send_multipart([box.peer, encode(message)], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            logger.debug("worker %d does not hear: %s", slot, error)

    def close(self, slot: int, incarnation: int) -> None:
        box = self._boxes.pop((slot, incarnation), None)
        if box is not None:
            self._loop.remove(box.socket)
            box.socket.close(0)
            box.path.unlink(missing_ok=True)

    def close_all(self) -> None:
        for slot, incarnation in list(self._boxes):
            self.close(slot, incarnation)

    def look_for_hung(self) -> None:
        """Called now and then. Time in which this loop did not turn is not held against anybody."""
        now = boot_time()
        lost = max(0, now - self._looked - 2 * self.hang_timeout // 3)
        self._looked = now
        for (slot, incarnation), box in list(self._boxes.items()):
            box.heard += lost
            if now - box.heard > self.hang_timeout:
                self.hung(slot, incarnation)

    def _take(self, slot: int, incarnation: int) -> None:
        for _ in range(AT_ONCE):
            box = self._boxes.get((slot, incarnation))
            if box is None:
                return
            try:
                frames = box.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                self._hear(slot, incarnation, box, frames)
            except ProtocolError as error:
                self.feed(inputs.Violation(slot, incarnation, error.message))
                return

    def _hear(self, slot: int, incarnation: int, box: Box, frames: list[bytes]) -> None:
        if len(frames) != 2:
            raise ProtocolError(Code.BAD_REQUEST, "a report is one frame")
        peer, payload = frames
        message: mailbox.FromWorker = decode(payload, cast(Any, mailbox.FromWorker))
        if isinstance(message, mailbox.Arrived):
            if box.peer is None and hmac.compare_digest(message.secret, box.secret):
                box.peer, box.heard = peer, boot_time()
                self.arrived(slot, incarnation, message.layers)
                return
            raise ProtocolError(Code.DENIED, "a wrong secret, or a second arrival")
        if peer != box.peer:
            raise ProtocolError(Code.DENIED, "somebody else speaks")
        box.heard = boot_time()
        if not isinstance(message, mailbox.Beat):
            self.reported(slot, incarnation, message)
