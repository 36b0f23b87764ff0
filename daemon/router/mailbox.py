"""The mailboxes of the workers: one ROUTER socket for each incarnation, so that none can crowd out another.

A peer is a worker once it has shown the secret that was handed over at its spawn. What it says from then on
is typed here and judged by the core, and a message that is none is a violation. Whoever cannot show the
secret is not heard, and nobody is blamed: it may be another worker that wants this one to be killed.
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

from .growth import Growth
from .loop import Loop, boot_time
from .phases import MAY_SAY, Phase, after_hearing, after_saying

logger = logging.getLogger("fetchd")

HANG = 30_000_000
"""µs of silence after which a worker counts as hung, unless configured otherwise."""

LOOKS = 6
"""How many times at least in that span the supervisor looks, and a worker shows that it lives."""

LONGEST_BEAT = 5_000_000

QUEUE = 100
"""Reports that libzmq holds for us; each may be as large as `MAX_MESSAGE`."""

AT_ONCE = 64
"""Messages taken from one worker in a turn."""

Key = tuple[int, int]


class Box:
    """The mailbox of one incarnation."""

    def __init__(self, socket: "zmq.Socket[bytes]", path: Path, secret: str, beat: float) -> None:
        self.socket = socket
        self.path = path
        self.secret = secret
        self.needs = int(3 * beat * 1e6)
        self.peer: bytes | None = None
        self.phase = Phase.CONNECTED
        self.heard = boot_time()

    @property
    def busy(self) -> bool:
        return self.phase is Phase.BUSY


class Mailboxes:
    """All mailboxes; `arrived` and `reported` receive what workers say, `hung` those that say nothing."""

    def __init__(self, context: "zmq.Context[Any]", loop: Loop, directory: Path) -> None:
        self._context = context
        self._loop = loop
        self._directory = directory
        self._boxes: dict[Key, Box] = {}
        self.growth = Growth(loop, self._boxes)
        self._looked = boot_time()
        self.hang_timeout = HANG
        self.arrived: Callable[[int, int, dict[str, str]], None]
        self.reported: Callable[[int, int, mailbox.Report], None]
        self.hung: Callable[[int, int], None]
        self.feed: Callable[[inputs.Input], None]

    def watch(self) -> None:
        """Look for hung workers from now on; `hang_timeout` (µs) may change at any time."""
        self.look_for_hung()
        self._loop.at(boot_time() + self._period(), self.watch)

    def _period(self) -> int:
        return min(LONGEST_BEAT, self.hang_timeout // LOOKS)

    @property
    def beat(self) -> float:
        """Seconds of silence after which a worker that is spawned now shows that it lives."""
        return self._period() / 1e6

    def open(self, slot: int, incarnation: int, secret: str) -> str:
        """A fresh mailbox; the endpoint to connect to. Raises OSError where there can be none."""
        path = self._directory / f"w{slot}-{incarnation}"
        try:
            socket = self._context.socket(zmq.ROUTER)
        except zmq.ZMQError as error:
            raise OSError(error.errno, str(error)) from None
        try:
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
            socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE)
            socket.setsockopt(zmq.RCVHWM, QUEUE)
            socket.setsockopt(zmq.ZAP_DOMAIN, b"mailbox")
            socket.bind(f"ipc://{path}")
        except zmq.ZMQError as error:
            socket.close(0)
            raise OSError(error.errno, str(error)) from None
        self._boxes[slot, incarnation] = Box(socket, path, secret, self.beat)
        self._loop.add(socket, lambda: self._take(slot, incarnation))
        return f"ipc://{path}"

    def send(self, slot: int, incarnation: int, message: mailbox.ToWorker) -> None:
        """Tell a worker something; one that cannot hear is dying, and its sentinel will say so."""
        box = self._boxes.get((slot, incarnation))
        if box is None or box.peer is None:
            return
        box.phase = after_hearing(box.phase, message)
        if box.busy:
            self.growth.begin()
        try:
            box.socket.send_multipart([box.peer, encode(message)], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            logger.debug("worker %d does not hear: %s", slot, error, extra={"worker": slot})

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
        lost = max(0, now - self._looked - 2 * self._period())
        self._looked = now
        for (slot, incarnation), box in list(self._boxes.items()):
            box.heard += lost
            if now - box.heard > max(self.hang_timeout, box.needs):
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
        if box.peer is None:
            self._admit(slot, incarnation, box, frames)
            return
        if frames[0] != box.peer:
            logger.warning("a stranger speaks to the mailbox of worker %d", slot, extra={"worker": slot})
            return
        if len(frames) != 2:
            raise ProtocolError(Code.BAD_REQUEST, "a report is one frame")
        message: mailbox.FromWorker = decode(frames[1], cast(Any, mailbox.FromWorker))
        if not isinstance(message, MAY_SAY[box.phase]):
            said = type(message).__name__.lower()
            raise ProtocolError(Code.DENIED, f"{said} is not to be said by a worker that is {box.phase}")
        box.phase, box.heard = after_saying(box.phase, message), boot_time()
        if isinstance(message, mailbox.Locked):
            self.arrived(slot, incarnation, message.layers)
        elif isinstance(message, mailbox.Report):
            self.reported(slot, incarnation, message)

    def _admit(self, slot: int, incarnation: int, box: Box, frames: list[bytes]) -> None:
        """Whoever shows the secret is the worker."""
        try:
            message: object = decode(frames[1], mailbox.Arrived) if len(frames) == 2 else None
        except ProtocolError:
            message = None
        if isinstance(message, mailbox.Arrived) and hmac.compare_digest(
            message.secret.encode(), box.secret.encode()
        ):
            box.peer, box.heard = frames[0], boot_time()
            self.send(slot, incarnation, mailbox.Admitted())
        else:
            logger.warning(
                "somebody without the secret speaks to the mailbox of worker %d", slot, extra={"worker": slot}
            )
