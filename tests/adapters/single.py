"""A sink with one writer, for tests that are about the bytes on their way and not about who writes which."""

from collections.abc import Callable
from pathlib import Path

from fetchd.daemon.transfer.segments import Ranges
from fetchd.daemon.transfer.sink import Sink
from fetchd.protocol.mailbox import Validator


class Single(Sink):
    """Written in order from `position`. `on_synced(generation, position)` after each sync."""

    def __init__(self, workspace: Path, generation: int, on_synced: Callable[[int, int], None]) -> None:
        self.told = on_synced
        super().__init__(workspace, generation, (), self._tell)

    def _tell(self, generation: int, ranges: Ranges) -> None:
        assert len(ranges) < 2
        self.told(generation, ranges[0][1] if ranges else 0)

    def start(self, validator: Validator, total: int | None, generation: int, have: int) -> None:
        """A content of which the first `have` bytes are kept."""
        self.begin(validator, total, generation, ((0, have),) if have else ())
        stripe = self.stripe("the writer")
        assert stripe is not None
        self._stripe = stripe

    @property
    def position(self) -> int:
        """Where the next byte goes."""
        return self._stripe.position

    def write(self, data: bytes) -> None:
        """Append."""
        self._stripe.write(data)
