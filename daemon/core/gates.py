"""Gates: one row that holds many jobs. A lane moves only while none of its gates is closed.

A queued job keeps its state; what is shown for it is computed from its gates.
"""

from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Literal, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from fetchd.protocol.job import Reason, State

from .job import Job, Lane

Kind = Literal["daemon", "area", "host", "owner", "group"]


class GateKey(NamedTuple):
    """What a gate holds, and why: a user's pause and a full disk are two gates."""

    kind: Kind
    name: str
    reason: Reason


class Gate(Struct, frozen=True, kw_only=True):
    """A closed gate. It opens by itself at `until` (boot-time µs; None: it does not)."""

    key: GateKey
    since: int
    until: int | None = None
    detail: str = ""
    """For people. Of a disk's gate it is `code: message`, as errors of jobs are."""


class Gates:
    """The closed gates, by what they hold."""

    def __init__(self, closed: tuple[Gate, ...] = ()) -> None:
        self._closed: dict[tuple[Kind, str], dict[Reason, Gate]] = {}
        self._ends: list[tuple[int, GateKey]] = []
        for gate in closed:
            self.close(gate)

    def close(self, gate: Gate) -> None:
        """Close a gate, or change until when it is closed."""
        self._closed.setdefault((gate.key.kind, gate.key.name), {})[gate.key.reason] = gate
        if gate.until is not None:
            heappush(self._ends, (gate.until, gate.key))

    def open(self, key: GateKey) -> bool:
        """Open one gate; whether it was closed."""
        reasons = self._closed.get((key.kind, key.name), {})
        known = reasons.pop(key.reason, None) is not None
        if not reasons:
            self._closed.pop((key.kind, key.name), None)
        return known

    def get(self, key: GateKey) -> Gate | None:
        """A closed gate, or None."""
        return self._closed.get((key.kind, key.name), {}).get(key.reason)

    def holding(self, lane: Lane) -> Gate | None:
        """A closed gate that holds this lane, or None."""
        if not self._closed:
            return None
        for key in holding(lane):
            for gate in self._closed.get(key, {}).values():
                return gate
        return None

    def keys(self) -> tuple[tuple[Kind, str], ...]:
        """(kind, name) of what is held."""
        return tuple(self._closed)

    def paused(self, lane: Lane) -> bool:
        """Whether a user has closed a gate that holds this lane."""
        return any(Reason.USER in self._closed.get(key, {}) for key in holding(lane))

    def next(self) -> int | None:
        """Boot time (µs) at which the next gate opens by itself, or None."""
        while self._ends:
            until, key = self._ends[0]
            gate = self._closed.get((key.kind, key.name), {}).get(key.reason)
            if gate is not None and gate.until == until:
                return until
            heappop(self._ends)
        return None

    def due(self, now: int) -> list[GateKey]:
        """Open the gates whose time has come."""
        opened = []
        while (until := self.next()) is not None and until <= now:
            _, key = heappop(self._ends)
            if self.open(key):
                opened.append(key)
        return opened

    def limit(self, latest: int) -> None:
        """No gate is closed for longer than that: one of an earlier boot was set by another clock."""
        for gate in self:
            if gate.until is not None and gate.until > latest:
                self.close(replace(gate, until=latest))

    def __iter__(self) -> Iterator[Gate]:
        return iter([gate for reasons in self._closed.values() for gate in reasons.values()])

    def shown(self, job: Job) -> tuple[State, Reason | None]:
        """The state and reason to show for a job: a queued one shows what holds it."""
        if job.state is State.QUEUED and (gate := self.holding(job.lane)) is not None:
            paused = gate.key.reason in (Reason.USER, Reason.DISK)
            return (State.PAUSED if paused else State.WAITING), gate.key.reason
        return job.state, job.reason

    def error(self, job: Job) -> tuple[str, str] | None:
        """(code, message) of the disk that holds a queued job, or None."""
        gate = self.holding(job.lane) if job.state is State.QUEUED else None
        if gate is None or gate.key.reason is not Reason.DISK or not gate.detail:
            return None
        code, _, message = gate.detail.partition(": ")
        return code, message

    def opens(self, job: Job, ahead: int) -> int | None:
        """When what holds a queued job ends by itself, in wall-clock µs, or None.

        The wall clock is `ahead` of the boot-time clock.
        """
        gate = self.holding(job.lane) if job.state is State.QUEUED else None
        return None if gate is None or gate.until is None else gate.until + ahead


def holding(lane: Lane) -> tuple[tuple[Kind, str], ...]:
    """(kind, name) of all gates that would hold this lane."""
    return (
        ("daemon", ""),
        ("area", lane.area),
        ("host", lane.host),
        ("owner", lane.owner),
        ("group", lane.group),
    )
