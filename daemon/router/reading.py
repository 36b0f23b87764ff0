"""Requests that only look: get, wait, list, events, stats. Nothing is shown that is not on disk."""

from collections.abc import Sequence
from typing import Any

import msgspec

from fetchd.daemon.core.job import Job
from fetchd.daemon.core.rights import in_scope, scope
from fetchd.protocol import control
from fetchd.protocol.codec import MAX_MESSAGE
from fetchd.protocol.errors import Code, FetchdError
from fetchd.protocol.job import JobSnapshot, State

from . import overview
from .control import Caller
from .desk import Desk
from .loop import boot_time
from .waits import Waits

PAGE_BYTES = MAX_MESSAGE - 4096

AGAIN = 1.0
"""Seconds after which a question may be asked again that the reading helper has not answered."""


def _unread(error: str | None) -> FetchdError:
    return FetchdError(Code.STORE_FAILED, error or "", retry_after=AGAIN)


class Reading:
    """The handlers of requests that change nothing."""

    def __init__(self, desk: Desk, waits: Waits) -> None:
        self._desk = desk
        self._waits = waits

    def get(self, caller: Caller, body: control.Get) -> None:
        def known(jobs: dict[str, Job], _paths: dict[str, str]) -> None:
            found = self._desk.visible(caller, body.ids, jobs)
            self._answer(caller, found, [job_id for job_id in body.ids if job_id not in found])

        self._desk.look_up(caller, body.ids, [], known, stored=False)

    def wait(self, caller: Caller, body: control.Wait) -> None:
        if self._waits.full(caller.owner):
            raise FetchdError(Code.BUSY, "too many clients wait", retry_after=5.0)

        def known(jobs: dict[str, Job], _paths: dict[str, str]) -> None:
            found = self._desk.visible(caller, body.ids, jobs)
            missing = [job_id for job_id in body.ids if job_id not in found]
            newer = {
                job_id: job
                for job_id, job in found.items()
                if job.revision > body.since and (job.terminal or not body.final)
            }
            if newer or not found:
                self._answer(caller, newer, missing)
            else:
                self._waits.add(
                    caller.owner,
                    found,
                    body.timeout,
                    lambda ids, told: self._changed(caller, ids, missing, max(told, body.since)),
                    final=body.final,
                )

        self._desk.look_up(caller, body.ids, [], known, stored=False)

    def _changed(self, caller: Caller, ids: list[str], missing: list[str], told: int) -> None:
        """Answer a wait with the jobs that have changed up to revision `told`, as they are by now."""
        if all(self._desk.core.ledger.find(job_id) is not None for job_id in ids):
            found = self._desk.visible(caller, ids, {})
            self._answer(caller, found, missing, told)
            return

        def known(jobs: dict[str, Job], _paths: dict[str, str]) -> None:
            found = self._desk.visible(caller, ids, jobs)
            gone = [job_id for job_id in ids if job_id not in found]
            self._answer(caller, found, [*missing, *gone], told)

        # some have left memory in the meantime: ask the store
        self._desk.look_up(caller, ids, [], known, stored=False)

    def list_jobs(self, caller: Caller, body: control.List) -> None:
        def page(found: dict[str, Any] | None, error: str | None) -> None:
            if found is None:
                self._desk.control.refuse(caller, _unread(error))
                return
            cursor = found["cursor"]
            kept: list[JobSnapshot] = []
            size = last = 0
            for row in found["jobs"]:
                entry = self._desk.freshened(row)
                size += len(msgspec.msgpack.encode(entry))
                if size > PAGE_BYTES:
                    break
                kept.append(entry)
                # the revision that the store has: a fresher one would let the next page begin too early
                last = row["revision"]
            if len(kept) < len(found["jobs"]):
                cursor = last
            self._desk.control.reply(caller, control.Page(jobs=kept, cursor=cursor))

        # what was acknowledged is on disk, so a page that is read now has it
        self._desk.engine.after(lambda: self._desk.outside.page(scope(caller), body, page), caller)

    def _answer(
        self, caller: Caller, found: dict[str, Job], missing: Sequence[str], revision: int | None = None
    ) -> None:
        body = control.Jobs(
            jobs=[self._desk.view(job) for job in found.values()],
            missing=[*missing],
            revision=self._desk.core.ledger.revision if revision is None else revision,
        )
        # memory may be ahead of the disk, so the answer waits for it
        self._desk.engine.after(lambda: self._desk.control.reply(caller, body), caller)

    def events(self, caller: Caller, body: control.Replay) -> None:
        desk = self._desk
        if body.lineage is not None and body.lineage != desk.facts.lineage:
            raise FetchdError(Code.HISTORY_GONE, "these revisions are of another history of the database")
        if body.since > desk.core.ledger.revision:
            raise FetchdError(Code.HISTORY_GONE, "that revision has not been reached")

        def replayed(answer: dict[str, Any] | None, error: str | None) -> None:
            if answer is None:
                desk.control.refuse(caller, _unread(error))
            elif body.since + 1 < answer["oldest"]:
                desk.control.refuse(caller, FetchdError(Code.HISTORY_GONE, oldest=answer["oldest"]))
            else:
                desk.control.reply(caller, _fitting(answer))

        # what was published is on disk, so a replay that is read now has it
        desk.engine.after(lambda: desk.outside.replay(scope(caller), body, replayed), caller)

    def stats(self, caller: Caller, _body: control.Stats) -> None:
        desk, core = self._desk, self._desk.core
        owner = scope(caller)
        counts = core.ledger.counts_of(owner)
        ended = counts[State.COMPLETED] + counts[State.FAILED]
        body = control.Statistics(
            active=counts[State.RUNNING] + counts[State.PUBLISHING],
            pending=counts[State.QUEUED] + counts[State.WAITING] + counts[State.PAUSED],
            slots=overview.slots(core),
            completed=counts[State.COMPLETED],
            failed=counts[State.FAILED],
            cancelled=counts[State.CANCELLED],
            success_rate=counts[State.COMPLETED] / ended if ended else None,
            bytes=core.delivered if owner is None else core.delivered_to.get(owner, 0),
            speed=sum(run.speed or 0.0 for run in core.runs.values() if in_scope(owner, run.owner)),
            counts=overview.counts(core, owner),
            intents=len(core.intents if owner is None else core.intents.of(owner)),
            uptime=(boot_time() - desk.facts.started_mono) / 1e6,
        )
        desk.engine.after(lambda: desk.control.reply(caller, body), caller)


def _fitting(answer: dict[str, Any]) -> control.History:
    """As many events as one message holds; the rest is for the next request."""
    kept: list[control.PastEvent] = []
    size, more, revision = 0, answer["more"], answer["revision"]
    for entry in answer["events"]:
        size += len(msgspec.msgpack.encode(entry))
        if size > PAGE_BYTES and kept:
            more, revision = True, kept[-1].revision
            break
        kept.append(msgspec.convert(entry, control.PastEvent))
    return control.History(events=kept, revision=revision, more=more)
