"""Requests about workspaces: what lies in the staging areas, and getting rid of it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from fetchd.daemon.core import inputs
from fetchd.daemon.core.job import Job
from fetchd.daemon.core.rights import may_govern, may_touch
from fetchd.protocol import control
from fetchd.protocol.codec import MAX_ITEMS
from fetchd.protocol.errors import Code, FetchdError

from .control import Caller
from .desk import Desk

Known = Callable[[Sequence["Found"], dict[str, Job]], None]


class Found(NamedTuple):
    """A workspace as it was found. `age` in seconds since its last write. A `parked` one is no job's."""

    job: str
    path: str
    bytes: int
    age: float
    parked: bool


class Staging:
    """The handlers of `workspaces` and `clean`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def workspaces(self, caller: Caller, _body: control.Workspaces) -> None:
        def known(found: Sequence[Found], jobs: dict[str, Job]) -> None:
            infos = [
                control.WorkspaceInfo(
                    job=item.job,
                    path=item.path,
                    bytes=item.bytes,
                    age=item.age,
                    state=None if _is_orphan(item, jobs) else jobs[item.job].state,
                )
                for item in sorted(found, key=lambda item: -item.age)[:MAX_ITEMS]
            ]
            self._desk.control.reply(caller, control.WorkspaceList(workspaces=infos))

        self._survey(caller, known)

    def clean(self, caller: Caller, body: control.Clean) -> None:
        if not (body.ids or body.orphans or body.older_than is not None):
            raise FetchdError(Code.BAD_REQUEST, "clean is for IDs, for orphans, or for what is old")

        def known(found: Sequence[Found], jobs: dict[str, Job]) -> None:
            chosen = [(job_id, _of_id(job_id, found)) for job_id in body.ids]
            taken = {item for _, item in chosen}
            for item in found:
                orphan = _is_orphan(item, jobs)
                old = body.older_than is not None and item.age >= body.older_than
                finished = orphan or jobs[item.job].terminal
                if item not in taken and ((orphan and body.orphans) or (old and finished)):
                    chosen.append((item.job, item))
            # what does not fit into one answer is for the next request
            del chosen[MAX_ITEMS:]
            outcomes = [self._clean(job_id, item, jobs.get(job_id)) for job_id, item in chosen]
            answer = control.Outcomes(jobs=outcomes)
            self._desk.engine.after(lambda: self._desk.control.reply(caller, answer), caller)

        self._survey(caller, known, body.ids)

    def _clean(self, job_id: str, found: Found | None, job: Job | None) -> control.Outcome:
        if job is None or (found is not None and found.parked):
            if found is None:
                return control.Outcome(id=job_id, state=None, revision=0, code=Code.NO_SUCH_JOB)
            self._desk.outside.discard(job_id, found.path)
            return control.Outcome(id=job_id, state=None, revision=0)
        if not job.terminal:
            return control.Outcome(id=job_id, state=job.state, revision=job.revision, code=Code.NOT_FINISHED)
        if job.kept_until:
            self._desk.engine.feed(inputs.Expired((job,)))
        elif found is not None:
            self._desk.outside.discard(job_id, found.path)
        return control.Outcome(id=job_id, state=job.state, revision=job.revision)

    def _survey(self, caller: Caller, then: Known, more: Sequence[str] = ()) -> None:
        desk = self._desk

        def surveyed(rows: Sequence[tuple[str, str, int, float, bool]], error: BaseException | None) -> None:
            if error is not None:
                desk.control.refuse(caller, FetchdError(Code.INTERNAL, str(error)))
                return
            found = [Found(*row) for row in rows]
            ids = list(dict.fromkeys([*(item.job for item in found), *more]))

            def known(stored: dict[str, Job], _paths: dict[str, str]) -> None:
                everyone = {i: job for i in ids if (job := desk.core.ledger.lookup(i, stored)) is not None}
                mine = {i: job for i, job in everyone.items() if may_touch(caller, job)}
                # what belongs to somebody else's job is neither shown nor an orphan; those are the admins'
                orphans = may_govern(caller)
                then([i for i in found if i.job in mine or (orphans and i.job not in everyone)], mine)

            desk.look_up(caller, ids, [], known, stored=False)

        desk.outside.survey(surveyed)


def _is_orphan(item: Found, jobs: dict[str, Job]) -> bool:
    return item.parked or item.job not in jobs


def _of_id(job: str, found: Sequence[Found]) -> Found | None:
    """What lies there for a job, or else what is parked under its name."""
    return min((item for item in found if item.job == job), key=lambda item: item.parked, default=None)
