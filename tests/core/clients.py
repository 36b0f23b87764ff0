"""Clients of the simulated daemon: what they ask, what it looks up for them, what they are answered."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fetchd.daemon.core import inputs
from fetchd.daemon.core.core import Core
from fetchd.daemon.core.job import Job, join
from fetchd.protocol.control import Outcomes, Submitted
from fetchd.protocol.errors import Code
from fetchd.protocol.job import State

from .make import WALL, intake
from .store import FakeStore

if TYPE_CHECKING:
    from .simulator import Simulation

OWNER = "uid:1"
ADMIN = "uid:0"
OUTCOMES: dict[str, set[State | None]] = {
    "cancel": {State.CANCELLED},
    "pause": {State.PAUSED},
    "resume": {State.QUEUED, State.WAITING, State.RUNNING, State.PAUSED},
    "retry": {State.QUEUED, State.RUNNING, State.PAUSED},
    "remove": {None},
}
"""The states that a job may be in after a verb was carried out; behind a closed queue it looks paused."""


@dataclass
class Ask:
    """A request of a client, which it may repeat."""

    make: Callable[[FakeStore], inputs.Input]
    owner: str
    req: str
    text: str
    answers: list[object] = field(default_factory=list)
    refused: list[Code] = field(default_factory=list)

    @property
    def request(self) -> inputs.Request:
        return inputs.Request(self.owner, self.req, self.text.encode(), self, self.owner == ADMIN)


@dataclass
class Lookup:
    """Rows for an input that is made when they arrive, with what the core knows by then."""

    rows: tuple[Job, ...]

    def events(self, core: Core) -> list[inputs.Input]:
        """As `router/staging.py` cleans the workspaces of finished jobs."""
        jobs = [core.ledger.lookup(row.id, {row.id: row}) for row in self.rows]
        return [inputs.Expired((job,)) for job in jobs if job is not None and job.terminal and job.kept_until]


def look_up(ask: Ask, store: FakeStore) -> object:
    """The stored answer, or the input for the core."""
    stored = store.replies.get((ask.owner, ask.req))
    if stored is None:
        return ask.make(store)
    assert stored.digest == ask.request.digest
    _first(ask, stored.reply)
    return ask


def answered(ask: Ask, body: object, store: FakeStore) -> None:
    """An answer has arrived: what it says is on disk."""
    _first(ask, body)
    if isinstance(body, Submitted):
        gone = set(store.removed.values())
        assert all(one.id in store.jobs or one.id in gone for one in body.jobs), (
            "acknowledged and not on disk"
        )
    if isinstance(body, Outcomes):
        verb = ask.text.partition(" ")[0]
        for one in body.jobs:
            assert one.code is not None or one.state in OUTCOMES[verb], f"{verb} and {one.id} is {one.state}"


def _first(ask: Ask, body: object) -> None:
    ask.answers.append(body)
    assert body == ask.answers[0], "a repeated request got another answer"


# what may be asked


def submit(sim: "Simulation", *specs: dict[str, Any], owner: str = OWNER) -> None:
    """Ask for jobs."""
    jobs = tuple(intake(**spec) for spec in specs)

    def make(store: FakeStore) -> inputs.Submit:
        paths = {
            path: holder for one in jobs
            if one.spec.name and (holder := store.reserved(path := join(one.directory, one.spec.name)))
        }  # fmt: skip
        return inputs.Submit(ask.request, jobs, store.by_ids(tuple(one.id for one in jobs)), paths)

    ask = sim.ask(make, owner, f"submit {[sorted(spec.items()) for spec in specs]}")


def verb(sim: "Simulation", name: inputs.VerbName, *ids: str, owner: str = OWNER) -> None:
    def make(store: FakeStore) -> inputs.Verb:
        held = frozenset(ids) & store.secrets
        return inputs.Verb(ask.request, name, ids, store.by_ids(ids), held)

    ask = sim.ask(make, owner, f"{name} {ids}")


def bulk(sim: "Simulation", name: inputs.VerbName, *, failed: bool = False, owner: str = OWNER) -> None:
    ask = sim.ask(lambda _store: inputs.Bulk(ask.request, name, failed), owner, f"{name} all {failed}")


def limit(
    sim: "Simulation", rate: int | None, *ids: str, host: str | None = None, owner: str = OWNER
) -> None:
    """Ask for a limit of speed."""

    def make(store: FakeStore) -> inputs.Limit:
        return inputs.Limit(ask.request, rate, ids, host, store.by_ids(ids))

    ask = sim.ask(make, owner, f"limit {rate} {ids} {host}")


def clean(sim: "Simulation", *ids: str) -> None:
    """Ask for the deletion of workspaces."""
    sim.calls.append(lambda: Lookup(tuple(sim.store.by_ids(ids).values())))


def prune(sim: "Simulation") -> None:
    """The daemon looks for workspaces that were kept long enough."""
    wall = WALL + sim.mono
    sim.calls.append(lambda: inputs.Expired(sim.store.expired(wall)))
    sim.turn(inputs.Overdue((), more=True))
