"""The last report of an attempt: it has finished, failed, stopped, or there was nothing to fetch."""

from typing import TYPE_CHECKING

from msgspec.structs import replace

from fetchd.protocol import mailbox
from fetchd.protocol.errors import Code
from fetchd.protocol.job import Reason

from . import delivery, dispatch, ending, failing, names
from .commands import Seal
from .job import Job, Moment
from .retry import Failure
from .slot import Run, Slot

if TYPE_CHECKING:
    from .core import Core


def finished(
    core: "Core", slot: Slot, run: Run, job: Job | None, said: mailbox.Finished, now: Moment
) -> None:
    if job is not None and (not run.responded or (job.total is not None and said.size != job.total)):
        dispatch.broke(core, slot, "a finish that cannot be", now)
        return
    core.pool.end(slot, now.mono)
    if job is None or run.stop in ("end", "pause"):
        note(core, job, said.size)
        ending.over(core, run, now)
        return
    run.finished, run.stop = True, None
    run.bytes, run.speed = said.size, None
    algorithm = job.checksum.partition(":")[0] if job.checksum else next(iter(said.digests), None)
    digest = said.digests.get(algorithm) if algorithm else None
    job = replace(job, bytes=said.size, total=said.size, digest=f"{algorithm}:{digest}" if digest else None)
    core.ledger.note(job)
    core.emit(Seal(job, said.size))


def failed(core: "Core", slot: Slot, run: Run, job: Job | None, said: mailbox.Failed, now: Moment) -> None:
    if job is not None and said.source > len(job.options.mirrors):
        dispatch.broke(core, slot, "a source that is not", now)
        return
    core.pool.end(slot, now.mono)
    if job is None or run.stop in ("end", "pause"):
        note(core, job, said.bytes)
        ending.over(core, run, now)
        return
    try:
        code = Code(said.code)
    except ValueError:
        code = Code.INTERNAL
    failure = Failure(
        code=code, message=said.message, retry_after=said.retry_after, source=said.source, mixed=said.mixed
    )
    failing.lose(core, replace(job, bytes=said.bytes), failure, now)


def not_modified(
    core: "Core", slot: Slot, run: Run, job: Job | None, said: mailbox.NotModified, now: Moment
) -> None:
    if job is not None and (run.responded or not job.options.if_newer):
        dispatch.broke(core, slot, "not modified, and nobody asked for it", now)
        return
    core.pool.end(slot, now.mono)
    if job is None or run.stop in ("end", "pause"):
        ending.over(core, run, now)
        return
    name = job.wanted or job.name or names.choose(None, job.url, job.id)
    delivery.satisfy(core, replace(job, name=name), now, Reason.NOT_MODIFIED)


def stopped(core: "Core", slot: Slot, run: Run, job: Job | None, said: mailbox.Stopped, now: Moment) -> None:
    if run.stop is None:
        dispatch.broke(core, slot, "it stopped unasked", now)
        return
    core.pool.end(slot, now.mono)
    note(core, job, said.bytes)
    ending.over(core, run, now)


def note(core: "Core", job: Job | None, on_hand: int) -> None:
    if job is not None:
        core.ledger.note(replace(job, bytes=on_hand))
