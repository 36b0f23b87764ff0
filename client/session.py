"""What a client knows, as pure data: requests under way, and jobs merged from snapshots and events.

No sockets, clocks or threads in here: time is an argument (monotonic seconds), bytes are decoded by the
caller. The two halves:

- `Outbox` remembers which requests still need an answer and when each is to be sent (again). A repeated
  request carries the same request ID, so the daemon answers it again and does nothing twice.
- `Session` merges two accounts of the same jobs. Snapshots come on demand and are whole; events come by
  themselves, may be lost, and are numbered per job and epoch. Between two snapshots the higher revision is
  the newer truth; an event is new if its number is the next one; a jump means that something was missed,
  and unless the event carries a whole snapshot itself only a fresh snapshot repairs that.
"""

from typing import Generic, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from fetchd.protocol.control import ReplyHeader
from fetchd.protocol.errors import Code, FetchdError
from fetchd.protocol.events import EventHeader, Heartbeat, Metrics, Progress
from fetchd.protocol.job import JobSnapshot, State

RESEND_AFTER = 5.0
"""Seconds without an answer, beyond the time the daemon was allowed, after which a request is repeated
(SPEC.md 4)."""

BUSY_PAUSE = 0.5
"""Seconds before a request is repeated that the daemon refused as busy without saying for how long."""

T = TypeVar("T", bound=Struct)


class Exchange(Generic[T]):
    """One request and what became of it.

    `hold` is how long the daemon may rightly keep the answer back (the timeout of a `wait`), in seconds.
    `due` is when to send it, None while an answer is awaited until `overdue`.
    """

    __slots__ = ("due", "error", "frames", "header", "hold", "kind", "overdue", "patient_until", "reply_type",
                 "req", "value")  # fmt: skip

    def __init__(
        self, req: str, kind: str, frames: list[bytes], reply_type: type[T], *, hold: float, now: float,
        patience: float,
    ) -> None:  # fmt: skip
        self.req = req
        self.kind = kind
        self.frames = frames
        self.reply_type = reply_type
        self.hold = hold
        self.due: float | None = now
        self.overdue: float | None = None
        self.patient_until = now + patience
        self.header: ReplyHeader | None = None
        self.value: T | None = None
        self.error: FetchdError | None = None

    @property
    def done(self) -> bool:
        """Whether there is an answer, good or bad."""
        return self.value is not None or self.error is not None

    def result(self) -> T:
        """The answer; raises the error it was."""
        if self.error is not None:
            raise self.error
        assert self.value is not None, "result() of a request without an answer"
        return self.value

    def refused(self, error: FetchdError, now: float) -> None:
        """A refusal: final, unless it only means "later" and there is patience left.

        A request that was `busy` or `store_failed` has done nothing, so it is sent again as it is, under the
        same ID. A draining daemon answers no new `wait`; its successor will.
        """
        later = (
            error.code is Code.BUSY
            or (error.code is Code.STORE_FAILED and error.retry_after is not None)
            or (error.code is Code.DRAINING and self.kind == "wait")
        )
        again = now + (BUSY_PAUSE if error.retry_after is None else max(0.0, error.retry_after))
        if later and again < self.patient_until:
            self.due, self.overdue = again, None
        else:
            self.error = error


class Outbox:
    """The requests without an answer yet, and when each is to be sent again."""

    def __init__(self, resend_after: float = RESEND_AFTER) -> None:
        self._open: dict[str, Exchange[Struct]] = {}
        self._resend_after = resend_after

    def __len__(self) -> int:
        return len(self._open)

    def add(self, exchange: Exchange[T]) -> None:
        """Start waiting for an answer; the request is due at once."""
        self._open[exchange.req] = exchange  # type: ignore[assignment]  # the dict forgets the reply's type

    def expects(self, req: str) -> Exchange[Struct] | None:
        """The request that an answer with this ID belongs to; None for late and repeated answers."""
        return self._open.get(req)

    def forget(self, exchange: Exchange[T] | None = None) -> None:
        """Give up on one request or on all; later answers are ignored."""
        if exchange is None:
            self._open.clear()
        else:
            self._open.pop(exchange.req, None)

    def due(self, now: float) -> list[Exchange[Struct]]:
        """The requests to send now."""
        return [e for e in self._open.values() if e.due is not None and e.due <= now]

    def sent(self, exchange: Exchange[T], now: float) -> None:
        """A request has been handed to the socket."""
        exchange.due = None
        exchange.overdue = now + exchange.hold + self._resend_after

    def disconnected(self, now: float) -> None:
        """The connection is gone: every open request has to be sent again, under its old ID."""
        for exchange in self._open.values():
            exchange.due = now if exchange.due is None else exchange.due
            exchange.overdue = None

    def overdue(self, now: float) -> bool:
        """Whether an answer is so late that the connection should be made anew."""
        return any(e.overdue is not None and e.overdue <= now for e in self._open.values())

    def hopeless(self, now: float) -> bool:
        """Whether an answer is overdue and repeating the request has not helped for long enough."""
        return any(
            e.overdue is not None and e.overdue <= now and e.patient_until <= now for e in self._open.values()
        )

    def next_time(self) -> float | None:
        """When `due` or `overdue` will next have something to say."""
        times = [t for e in self._open.values() for t in (e.due, e.overdue) if t is not None]
        return min(times, default=None)

    def answered(self, exchange: Exchange[Struct], header: ReplyHeader, value: Struct) -> None:
        """A good answer."""
        exchange.header, exchange.value = header, value
        self._open.pop(exchange.req, None)

    def refused(self, exchange: Exchange[Struct], error: FetchdError, now: float) -> None:
        """A refusal, which may be final."""
        exchange.refused(error, now)
        if exchange.done:
            self._open.pop(exchange.req, None)


class Event(Struct, frozen=True, kw_only=True):
    """One thing that happened, as a client's user sees it.

    `type` is the kind of the event, or `snapshot` for a state that was asked for rather than published
    (at the beginning, and wherever events were missed). `snapshot` is the job's whole state with this event
    applied, None for events of the daemon itself or while the state is unknown. `missed` counts the events
    of this job that were lost just before this one; the first event of a new epoch cannot tell. `time` is
    integer microseconds UTC.
    """

    type: str
    topic: str
    epoch: str
    seq: int
    revision: int | None
    time: int
    job: str | None
    data: JobSnapshot | Progress | Heartbeat | Metrics | dict[str, object]
    snapshot: JobSnapshot | None = None
    missed: int = 0


class Merge(Struct, frozen=True):
    """What an event did to a view: whether it said anything new, and how many before it were missed."""

    news: bool
    missed: int = 0


class JobView:
    """One job, merged. `snapshot` is the newest whole truth, with later progress applied to it."""

    __slots__ = ("_gap", "_progress", "_progress_seq", "revision", "seq", "snapshot")

    def __init__(self) -> None:
        self.snapshot: JobSnapshot | None = None
        self.new_epoch()

    def new_epoch(self) -> None:
        """Numbers start again; what was known may be out of date but is kept for show."""
        self.seq = 0
        self.revision = -1
        self._gap: int | None = 0  # the event number a snapshot must include; None: nothing is missing
        self._progress: Progress | None = None
        self._progress_seq = 0

    @property
    def stale(self) -> bool:
        """Whether only a fresh snapshot can tell the job's state."""
        return self._gap is not None

    def missing_something(self) -> None:
        """Somebody knows that there is more than this view has seen."""
        if self._gap is None:
            self._gap = self.seq

    def on_snapshot(self, snapshot: JobSnapshot) -> bool:
        """Take a snapshot of the present epoch; False if it says nothing new, or is older than this view."""
        if snapshot.revision < self.revision:
            return False
        if snapshot.revision == self.revision and snapshot.seq < self.seq and not self.stale:
            return False  # same state, older progress
        before = self.snapshot
        self._take(snapshot)
        return self.snapshot != before

    def on_event(self, header: EventHeader, data: JobSnapshot | Progress | None) -> Merge:
        """Take an event of the present epoch."""
        if header.seq <= self.seq:
            return Merge(news=False)  # contained in a snapshot, or sent again to a new subscriber
        first = self.seq == 0 and self.revision < 0
        missed = 0 if first else header.seq - self.seq - 1
        self.seq = header.seq
        if isinstance(data, JobSnapshot):
            # Whole, and newer than whatever was missed before it: nothing is missing afterwards.
            self._gap = None
            contained = data.revision <= self.revision
            if not contained:
                self._take(replace(data, seq=header.seq))
            return Merge(news=not contained, missed=missed)
        if missed or first:
            self._gap = header.seq - 1
        if isinstance(data, Progress):
            self._progress, self._progress_seq = data, header.seq
            if not self.stale:
                self._apply_progress()
                return Merge(news=True)
        return Merge(news=False, missed=missed)

    def _take(self, snapshot: JobSnapshot) -> None:
        if self._gap is not None and snapshot.seq >= self._gap:
            self._gap = None
        self.snapshot = snapshot
        self.revision = snapshot.revision
        if snapshot.seq >= self.seq:
            self.seq = snapshot.seq
        else:
            # Events that this snapshot does not contain have been seen; with no gap they were progress.
            self.snapshot = replace(snapshot, seq=self.seq)
            if self._progress_seq > snapshot.seq:
                self._apply_progress()

    def _apply_progress(self) -> None:
        known, progress = self.snapshot, self._progress
        if known is None or progress is None or known.state is not State.RUNNING:
            return
        if progress.attempt != known.attempt:
            return
        self.snapshot = replace(
            known, bytes=progress.bytes, total=progress.total, speed=progress.speed, eta=progress.eta,
            seq=self.seq,
        )  # fmt: skip


class Session:
    """All the jobs a client watches, through the daemon's restarts."""

    def __init__(self) -> None:
        self.epoch: str | None = None
        self.views: dict[str, JobView] = {}
        self._retired: set[str] = set()
        self._checked = 0

    def watch(self, job_id: str) -> JobView:
        """The view of a job, which is stale until its first snapshot."""
        return self.views.setdefault(job_id, JobView())

    def unwatch(self, job_id: str) -> None:
        """Forget a job."""
        self.views.pop(job_id, None)

    def enter(self, epoch: str) -> bool:
        """A message of `epoch` has come; False if that life of the daemon is over.

        A new epoch makes every view stale: the database may have been restored from a backup in between.
        Epochs are random, so an old one that was never entered would pass for a new one: what is taken from
        a connection must be preceded by entering the epoch of its `hello`.
        """
        if epoch == self.epoch:
            return True
        if epoch in self._retired:
            return False
        if self.epoch is not None:
            self._retired.add(self.epoch)
        self.epoch = epoch
        self._checked = 0
        for view in self.views.values():
            view.new_epoch()
        return True

    def stale(self) -> list[str]:
        """The jobs to ask a snapshot of."""
        return [job_id for job_id, view in self.views.items() if view.stale]

    def on_snapshot(self, epoch: str, snapshot: JobSnapshot) -> bool:
        """Take a snapshot from a reply of `epoch`; whether it changed what is known."""
        view = self.views.get(snapshot.id)
        return self.enter(epoch) and view is not None and view.on_snapshot(snapshot)

    def on_event(self, header: EventHeader, data: JobSnapshot | Progress | None) -> Merge:
        """Take an event; whether it is news."""
        if not self.enter(header.epoch):
            return Merge(news=False)
        view = self.views.get(header.job or "")
        return Merge(news=False) if view is None else view.on_event(header, data)

    def checked(self, epoch: str, revision: int) -> None:
        """A reply covered every watched job up to this revision."""
        if self.enter(epoch):
            self._checked = max(self._checked, revision)

    def on_heartbeat(self, beat: Heartbeat) -> None:
        """Make the views stale if there is a revision that nothing seen here accounts for.

        It may be of a job that is not watched; then the snapshot will say nothing new.
        """
        if not self.enter(beat.epoch):
            return
        seen = max((view.revision for view in self.views.values()), default=0)
        if beat.revision > max(seen, self._checked):
            for view in self.views.values():
                view.missing_something()
