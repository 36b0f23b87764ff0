"""How many connections each host has to bear: every attempt at least one, all together at most `limit`.

An attempt counts for the host of its lane until its worker is free again, however it ends.
"""

from collections.abc import Iterable

from .slot import Run

AUTO = 8
"""Connections of a job that leaves their number to the daemon."""


class Hosts:
    """The attempts of each host. `changed`: others run there now; `freed`: they are not full any more."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.changed: set[str] = set()
        self.freed: set[str] = set()
        self._runs: dict[str, dict[str, Run]] = {}
        self._full: set[str] = set()

    def full(self, host: str) -> bool:
        """Whether no further attempt may begin there."""
        return host in self._full

    def names(self) -> Iterable[str]:
        """The hosts that are full."""
        return self._full

    def runs(self, host: str) -> list[Run]:
        return list(self._runs.get(host, {}).values())

    def all_runs(self) -> list[Run]:
        return [run for runs in self._runs.values() for run in runs.values()]

    def take_freed(self) -> set[str]:
        """The hosts that were full and are not now, as far as that is news."""
        freed, self.freed = self.freed, set()
        return freed

    def join(self, run: Run) -> None:
        """An attempt begins."""
        self._runs.setdefault(run.host, {})[f"{run.job} {run.attempt}"] = run
        self._note(run.host)

    def leave(self, run: Run) -> None:
        """An attempt is over."""
        runs = self._runs[run.host]
        del runs[f"{run.job} {run.attempt}"]
        if not runs:
            del self._runs[run.host]
        self._note(run.host)

    def resize(self, limit: int) -> None:
        """Another limit. Attempts that are too many go on, with one connection each."""
        self.limit = limit
        for host in list(self._runs):
            self._note(host)

    def share(self, run: Run) -> int:
        """How many connections an attempt may have."""
        return max(1, min(run.wish, self.limit // len(self._runs[run.host])))

    def _note(self, host: str) -> None:
        self.changed.add(host)
        if len(self._runs.get(host, ())) >= self.limit:
            self._full.add(host)
        elif host in self._full:
            self._full.discard(host)
            self.freed.add(host)

    def validate(self, busy: Iterable[Run]) -> None:
        """Raise AssertionError where an invariant is broken; for tests."""
        held = self.all_runs()
        assert len(held) == len(set(map(id, held))), "an attempt counts twice"
        assert set(map(id, held)) == set(map(id, busy)), "the hosts do not know what runs"
        for host, runs in self._runs.items():
            assert runs, f"{host} has no attempts and is known"
            assert (host in self._full) == (len(runs) >= self.limit)
        assert self._full <= set(self._runs)
