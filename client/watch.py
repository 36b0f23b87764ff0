"""Following jobs on one link: the truth by `wait` requests, news and progress by events.

A `wait` is always under way for every live job, so nothing depends on an event arriving; events only make
news faster and carry progress. Where their numbering shows a gap, or the daemon's epoch changes, the job's
snapshot is asked for. One thread at a time; knows no user interface.
"""

import time
from collections.abc import Collection, Iterable
from typing import NamedTuple

from fetchd.protocol import codec
from fetchd.protocol.control import MAX_WAIT, Get, Jobs, Wait
from fetchd.protocol.errors import Code, ProtocolError
from fetchd.protocol.events import PROGRESS, EventHeader, Progress
from fetchd.protocol.frames import job_prefix, job_topic
from fetchd.protocol.job import TERMINAL, JobSnapshot

from .link import Link
from .session import Event, Exchange, Session

BATCH = 200
"""Jobs in one `wait` or `get`, at first: the answer must fit one message of 1 MiB."""

PAUSE = 0.2
"""Seconds between two questions that the first answer should have made needless."""


class _Round(NamedTuple):
    """One `wait` under way, since when (monotonic seconds) and for which jobs."""

    exchange: Exchange[Jobs]
    started: float
    ids: list[str]


class Watcher:
    """Jobs being followed. `finished` and `missing` (no such job of the caller) say what is over."""

    def __init__(
        self, link: Link, ids: Iterable[str] = (), *, events: bool = True, deadline: float | None = None
    ) -> None:
        self.finished: dict[str, JobSnapshot] = {}
        self.missing: set[str] = set()
        self._link = link
        self._events = events
        self._deadline = deadline
        self._session = Session()
        self._since: dict[str, int] = {}  # by live job: the revision its last answer covered
        self._idle: set[str] = set()  # live jobs that no `wait` under way asks about
        self._rounds: list[_Round] = []
        self._repair: Exchange[Jobs] | None = None
        self._lost: dict[str, int] = {}
        self._lineage: str | None = None
        self._not_before = 0.0
        self._batch = BATCH
        self.add(ids)

    @property
    def live(self) -> Collection[str]:
        """The jobs that are neither finished nor missing."""
        return self._since.keys()

    @property
    def settled(self) -> bool:
        """Whether every job's state has been heard at least once."""
        return all(self._since.values())

    @property
    def connected(self) -> bool:
        """Whether the daemon is there; `step` goes on looking for it while it is not."""
        return self._link.connected

    def add(self, ids: Iterable[str]) -> None:
        """Follow more jobs."""
        new = [i for i in dict.fromkeys(ids) if i not in self._since and i not in self.finished]
        for job_id in new:
            self._since[job_id] = 0
            self._session.watch(job_id)
        self._idle.update(new)
        # Merge with rounds that are no larger, as a binary counter does: adding n jobs one by one then
        # leaves few rounds, and each job is asked about O(log n) times instead of n.
        for round_ in sorted(self._rounds, key=lambda r: len(r.ids)):
            if (
                len(round_.ids) <= len(self._idle)
                and len(round_.ids) + len(self._idle) <= self._batch
                and new
            ):
                self._link.abandon(round_.exchange)
                self._rounds.remove(round_)
                self._idle.update(i for i in round_.ids if i in self._since)
        if self._events and new:
            self._link.subscribe(job_prefix(i) for i in new)

    def step(self, until: float | None, fds: Collection[int] = ()) -> tuple[list[Event], set[int]]:
        """Wait for news or `until` (monotonic seconds); returns the news and which of `fds` are readable."""
        now = time.monotonic()
        self._ask(now)
        if self._not_before > now and (self._idle or self._session.stale()):
            until = self._not_before if until is None else min(until, self._not_before)
        ready = self._link.step(until, fds)
        news: list[Event] = []
        if self._link.welcome is not None:
            self._session.enter(self._link.welcome.epoch)
        while self._link.events:
            self._on_event(*self._link.events.popleft(), news)
        self._collect(time.monotonic(), news)
        for event in news:
            if event.snapshot is not None and event.snapshot.state in TERMINAL:
                self._finish(event.snapshot)
        return news, ready

    def _ask(self, now: float) -> None:
        if now < self._not_before:
            return
        while self._idle:
            ids = [self._idle.pop() for _ in range(min(self._batch, len(self._idle)))]
            hold = MAX_WAIT if self._deadline is None else max(0.0, min(MAX_WAIT, self._deadline - now))
            since = min(self._since[i] for i in ids)
            # the first answer tells how things stand; after that only ends matter to whoever wants no news
            final = since > 0 and not self._events
            request = Wait(ids=ids, since=since, timeout=hold, final=final)
            self._rounds.append(_Round(self._link.ask(request, Jobs, hold=hold), now, ids))
        if self._events and self._repair is None:
            # A job that never had an answer will get one from its first `wait`, which returns at once.
            stale = [i for i in self._session.stale() if self._since.get(i)][: self._batch]
            if stale:
                self._repair = self._link.ask(Get(ids=stale), Jobs)

    def _collect(self, now: float, news: list[Event]) -> None:
        for round_ in [r for r in self._rounds if r.exchange.done]:
            self._rounds.remove(round_)
            if self._too_large(round_.exchange, len(round_.ids)):
                self._idle.update(i for i in round_.ids if i in self._since)
                continue
            answer = round_.exchange.result()
            self._on_jobs(round_.exchange, news)
            live = [i for i in round_.ids if i in self._since]
            for job_id in live:
                self._since[job_id] = max(1, answer.revision)
            self._idle.update(live)
            if not answer.jobs and not answer.missing and now - round_.started < round_.exchange.hold / 2:
                self._not_before = now + PAUSE  # sent back early and empty: a daemon that is stopping
        if self._repair is not None and self._repair.done:
            if not self._too_large(self._repair, self._batch):
                self._on_jobs(self._repair, news)
            self._repair = None
            if self._session.stale():
                self._not_before = now + PAUSE

    def _too_large(self, exchange: Exchange[Jobs], asked: int) -> bool:
        """Whether the answer did not fit one message; then less is asked for from now on."""
        error = exchange.error
        if error is None or error.code is not Code.TOO_LARGE or asked <= 1:
            return False
        self._batch = max(1, min(self._batch, asked) // 2)
        return True

    def _on_jobs(self, exchange: Exchange[Jobs], news: list[Event]) -> None:
        header, answer = exchange.header, exchange.result()
        assert header is not None
        if self._lineage not in {None, header.lineage}:
            self._since = dict.fromkeys(self._since, 0)  # another history: its revisions are not comparable
        self._lineage = header.lineage
        for snapshot in answer.jobs:
            if self._session.on_snapshot(header.epoch, snapshot):
                news.append(self._snapshot_event(header.epoch, snapshot.id))
        for job_id in answer.missing:
            if self._since.pop(job_id, None) is not None:
                self.missing.add(job_id)
                self._drop(job_id)
        self._session.checked(header.epoch, answer.revision)

    def _snapshot_event(self, epoch: str, job_id: str) -> Event:
        snapshot = self._session.views[job_id].snapshot
        assert snapshot is not None
        return Event(
            type="snapshot", topic=job_topic(job_id, "snapshot").decode(), epoch=epoch, seq=snapshot.seq,
            revision=snapshot.revision, time=time.time_ns() // 1000, job=job_id, data=snapshot,
            snapshot=snapshot, missed=self._lost.pop(job_id, 0),
        )  # fmt: skip

    def _on_event(self, topic: bytes, header: EventHeader, body: bytes, news: list[Event]) -> None:
        if header.job is None or header.job not in self._session.views:
            return
        data = read_body(header, body)
        merge = self._session.on_event(header, data)
        if merge.missed:
            self._lost[header.job] = self._lost.get(header.job, 0) + merge.missed
        if merge.news and data is not None:
            news.append(
                Event(
                    type=header.type, topic=topic.decode("utf-8", "replace"), epoch=header.epoch,
                    seq=header.seq, revision=header.revision, time=header.time, job=header.job, data=data,
                    snapshot=self._session.views[header.job].snapshot,
                    missed=self._lost.pop(header.job, 0),
                )
            )  # fmt: skip

    def _finish(self, snapshot: JobSnapshot) -> None:
        if self._since.pop(snapshot.id, None) is not None:
            self.finished[snapshot.id] = snapshot
            self._drop(snapshot.id)

    def _drop(self, job_id: str) -> None:
        self._idle.discard(job_id)
        self._lost.pop(job_id, None)
        self._session.unwatch(job_id)
        if self._events:
            self._link.unsubscribe([job_prefix(job_id)])


def read_body(header: EventHeader, body: bytes) -> JobSnapshot | Progress | None:
    """The typed body of a job's event; None if this client cannot read it, which merges as a missed event."""
    try:
        if header.type == PROGRESS:
            return codec.decode(body, Progress)
        return codec.decode(body, JobSnapshot)
    except ProtocolError:
        return None
