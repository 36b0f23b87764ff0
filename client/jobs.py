"""A submitted job as an object, its result, and its failure.

A `Job` is a handle: it holds the correlation ID and the last state heard, and asks its client for the rest.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from fetchd.protocol.control import Outcome
from fetchd.protocol.errors import TRANSIENT, Code, FetchdError
from fetchd.protocol.job import TERMINAL, JobSnapshot, State

from .session import Event

if TYPE_CHECKING:
    from .sync import Client

RETRYABLE = TRANSIENT | {Code.DISK_FULL, Code.DISK_GONE, Code.IO_ERROR, Code.EXHAUSTED}
"""Causes that may be gone another time. The daemon has already retried as often as was asked."""


class Result(Struct, frozen=True, kw_only=True):
    """A delivered file. `size` is in bytes; `checksum` is ALGORITHM:HEX, None if none was computed."""

    path: Path
    size: int
    checksum: str | None
    snapshot: JobSnapshot


class DownloadError(FetchdError):
    """A job that ended without its file: failed, or `cancelled`.

    `retryable` says whether the same request may succeed later; `attempts` how many there were. A code that
    this client does not know yet is `internal`, with the original in `snapshot.error.code`.
    """

    def __init__(self, code: Code, message: str, *, snapshot: JobSnapshot) -> None:
        super().__init__(code, message, job=snapshot.id)
        self.retryable = code in RETRYABLE
        self.attempts = snapshot.attempt
        self.snapshot = snapshot


def failure(snapshot: JobSnapshot) -> DownloadError | None:
    """Why a finished job has no file; None if it has one."""
    if snapshot.state is State.COMPLETED:
        return None
    if snapshot.state is State.CANCELLED:
        return DownloadError(Code.CANCELLED, "", snapshot=snapshot)
    if snapshot.error is None:
        return DownloadError(Code.INTERNAL, "the job failed without saying why", snapshot=snapshot)
    try:
        code = Code(snapshot.error.code)
    except ValueError:
        message = f"{snapshot.error.code}: {snapshot.error.message}"
        return DownloadError(Code.INTERNAL, message, snapshot=snapshot)
    return DownloadError(code, snapshot.error.message, snapshot=snapshot)


def refused(outcome: Outcome) -> FetchdError:
    """The error for a job that a verb had no effect on. A code newer than this client is `internal`."""
    try:
        code = Code(outcome.code or "")
    except ValueError:
        return FetchdError(Code.INTERNAL, str(outcome.code), job=outcome.id)
    if code is Code.TOO_LATE and outcome.state is not None:
        return FetchdError(code, f"the job is {outcome.state} already", job=outcome.id)
    return FetchdError(code, job=outcome.id)


class Job:
    """A handle of one job. Thread-safe as its client is."""

    def __init__(
        self, client: "Client", job_id: str, *, state: State | None = None, last: JobSnapshot | None = None,
        duplicate: bool = False,
    ) -> None:  # fmt: skip
        self.id = job_id
        self.duplicate = duplicate
        """Whether the submit found the job already there, with the same specification."""
        self.last = last
        """The newest snapshot this handle has seen; may be out of date, None before the first."""
        self.client = client
        self._state = last.state if last is not None else state

    def __repr__(self) -> str:
        return f"<Job {self.id} {self._state or 'unknown'}>"

    @property
    def state(self) -> State:
        """The present state: asked of the daemon unless the last one heard is final."""
        if self._state is None or self._state not in TERMINAL:
            return self.snapshot().state
        return self._state

    def snapshot(self) -> JobSnapshot:
        """Everything about the job, asked now. Raises `no_such_job` if it has been removed."""
        return self.heard(self.client.snapshots([self.id])[0])

    def done(self) -> bool:
        """Whether it is completed, failed or cancelled."""
        return self.state in TERMINAL

    def result(self, timeout: float | None = None) -> Result:
        """Wait for the file, through restarts of the daemon.

        `timeout` is in seconds. Raises DownloadError if there will be no file, and FetchdError
        `wait_timeout`, `no_daemon` or `no_such_job`.
        """
        snapshot = self._wait(timeout)
        error = failure(snapshot)
        if error is not None:
            raise error
        return Result(
            path=Path(snapshot.path or ""), size=snapshot.bytes, checksum=snapshot.checksum, snapshot=snapshot
        )

    def exception(self, timeout: float | None = None) -> DownloadError | None:
        """Wait for the end; the error that `result` would raise, None if there is a file."""
        return failure(self._wait(timeout))

    def cancel(self) -> bool:
        """Cancel for good; False if it is being published or over. Raises `no_such_job`."""
        return self._did(self.client.cancel([self.id]))

    def pause(self) -> bool:
        """Hold it, keeping its bytes; False if it is being published or over. Raises `no_such_job`."""
        return self._did(self.client.pause([self.id]))

    def resume(self) -> bool:
        """Let it go on after a pause; False if it is over. Raises `no_such_job`."""
        return self._did(self.client.resume([self.id]))

    def retry(self) -> bool:
        """Queue it again after it failed or was cancelled, or end its waiting; False if it is completed.

        Raises `no_such_job`, and `secrets_gone` where its credentials are not kept any more. Handles of the
        same job elsewhere may still hold its earlier end.
        """
        return self._did(self.client.retry([self.id]))

    def remove(self) -> bool:
        """Cancel it if it is live, and forget it; a delivered file stays. Raises `no_such_job`."""
        return self._did(self.client.remove([self.id]))

    def _did(self, outcomes: list[Outcome]) -> bool:
        (outcome,) = outcomes
        if outcome.code not in {None, Code.TOO_LATE}:
            raise refused(outcome)
        if outcome.state is not None and outcome.state is not self._state:
            self._state, self.last = outcome.state, None
        return outcome.code is None

    def events(self) -> Iterator[Event]:
        """What happens to the job, from a snapshot of now to its end.

        Nothing is yielded twice; where events were lost a `snapshot` with `missed` > 0 stands for them.
        """
        with self.client.follow([self]) as follower:
            while self.id in follower.live:
                for event in follower.step(None):
                    if event.snapshot is not None:
                        self.heard(event.snapshot)
                    yield event
            if self.id in follower.missing:
                raise FetchdError(Code.NO_SUCH_JOB, job=self.id)

    def add_done_callback(self, callback: Callable[["Job"], object]) -> None:
        """Call `callback(job)` once it is completed, failed, cancelled or removed.

        All callbacks of a client run in one background thread, one after another; what they raise is
        logged. A job that is over already is reported from there too.
        """
        self.client.background().on_done(self, callback)

    def on_progress(self, callback: Callable[[JobSnapshot], object]) -> None:
        """Call `callback(snapshot)` whenever its state or progress is news, in the background thread."""
        self.client.background().on_progress(self, callback)

    def _wait(self, timeout: float | None) -> JobSnapshot:
        if self.last is not None and self.last.state in TERMINAL:
            return self.last
        return self.heard(self.client.wait([self], timeout=timeout)[0])

    def heard(self, snapshot: JobSnapshot) -> JobSnapshot:
        """Remember a snapshot that somebody else got."""
        self.last, self._state = snapshot, snapshot.state
        return snapshot


def as_completed(jobs: Iterable[Job], timeout: float | None = None) -> Iterator[Job]:
    """The jobs as each comes to its end, whatever end. All of one client.

    `timeout` is in seconds for all together; raises FetchdError `wait_timeout`. Removed jobs are yielded
    too; their `result()` raises `no_such_job`.
    """
    by_id = {job.id: job for job in jobs}
    if not by_id:
        return
    clients = {job.client for job in by_id.values()}
    if len(clients) > 1:
        raise ValueError("as_completed takes the jobs of one client")
    deadline = None if timeout is None else time.monotonic() + timeout
    with clients.pop().follow(by_id.values(), events=False, deadline=deadline) as follower:
        while by_id:
            for job_id in [i for i in by_id if i in follower.finished or i in follower.missing]:
                job = by_id.pop(job_id)
                if job_id in follower.finished:
                    job.heard(follower.finished[job_id])
                yield job
            if by_id:
                follower.step_before_deadline()
