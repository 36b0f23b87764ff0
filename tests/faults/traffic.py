"""Clients that want something all the time, and write down what they are told.

A patient one repeats an unanswered request by itself, a hasty one gives up soon: then its request may have
been done or not. Each has jobs of its own, so that the order of what was asked of a job is known.
"""

import random
import threading
from pathlib import Path
from typing import Any

from fetchd.client import Client
from fetchd.client.link import ClientClosedError
from fetchd.protocol.control import Outcome
from fetchd.protocol.errors import Code, FetchdError

from .bell import Bell, Listener
from .goods import Goods, Shop
from .ledger import Entry, Ledger, Told
from .witness import Witness

OPEN = 12
"""Jobs of one client that are not over; it submits no more above that."""

UNSURE = frozenset({Code.NO_DAEMON})
OVER = ("completed", "failed", "cancelled")
SHARED_NAMES = 6


class Traffic(threading.Thread):
    """One client with a thread, until `stop`."""

    def __init__(
        self, name: str, client: Client, shop: Shop, origin: Witness, places: list[Path], ledger: Ledger,
        bell: Bell, listener: Listener, seed: int,
    ) -> None:  # fmt: skip
        super().__init__(name=f"client {name}")
        self._name = name
        self._client = client
        self._shop = shop
        self._origin = origin
        self._places = places
        self._ledger = ledger
        self._bell = bell
        self._listener = listener
        self._chance = random.Random(f"{seed} {name}")
        self._mine: list[Entry] = []
        self._stopped = threading.Event()
        self.start()

    def stop(self) -> None:
        """No more requests after the one that is under way."""
        self._stopped.set()
        self.join(120)
        assert not self.is_alive(), f"{self.name} gets no answer"

    def run(self) -> None:
        """Ask for something, and again after a random while."""
        actions = [self._submit, self._verb, self._look, self._again]
        while not self._stopped.wait(self._chance.expovariate(25)):
            try:
                self._chance.choices(actions, [5, 4, 1, 1])[0]()
            except ClientClosedError:
                return
            except Exception as error:
                self._ledger.blame(f"{self.name}: {error!r}")

    # submits

    def _submit(self) -> None:
        alive = [entry for entry in self._mine if self._state(entry) not in OVER and entry.refused is None]
        if len(alive) < OPEN:
            many = self._chance.randint(2, 6) if self._chance.random() < 0.2 else 1
            self._send([self._entry() for _ in range(many)])

    def _again(self) -> None:
        """A submit that was not answered, once more: the daemon must take it once."""
        unsure = [entry for entry in self._mine if not entry.acked and entry.refused is None]
        if unsure:
            self._send([self._chance.choice(unsure)])

    def _entry(self) -> Entry:
        chance = self._chance
        goods: Goods = self._shop.make()
        job_id = f"{self._name}{len(self._mine)}"
        name, policy = f"{job_id}.bin", chance.choice(["fail", "skip", "rename", "overwrite"])
        if chance.random() < 0.15:
            name = f"shared{chance.randrange(SHARED_NAMES)}.bin"
        place = self._places[0] if chance.random() < 0.8 else self._places[-1]
        checksum = chance.random() < 0.3 and len(goods.versions) == 1
        entry = Entry(job_id, goods, place, name, policy, chance.choice([1, 1, 4]), checksum)
        if entry.segments == 1:
            self._origin.single.add(goods.path)
        self._ledger.enter(entry)
        self._mine.append(entry)
        return entry

    def _send(self, entries: list[Entry]) -> None:
        try:
            jobs = self._client.submit_many([_spec(entry) for entry in entries])
        except FetchdError as error:
            self._refused(error, "submit")
            if error.code not in UNSURE:
                for entry in entries:
                    entry.refused = error.code
            return
        for entry, job in zip(entries, jobs, strict=True):
            assert job.id == entry.id
            entry.acked = True
            self._ledger.heard("submit")
            self._bell.ring("ack")

    # verbs

    def _verb(self) -> None:
        mine = [entry for entry in self._mine if entry.refused is None][-40:]
        if not mine:
            return
        alive = [entry for entry in mine if self._state(entry) not in OVER]
        some = alive if alive and self._chance.random() < 0.85 else mine
        chosen = self._chance.sample(some, min(len(some), 1 + (self._chance.random() < 0.2)))
        verb = self._chance.choices(["cancel", "pause", "resume", "retry"], [3, 3, 5, 3])[0]
        if verb in ("cancel", "retry"):
            chosen = [entry for entry in chosen if not entry.undisturbed]
        ids = [entry.id for entry in chosen]
        if not ids:
            return
        try:
            outcomes: list[Outcome] = getattr(self._client, verb)(ids)
        except FetchdError as error:
            self._refused(error, verb)
            if error.code in UNSURE:
                for entry in chosen:
                    entry.told.append(Told(verb, maybe=True))
            return
        for entry, outcome in zip(chosen, outcomes, strict=True):
            entry.told.append(Told(verb, code=outcome.code, state=outcome.state))
            self._ledger.heard(verb if outcome.code is None else f"{verb} {outcome.code}", outcome.revision)
            self._bell.ring("ack")
            if outcome.code == Code.NO_SUCH_JOB and entry.acked:
                self._ledger.blame(f"{entry.id}: acknowledged, and then there was no such job for {verb}")

    def _look(self) -> None:
        try:
            if self._chance.random() < 0.5:
                for job in self._client.list(prefix=self._name, limit=20):
                    assert job.last is not None
                    self._ledger.heard("list", job.last.revision)
            else:
                self._client.stats()
                self._ledger.heard("stats")
        except FetchdError as error:
            self._refused(error, "look")

    def _refused(self, error: FetchdError, what: str) -> None:
        self._ledger.heard(f"{what} {'unanswered' if error.code in UNSURE else error.code}")
        if error.code in {Code.INTERNAL, Code.CONFLICT, Code.BAD_REQUEST}:
            self._ledger.blame(f"{self.name}: {what}: {error.code}: {error.message}")

    def _state(self, entry: Entry) -> str:
        return self._listener.states.get(entry.id, "")


def _spec(entry: Entry) -> dict[str, Any]:
    """The arguments of a submit, the same every time."""
    checksum = f"sha256:{min(entry.goods.versions)}" if entry.checksum else None
    return {
        "id": entry.id, "url": entry.goods.url, "directory": entry.directory, "name": entry.name,
        "if_exists": entry.policy, "segments": entry.segments, "checksum": checksum, "retries": 100,
        "keep_partial": False,
    }  # fmt: skip
