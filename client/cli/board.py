"""What `fetchd top` knows: the daemon, the jobs, what their workers take. No output, no clock, no sockets.

Whoever has it feeds it: with every event and, where it is `stale`, with the status and lists of jobs.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct

from fetchd.client.session import Event
from fetchd.protocol.events import Metrics, WorkerUsage
from fetchd.protocol.job import TERMINAL, JobSnapshot, State
from fetchd.protocol.status import DaemonStatus, Held, Slots, WorkerStatus

from . import text
from .output import job_json, status_json

ACTIVE = [State.RUNNING, State.PUBLISHING]
PENDING = [State.QUEUED, State.WAITING, State.PAUSED]

MOST = 1000
"""As many of the jobs that wait are known one by one."""

FEW = 20
"""With fewer of them known than that, and more that wait, it is time to ask for more."""


class Host(Struct):
    """What is known of one host: its jobs that run and wait, and their speed in bytes a second."""

    running: int = 0
    pending: int = 0
    speed: float = 0.0


class Board:
    """The state of the view. `stale`: status and lists have to be asked for, again."""

    def __init__(self, daemon: DaemonStatus) -> None:
        self.daemon = daemon
        self.connected = True
        self.restarted = False
        self.stale = True
        self.jobs: dict[str, JobSnapshot] = {}
        self.workers: dict[str, WorkerStatus | WorkerUsage] = {}
        self.counts: dict[str, int] = {}
        self.held: list[Held] = []
        self.slots: Slots | None = None
        self.draining = False
        self._heard: dict[str, int] | None = None
        self.greet(daemon)

    # what it is fed with

    def greet(self, daemon: DaemonStatus) -> None:
        """The status of the daemon, perhaps of another life."""
        self.restarted = self.restarted or daemon.epoch != self.daemon.epoch
        self.daemon = daemon
        self._take(daemon)

    def connection(self, there: bool) -> bool:
        """Whether the daemon is there; returns whether that is news."""
        if there is self.connected:
            return False
        self.connected = there
        self.stale = self.stale or there
        return True

    def begin(self) -> None:
        """From now on the jobs are listed anew."""
        self.stale = False
        self._heard = {}

    def know(self, jobs: Iterable[JobSnapshot]) -> None:
        """Jobs as they were listed; what an event has told of one since is newer."""
        assert self._heard is not None
        for job in jobs:
            if job.revision >= self._heard.get(job.id, 0):
                self.jobs[job.id] = job
                self._heard[job.id] = job.revision

    def settle(self) -> None:
        """The lists are complete: what was in none of them is not there any more."""
        assert self._heard is not None
        self.jobs = {job_id: job for job_id, job in self.jobs.items() if job_id in self._heard}
        self._heard = None

    def hear(self, event: Event) -> None:
        """Something has happened."""
        if isinstance(event.data, Metrics):
            self.stale = self.stale or event.data.held != self.held
            self._take(event.data)
            if self._heard is None:
                known = sum(job.state in PENDING for job in self.jobs.values())
                self.stale = self.stale or known < min(FEW, self.pending)
        elif (job := event.snapshot) is not None:
            before = self.jobs.get(job.id)
            if before is not None and before.revision > job.revision:
                return
            if job.state in TERMINAL or event.type == "removed":
                self.jobs.pop(job.id, None)
                self.workers.pop(job.id, None)
            elif before is not None or job.state in ACTIVE or len(self.jobs) < 2 * MOST:
                self.jobs[job.id] = job
            if self._heard is not None:
                self._heard[job.id] = job.revision

    def _take(self, told: DaemonStatus | Metrics) -> None:
        self.workers = {worker.job: worker for worker in told.workers if worker.job is not None}
        self.counts, self.held = told.counts, told.held
        self.slots, self.draining = told.slots, told.draining

    # what is shown of it

    @property
    def running(self) -> list[JobSnapshot]:
        """The jobs that run or are published, those first that began first."""
        found = [job for job in self.jobs.values() if job.state in ACTIVE]
        return sorted(found, key=lambda job: (job.started or 0, job.id))

    @property
    def waiting(self) -> list[JobSnapshot]:
        """The jobs known to wait, those first that are likely to be next."""
        found = [job for job in self.jobs.values() if job.state in PENDING]
        return sorted(found, key=_turn)

    @property
    def pending(self) -> int:
        """How many jobs wait, the unknown ones too."""
        return sum(self.counts.get(state, 0) for state in PENDING)

    @property
    def reasons(self) -> dict[str, int]:
        """How many of the jobs known to wait do so for which reason, or in which state where that says it."""
        return dict(Counter(str(job.reason or job.state) for job in self.waiting).most_common())

    @property
    def speed(self) -> float:
        """Bytes a second of everything that runs."""
        return sum(job.speed or 0.0 for job in self.running if job.state is State.RUNNING)

    @property
    def hosts(self) -> dict[str, Host]:
        """What is known of each host, the busiest first."""
        found: dict[str, Host] = {}
        for job in self.jobs.values():
            host = found.setdefault(text.host_of(job), Host())
            if job.state in ACTIVE:
                host.running += 1
                host.speed += job.speed or 0.0
            else:
                host.pending += 1
        return dict(sorted(found.items(), key=lambda pair: (-pair[1].running, -pair[1].speed, pair[0])))

    def sandbox(self) -> dict[str, str]:
        """The layers of the sandbox that are not wholly there."""
        return {layer: state for layer, state in self.daemon.sandbox.items() if state != "on"}

    def json(self, most: int) -> dict[str, Any]:
        """All of it as scripts see it, with as many of the jobs that wait."""
        daemon = status_json(self.daemon)
        fields = ("pid", "version", "epoch", "started", "sandbox")
        held = msgspec.to_builtins(self.held)
        for one in held:
            one["since"] = text.rfc3339(one["since"])
        return {
            "daemon": {name: daemon[name] for name in fields} | {
                "connected": self.connected, "restarted": self.restarted, "draining": self.draining,
            },
            "slots": msgspec.to_builtins(self.slots),
            "counts": self.counts,
            "speed": self.speed,
            "held": held,
            "running": [job_json(job) | {"worker": self._worker_json(job)} for job in self.running],
            "pending": self.pending,
            "reasons": self.reasons,
            "next": [job_json(job) for job in self.waiting[:most]],
            "hosts": msgspec.to_builtins(self.hosts),
        }  # fmt: skip

    def _worker_json(self, job: JobSnapshot) -> dict[str, Any] | None:
        worker = self.workers.get(job.id)
        if worker is None:
            return None
        return {name: getattr(worker, name) for name in ("slot", "pid", "memory", "cpu", "connections")}


def _turn(job: JobSnapshot) -> tuple[bool, bool, int, int, int]:
    """Jobs that only wait for a slot come first, then those that wait for a time; paused ones are last."""
    until = job.not_before if job.state is State.WAITING else None
    held = job.state is not State.QUEUED or job.reason is not None
    return job.state is State.PAUSED, held, -job.priority, until or job.created, job.revision
