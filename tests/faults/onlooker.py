"""Somebody who uses the daemon through all its ends, and remembers what it was told."""

import queue
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from fetchd.client import Client
from fetchd.client.link import ClientClosedError
from fetchd.client.session import Event
from fetchd.protocol.errors import Code, FetchdError
from fetchd.protocol.job import JobSnapshot, State

PASSING = frozenset(
    {Code.STORE_FAILED, Code.DESTINATION, Code.INTERNAL, Code.BUSY, Code.DRAINING, Code.NO_DAEMON}
)
"""Refusals that may say no more than "not now"."""

PAUSE = 0.2
"""Seconds before the same is asked again."""


class Witness:
    """Submits in one thread and follows all events in another, with one client that outlives every daemon.

    `acked` are the IDs whose submit was answered, `completed` those of which an event said so. Both only
    grow, under `changed`. A refusal is no fault (the disk may be gone already, the daemon not yet): the same
    is asked again. `errors` are those that say that something is lost.
    """

    def __init__(self, control: Path) -> None:
        self.changed = threading.Condition()
        self.acked: list[str] = []
        self.completed: dict[str, JobSnapshot] = {}
        self.errors: list[str] = []
        self.client = Client(socket=control, timeout=60.0, resend_after=2.0)
        self._todo: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self.refusals: list[str] = []
        self._closing = threading.Event()
        self._threads = [
            threading.Thread(target=self._guarded, args=(target,), name=target.__name__)
            for target in (self._submit, self._follow)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, **arguments: Any) -> None:
        """Submit this as soon as what was to be submitted before it has been answered."""
        self._todo.put(arguments)

    def wait_for(self, count: int, *, acked: bool, timeout: float) -> None:
        """Wait until so many are acknowledged, or completed. TimeoutError if they do not come."""
        with self.changed:
            have = self.acked if acked else self.completed
            if not self.changed.wait_for(lambda: len(have) >= count or bool(self.errors), timeout):
                raise TimeoutError(f"{len(have)} of {count} {'acknowledged' if acked else 'completed'}")

    def close(self) -> None:
        """End the client and both threads."""
        self._closing.set()
        self._todo.put(None)
        self.client.close()
        for thread in self._threads:
            thread.join(30)

    def _guarded(self, target: Any) -> None:
        try:
            with suppress(ClientClosedError):
                target()
        except FetchdError as error:
            with self.changed:
                self.errors.append(f"{target.__name__.strip('_')}: {error.code}: {error}")
                self.changed.notify_all()

    def _submit(self) -> None:
        while (arguments := self._todo.get()) is not None:
            while not self._accepted(arguments):
                pass

    def _accepted(self, arguments: dict[str, Any]) -> bool:
        try:
            job = self.client.submit(**arguments)
        except FetchdError as error:
            self._refused(error)
            return False
        with self.changed:
            self.acked.append(job.id)
            self.changed.notify_all()
        return True

    def _follow(self) -> None:
        revision, lineage = 0, None
        while not self._closing.is_set():
            try:
                with self.client.events(revision, lineage=lineage) as stream:
                    for event in stream:
                        revision, lineage = stream.revision or 0, stream.lineage
                        self._heard(event)
            except FetchdError as error:
                self._refused(error)

    def _heard(self, event: Event) -> None:
        if event.snapshot is not None and event.snapshot.state is State.COMPLETED:
            with self.changed:
                self.completed[event.snapshot.id] = event.snapshot
                self.changed.notify_all()

    def _refused(self, error: FetchdError) -> None:
        if error.code not in PASSING:
            raise error
        self.refusals.append(f"{error.code}: {error}")
        self._closing.wait(PAUSE)
