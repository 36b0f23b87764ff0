"""One worker as the crew knows it, what it is given, and what the crew needs of the rooms around it."""

from collections.abc import Callable
from typing import Protocol

from fetchd.daemon.core import inputs
from fetchd.daemon.core.job import Job
from fetchd.protocol import mailbox

from .spawn import Child


class Post(Protocol):
    """The mailbox as the crew needs it."""

    @property
    def beat(self) -> float: ...

    def open(self, slot: int, incarnation: int, secret: str) -> str: ...
    def send(self, slot: int, incarnation: int, message: mailbox.ToWorker) -> None: ...
    def close(self, slot: int, incarnation: int) -> None: ...


class Watch(Protocol):
    """The loop as the crew needs it."""

    def add(self, source: int, callback: Callable[[], None]) -> None: ...
    def remove(self, source: int) -> None: ...


class Member:
    """One incarnation of a worker."""

    def __init__(self, slot: int, incarnation: int, rooms: dict[str, str]) -> None:
        self.slot = slot
        self.incarnation = incarnation
        self.rooms = rooms
        self.child: Child | None = None
        self.doom: str | None = None
        self.ended_as: inputs.Gone | None = None
        self.preparing: tuple[str, int] | None = None
        self.aborted = False
        self.job: Job | None = None
        self.allowed: tuple[int, int | None] = (1, None)
        self.conditional = False
