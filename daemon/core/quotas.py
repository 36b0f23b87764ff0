"""What one owner may take of what all share: places in the queue, attempts, bytes that are on their way.

Whose queue is full is refused further jobs (`busy`). Whose attempts or bytes are as many as allowed waits for
one of the attempts to end. The bytes of an attempt are what it had to fetch when its size became known, so
the last one that begins may go beyond the limit, and a file that is larger than the limit still comes.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from fetchd.protocol.job import State

from .slot import Run

if TYPE_CHECKING:
    from .core import Core

PENDING = (State.QUEUED, State.WAITING, State.PAUSED)

RETRY_AFTER = 60.0
"""Seconds after which a full queue may have room again."""


def room(core: "Core", owner: str) -> int | None:
    """How many more jobs an owner may queue; None: as many as they like."""
    if not core.settings.max_queued:
        return None
    counts = core.ledger.owned.get(owner, {})
    return max(0, core.settings.max_queued - sum(counts.get(state, 0) for state in PENDING))


class Owners:
    """The attempts of each owner, counted as `Hosts` does. `freed`: owners that are not full any more.

    At most `running` attempts and `flight` bytes of each (0: no limit).
    """

    def __init__(self, running: int, flight: int) -> None:
        self._running, self._flight = running, flight
        self.freed: set[str] = set()
        self._runs: dict[str, set[Run]] = {}
        self._full: set[str] = set()

    def full(self, owner: str) -> bool:
        """Whether no further attempt of theirs may begin."""
        return owner in self._full

    def names(self) -> Iterable[str]:
        """The owners that are full."""
        return self._full

    def take_freed(self) -> set[str]:
        """The owners that were full and are not now, as far as that is news."""
        freed, self.freed = self.freed, set()
        return freed

    def join(self, run: Run) -> None:
        """An attempt begins."""
        self._runs.setdefault(run.owner, set()).add(run)
        self._note(run.owner)

    def leave(self, run: Run) -> None:
        """An attempt is over."""
        runs = self._runs[run.owner]
        runs.discard(run)
        if not runs:
            del self._runs[run.owner]
        self._note(run.owner)

    def weigh(self, run: Run, flight: int) -> None:
        """It is known how many bytes this attempt has to fetch."""
        run.flight = flight
        if run in self._runs.get(run.owner, ()):
            self._note(run.owner)

    def resize(self, running: int, flight: int) -> None:
        """Other limits. Attempts that are too many go on."""
        self._running, self._flight = running, flight
        for owner in list(self._runs):
            self._note(owner)

    def _note(self, owner: str) -> None:
        if self._over(owner):
            self._full.add(owner)
        elif owner in self._full:
            self._full.discard(owner)
            self.freed.add(owner)

    def _over(self, owner: str) -> bool:
        runs = self._runs.get(owner, ())
        return bool(
            (self._running and len(runs) >= self._running)
            or (self._flight and sum(run.flight for run in runs) >= self._flight)
        )

    def validate(self, busy: Iterable[Run]) -> None:
        """Raise AssertionError where an invariant is broken; for tests."""
        assert {run for runs in self._runs.values() for run in runs} == set(busy), "an attempt counts nowhere"
        assert self._full == {owner for owner in self._runs if self._over(owner)}
