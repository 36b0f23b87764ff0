"""What may never happen to a job, whatever the core decides: every change is looked at as it is saved.

It knows nothing of how the core does it: only which verbs were asked for, in which order, and what they
allow.
"""

from dataclasses import dataclass, field

from fetchd.daemon.core import inputs
from fetchd.daemon.core.core import Core
from fetchd.daemon.core.job import Job
from fetchd.protocol.errors import Code
from fetchd.protocol.job import State

NO_FAILURE = (Code.DISK_FULL, Code.DISK_GONE, Code.EXHAUSTED)
TERMINAL = (State.COMPLETED, State.FAILED, State.CANCELLED)


@dataclass
class Bulk:
    """A bulk verb that was asked for. `when` counts the inputs."""

    when: int
    owner: str
    req: str
    verb: str
    failed: bool
    upto: int
    acked: bool = False

    @property
    def clears(self) -> bool:
        return self.verb in ("cancel", "remove") and not self.failed


@dataclass
class Watch:
    """The verbs so far, and when which job came into its state."""

    event: inputs.Input = field(default_factory=inputs.Tick)
    now: int = 0
    bulks: list[Bulk] = field(default_factory=list)
    entered: dict[tuple[int, int], int] = field(default_factory=dict)
    revived: dict[int, int] = field(default_factory=dict)
    reopened: dict[int, int] = field(default_factory=dict)

    def begin(self, event: inputs.Input, now: int, core: Core) -> None:
        """An input is about to be handled."""
        self.event, self.now = event, now
        if isinstance(event, inputs.Bulk):
            owner, req = event.request.owner, event.request.req
            if (owner, req) not in core.replies:
                upto = core.ledger.next_seq
                self.bulks.append(Bulk(now, owner, req, event.verb, event.failed, upto))

    def refused(self) -> None:
        """What was asked for with this input is not done."""
        self.bulks = [bulk for bulk in self.bulks if bulk.when != self.now]

    def changed(self, old: Job | None, new: Job) -> None:
        """A job is saved."""
        if old is None or old.seq != new.seq:
            assert new.state is State.QUEUED
            self.revived[new.seq] = self.now
        elif old.state is not new.state:
            self._moved(old, new)
        if old is None or old.revision != new.revision:
            self.entered[new.seq, new.revision] = self.now

    def _moved(self, old: Job, new: Job) -> None:
        assert old.state is not State.COMPLETED, f"{old.id} is completed, and runs again"
        if old.state is State.PAUSED and not new.terminal:
            assert self._asked(old, "resume"), f"{old.id} was paused, and nobody resumed it"
        if old.terminal:
            assert self._asked(old, "retry"), f"{old.id} was {old.state}, and nobody retried it"
            self.revived[old.seq] = self.now
        if old.state is State.PUBLISHING and new.state is State.QUEUED:
            self.reopened[old.seq] = self.now
        if new.state is State.FAILED:
            assert new.error_code not in NO_FAILURE, f"{old.id} has failed with {new.error_code}"
        if new.state is State.CANCELLED:
            assert self._ended(old), f"nobody cancelled {old.id}"
        if new.state is State.RUNNING:
            assert not self._doomed(old), f"{old.id} is run after all were cancelled"

    def _asked(self, job: Job, verb: str) -> bool:
        """Whether this verb was asked for the job, after it has come into its state."""
        event = self.event
        if isinstance(event, inputs.Verb) and event.verb == verb and job.id in event.ids:
            return self._may(job)
        since = self.entered[job.seq, job.revision]
        return any(
            b.verb == verb and b.owner == job.owner and b.when > since and job.seq <= b.upto
            and (not b.failed or job.state is State.FAILED)
            for b in self.bulks
        )  # fmt: skip

    def _may(self, job: Job) -> bool:
        """Whether whoever asks may steer the job."""
        request = getattr(self.event, "request", None)
        return request is not None and (request.admin or request.owner == job.owner)

    def _ended(self, job: Job) -> bool:
        event = self.event
        if isinstance(event, inputs.Verb) and event.verb in ("cancel", "remove") and job.id in event.ids:
            return self._may(job)
        return any(b.clears and self._after(b, job) for b in self.bulks)

    def _after(self, bulk: Bulk, job: Job) -> bool:
        """Whether a bulk verb is for this job, as it has been since it was submitted or revived."""
        return bulk.owner == job.owner and job.seq <= bulk.upto and bulk.when > self.revived[job.seq]

    def _doomed(self, job: Job) -> bool:
        """Whether all jobs were to end and this one was not yet being published, so that it is among them."""
        reopened = self.reopened.get(job.seq, 0)
        return any(b.clears and b.acked and self._after(b, job) and b.when > reopened for b in self.bulks)

    def removable(self, job: Job) -> None:
        """A job is forgotten."""
        event = self.event
        if isinstance(event, inputs.Verb) and event.verb == "remove" and job.id in event.ids:
            assert self._may(job)
            return
        assert any(
            b.verb == "remove" and b.owner == job.owner and job.seq <= b.upto
            and (not b.failed or job.state is State.FAILED)
            for b in self.bulks
        ), f"nobody removed {job.id}"  # fmt: skip

    def acked(self, owner: str, req: str) -> None:
        """A request has been acknowledged; one that was lost before it was on disk was asked for again."""
        mine = [bulk for bulk in self.bulks if (bulk.owner, bulk.req) == (owner, req)]
        for bulk in mine[-1:]:
            bulk.acked = True

    def at_rest(self, jobs: dict[str, Job]) -> None:
        """Nothing of what was to end is left when nothing happens any more."""
        for job in jobs.values():
            assert job.terminal or not self._doomed(job), f"{job.id} is {job.state} after all were to end"
