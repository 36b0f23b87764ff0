"""What a swarm is made of: its connections, the servers that they ask, and how these refuse."""

import threading
from typing import Any

from fetchd.protocol.errors import Code
from fetchd.protocol.mailbox import Validator

from .body import Room
from .connect import shut
from .sink import Stripe

STALLED = 5.0
"""Seconds without a byte after which a connection gives way to one that has nothing to do."""

FATAL = frozenset({Code.FILE_TOO_LARGE, Code.TOO_SLOW, Code.DISK_FULL, Code.DISK_GONE, Code.IO_ERROR})
"""Codes that end all connections: they are about the attempt, not about one of them."""

CROWDED = frozenset({Code.RATE_LIMITED, Code.UNAVAILABLE})
"""Codes of a server that wants fewer connections."""

REFUSALS = frozenset(
    {Code.UNAUTHORIZED, Code.FORBIDDEN, Code.NOT_FOUND, Code.GONE, Code.HTTP_ERROR, Code.BAD_RESPONSE}
)


class Lane:
    """One connection's thread: where it asks, and how much it has brought since its last request."""

    def __init__(self, number: int, source: "Source") -> None:
        self.number = number
        self.source = source
        self.brought = 0
        self.leave = False
        self.thread: threading.Thread | None = None
        self.room = Room()
        self.sock: Any = None
        self.part: Stripe | None = None
        self._seen: tuple[int | None, float] | None = None

    def is_stalled(self, now: float) -> bool:
        """Whether nothing has come for a while, as far as it was asked now and then."""
        position = None if self.part is None else self.part.position
        if self._seen is None or position != self._seen[0]:
            self._seen = (position, now)
        return now - self._seen[1] > STALLED

    def waits_at(self, sock: Any) -> None:
        self.sock = sock
        if self.leave:
            shut(sock)

    def go(self) -> None:
        """It is not wanted any more, whatever it waits for."""
        self.leave = True
        shut(self.sock)


class Source:
    """A server that has the file. `pinned` is what its own answers are compared with."""

    def __init__(self, index: int, url: str, pinned: Validator | None, ranges: bool) -> None:
        self.index = index
        self.url = url
        self.pinned = pinned
        self.usable = ranges


class ChangedError(Exception):
    """The content is not what it was: nothing of it may be mixed with what there is."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class NoPartsError(Exception):
    """The source gives no parts."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why
