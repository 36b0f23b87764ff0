"""From a finished download to a file under its final name: choosing, reserving, sealing, publishing.

A name is reserved as soon as the response is known, so that two live jobs never aim at the same path by
accident; it is checked again when the file is published, because the directory belongs to others too.
"""

from typing import TYPE_CHECKING

from msgspec.structs import replace

from fetchd.protocol.errors import Code
from fetchd.protocol.job import Reason, State

from . import disk, failing, inputs, names, repeats, retry
from .commands import ProbeName, Publish
from .job import Job, Moment, emptied, join
from .machine import Cause
from .slot import Run
from .waits import BASE, jitter, pause

if TYPE_CHECKING:
    from .core import Core

RENAME_CANDIDATES = 100


def choose_name(core: "Core", run: Run, job: Job, disposition: str | None, url: str) -> None:
    """Ask which of the names that the job may take are free."""
    wanted = job.wanted or job.name or names.choose(disposition, url, job.id)
    core.emit(ProbeName(job, candidates(wanted, job.if_exists == "rename")))
    run.name = None


def candidates(wanted: str, rename: bool) -> tuple[str, ...]:
    """The names to try, best first."""
    if not rename:
        return (wanted,)
    return (wanted, *(names.numbered(wanted, n) for n in range(1, RENAME_CANDIDATES)))


def name_probed(core: "Core", event: inputs.NameProbed, now: Moment) -> None:
    """Reserve the first free name, or follow the job's policy where there is none."""
    run = core.runs.get(event.job)
    job = core.ledger.live.get(event.job)
    if run is None or job is None or run.attempt != event.attempt or run.name is not None:
        return
    if run.stop == "pause" or not (run.responded or run.finished):
        # it asks again when it goes on; or the question was an earlier job's of this ID
        return
    name = next((n for n in event.names if n not in event.taken and _free(core, job, n)), None)
    if name is None and job.if_exists == "overwrite":
        name = event.names[0]
    if name is None:
        _occupied(core, job, event.names[0], now)
        return
    run.name = name
    if job.state is State.PUBLISHING:
        job = replace(job, name=name)
        core.ledger.put(job)
        core.emit(Publish(job))
        return
    job = replace(job, name=name)
    core.ledger.claim(job)
    _publish_if_ready(core, run, job, now)


def sealed(core: "Core", event: inputs.Sealed, now: Moment) -> None:
    """The file is ours, checked and synced; publish it once its name is known."""
    run = core.runs.get(event.job)
    job = core.ledger.live.get(event.job)
    if run is None or job is None or run.attempt != event.attempt or not run.finished:
        return
    if job.state is not State.RUNNING:
        return
    run.sealed = (event.size, event.inode, event.mtime_ns)
    _publish_if_ready(core, run, job, now)


def _publish_if_ready(core: "Core", run: Run, job: Job, now: Moment) -> None:
    if run.sealed is None or run.name is None:
        return
    size, inode, mtime_ns = run.sealed
    job = core.ledger.change(
        job, Cause.SEAL, now, size=size, inode=inode, mtime_ns=mtime_ns, bytes=size, total=size,
        error_code=None, error_message=None,
    )  # fmt: skip
    core.emit(Publish(job))


def published(core: "Core", event: inputs.Published, now: Moment) -> None:
    """The file is where it was asked for."""
    job = _publishing(core, event.job, event.attempt)
    if job is not None:
        core.account(job.owner, job.size)
        disk.progressed(core, job.area, now, published=True)
        core.close(job, Cause.PUBLISH, now, error_code=None, error_message=None)


def refused(core: "Core", event: inputs.FileRefused, now: Moment) -> None:
    """Sealing or publishing did not work."""
    run = core.runs.get(event.job)
    job = core.ledger.live.get(event.job)
    if run is None or job is None or run.attempt != event.attempt or not run.finished:
        return
    told = replace(job, error_code=str(event.code), error_message=event.message)
    if event.lost:
        _begin_again(core, job, event, now)
    elif event.code in disk.CODES:
        disk.close(core, job, event.code, event.message, now)
        repeats.withhold(core, told, None)
    elif event.code is Code.EXHAUSTED:
        repeats.withhold(core, told, now.mono + pause(now))
    elif event.code is Code.IO_ERROR and job.state is State.RUNNING:
        failing.lose(core, job, retry.Failure(code=event.code, message=event.message), now)
    elif event.code is Code.IO_ERROR and run.refusals < retry.IO_ERRORS:
        run.refusals += 1
        repeats.withhold(core, told, now.mono + jitter(BASE, run.refusals, now))
    elif event.code is Code.EXISTS and job.if_exists == "rename" and job.name is not None:
        run.name = None
        core.emit(ProbeName(job, candidates(job.wanted or job.name, rename=True)))
    elif event.code is Code.EXISTS and job.if_exists != "overwrite":
        _occupied(core, job, job.name or "", now)
    else:
        core.fail(job, event.code, event.message, now)


def _begin_again(core: "Core", job: Job, event: inputs.FileRefused, now: Moment) -> None:
    """The workspace was emptied behind our back: what was fetched is gone."""
    if job.failures >= job.retries:
        core.fail(job, event.code, event.message, now)
        return
    del core.runs[job.id]
    core.enqueue(core.ledger.change(emptied(job), Cause.YIELD, now, failures=job.failures + 1))


def satisfy(core: "Core", job: Job, now: Moment, reason: Reason = Reason.EXISTS) -> None:
    """A file with this name exists, and that is good enough for the job."""
    core.close(job, Cause.SATISFY, now, reason=reason, size=0, error_code=None, error_message=None)


def _occupied(core: "Core", job: Job, name: str, now: Moment) -> None:
    if job.if_exists == "skip":
        satisfy(core, replace(job, name=name), now)
    else:
        core.fail(job, Code.EXISTS, f"{join(job.directory, name)} exists", now)


def _free(core: "Core", job: Job, name: str) -> bool:
    return core.ledger.paths.get(join(job.directory, name), job.id) == job.id


def _publishing(core: "Core", job_id: str, attempt: int) -> Job | None:
    job = core.ledger.live.get(job_id)
    if job is None or job.attempt != attempt or job.state is not State.PUBLISHING:
        return None
    return job
