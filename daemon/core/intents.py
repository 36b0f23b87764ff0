"""Bulk verbs as intents: one row says what is to be done to which jobs, and chunks of it are done in turn.

An intent is on disk when it is acknowledged. It is for the jobs that were there at that moment (`upto`, and
`made`), walks them by their order of submission, and remembers how far it is (`cursor`) in the same batch as
what it did, so that a crash neither loses nor repeats a step.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from fetchd.protocol.job import State

from .job import Job
from .rights import is_of

CHUNK = 200
"""Jobs a turn: few enough that the loop stays quick, many enough that a commit is worth it."""

SAME_REVISION = 1 << 10
"""An intent's number is the revision at which it was made times this, and counts on from there."""

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
    def made(self) -> int:
        """The newest revision when the intent was made."""
        return self.number // SAME_REVISION

    @property
    def table(self) -> Table:
        return STEPS[self.verb, self.failed][self.step][0]

    @property
    def states(self) -> tuple[State, ...]:
        """The states to look at; empty: any."""
        return STEPS[self.verb, self.failed][self.step][1]

    @property
    def clears(self) -> bool:
        """Whether all jobs of the owner are going to end, whatever becomes of them until then."""
        return self.verb in ("cancel", "remove") and not self.failed

    def covers(self, job: Job) -> bool:
        """Whether the verb is still to be done to this job.

        One that is for jobs in certain states is for those that have been there ever since it was made: what
        was done to a job later, by this intent or by anybody, stands.
        """
        if not is_of(job, self.owner) or job.seq > self.upto:
            return False
        steps = STEPS[self.verb, self.failed]
        return self.clears or (job.revision <= self.made and any(job.state in states for _, states in steps))

    def after(self, last: int | None, more: bool) -> "Intent | None":
        """The intent after a chunk that ended at seq `last`; None: it is done."""
        if more and last is not None:
            return replace(self, cursor=last)
        if self.step + 1 < len(STEPS[self.verb, self.failed]):
            return replace(self, step=self.step + 1, cursor=0)
        return None


class Intents:
    """Those that are not yet done."""

    def __init__(self, unfinished: Iterable[Intent]) -> None:
        self._intents: dict[int, Intent] = {}
        self._of: dict[str, dict[int, Intent]] = {}
        self._last = 0
        for intent in sorted(unfinished, key=lambda intent: intent.number):
            self.put(intent)

    def number(self, revision: int) -> int:
        """A number for a new intent, above all others."""
        self._last = max(revision * SAME_REVISION, self._last + 1)
        return self._last

    def put(self, intent: Intent) -> None:
        """A new intent, or its next step."""
        self._last = max(self._last, intent.number)
        self._intents[intent.number] = intent
        self._of.setdefault(intent.owner, {})[intent.number] = intent

    def drop(self, intent: Intent) -> None:
        """It is done, or void."""
        del self._intents[intent.number]
        of_owner = self._of[intent.owner]
        del of_owner[intent.number]
        if not of_owner:
            del self._of[intent.owner]

    def get(self, number: int) -> Intent | None:
        return self._intents.get(number)

    def of(self, owner: str) -> list[Intent]:
        """An owner's, the oldest first."""
        return list(self._of.get(owner, {}).values())

    def clearing(self, owner: str) -> bool:
        """Whether all that the owner has in the queue is going to end."""
        return owner in self._of and any(intent.clears for intent in self._of[owner].values())

    def clearing_owners(self) -> list[str]:
        """The owners of whom that is true."""
        return [owner for owner in self._of if self.clearing(owner)]

    def __len__(self) -> int:
        return len(self._intents)

    def __iter__(self) -> Iterator[Intent]:
        return iter(list(self._intents.values()))
