"""The interface of a transfer: what it gets, what it reports, how it ends.

A transfer is found by URL scheme (`registry`). It runs in a thread of its own, writes into a `Sink`, tells of
the response and asks for leave through a `Context`, and ends by returning, or by raising `TransferError`,
`NotModifiedError` or `StoppedError`. Checksums, the minimum speed and reports of progress are none of its
business: whoever runs it sees to them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from fetchd.protocol.errors import Code
from fetchd.protocol.mailbox import Assign, Validator

from .segments import Ranges
from .sink import Sink


class TransferError(Exception):
    """The attempt failed. `retry_after` is in seconds, as the server asked."""

    def __init__(self, code: Code, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after = retry_after


class NotModifiedError(Exception):
    """There is nothing newer than `Assign.newer_than`."""


class StoppedError(Exception):
    """The attempt was asked to stop, and has."""


class Context(ABC):
    """What a transfer may ask of the worker. All of it may be called from any thread of the attempt.

    `connections` is how many are allowed now; `changed` is called when that
    has become another number. `source` is which of (url, *mirrors) the attempt is with: what is blamed if it
    fails. `mixed`: bytes of several sources are in the sink.
    """

    task: Assign
    sink: Sink
    user_agent: str
    ca_bundle: str
    connections: int
    changed: Callable[[], None] | None
    source: int
    mixed: bool

    @abstractmethod
    def responded(
        self,
        *,
        status: int,
        url: str,
        total: int | None,
        kept: int,
        validator: Validator,
        disposition: str | None,
        have: Ranges | None = None,
        modified: int | None = None,
        digests: Sequence[str] = (),
    ) -> None:
        """Report the head of the response whose body comes next; `kept` bytes of earlier attempts stay.

        `have` says which those are; None: the first ones. To be called before anything is written. `modified`
        is in µs UTC. `digests` are what the server announces for the whole content, as `algorithm:hex`.
        """

    @abstractmethod
    def speaks_to(self, origin: str) -> None:
        """Tell of every origin before anything is sent to it, as `scheme://host[:port]`.

        A worker that has spoken to one gets no secrets of another.
        """

    @abstractmethod
    def restart(self, why: str) -> None:
        """Drop what was kept. Returns when that is on disk and the old content may be overwritten."""

    @abstractmethod
    def keep(self) -> None:
        """Let `task` say what is in the sink now, as it would for another attempt."""

    @abstractmethod
    def check(self) -> None:
        """Raise `StoppedError` if the attempt is to stop, `TransferError` if it has been given up."""

    @abstractmethod
    def abortable(self, abort: Callable[[], None]) -> AbstractContextManager[None]:
        """While in this block `abort` may be called from another thread, to make a blocked read return."""

    @abstractmethod
    def pace(self, wanted: int) -> int:
        """How many of `wanted` bytes may be received now, at least one; waits where the rate asks for it."""

    @abstractmethod
    def received(self, count: int, allowed: int) -> None:
        """`count` of the `allowed` bytes have come and are in the sink.

        Raises `too_slow` and `file_too_large` where that is not what was asked for.
        """

    @abstractmethod
    def warn(self, code: Code, message: str) -> None:
        """Tell of something that is not right and is borne with."""


class Transfer(ABC):
    """One way to fetch. An instance lives as long as its worker and serves one attempt at a time."""

    @abstractmethod
    def run(self, context: Context) -> int:
        """Fetch everything into the sink; the size of the file in bytes."""

    @abstractmethod
    def close(self) -> None:
        """Let go of connections."""
