"""Rung by whatever happens in a campaign, so that a kill can wait for the n-th event of a kind."""

import threading
from collections import Counter

from fetchd.client import Client
from fetchd.client.link import ClientClosedError
from fetchd.protocol.errors import FetchdError
from fetchd.protocol.job import State

from .ledger import Ledger


class Bell:
    """Counts of what has happened, by kind: types of events, and whatever else is rung."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._counts: Counter[str] = Counter()
        self._silent = False

    def ring(self, kind: str) -> None:
        """It has happened once more."""
        with self._changed:
            self._counts[kind] += 1
            self._changed.notify_all()

    def wait(self, kind: str, times: int, timeout: float) -> bool:
        """Wait until it has happened so many more times; whether it has within so many seconds."""
        with self._changed:
            wanted = self._counts[kind] + times
            return self._changed.wait_for(lambda: self._silent or self._counts[kind] >= wanted, timeout)

    @property
    def silenced(self) -> bool:
        """Whether it rings no more."""
        return self._silent

    def silence(self) -> None:
        """Let everybody go who waits."""
        with self._changed:
            self._silent = True
            self._changed.notify_all()


class Listener(threading.Thread):
    """Rings the bell for every event that the daemon publishes, until `client` is closed.

    `states` are the last ones that were told, `completed` the jobs that were ever said to be.
    """

    def __init__(self, client: Client, bell: Bell, ledger: Ledger) -> None:
        super().__init__(name="listener")
        self._client = client
        self._bell = bell
        self._ledger = ledger
        self.states: dict[str, str] = {}
        self.completed: set[str] = set()
        self.start()

    def run(self) -> None:
        """Listen."""
        while True:
            try:
                with self._client.subscribe("job.") as subscription:
                    for event in subscription:
                        if event.job is not None and event.type != "progress":
                            self.states[event.job] = event.type
                            if event.type == State.COMPLETED:
                                self.completed.add(event.job)
                        self._ledger.heard(f"event {event.type}", event.revision or 0)
                        self._bell.ring(event.type)
            except ClientClosedError:
                return
            except FetchdError:  # no daemon: it comes again
                if self._bell.wait("ready", 1, 30) and self._bell.silenced:
                    return
