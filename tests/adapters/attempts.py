"""Runs real attempts in this process: a workspace as the supervisor makes it, and every report collected."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

from support.tmp import TempDir

from fetchd.daemon.transfer.registry import Transfers
from fetchd.daemon.worker.attempt import Attempt
from fetchd.protocol import journal
from fetchd.protocol.codec import decode, encode
from fetchd.protocol.errors import TRANSIENT
from fetchd.protocol.mailbox import (
    Assign,
    Failed,
    Finished,
    FromWorker,
    NotModified,
    Options,
    Report,
    Responded,
    Restart,
    Stopped,
    Validator,
)

FINAL = (Finished, NotModified, Failed, Stopped)
DISTRUST = 2
"""After so many restarts a plain request is sent: a server may answer every range badly."""

T = TypeVar("T")


class Room:
    """One workspace and the transfers of one worker. `reports` are those of all attempts, in order.

    `paths`, if any, are the ways that the transfer may take with a body, the preferred one first.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.reports: list[Report] = []
        self.attempt: Attempt | None = None
        self.transfers = Transfers()
        self.generation = 0
        self.obeys = True
        self.paths: tuple[str, ...] = ()
        self._before = 0
        self._changed = threading.Condition()
        self.empty()

    def empty(self) -> None:
        """A workspace as new."""
        (self.directory / "frontier").write_bytes(journal.blank())
        self.data.write_bytes(b"")

    def keep(self, content: bytes) -> None:
        """Bytes of an earlier attempt."""
        self.data.write_bytes(content)

    def begin(
        self,
        url: str,
        *,
        have: int | Iterable[tuple[int, int]] = 0,
        segments: int = 1,
        etag: str | None = None,
        last_modified: str | None = None,
        ca_bundle: str = "",
        **fields: Any,
    ) -> None:
        """Start an attempt. `have`: so many bytes from the start, or ranges. `segments`: at most so many."""
        values: dict[str, Any] = {
            "headers": {}, "checksum": None, "total": None, "connect_timeout": 5.0, "read_timeout": 5.0,
            "options": Options(segments=segments), "connections": segments,
        }  # fmt: skip
        kept = [(0, have)] if isinstance(have, int) else list(have)
        task = Assign(
            job="job", attempt=1, workspace=str(self.directory), url=url, generation=self.generation,
            have=[pair for pair in kept if pair != (0, 0)],
            validator=Validator(etag=etag, last_modified=last_modified), **{**values, **fields},
        )  # fmt: skip
        transfer = self.transfers.find(url) if self.paths else None
        if transfer is not None and hasattr(transfer, "paths"):
            transfer.paths = self.paths
        with self._changed:
            self._before = len(self.reports)
        self.attempt = Attempt(task, self.transfers, ca_bundle, self._hear)
        self.attempt.start()

    def end(self, timeout: float = 20.0) -> Finished | NotModified | Failed | Stopped:
        """Wait for the last report of the attempt."""
        with self._changed:
            assert self._changed.wait_for(self._over, timeout), "no final report"
        assert self.attempt is not None
        self.attempt._thread.join(timeout)
        last = self.reports[-1]
        assert isinstance(last, FINAL)
        return last

    def run(self, url: str, **fields: Any) -> Finished | NotModified | Failed | Stopped:
        """A whole attempt."""
        self.begin(url, **fields)
        return self.end()

    def persist(
        self,
        url: str,
        *,
        tries: int = 8,
        patience: float = 20.0,
        stops: Iterable[Callable[[], None]] = (),
        **fields: Any,
    ) -> Finished | Failed | Stopped:
        """Attempts as the supervisor would make them, but at once: until one ends well or for good.

        A transient failure or a stop is followed by another attempt with what is left of the one before. The
        first attempts are stopped when each of `stops` returns. None takes longer than `patience` seconds.
        """
        waits = iter(stops)
        for _ in range(tries):
            self.begin(url, **fields)
            if (wait := next(waits, None)) is not None:
                wait()
                assert self.attempt is not None
                self.attempt.stop(True)
            last = self.end(patience)
            if isinstance(last, Finished) or (isinstance(last, Failed) and last.code not in TRANSIENT):
                break
            fields |= self.carried()
        return last

    def carried(self) -> dict[str, Any]:
        """The fields of the next attempt: what the workspace has, by its frontier."""
        found = journal.read((self.directory / "frontier").read_bytes())
        if found is None or found.generation != self.generation or not found.ranges:
            found = None
        known = Validator() if found is None else found.content.validator
        return {
            "ranges": len(self.of(Restart)) < DISTRUST,
            "have": () if found is None else found.ranges,
            "etag": known.etag,
            "last_modified": known.last_modified,
            "total": None if found is None else found.content.total,
        }

    def _over(self) -> bool:
        return len(self.reports) > self._before and isinstance(self.reports[-1], FINAL)

    def wait(self, kind: type[T], timeout: float = 10.0) -> T:
        """The first report of a kind, when it is there."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.of(kind), timeout), f"no {kind.__name__}"
        return self.of(kind)[0]

    def of(self, kind: type[T]) -> list[T]:
        """All reports of a kind."""
        return [report for report in self.reports if isinstance(report, kind)]

    def ranges(self) -> tuple[tuple[int, int], ...]:
        """What the frontier file says."""
        found = journal.read((self.directory / "frontier").read_bytes())
        return () if found is None else found.ranges

    def _hear(self, report: Report) -> None:
        # as it would arrive in the supervisor: a report that it would refuse fails the test
        assert decode(encode(report), cast(Any, FromWorker)) == report
        with self._changed:
            self.reports.append(report)
            self._changed.notify_all()
        if isinstance(report, Restart) and self.obeys:
            self.generation += 1
            assert self.attempt is not None
            self.attempt.proceed(self.generation)

    def close(self) -> None:
        for made in self.transfers._made.values():
            made.close()


@contextmanager
def room() -> Iterator[Room]:
    """A room of its own."""
    with TempDir() as directory:
        made = Room(directory)
        try:
            yield made
        finally:
            made.close()


def code(report: object) -> str:
    """The code of a failure; otherwise what it was."""
    return report.code if isinstance(report, Failed) else type(report).__name__


__all__ = ["Responded", "Room", "Stopped", "code", "room"]
