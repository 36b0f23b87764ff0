"""Runs real attempts in this process: a workspace as the supervisor makes it, and every report collected."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

from support.tmp import TempDir

from fetchd.daemon.transfer.registry import Transfers
from fetchd.daemon.worker.attempt import Attempt
from fetchd.protocol import journal
from fetchd.protocol.codec import decode, encode
from fetchd.protocol.mailbox import (
    Assign,
    Failed,
    Finished,
    FromWorker,
    Report,
    Responded,
    Restart,
    Stopped,
    Validator,
)

FINAL = (Finished, Failed, Stopped)
T = TypeVar("T")


class Room:
    """One workspace and the transfers of one worker. `reports` are those of all attempts, in order."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.reports: list[Report] = []
        self.attempt: Attempt | None = None
        self.transfers = Transfers()
        self.generation = 0
        self.obeys = True
        self._changed = threading.Condition()
        (directory / "frontier").write_bytes(journal.blank())
        self.data.touch()

    def keep(self, content: bytes) -> None:
        """Bytes of an earlier attempt."""
        self.data.write_bytes(content)

    def begin(
        self,
        url: str,
        *,
        have: int | Sequence[tuple[int, int]] = 0,
        etag: str | None = None,
        last_modified: str | None = None,
        ca_bundle: str = "",
        **fields: Any,
    ) -> None:
        """Start an attempt."""
        values: dict[str, Any] = {
            "headers": {}, "checksum": None, "total": None, "connect_timeout": 5.0, "read_timeout": 5.0,
        }  # fmt: skip
        task = Assign(
            job="job", attempt=1, workspace=str(self.directory), url=url, generation=self.generation,
            have=([(0, have)] if have else []) if isinstance(have, int) else list(have),
            validator=Validator(etag=etag, last_modified=last_modified), **{**values, **fields},
        )  # fmt: skip
        self.attempt = Attempt(task, self.transfers, ca_bundle, self._hear, str(self.directory))
        self.attempt.start()

    def end(self, timeout: float = 20.0) -> Finished | Failed | Stopped:
        """Wait for the last report of the attempt."""
        with self._changed:
            assert self._changed.wait_for(self._over, timeout), "no final report"
        assert self.attempt is not None
        self.attempt._thread.join(timeout)
        last = self.reports[-1]
        assert isinstance(last, FINAL)
        return last

    def run(self, url: str, **fields: Any) -> Finished | Failed | Stopped:
        """A whole attempt."""
        self.begin(url, **fields)
        return self.end()

    def _over(self) -> bool:
        return bool(self.reports) and isinstance(self.reports[-1], FINAL)

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
