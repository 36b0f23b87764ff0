"""One worker as the crew knows it, what it is given, and what the crew needs of the rooms around it."""

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from fetchd.daemon.core import inputs
from fetchd.daemon.core.job import Job
from fetchd.daemon.sandbox.room import Mode
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


class Settings(Struct, frozen=True, kw_only=True):
    """What workers are given. Times in seconds, sizes in bytes, speeds in bytes a second; 0: no limit."""

    connect_timeout: float
    read_timeout: float
    ca_bundle: str
    workers_lock: str
    min_speed: int = 0
    min_speed_time: float = 60.0
    max_size: int = 0
    sandbox: Mode = "best-effort"
    network: mailbox.Network = mailbox.Network()


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
