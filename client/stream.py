"""Links on loan: following jobs, and plain subscriptions. Both end with their client.

The client must be able to close a stream that some other thread, or a suspended generator, holds: so the
link is used under a lock, which is free whenever the stream's user is not inside it.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from types import TracebackType
from typing import Self

from fetchd.protocol import codec
from fetchd.protocol.errors import Code, FetchdError, ProtocolError
from fetchd.protocol.events import HEARTBEAT, EventHeader, Heartbeat, Progress
from fetchd.protocol.job import TERMINAL, JobSnapshot

from .link import ClientClosedError, Link
from .session import Event, Session
from .watch import Watcher, read_body

FIRST_ANSWER = 2.0
"""Seconds that even a shorter deadline gives the daemon for its first answer."""

Release = Callable[["Loan", Link, bool], None]


class Loan:
    """Exclusive use of a link until `close`, which hands it back (or discards it after an error)."""

    def __init__(self, link: Link, release: Release) -> None:
        self._link = link
        self._release = release
        self._lock = threading.Lock()
        self._open = True
        self._sound = True
        self.ready: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the link back. Harmless when repeated."""
        with self._lock:
            if self._open:
                self._open = False
                self._release(self, self._link, self._sound)

    def _refuse_if_closed(self) -> None:
        if not self._open:
            raise ClientClosedError("the client, or this stream, is closed")

    def _turn(self, step: Callable[[], list[Event]]) -> list[Event]:
        with self._lock:
            self._refuse_if_closed()
            try:
                return step()
            except BaseException:
                self._sound = False
                raise


class Follower(Loan):
    """Follows a changing set of jobs; what `Client.follow` returns.

    `finished` maps the IDs of ended jobs to their last snapshots, `missing` are those that name no job,
    `live` the rest. `ready` are the descriptors that the last `step` found readable.
    """

    def __init__(
        self, link: Link, release: Release, ids: Iterable[str], *, events: bool, deadline: float | None
    ) -> None:
        super().__init__(link, release)
        self._watcher = Watcher(link, ids, events=events, deadline=deadline)
        self._deadline = deadline
        self._answer_by: float | None = None

    @property
    def finished(self) -> dict[str, JobSnapshot]:
        """Last snapshots of the jobs that have ended."""
        return self._watcher.finished

    @property
    def missing(self) -> set[str]:
        """IDs that name no job of the caller, or no longer do."""
        return self._watcher.missing

    @property
    def live(self) -> Collection[str]:
        """IDs of the jobs that go on."""
        return self._watcher.live

    @property
    def connected(self) -> bool:
        """Whether the daemon is there. While it is not, `step` looks for it until patience runs out."""
        return self._watcher.connected

    def add(self, ids: Iterable[str]) -> None:
        """Follow more jobs. Not while another thread is in `step`."""
        self._watcher.add(ids)

    def forget(self, job_id: str) -> None:
        """Drop the record of a job that has ended, so that it may be added again."""
        self._watcher.finished.pop(job_id, None)
        self._watcher.missing.discard(job_id)

    def step(self, until: float | None = None, fds: Collection[int] = ()) -> list[Event]:
        """Block for news, at the latest until `until` (time.monotonic seconds), or until a descriptor of
        `fds` is readable; the news, oldest first, possibly none.

        Raises FetchdError `no_daemon` when the daemon has been silent for the client's timeout.
        """

        def step() -> list[Event]:
            news, self.ready = self._watcher.step(until, fds)
            return news

        return self._turn(step)

    def step_before_deadline(self) -> list[Event]:
        """Like `step`, within the deadline given at the beginning; raises `wait_timeout` once it is over.

        The first answer may take FIRST_ANSWER seconds even so: a deadline of 0 asks how things stand.
        """
        if self._deadline is None:
            return self.step()
        now = time.monotonic()
        if self._answer_by is None:
            self._answer_by = max(self._deadline, now + FIRST_ANSWER)
        until = self._deadline if self._watcher.settled else self._answer_by
        if now >= until:
            raise FetchdError(Code.WAIT_TIMEOUT, unfinished=sorted(self.live))
        return self.step(until)


class Subscription(Loan):
    """A plain stream of events, without repeats; what `Client.subscribe` returns.

    Never asks for snapshots: an event with `missed` > 0, or of a new `epoch`, tells that something was
    lost, and `Client.get` or `list` say how things are. Iterating ends only with an exception or `close`.
    """

    def __init__(self, link: Link, release: Release, topics: Iterable[str]) -> None:
        super().__init__(link, release)
        self._session = Session()
        link.subscribe(topic.encode() for topic in topics)

    def __iter__(self) -> Iterator[Event]:
        while True:
            yield from self.step()

    def step(self, until: float | None = None, fds: Collection[int] = ()) -> list[Event]:
        """Block for news until `until` (time.monotonic seconds) or until one of `fds` is readable."""

        def step() -> list[Event]:
            self.ready = self._link.step(until, fds)
            read = (self._read(*raw) for raw in self._drain())
            return [event for event in read if event is not None]

        return self._turn(step)

    def _drain(self) -> Iterator[tuple[bytes, EventHeader, bytes]]:
        while self._link.events:
            yield self._link.events.popleft()

    def _read(self, topic: bytes, header: EventHeader, body: bytes) -> Event | None:
        data: JobSnapshot | Progress | Heartbeat | dict[str, object] | None
        snapshot, missed = None, 0
        if header.job is not None:
            self._session.watch(header.job)
            data = read_body(header, body)
            before = self._session.views[header.job].seq if header.epoch == self._session.epoch else 0
            merge = self._session.on_event(header, data)
            view = self._session.views[header.job]
            if data is None or view.seq == before:
                return None
            snapshot, missed = view.snapshot, merge.missed
            if isinstance(data, JobSnapshot) and data.state in TERMINAL:
                self._session.unwatch(header.job)  # the numbers of ended jobs are not kept for ever
        elif (data := _plain(header, body)) is None:
            return None
        return Event(
            type=header.type, topic=topic.decode("utf-8", "replace"), epoch=header.epoch, seq=header.seq,
            revision=header.revision, time=header.time, job=header.job, data=data, snapshot=snapshot,
            missed=missed,
        )  # fmt: skip


def _plain(header: EventHeader, body: bytes) -> Heartbeat | dict[str, object] | None:
    try:
        if header.type == HEARTBEAT:
            return codec.decode(body, Heartbeat)
        return codec.decode(body, dict[str, object])
    except ProtocolError:
        return None
