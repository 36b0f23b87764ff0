"""Merging snapshots with events, and repeating requests: the pure half of the client."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fetchd.client.session import BUSY_PAUSE, RESEND_AFTER, Exchange, JobView, Outbox, Session
from fetchd.protocol.control import Done, ReplyHeader
from fetchd.protocol.errors import Code, FetchdError
from fetchd.protocol.events import EventHeader, Heartbeat, Progress
from fetchd.protocol.job import JobSnapshot, State

from .peer import snapshot

Body = JobSnapshot | Progress


def header(seq: int, epoch: str = "e1", revision: int | None = None, kind: str = "running") -> EventHeader:
    return EventHeader(v=1, epoch=epoch, seq=seq, revision=revision, time=0, type=kind, job="j")


class Daemon:
    """What a daemon knows of one job, and everything it published: the truth."""

    def __init__(self) -> None:
        self.epoch = 1
        self.job = snapshot("j", revision=1)
        self.published: list[tuple[EventHeader, Body]] = []

    def change(self, state: State) -> None:
        job = self.job
        attempt = job.attempt + (state is State.RUNNING)
        self.job = replace(
            job, state=state, revision=job.revision + 1, seq=job.seq + 1, attempt=attempt, bytes=0, total=100
        )
        self._publish(self.job, self.job.revision)

    def progress(self, count: int) -> None:
        if self.job.state is State.RUNNING:
            self.job = replace(self.job, bytes=count, seq=self.job.seq + 1)
            body = Progress(attempt=self.job.attempt, bytes=count, total=100, speed=None, eta=None)
            self._publish(body, None)

    def restart(self) -> None:
        self.epoch += 1
        self.job = replace(self.job, seq=0)

    def _publish(self, body: Body, revision: int | None) -> None:
        self.published.append((header(self.job.seq, f"e{self.epoch}", revision), body))


ACTIONS = st.one_of(
    st.sampled_from([State.RUNNING, State.WAITING, State.QUEUED, State.PAUSED]).map(lambda s: ("change", s)),
    st.integers(0, 100).map(lambda n: ("progress", n)),
    st.just(("restart", None)),
)
FATES = st.sampled_from(["arrives", "arrives", "arrives", "lost", "twice", "snapshot first", "old snapshot"])


def known(view: JobView) -> tuple[Any, ...]:
    assert view.snapshot is not None
    job = view.snapshot
    return job.state, job.revision, job.attempt, job.bytes, view.seq


@given(st.lists(st.tuples(ACTIONS, FATES), max_size=40))
def test_whatever_is_lost_or_repeated_the_view_is_stale_or_right(script: list[tuple[Any, str]]) -> None:
    daemon, session = Daemon(), Session()
    view = session.watch("j")
    session.enter("e1")  # by `hello`
    old = daemon.job, daemon.epoch
    for (action, argument), fate in script:
        before = len(daemon.published)
        getattr(daemon, action)(*([argument] if argument is not None else []))
        if fate == "snapshot first":
            session.on_snapshot(f"e{daemon.epoch}", daemon.job)
        if fate == "old snapshot":  # an answer that was on its way for long
            session.on_snapshot(f"e{old[1]}", old[0])
            session.enter(f"e{daemon.epoch}")  # who asks again has been greeted
            old = daemon.job, daemon.epoch
        for event in daemon.published[before:]:
            for _ in range({"lost": 0, "twice": 2}.get(fate, 1)):
                session.on_event(*event)
        heard_all = session.epoch == f"e{daemon.epoch}" and view.seq == daemon.job.seq
        if heard_all and not view.stale:
            assert known(view) == (
                daemon.job.state, daemon.job.revision, daemon.job.attempt, daemon.job.bytes, daemon.job.seq
            )  # fmt: skip
    # A heartbeat tells of a lost last event; the snapshot that is then asked for settles everything.
    session.on_heartbeat(Heartbeat(epoch=f"e{daemon.epoch}", revision=daemon.job.revision))
    if view.snapshot is None or view.revision < daemon.job.revision:
        assert session.stale() == ["j"]
    if session.stale():
        session.on_snapshot(f"e{daemon.epoch}", daemon.job)
        assert not session.stale()
        assert known(view)[:4] == known_of(daemon.job)
    else:
        assert view.snapshot is not None
        assert view.snapshot.state is daemon.job.state


def known_of(job: JobSnapshot) -> tuple[Any, ...]:
    return job.state, job.revision, job.attempt, job.bytes


@given(st.lists(st.tuples(ACTIONS, st.booleans()), max_size=30))
def test_no_event_is_news_twice(script: list[tuple[Any, bool]]) -> None:
    daemon, session = Daemon(), Session()
    session.watch("j")
    session.on_snapshot("e1", daemon.job)
    news: list[tuple[str, int]] = []
    for (action, argument), again in script:
        getattr(daemon, action)(*([argument] if argument is not None else []))
        for event in daemon.published if again else daemon.published[-1:]:
            if session.on_event(*event).news:
                news.append((event[0].epoch, event[0].seq))
    assert len(news) == len(set(news))


def running(view: JobView) -> JobView:
    view.on_snapshot(snapshot("j", state=State.RUNNING, revision=3, seq=4, attempt=1, total=10))
    return view


def progress(count: int, attempt: int = 1) -> Progress:
    return Progress(attempt=attempt, bytes=count, total=10, speed=2.0, eta=1.0)


def test_next_event_applies_and_old_ones_do_not() -> None:
    view = running(JobView())
    assert not view.on_event(header(4), progress(9)).news
    assert view.on_event(header(5), progress(5)).news
    assert view.snapshot is not None
    assert (view.snapshot.bytes, view.snapshot.speed, view.stale) == (5, 2.0, False)


def test_progress_after_a_gap_waits_for_the_snapshot_that_contains_the_gap() -> None:
    view = running(JobView())
    merge = view.on_event(header(7), progress(8))
    assert (merge.news, merge.missed) == (False, 2)
    stale = [view.stale]
    view.on_snapshot(snapshot("j", state=State.RUNNING, revision=3, seq=5, attempt=1, total=10))
    stale.append(view.stale)
    view.on_snapshot(snapshot("j", state=State.RUNNING, revision=4, seq=6, attempt=1, total=10))
    stale.append(view.stale)
    assert stale == [True, True, False]
    assert view.snapshot is not None
    assert (view.snapshot.bytes, view.seq) == (8, 7)


def test_a_lifecycle_event_after_a_gap_is_whole_by_itself() -> None:
    view = running(JobView())
    merge = view.on_event(header(9, revision=6), snapshot("j", state=State.COMPLETED, revision=6))
    assert (merge.news, merge.missed, view.stale, view.seq) == (True, 4, False, 9)


def test_an_event_that_a_snapshot_was_ahead_of_is_no_news() -> None:
    view = running(JobView())
    view.on_snapshot(snapshot("j", state=State.COMPLETED, revision=6, seq=4))
    merge = view.on_event(header(5, revision=6), snapshot("j", state=State.COMPLETED, revision=6))
    assert (merge.news, view.seq, view.stale) == (False, 5, False)


def test_progress_of_another_attempt_or_state_changes_nothing() -> None:
    view = running(JobView())
    view.on_event(header(5), progress(9, attempt=2))
    view.on_event(header(6, revision=7), snapshot("j", state=State.WAITING, revision=7, attempt=1))
    view.on_event(header(7), progress(9))
    assert view.snapshot is not None
    assert (view.snapshot.bytes, view.snapshot.state) == (0, State.WAITING)


def test_an_event_this_client_cannot_read_counts() -> None:
    view = running(JobView())
    assert not view.on_event(header(5, kind="novel"), None).news
    assert view.on_event(header(6), progress(6)).news


def test_a_new_epoch_starts_again_and_the_old_one_is_over() -> None:
    session = Session()
    view = running(session.watch("j"))
    session.enter("e1")
    assert session.enter("e2")
    assert view.stale
    assert not session.enter("e1")
    assert not session.on_event(header(9, "e1"), progress(9)).news
    # a restored backup may be behind what was known
    assert session.on_snapshot("e2", snapshot("j", state=State.QUEUED, revision=2))
    assert not view.stale


def test_a_heartbeat_of_other_jobs_is_settled_once() -> None:
    session = Session()
    session.watch("j")
    session.on_snapshot("e1", snapshot("j", revision=3))
    session.on_heartbeat(Heartbeat(epoch="e1", revision=3))
    assert session.stale() == []
    session.on_heartbeat(Heartbeat(epoch="e1", revision=9))
    assert session.stale() == ["j"]
    session.on_snapshot("e1", snapshot("j", revision=3))
    session.checked("e1", 9)
    session.on_heartbeat(Heartbeat(epoch="e1", revision=9))
    assert session.stale() == []


def exchange(kind: str = "submit", hold: float = 0.0) -> Exchange[Done]:
    return Exchange("r", kind, [b"h", b"b"], Done, hold=hold, now=0.0, patience=30.0)


def test_a_request_is_repeated_when_overdue_or_disconnected() -> None:
    outbox, request = Outbox(), exchange("wait", hold=10.0)
    outbox.add(request)
    assert [e.req for e in outbox.due(0.0)] == ["r"]
    outbox.sent(outbox.due(0.0)[0], 0.0)
    assert outbox.due(100.0) == []
    assert outbox.next_time() == 10.0 + RESEND_AFTER
    assert not outbox.overdue(10.0 + RESEND_AFTER - 0.1)
    assert outbox.overdue(10.0 + RESEND_AFTER)
    assert not outbox.hopeless(10.0 + RESEND_AFTER)
    assert outbox.hopeless(40.0)
    outbox.disconnected(11.0)
    assert [e.req for e in outbox.due(11.0)] == ["r"]


def test_answers() -> None:
    outbox, request = Outbox(), exchange()
    outbox.add(request)
    expected = outbox.expects("r")
    assert expected is not None
    outbox.answered(expected, ReplyHeader(1, "submit", "r", True, "e", "l"), Done())
    assert request.done
    assert request.result() == Done()
    assert outbox.expects("r") is None
    assert len(outbox) == 0


@pytest.mark.parametrize(
    ("kind", "error", "again"),
    [
        ("submit", FetchdError(Code.BUSY), BUSY_PAUSE),
        ("submit", FetchdError(Code.BUSY, retry_after=3.0), 3.0),
        ("submit", FetchdError(Code.BUSY, retry_after=99.0), None),
        ("submit", FetchdError(Code.DRAINING), None),
        ("wait", FetchdError(Code.DRAINING), BUSY_PAUSE),
        ("submit", FetchdError(Code.CONFLICT, retry_after=1.0), None),
    ],
)
def test_refusals_that_mean_later(kind: str, error: FetchdError, again: float | None) -> None:
    outbox, request = Outbox(), exchange(kind)
    outbox.add(request)
    pending = outbox.expects("r")
    assert pending is not None
    outbox.sent(pending, 0.0)
    outbox.refused(pending, error, 0.0)
    assert request.due == again
    assert request.done is (again is None)
    if again is None:
        with pytest.raises(FetchdError):
            request.result()
