"""Bulk verbs as intents: one row says what is to be done to which jobs, and chunks of it are done in turn.

An intent is on disk when it is acknowledged. It is for the jobs that were there at that moment (`upto`),
walks them by their order of submission, and remembers how far it is (`cursor`) in the same batch as what it
did, so that a crash neither loses nor repeats a step.
"""

from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from fetchd.protocol.job import State

CHUNK = 200
"""Jobs a turn: few enough that the loop stays quick, many enough that a commit is worth it."""

BulkVerb = Literal["cancel", "resume", "retry", "remove"]
Table = Literal["jobs", "history"]

ANY: tuple[State, ...] = ()
STEPS: dict[tuple[BulkVerb, bool], tuple[tuple[Table, tuple[State, ...]], ...]] = {
    ("cancel", False): (("jobs", ANY),),
    ("resume", False): (("jobs", (State.PAUSED,)),),
    ("retry", False): (("jobs", (State.WAITING,)), ("history", (State.FAILED, State.CANCELLED))),
    ("retry", True): (("history", (State.FAILED,)),),
    ("remove", False): (("jobs", ANY), ("history", ANY)),
    ("remove", True): (("history", (State.FAILED,)),),
}
"""(verb, only failed ones) to the tables it walks and the states that it looks at there."""


class Intent(Struct, frozen=True, kw_only=True):
    """A bulk verb of one owner, and how far it is."""

    number: int
    owner: str
    verb: BulkVerb
    failed: bool
    upto: int
    step: int = 0
    cursor: int = 0

    @property
    def table(self) -> Table:
        return STEPS[self.verb, self.failed][self.step][0]

    @property
    def states(self) -> tuple[State, ...]:
        """The states to look at; empty: any."""
        return STEPS[self.verb, self.failed][self.step][1]

    @property
    def cancels(self) -> bool:
        """Whether the queued jobs of the owner are all going to end."""
        return self.verb in ("cancel", "remove") and not self.failed

    def after(self, last: int | None, more: bool) -> "Intent | None":
        """The intent after a chunk that ended at seq `last`; None: it is done."""
        if more and last is not None:
            return replace(self, cursor=last)
        if self.step + 1 < len(STEPS[self.verb, self.failed]):
            return replace(self, step=self.step + 1, cursor=0)
        return None
