"""The stream of lifecycle events that misses nothing and repeats nothing: what happened, then what happens.

Revisions number the lifecycle events of a daemon without holes, so a live event that is the next one is taken
as it comes. Wherever one may have been missed (at the beginning, after a reconnect, at a jump, or when a
heartbeat knows of more) the daemon's own record is asked for and read up to its end first. Nothing therefore
depends on an event arriving; events only make it faster.
"""

import time
from collections.abc import Collection, Iterable, Iterator
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from fetchd.protocol import codec
from fetchd.protocol.codec import MAX_ITEMS
from fetchd.protocol.control import History, PastEvent, Replay, Welcome
from fetchd.protocol.errors import Code, ProtocolError
from fetchd.protocol.events import HEARTBEAT, METRICS, EventHeader, Metrics, Progress
from fetchd.protocol.frames import job_topic
from fetchd.protocol.job import JobSnapshot, State

from .link import Link
from .session import Event, Exchange
from .stream import Loan, Release
from .watch import read_body

T = TypeVar("T", bound=Struct)


class EventStream(Loan):
    """Lifecycle events after a revision, oldest first, each once; what `Client.events` returns.

    An iterator, and a context manager; close it when done. It goes on over restarts of the daemon. `revision`
    is how far it has told everything and `lineage` the history that this counts in: together they are what a
    program stores to go on later. Raises FetchdError `history_gone` where events before the present are not
    kept any more, or the database was replaced: then `Client.list` says how things are, and a new stream goes
    on from there.
    """

    def __init__(
        self, link: Link, release: Release, since: int | None, *, lineage: str | None, follow: bool,
        progress: bool, metrics: bool,
    ) -> None:  # fmt: skip
        super().__init__(link, release)
        self.revision = since
        self.lineage = lineage
        self.over = False
        self._follow = follow
        self._running: dict[str, JobSnapshot] | None = {} if progress else None
        self._metrics = metrics
        self._welcome: Welcome | None = None
        self._page: Exchange[History] | None = None
        self._behind = False  # there may be more in the daemon's record
        self._limit = MAX_ITEMS
        if follow:
            link.subscribe([b"job.", b"sys."])

    def __iter__(self) -> Iterator[Event]:
        while not self.over:
            yield from self.step()

    @property
    def connected(self) -> bool:
        """Whether the daemon is there. While it is not, `step` looks for it until patience runs out."""
        return self._link.connected

    def know(self, jobs: Iterable[JobSnapshot]) -> None:
        """Jobs as they are, so that their progress can be told before anything else happens to them."""
        for job in jobs:
            self._learn(job)

    def ask(self, request: Struct, reply_type: type[T]) -> Exchange[T]:
        """Ask something else of the same daemon; the answer comes during a later `step`."""
        with self._lock:
            self._refuse_if_closed()
            return self._link.ask(request, reply_type)

    def step(self, until: float | None = None, fds: Collection[int] = ()) -> list[Event]:
        """Block for news until `until` (time.monotonic seconds) or until one of `fds` is readable."""

        def step() -> list[Event]:
            news: list[Event] = []
            self._greeted()
            self._ask()
            self.ready = self._link.step(until, fds)
            self._greeted()
            self._take_page(news)
            while self._link.events and self._page is None and not self._behind and self._welcome is not None:
                self._take_live(*self._link.events.popleft(), news)
            return news

        return self._turn(step)

    def _greeted(self) -> None:
        """A new connection: the record is asked for what happened before it."""
        welcome = self._link.welcome
        if welcome is None or welcome is self._welcome:
            return
        self._welcome = welcome
        self._behind = True
        if self.revision is None:
            self.revision, self.lineage = welcome.revision, welcome.lineage

    def _ask(self) -> None:
        if self._behind and self._page is None and self.revision is not None:
            self._behind = False
            request = Replay(since=self.revision, limit=self._limit, lineage=self.lineage)
            self._page = self._link.ask(request, History)

    def _take_page(self, news: list[Event]) -> None:
        if self._page is None or not self._page.done:
            return
        page, self._page = self._page, None
        if page.error is not None and page.error.code is Code.TOO_LARGE and self._limit > 1:
            self._limit, self._behind = self._limit // 2, True
            return
        history = page.result()
        assert page.header is not None
        assert self.revision is not None
        self.lineage = page.header.lineage
        for past in history.events:
            if past.revision > self.revision:
                self.revision = past.revision
                self._learn(past.data)
                news.append(_of_record(page.header.epoch, past))
        self.revision = max(self.revision, history.revision)
        self._behind = self._behind or history.more
        self.over = not self._follow and not self._behind

    def _take_live(self, topic: bytes, header: EventHeader, body: bytes, news: list[Event]) -> None:
        assert self._welcome is not None
        assert self.revision is not None
        if header.epoch != self._welcome.epoch:
            return  # of a life of the daemon that is over; its record is read anyway
        if header.job is None:
            self._behind = header.type == HEARTBEAT and (header.revision or 0) > self.revision
            if header.type == METRICS and self._metrics:
                _take_metrics(topic, header, body, news)
            return
        if header.revision is None:
            self._take_progress(topic, header, body, news)
            return
        if header.revision <= self.revision:
            return
        data = read_body(header, body)
        if header.revision > self.revision + 1 or not isinstance(data, JobSnapshot):
            self._behind = True  # the record has this one too
            return
        self.revision = header.revision
        self._learn(data)
        news.append(_of_publication(topic, header, data, data))

    def _take_progress(self, topic: bytes, header: EventHeader, body: bytes, news: list[Event]) -> None:
        if self._running is None:
            return
        progress = read_body(header, body)
        if not isinstance(progress, Progress):
            return
        known = self._running.get(header.job or "")
        if known is not None and known.attempt == progress.attempt:
            known = self._running[known.id] = replace(
                known, bytes=progress.bytes, total=progress.total, speed=progress.speed, eta=progress.eta,
                seq=header.seq,
            )  # fmt: skip
        news.append(_of_publication(topic, header, progress, known))

    def _learn(self, job: JobSnapshot) -> None:
        if self._running is None:
            return
        before = self._running.get(job.id)
        if before is not None and before.revision > job.revision:
            return
        if job.state is State.RUNNING:
            self._running[job.id] = job
        else:
            self._running.pop(job.id, None)


def _take_metrics(topic: bytes, header: EventHeader, body: bytes, news: list[Event]) -> None:
    try:
        news.append(_of_publication(topic, header, codec.decode(body, Metrics), None))
    except ProtocolError:
        return  # not one that this client can read


def _of_record(epoch: str, past: PastEvent) -> Event:
    return Event(
        type=past.type, topic=job_topic(past.job, past.type).decode(), epoch=epoch, seq=past.data.seq,
        revision=past.revision, time=past.time, job=past.job, data=past.data, snapshot=past.data,
    )  # fmt: skip


def _of_publication(
    topic: bytes, header: EventHeader, data: JobSnapshot | Progress | Metrics, snapshot: JobSnapshot | None
) -> Event:
    return Event(
        type=header.type, topic=topic.decode("utf-8", "replace"), epoch=header.epoch, seq=header.seq,
        revision=header.revision, time=header.time, job=header.job, data=data, snapshot=snapshot,
    )  # fmt: skip


def snapshot_event(epoch: str, job: JobSnapshot) -> Event:
    """A state that was asked for rather than published, as an event."""
    return Event(
        type="snapshot", topic=job_topic(job.id, "snapshot").decode(), epoch=epoch, seq=job.seq,
        revision=job.revision, time=time.time_ns() // 1000, job=job.id, data=job, snapshot=job,
    )  # fmt: skip
