"""The core against the plain model, by hypothesis: rules in any order, and the same jobs in the same states.

Windows are tiny, so that the queue goes through the store all the time; the store answers at once.
"""

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fetchd.daemon.core import commands as c
from fetchd.daemon.core import inputs, schedule
from fetchd.daemon.core.core import Core, Loaded
from fetchd.daemon.core.job import Moment
from fetchd.daemon.core.settings import Settings
from fetchd.protocol import mailbox
from fetchd.protocol.errors import Code
from fetchd.protocol.job import State

from . import make
from .make import AREA, SECOND, WALL
from .model import Model
from .store import FakeStore

RETRIES = 2
IDS = [f"j{n}" for n in range(40)]
PARKED = 21 * SECOND // 10  # what was asked for, and half of a tenth more
WAIT = {1: SECOND // 2, 2: SECOND}  # half of the jitter's span, after so many failures


def host_of(job_id: str) -> str:
    return f"h{int(job_id[1:]) % 2}.test"


class CoreMachine(RuleBasedStateMachine):
    """Every rule does one thing to the core and to the model."""

    @initialize(workers=st.integers(1, 3))
    def begin(self, workers: int) -> None:
        self.window, schedule.WINDOW = schedule.WINDOW, 4
        self.now = 100 * SECOND
        self.model = Model(workers)
        self.store = FakeStore()
        self.requests = 0
        self.assigned: dict[str, tuple[int, int]] = {}
        self.core = Core(Settings(workers=workers, default_area=AREA), Loaded())
        self.follow(self.core.start(self.moment()))

    def teardown(self) -> None:
        schedule.WINDOW = self.window

    def moment(self) -> Moment:
        return Moment(self.now, WALL + self.now, 0.5)

    def do(self, event: inputs.Input) -> list[c.Command]:
        made = self.core.handle(event, self.moment())
        self.core.validate()
        self.follow(made)
        return made

    def follow(self, made: list[c.Command]) -> None:
        """Commit at once, answer at once, and let workers come up at once."""
        self.store.apply([one for one in made if isinstance(one, c.Durable)])
        stamps = [one.stamp for one in made if isinstance(one, c.SaveJob)]
        events: list[inputs.Input] = [inputs.Committed(stamps[-1])] if stamps else []
        for one in made:
            if isinstance(one, c.LoadWindow | c.LoadLanes | c.LoadDue):
                events.append(self.store.answer(one))
            elif isinstance(one, c.Spawn):
                events.append(inputs.WorkerReady(one.slot, one.incarnation))
            elif isinstance(one, c.AssignJob):
                assert one.job.id not in self.assigned, "two attempts of one job"
                self.assigned[one.job.id] = (one.slot, one.incarnation)
            elif isinstance(one, c.Kill):
                for job_id in [
                    i for i, worker in self.assigned.items() if worker == (one.slot, one.incarnation)
                ]:
                    assert self.model.jobs[job_id].state is State.CANCELLED, (
                        "only who does not stop is killed"
                    )
                    self.model.free(job_id)
                    del self.assigned[job_id]
                self.model.dispatch()
                events.append(inputs.WorkerGone(one.slot, one.incarnation, inputs.Gone.KILLED))
        for event in events:
            self.do(event)

    def say(self, kind: type, job_id: str, **fields: Any) -> None:
        slot, incarnation = self.assigned[job_id]
        said = kind(job=job_id, attempt=self.model.jobs[job_id].attempt, **fields)
        self.do(inputs.WorkerReport(slot, incarnation, said))

    @rule(
        ids=st.lists(st.sampled_from(IDS), min_size=1, max_size=15), priority=st.sampled_from([-3, 0, 0, 4])
    )
    def submit(self, ids: list[str], priority: int) -> None:
        new = {i: priority for i in dict.fromkeys(ids) if i not in self.model.jobs}
        # the priority is part of the specification, so an ID that exists comes with the one that it has
        levels = {
            i: new.get(i, self.model.jobs[i].priority if i in self.model.jobs else priority) for i in ids
        }
        for job_id, level in levels.items():
            self.model.submit(job_id, level, host_of(job_id))
        self.model.dispatch()
        jobs = tuple(make.intake(i, host_of(i), priority=levels[i], retries=RETRIES) for i in ids)
        known = {i: self.store.jobs[i] for i in ids if i in self.store.jobs}
        self.requests += 1
        made = self.do(inputs.Submit(make.request(f"r{self.requests}"), jobs, known, {}))
        (reply,) = make.of(made, c.Reply)
        first = [i in new and i not in ids[:n] for n, i in enumerate(ids)]
        assert [not one.duplicate for one in reply.body.jobs] == first

    @rule(job_id=st.sampled_from(IDS))
    def cancel(self, job_id: str) -> None:
        known = {job_id: self.store.jobs[job_id]} if job_id in self.store.jobs else {}
        self.requests += 1
        made = self.do(inputs.Verb(make.request(f"r{self.requests}"), "cancel", (job_id,), known))
        (reply,) = make.of(made, c.Reply)
        if job_id in self.model.jobs:
            assert (reply.body.jobs[0].code is None) == self.model.cancel(job_id)
        else:
            assert reply.body.jobs[0].code == Code.NO_SUCH_JOB

    @rule(
        rate=st.sampled_from([None, 1, 5000]), host=st.none() | st.just("h0.test"),
        ids=st.lists(st.sampled_from(IDS), max_size=2),
    )  # fmt: skip
    def limit(self, rate: int | None, host: str | None, ids: list[str]) -> None:
        known = {i: self.store.jobs[i] for i in ids if i in self.store.jobs}
        self.requests += 1
        request = make.request(f"r{self.requests}", admin=True)
        made = self.do(inputs.Limit(request, rate, tuple(ids), None if ids else host, known))
        (reply,) = make.of(made, c.Reply)
        assert [one.id for one in reply.body.jobs] == ids

    def pick(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.assigned)))

    @precondition(lambda self: self.assigned)
    @rule(data=st.data(), code=st.sampled_from([Code.CONNECT, Code.NOT_FOUND, Code.UNAVAILABLE]))
    def fail(self, data: st.DataObject, code: Code) -> None:
        job_id = self.pick(data)
        running = self.model.jobs[job_id].state is State.RUNNING
        if not running:
            self.say(mailbox.Stopped, job_id, bytes=0)
        else:
            after = 2.0 if code is Code.UNAVAILABLE else None
            self.say(mailbox.Failed, job_id, code=code, message="", bytes=0, retry_after=after)
            if code is Code.UNAVAILABLE:
                self.model.park(job_id, self.now + PARKED, RETRIES)
            elif code is Code.CONNECT:
                due = self.now + WAIT.get(self.model.jobs[job_id].failures + 1, 0)
                self.model.fail(job_id, due, RETRIES)
            else:
                self.model.end(job_id, State.FAILED)
        self.leave(job_id)

    @precondition(lambda self: self.assigned)
    @rule(data=st.data(), lost=st.booleans())
    def finish(self, data: st.DataObject, lost: bool) -> None:
        job_id = self.pick(data)
        if self.model.jobs[job_id].state is not State.RUNNING:
            return
        attempt = self.model.jobs[job_id].attempt
        self.say(
            mailbox.Responded, job_id, generation=self.store.jobs[job_id].generation, status=200,
            url=f"http://a.test/{job_id}", total=9, kept=0, validator=make.VALIDATOR, disposition=None,
            origins=[],
        )  # fmt: skip
        self.do(inputs.NameProbed(job_id, attempt, (job_id,), frozenset()))
        self.say(mailbox.Finished, job_id, size=9)
        self.leave(job_id)
        if lost:
            refused = inputs.FileRefused(job_id, attempt, Code.IO_ERROR, "", lost=True)
            job = self.model.jobs[job_id]
            self.model.end(job_id, State.FAILED if job.failures >= RETRIES else State.QUEUED)
            job.failures += 1
            self.model.dispatch()
            self.do(refused)
            return
        self.do(inputs.Sealed(job_id, attempt, 9, 1, 2))
        self.model.end(job_id, State.PUBLISHING)

    @precondition(lambda self: self.model.of(State.PUBLISHING))
    @rule(data=st.data())
    def publish(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(self.model.of(State.PUBLISHING)))
        self.model.end(job_id, State.COMPLETED)
        self.do(inputs.Published(job_id, self.model.jobs[job_id].attempt))

    @rule(seconds=st.sampled_from([0.1, 0.5, 3.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)
        self.model.time(self.now)
        self.model.dispatch()
        self.do(inputs.Tick())

    def leave(self, job_id: str) -> None:
        """The attempt is over, and its slot is for the next job."""
        attempt = self.model.jobs[job_id].attempt
        before = self.assigned.get(job_id)
        self.model.free(job_id)
        self.model.dispatch()
        if self.model.jobs[job_id].attempt == attempt and before is not None:
            del self.assigned[job_id]

    @invariant()
    def same_jobs_in_the_same_states(self) -> None:
        if not hasattr(self, "model"):
            return
        assert {i: (j.state, j.attempt) for i, j in self.store.jobs.items()} == {
            i: (j.state, j.attempt) for i, j in self.model.jobs.items()
        }
        assert set(self.assigned) == self.model.holding
        assert (
            len(self.core.ledger.live)
            <= len(self.model.of(State.RUNNING, State.WAITING, State.PUBLISHING)) + 16
        )


TestCore = CoreMachine.TestCase
TestCore.settings = settings(
    max_examples=150, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
