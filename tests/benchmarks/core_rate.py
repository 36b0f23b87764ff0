"""How many inputs a second the core takes: jobs through their whole life, 1000 a submit, with all slots busy.

python tests/benchmarks/core_rate.py [JOBS] [WORKERS] [LANES]
"""

import sys
import time
from typing import Any

from fetchd.daemon.core import commands as c
from fetchd.daemon.core import inputs
from fetchd.daemon.core.core import Core, Loaded
from fetchd.daemon.core.intake import Intake
from fetchd.daemon.core.job import Job, Lane, Moment
from fetchd.daemon.core.settings import Settings
from fetchd.protocol import mailbox
from fetchd.protocol.job import JobSpec, State

AREA = "/data/.fetchd/one"


def intake(number: int, lanes: int) -> Intake:
    host = f"h{number % lanes}.test"
    spec = JobSpec(url=f"http://{host}/{number}", directory="/data")
    return Intake(
        id=f"j{number}", spec=spec, url=spec.url, host=host, checksum=None, spec_hash=b"h", secrets=None,
        directory="/data", area=AREA,
    )  # fmt: skip


def life(job: Job, slot: int, incarnation: int) -> list[inputs.Input]:
    """What is said about an attempt after it was assigned."""
    who: dict[str, Any] = {"job": job.id, "attempt": job.attempt}
    said: list[mailbox.Report] = [
        mailbox.Responded(
            **who, generation=0, status=200, url=job.url, total=1000, kept=0, disposition=None, origins=[],
            validator=mailbox.Validator(etag='"x"'),
        ),
        mailbox.Progressed(**who, bytes=500, total=1000, speed=1.0),
        mailbox.Synced(**who, generation=0, ranges=[(0, 1000)]),
        mailbox.Finished(**who, size=1000),
    ]  # fmt: skip
    name = f"{job.id}.bin"
    return [
        *(inputs.WorkerReport(slot, incarnation, one) for one in said),
        inputs.NameProbed(job.id, job.attempt, (name,), frozenset()),
        inputs.Sealed(job.id, job.attempt, 1000, 1, 2),
        inputs.Published(job.id, job.attempt),
    ]


class Store:
    """Rows that were queued, by lane, in order: enough to answer for windows."""

    def __init__(self) -> None:
        self.queued: dict[Lane, dict[str, Job]] = {}

    def save(self, job: Job) -> None:
        lane = self.queued.setdefault(job.lane, {})
        if job.state is State.QUEUED:
            lane[job.id] = job
        else:
            lane.pop(job.id, None)

    def answer(self, query: c.LoadWindow) -> inputs.WindowLoaded:
        rows: list[Job] = []
        for job in self.queued.get(query.lane, {}).values():
            if query.after is None or job.order > query.after:
                rows.append(job)
                if len(rows) > query.limit:
                    break
        return inputs.WindowLoaded(query.lane, tuple(rows[: query.limit]), len(rows) > query.limit)


def main(jobs: int = 10_000, workers: int = 8, lanes: int = 5) -> None:
    core = Core(Settings(workers=workers, default_area=AREA), Loaded())
    store = Store()
    todo: list[inputs.Input] = [inputs.DueLoaded((), None)]
    for start in range(0, jobs, 1000):
        request = inputs.Request("uid:1", f"r{start}", b"", None)
        some = tuple(intake(n, lanes) for n in range(start, min(jobs, start + 1000)))
        todo.append(inputs.Submit(request, some, {}, {}))
    todo.reverse()
    now = Moment(1_000_000, 1_000_000)
    spent, count, most, made = 0.0, 0, 0, core.start(now)
    while True:
        for command in made:
            if isinstance(command, c.SaveJob):
                store.save(command.job)
            elif isinstance(command, c.LoadWindow):
                todo.append(store.answer(command))
            elif isinstance(command, c.LoadLanes):
                full = [lane for lane, waiting in store.queued.items() if waiting]
                todo.append(inputs.LanesLoaded(tuple(full[: command.limit]), len(full) > command.limit))
            elif isinstance(command, c.Spawn):
                todo.append(inputs.WorkerReady(command.slot, command.incarnation))
            elif isinstance(command, c.AssignJob):
                todo[:0] = reversed(life(command.job, command.slot, command.incarnation))
        if count % 50 == 0:
            todo.append(inputs.Committed(core.ledger.stamp))
        if not todo:
            break
        event = todo.pop()
        begun = time.perf_counter()
        made = core.handle(event, now)
        spent += time.perf_counter() - begun
        count += 1
        most = max(most, len(core.ledger.live))
    done = core.ledger.counts[State.COMPLETED]
    print(f"{done} of {jobs} jobs, {workers} workers, {lanes} lanes: {count} inputs in {spent:.2f} s,")
    print(f"{count / spent:,.0f} inputs/s, {spent / count * 1e6:.1f} µs an input; at most {most} jobs held")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
