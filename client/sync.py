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
from typing import Any, Literal, Self, TypeVar

import zmq
from msgspec import Struct

from fetchd.protocol import control
from fetchd.protocol.errors import Code, FetchdError
from fetchd.protocol.job import JobSnapshot, Policy, State

from .background import Background
from .jobs import Job
from .link import ClientClosedError, Link
from .locate import Finder
from .session import RESEND_AFTER
from .specs import batches, new_job
from .start import start_daemon
from .stream import Follower, Loan, Subscription
from .watch import BATCH

PAGE = 100
"""Jobs asked for in one page of a list; the answer must fit one message."""

log = logging.getLogger("fetchd.client")
T = TypeVar("T", bound=Struct)


class Client:
    """A connection to the daemon; a context manager. Nothing is connected before the first call.

    `socket` is a path or ZeroMQ endpoint, otherwise `FETCHD_SOCKET`, otherwise the daemon of this user's
    state directory. `start` starts that daemon if a call finds none running; a call that loses its daemon
    half-way waits for it instead. `timeout` is how many seconds of silence a call puts up with before it
    raises `no_daemon`; a first call that finds no daemon raises it at once. An unanswered request is repeated
    after `resend_after` seconds, under its old ID. `notice` is told what a user
    should know (a daemon was started); by default it is logged.

    Every method raises FetchdError with the code of what was refused.
    """

    def __init__(
        self, socket: str | os.PathLike[str] | None = None, start: bool = False, timeout: float = 30.0, *,
        resend_after: float = RESEND_AFTER, notice: Callable[[str], None] = log.info,
    ) -> None:  # fmt: skip
        self._finder = Finder(socket)
        self._start = start
        self._timeout = timeout
        self._resend_after = resend_after
        self._notice = notice
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._closing = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lock = threading.Condition()
        self._idle: builtins.list[Link] = []
        self._calls = 0
        self._loans: set[Loan] = set()
        self._background: Background | None = None
        self._met = False
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all sockets and end the background thread. Cancels no job. Harmless when repeated."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            background, loans = self._background, set(self._loans)
        if background is not None:
            background.stop()
        os.eventfd_write(self._closing, 1)  # ends all waiting, in whatever thread
        for loan in loans:
            loan.close()
        with self._lock:
            self._lock.wait_for(lambda: self._calls == 0)
        if background is None:
            self._dispose()
        elif background.thread is threading.current_thread():
            background.at_end = self._dispose  # closed by a callback: the thread cannot wait for itself
        else:
            background.thread.join()
            self._dispose()

    def _dispose(self) -> None:
        while self._idle:
            self._idle.pop().close()
        self._context.term()
        os.close(self._closing)

    # -- links

    def _borrow(self, start: bool) -> Link:
        with self._lock:
            if self._closed:
                raise ClientClosedError("the client is closed")
            link = self._idle.pop() if self._idle else None
            self._calls += 1
        link = link or Link(
            self._context, self._finder.find, self._closing, self._timeout, self._resend_after,
            self._finder.absent,
        )  # fmt: skip
        try:
            if not link.refresh() and start and self._finder.find() is None:
                self._need_daemon()
            self._met = True
        except BaseException:
            self._give_back(link, sound=False)
            raise
        return link

    def _need_daemon(self) -> None:
        if self._start and self._finder.named is None:
            start_daemon(self._finder.state, self._notice)
        elif not self._met:
            raise self._finder.absent()

    def _give_back(self, link: Link, *, sound: bool) -> None:
        link.rest()
        with self._lock:
            self._calls -= 1
            if sound and not self._closed:
                self._idle.append(link)
            else:
                link.close()
            self._lock.notify_all()

    def _lend(self, make: Callable[[Link], Loan], *, start: bool = True) -> None:
        link = self._borrow(start)
        try:
            loan = make(link)
        except BaseException:
            self._give_back(link, sound=False)
            raise
        with self._lock:
            self._calls -= 1  # a loan may lie idle in a suspended generator; `close` ends it by itself
            self._loans.add(loan)
            closed = self._closed
            self._lock.notify_all()
        if closed:
            loan.close()

    def _returned(self, loan: Loan, link: Link, sound: bool) -> None:
        with self._lock:
            self._loans.discard(loan)
            self._calls += 1
        self._give_back(link, sound=sound)

    def _call(self, request: Struct, reply: type[T]) -> T:
        link = self._borrow(start=True)
        sound = False
        try:
            answer = link.call(request, reply)
            sound = True
            return answer
        finally:
            self._give_back(link, sound=sound)

    # -- jobs

    def submit(
        self,
        url: str,
        *,
        directory: str | os.PathLike[str] | None = None,
        name: str | None = None,
        checksum: str | None = None,
        id: str | None = None,  # noqa: A002
        if_exists: Policy = "fail",
        priority: int = 0,
        retries: int = 8,
        headers: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        umask: int | None = None,
    ) -> Job:
        """Submit one download; when this returns, the daemon has it on disk.

        `directory` is the current one by default, `name` comes from the response by default, `checksum` is
        ALGORITHM:HEX, `priority` −100 to 100 with the higher first. With an `id` of the caller's choice a
        repeated submit of the same thing is answered with the job that exists, of another thing with
        `conflict`.
        """
        job = new_job(
            url, directory=directory, name=name, checksum=checksum, id=id, if_exists=if_exists,
            priority=priority, retries=retries, headers=headers, labels=labels, umask=umask,
        )  # fmt: skip
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
        for batch in batches(new_job(**a) for a in arguments):
            yield self._submit(batch)

    def _submit(self, jobs: builtins.list[control.NewJob]) -> builtins.list[Job]:
        answer = self._call(control.Submit(jobs=jobs), control.Submitted)
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

    def cancel(self, jobs: Iterable[Job | str]) -> builtins.list[control.Outcome]:
        """Cancel for good; an outcome for each, in order, with a `code` where it had no effect."""
        ids = _ids(jobs)
        outcomes: builtins.list[control.Outcome] = []
        for start in range(0, len(ids), BATCH):
            outcomes += self._call(control.Cancel(ids=ids[start : start + BATCH]), control.Outcomes).jobs
        return outcomes

    # -- news

    def follow(
        self, jobs: Iterable[Job | str] = (), *, events: bool = True, deadline: float | None = None,
        start: bool = True,
    ) -> Follower:  # fmt: skip
        """Follow jobs to their end; close it, or use it as a context manager. For one thread at a time.

        Without `events` only ends are reported, and less is sent. `deadline` (time.monotonic seconds) is
        for `step_before_deadline`.
        """
        made: builtins.list[Follower] = []

        def make(link: Link) -> Loan:
            made.append(Follower(link, self._returned, _ids(jobs), events=events, deadline=deadline))
            return made[0]

        self._lend(make, start=start)
        return made[0]

    def subscribe(self, *topics: str) -> Subscription:
        """Events whose topic begins with one of `topics`; by default those of all jobs and the daemon's."""
        made: builtins.list[Subscription] = []

        def make(link: Link) -> Loan:
            made.append(Subscription(link, self._returned, topics or ("job.", "sys.")))
            return made[0]

        self._lend(make)
        return made[0]

    def background(self) -> Background:
        """The thread that runs callbacks, started on first use."""
        with self._lock:
            if self._closed:
                raise ClientClosedError("the client is closed")
            if self._background is None:
                self._background = Background(lambda: self.follow(start=False))
                self._background.start()
            return self._background

    # -- the daemon

    def status(self) -> control.DaemonStatus:
        """How the daemon is."""
        return self._call(control.Status(), control.DaemonStatus)

    def shutdown(self, *, now: bool = False) -> None:
        """Stop the daemon; running downloads are put down tidily first, unless `now`. Does not wait."""
        self._call(control.Shutdown(now=now), control.Done)


def _ids(jobs: Iterable[Job | str]) -> list[str]:
    return list(dict.fromkeys(job if isinstance(job, str) else job.id for job in jobs))
