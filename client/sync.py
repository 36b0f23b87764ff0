"""The blocking client: what a program or the command line calls.

A `Client` may be used from several threads: each call, and each stream of news, has sockets of its own while
it lasts, taken from a pool under a lock. Closing a client cancels nothing; calls that are under way in other
threads then raise ClientClosedError.
"""

import builtins
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Literal, Self, Unpack

from msgspec.structs import replace

from fetchd.protocol import control
from fetchd.protocol.errors import Code, FetchdError
from fetchd.protocol.job import JobSnapshot, State
from fetchd.protocol.status import DaemonStatus, Status

from .background import Background
from .jobs import Job
from .locate import Finder
from .pool import Pool
from .replay import EventStream
from .session import RESEND_AFTER
from .specs import JobOptions, batches, name_url, new_job
from .stream import Follower, Subscription
from .watch import BATCH

PAGE = 100
"""Jobs asked for in one page of a list; the answer must fit one message."""

log = logging.getLogger("fetchd.client")


class Client:
    """A connection to the daemon; a context manager. Nothing is connected before the first call.

    `socket` is a path or ZeroMQ endpoint, otherwise (with `system`) that of the daemon for all users of the
    machine, otherwise `FETCHD_SOCKET`, otherwise the daemon of this user's state directory. `start` starts
    that last one if a call finds none running; a call that loses its daemon half-way waits for it instead.
    For a `socket` `tcp://HOST:PORT` there are `server_key`, the daemon's public key in Z85 (else
    `FETCHD_SERVER_KEY`), and `key`, the name of this user's key or the path of a file with one (else
    `FETCHD_KEY`, else the key called `default`). Directories and paths are then those of the other machine:
    `directory` is absolute, or below the daemon's root for this key. `elsewhere` tells whether it is so.
    `timeout` is how many seconds of silence a call puts up with before it raises `no_daemon`; a first call
    that finds no daemon raises it at once. An unanswered request is repeated after `resend_after` seconds,
    under its old ID. `notice` is told what a user should know (a daemon was started); by default it is
    logged.

    Every method raises FetchdError with the code of what was refused.
    """

    def __init__(
        self, socket: str | os.PathLike[str] | None = None, start: bool = False, timeout: float = 30.0, *,
        resend_after: float = RESEND_AFTER, system: bool = False, server_key: str | None = None,
        key: str | os.PathLike[str] | None = None, notice: Callable[[str], None] = log.info,
    ) -> None:  # fmt: skip
        finder = Finder(socket, system=system, server_key=server_key, key=key)
        self.elsewhere = finder.remote is not None
        self._pool = Pool(
            finder,
            start=start,
            timeout=timeout,
            resend_after=resend_after,
            notice=notice,
        )
        self._call = self._pool.call
        self._lock = threading.Lock()
        self._background: Background | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all sockets and end the background thread. Cancels no job. Harmless when repeated."""
        with self._lock:
            background = self._background
            if background is not None:
                background.stop()
            if not self._pool.shut():
                return
        if background is None:
            self._pool.dispose()
        elif background.thread is threading.current_thread():
            background.at_end = self._pool.dispose  # closed by a callback: the thread cannot wait for itself
        else:
            background.thread.join()
            self._pool.dispose()

    # -- jobs

    def submit(self, url: str, **options: Unpack[JobOptions]) -> Job:
        """Submit one download; when this returns, the daemon has it on disk.

        The options are those of `JobOptions`. With an `id` of the caller's choice a repeated submit of the
        same thing is answered with the job that exists, of another thing with `conflict`.
        """
        job = new_job(url, elsewhere=self.elsewhere, **options)
        return self._submit([job])[0]

    def submit_many(self, specs: Iterable[str | Mapping[str, Any]]) -> builtins.list[Job]:
        """Submit many: URLs, or mappings of `submit`'s arguments with `url` among them.

        Up to 1,000 jobs and 1 MiB go into one message, which is taken as a whole or refused as a whole;
        longer lists are sent as several such messages. If one is refused, the IDs that earlier messages
        have had accepted are in the error's `details["accepted"]`.
        """
        jobs: builtins.list[Job] = []
        try:
            for accepted in self.submit_batches(specs):
                jobs += accepted
        except FetchdError as error:
            error.details["accepted"] = [job.id for job in jobs]
            raise
        return jobs

    def submit_batches(self, specs: Iterable[str | Mapping[str, Any]]) -> Iterator[builtins.list[Job]]:
        """`submit_many`, message by message: yields the jobs of each once they are accepted."""
        arguments = ({"url": s} if isinstance(s, str) else s for s in specs)
        for batch in batches(new_job(elsewhere=self.elsewhere, **a) for a in arguments):
            yield self._submit(batch)

    def _submit(self, jobs: builtins.list[control.NewJob]) -> builtins.list[Job]:
        try:
            answer = self._call(control.Submit(jobs=jobs), control.Submitted)
        except FetchdError as error:
            name_url(error, jobs)
            raise
        return [Job(self, a.id, state=a.state, duplicate=a.duplicate) for a in answer.jobs]

    def get(self, job_id: str) -> Job:
        """The job with exactly this ID. Raises `no_such_job`."""
        return Job(self, job_id, last=self.snapshots([job_id])[0])

    def snapshots(self, ids: Iterable[str]) -> builtins.list[JobSnapshot]:
        """The states of jobs, in the order asked. Raises `no_such_job` if one does not exist."""
        wanted = builtins.list(ids)
        found = self.find(wanted)
        for job_id in wanted:
            if job_id not in found:
                raise FetchdError(Code.NO_SUCH_JOB, job=job_id)
        return [found[job_id] for job_id in wanted]

    def find(self, ids: Iterable[str]) -> dict[str, JobSnapshot]:
        """The states of those of these jobs that exist."""
        wanted = builtins.list(dict.fromkeys(ids))
        found: dict[str, JobSnapshot] = {}
        size = BATCH
        while wanted:
            try:
                answer = self._call(control.Get(ids=wanted[:size]), control.Jobs)
            except FetchdError as error:
                if error.code is Code.TOO_LARGE and size > 1:
                    size //= 2  # snapshots with very long URLs: fewer fit one answer
                    continue
                raise
            found.update((snapshot.id, snapshot) for snapshot in answer.jobs)
            del wanted[:size]
        return found

    def list(
        self,
        *,
        states: Iterable[State | str] = (),
        prefix: str = "",
        labels: Mapping[str, str] | None = None,
        since: int = 0,
        limit: int | None = None,
    ) -> Iterator[Job]:
        """Jobs live and finished, newest activity first, page by page as they are consumed.

        `since` is in integer microseconds UTC; `prefix` is of the ID. The snapshots are in `Job.last`.
        """
        wanted = [State(state) for state in states]
        cursor, left = None, limit
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            page = self._call(
                control.List(
                    states=wanted, prefix=prefix, labels=dict(labels or {}), since=since, limit=size,
                    cursor=cursor,
                ),
                control.Page,
            )  # fmt: skip
            for snapshot in page.jobs:
                yield Job(self, snapshot.id, last=snapshot)
            left = None if left is None else left - len(page.jobs)
            cursor = page.cursor
            if cursor is None:
                return

    def wait(
        self,
        jobs: Iterable[Job | str],
        timeout: float | None = None,
        return_when: Literal["all", "any"] = "all",
    ) -> builtins.list[JobSnapshot]:
        """Wait until all (or any) of the jobs are over; the last snapshots of those that are, in order.

        `timeout` is in seconds; raises `wait_timeout`, and `no_such_job` if one does not exist.
        """
        ids = _ids(jobs)
        deadline = None if timeout is None else time.monotonic() + timeout
        with self.follow(ids, events=False, deadline=deadline) as follower:
            while follower.live and not (return_when == "any" and follower.finished):
                follower.step_before_deadline()
                if follower.missing:
                    break
            if follower.missing:
                raise FetchdError(Code.NO_SUCH_JOB, job=min(follower.missing))
            return [follower.finished[i] for i in ids if i in follower.finished]

    # -- verbs: an outcome for each job, in order, with a `code` where it had no effect. With `all`, `failed`
    # the daemon has it on disk and goes on by itself; `stats().intents` counts those under way.

    def cancel(
        self, jobs: Iterable[Job | str] = (), *, all: bool = False  # noqa: A002
    ) -> builtins.list[control.Outcome]:  # fmt: skip
        """Cancel for good and delete what was fetched; `all`: every live job of the caller."""
        return self._verb(control.Cancel, jobs, all)

    def pause(
        self, jobs: Iterable[Job | str] = (), *, all: bool = False  # noqa: A002
    ) -> builtins.list[control.Outcome]:  # fmt: skip
        """Hold jobs, keeping their bytes; `all`: the caller's whole queue, what is submitted later too."""
        return self._verb(control.Pause, jobs, all)

    def resume(
        self, jobs: Iterable[Job | str] = (), *, all: bool = False  # noqa: A002
    ) -> builtins.list[control.Outcome]:  # fmt: skip
        """Let paused jobs go on; `all`: open the caller's queue, and resume every paused job."""
        return self._verb(control.Resume, jobs, all)

    def retry(
        self, jobs: Iterable[Job | str] = (), *, all: bool = False, failed: bool = False  # noqa: A002
    ) -> builtins.list[control.Outcome]:  # fmt: skip
        """Queue failed or cancelled jobs again, end the waiting of others; `failed`: every failed job."""
        return self._verb(control.Retry, jobs, all, failed)

    def remove(
        self, jobs: Iterable[Job | str] = (), *, all: bool = False, failed: bool = False  # noqa: A002
    ) -> builtins.list[control.Outcome]:  # fmt: skip
        """Cancel what is live and forget the jobs, delivered files stay; `failed`: every failed job."""
        return self._verb(control.Remove, jobs, all, failed)

    def _verb(
        self, verb: type[control.Verb], jobs: Iterable[Job | str], everything: bool, failed: bool = False
    ) -> builtins.list[control.Outcome]:
        ids = _ids(jobs)
        if everything or failed:
            if ids:
                raise ValueError("name jobs, or all of them, not both")
            return self._call(verb(all=True, failed=failed), control.Outcomes).jobs
        outcomes: builtins.list[control.Outcome] = []
        for start in range(0, len(ids), BATCH):
            outcomes += self._call(verb(ids=ids[start : start + BATCH]), control.Outcomes).jobs
        return outcomes

    # -- limits of speed

    def limit(
        self, rate: int | None, *, ids: Iterable[Job | str] = (), host: str | None = None
    ) -> control.LimitsInForce:
        """Limit the speed from now on: of jobs, of a host (`host` or `host:port`), or of everything together.

        `rate` is in bytes a second, None lifts the limit. The answer is what is in force, with an outcome for
        each job, in order.
        """
        wanted = _ids(ids)
        if wanted and host is not None:
            raise ValueError("limit jobs or a host, not both")
        outcomes: builtins.list[control.Outcome] = []
        for start in range(0, max(1, len(wanted)), BATCH):
            request = control.Limit(rate=rate, ids=wanted[start : start + BATCH], host=host)
            answer = self._call(request, control.LimitsInForce)
            outcomes += answer.jobs
        return replace(answer, jobs=outcomes)

    def limits(self) -> control.LimitsInForce:
        """The limits of speed in force, in bytes a second; that of a job is in its snapshot's `options`."""
        return self._call(control.Limits(), control.LimitsInForce)

    # -- news

    def follow(
        self, jobs: Iterable[Job | str] = (), *, events: bool = True, deadline: float | None = None,
        start: bool = True,
    ) -> Follower:  # fmt: skip
        """Follow jobs to their end; close it, or use it as a context manager. For one thread at a time.

        Without `events` only ends are reported, and less is sent. `deadline` (time.monotonic seconds) is
        for `step_before_deadline`.
        """
        ids = _ids(jobs)
        return self._pool.lend(
            lambda link, release: Follower(link, release, ids, events=events, deadline=deadline), start=start
        )

    def subscribe(self, *topics: str) -> Subscription:
        """Events whose topic begins with one of `topics`; by default those of all jobs and the daemon's."""
        chosen = topics or ("job.", "sys.")
        return self._pool.lend(lambda link, release: Subscription(link, release, chosen))

    def events(
        self, since: int | None = None, *, follow: bool = True, lineage: str | None = None,
        progress: bool = False,
    ) -> EventStream:  # fmt: skip
        """All lifecycle events after revision `since`, or from now on; none is missed and none comes twice.

        First those of the past, then live ones, over restarts of the daemon; without `follow` it ends at the
        present. With `lineage` (of an earlier stream) a database that was replaced meanwhile is noticed. With
        `progress` there is progress in between, which may be lost. Iterating raises `history_gone` where
        events that old are not kept any more.
        """
        return self._pool.lend(
            lambda link, release: EventStream(
                link, release, since, lineage=lineage, follow=follow, progress=progress
            )
        )

    def background(self) -> Background:
        """The thread that runs callbacks, started on first use."""
        with self._lock:
            self._pool.refuse_if_closed()
            if self._background is None:
                self._background = Background(lambda: self.follow(start=False))
                self._background.start()
            return self._background

    # -- the daemon

    def status(self) -> DaemonStatus:
        """How the daemon is."""
        return self._call(Status(), DaemonStatus)

    def stats(self) -> control.Statistics:
        """How much is done, and how fast."""
        return self._call(control.Stats(), control.Statistics)

    def reload(self) -> control.Reloaded:
        """Make the daemon read its configuration again; says which changed keys are in force when."""
        return self._call(control.Reload(), control.Reloaded)

    def shutdown(self, *, now: bool = False) -> None:
        """Stop the daemon; running downloads are put down tidily first, unless `now`. Does not wait."""
        self._call(control.Shutdown(now=now), control.Done)

    def workspaces(self) -> builtins.list[control.WorkspaceInfo]:
        """The temp directories that lie in the staging areas, those of no known job too."""
        return self._call(control.Workspaces(), control.WorkspaceList).workspaces

    def clean_workspaces(
        self, jobs: Iterable[Job | str] = (), *, orphans: bool = False, older_than: float | None = None
    ) -> builtins.list[control.Outcome]:
        """Delete workspaces of finished jobs: of these, of no known job, or not written for seconds."""
        request = control.Clean(ids=_ids(jobs), orphans=orphans, older_than=older_than)
        return self._call(request, control.Outcomes).jobs


def _ids(jobs: Iterable[Job | str]) -> list[str]:
    return list(dict.fromkeys(job if isinstance(job, str) else job.id for job in jobs))
