"""The interface of a transfer: what it gets, what it reports, how it ends.

A transfer is found by URL scheme. It runs in a thread of its own, writes through a `Sink`, reports through a
`Context`, and ends by returning, or by raising `TransferError` or `StoppedError`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

from fetchd.protocol.errors import Code
from fetchd.protocol.mailbox import Assign, Validator

from .sink import Sink


class TransferError(Exception):
    """The attempt failed. `retry_after` is in seconds, as the server asked."""

    def __init__(self, code: Code, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after = retry_after


class StoppedError(Exception):
    """The attempt was asked to stop, and has."""


class Context(ABC):
    """What a transfer may ask of the worker."""

    task: Assign
    sink: Sink
    user_agent: str
    ca_bundle: str

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
        origins: list[str],
    ) -> None:
        """Report the head of the response whose body comes next; `kept` bytes of earlier attempts stay."""

    @abstractmethod
    def restart(self, why: str) -> None:
        """Drop what was kept. Returns when that is on disk and the old content may be overwritten."""

    @abstractmethod
    def check(self) -> None:
        """Raise `StoppedError` if the attempt is to stop."""

    @abstractmethod
    def on_abort(self, abort: Callable[[], None] | None) -> None:
        """What to call from another thread to make a blocked read return; None: nothing."""


class Transfer(ABC):
    """One way to fetch. An instance lives as long as its worker and serves one attempt at a time."""

    @abstractmethod
    def run(self, context: Context) -> int:
        """Fetch everything into the sink; the size of the file in bytes."""

    @abstractmethod
    def close(self) -> None:
        """Let go of connections."""
