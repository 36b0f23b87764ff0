"""What the clients of a campaign were told, as they were told it: the acknowledgements that have to hold."""

import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from .goods import Goods


@dataclass
class Told:
    """A verb and its answer. `code` None: it has its effect; `maybe`: there was no answer at all."""

    verb: str
    maybe: bool = False
    code: str | None = None
    state: str | None = None

    @property
    def sure(self) -> bool:
        """Whether it was answered, and done."""
        return not self.maybe and self.code is None


@dataclass
class Entry:
    """One job as its client knows it. `acked`: its submit was answered; else it may exist or not."""

    id: str
    goods: Goods
    directory: Path
    name: str
    policy: str
    segments: int
    checksum: bool
    acked: bool = False
    refused: str | None = None
    told: list[Told] = field(default_factory=list)

    @property
    def undisturbed(self) -> bool:
        """Whether it is left to run, to see what kills make the daemon fetch twice: half of the steady."""
        return self.goods.steady and int(self.id[-1]) % 2 == 0

    @property
    def shared(self) -> bool:
        """Whether other jobs ask for the same name."""
        return self.name.startswith("shared")

    @property
    def is_cancelled(self) -> bool:
        """Whether an acknowledged cancel holds: nothing that was, or may have been, done has undone it."""
        return self._holds("cancel", "retry")

    @property
    def is_held(self) -> bool:
        """Whether an acknowledged pause holds."""
        return self._holds("pause", "resume", "retry", "cancel")

    def _holds(self, verb: str, *against: str) -> bool:
        """Whether this verb had its effect, and none of the others since.

        One without an answer may have come at any time: a new connection can overtake an old one.
        """
        did = [at for at, told in enumerate(self.told) if told.verb == verb and told.sure]
        undone = [at for at, told in enumerate(self.told) if told.verb in against and told.code is None]
        unsure = any(self.told[at].maybe for at in undone)
        return bool(did) and not unsure and max(undone, default=-1) < did[-1]


class Ledger:
    """All entries, and a count of everything that clients were told. For several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.entries: dict[str, Entry] = {}
        self.names: dict[str, frozenset[str]] = {}
        self.counts: Counter[str] = Counter()
        self.revision = 0
        self.completed: set[str] = set()
        self.wrong: list[str] = []

    def enter(self, entry: Entry) -> None:
        """A job that is about to be submitted: from now on a file of its name may appear."""
        with self._lock:
            self.entries[entry.id] = entry
            self.names[entry.name] = self.names.get(entry.name, frozenset()) | entry.goods.versions

    def known(self, name: str) -> frozenset[str]:
        """The digests that a file of this name may have."""
        with self._lock:
            return self.names.get(name, frozenset())

    def heard(self, what: str, revision: int = 0) -> None:
        """An answer; `revision` is on disk, if the daemon keeps its word."""
        with self._lock:
            self.counts[what] += 1
            self.revision = max(self.revision, revision)

    def blame(self, what: str) -> None:
        """Something that must not be."""
        with self._lock:
            self.wrong.append(what)
