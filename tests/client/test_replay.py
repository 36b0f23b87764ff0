"""The stream of events misses nothing and repeats nothing, whatever is lost. Against a scripted daemon."""

import time
from collections.abc import Callable
from itertools import islice

import pytest
from support.wait import Deadline

from fetchd.client import Client, Event, EventStream, FetchdError
from fetchd.client.link import ClientClosedError
from fetchd.protocol import codec
from fetchd.protocol.control import ErrorBody, Replay, Statistics, Stats
from fetchd.protocol.errors import Code
from fetchd.protocol.events import Metrics
from fetchd.protocol.job import State

from .peer import Peer

URL = "http://h/a.iso"


def past(peer: Peer, count: int) -> None:
    """A job with this many events."""
    with Client() as client:
        client.submit(URL, id="j")
    for number in range(count - 1):
        peer.change("j", State.RUNNING, publish=False, attempt=number)


def take(stream: EventStream, count: int) -> list[Event]:
    """The next events, at least this many."""
    found: list[Event] = []
    deadline = Deadline(10)
    while len(found) < count:
        found += stream.step(time.monotonic() + deadline.left(f"{count} events"))
    return found


def subscribed(peer: Peer, stream: EventStream) -> None:
    """The stream is at the present, and the daemon sends it what happens from now on."""
    deadline = Deadline(10)
    while (
        stream._welcome is None
        or stream._behind
        or stream._page is not None
        or b"sys." not in peer.subscriptions
    ):
        deadline.left("the present")
        stream.step(time.monotonic() + 0.01)


def test_the_past_comes_page_by_page_and_ends_without_follow(peer: Peer) -> None:
    past(peer, 7)
    with Client() as client:
        stream = client.events(2, follow=False)
        found = list(stream)
        assert [event.revision for event in found] == [3, 4, 5, 6, 7]
        assert (stream.revision, stream.lineage) == (7, "l")
        assert {(event.topic, event.type, event.job) for event in found} == {
            ("job.j.running", "running", "j")
        }
        assert list(client.events(7, follow=False)) == []
        assert list(client.events(follow=False)) == []
    assert not peer.subscriptions
    assert len(peer.asked("events")) == 3 + 1 + 1


def test_how_the_daemon_is_comes_where_it_is_asked_for(peer: Peer) -> None:
    """What cannot be read does not, and nothing of it moves the revision."""
    past(peer, 1)
    metrics = Metrics(workers=[], counts={"queued": 1})
    with Client() as client, client.events(metrics=True) as stream, client.events() as other:
        for one in (stream, other):
            subscribed(peer, one)
        peer.metrics(b"rubbish")
        peer.metrics(codec.encode(metrics))
        peer.change("j", State.RUNNING)
        first, second = take(stream, 2)
        assert (first.type, first.job, first.data, first.snapshot) == ("metrics", None, metrics, None)
        assert second.type == "running"
        assert [event.type for event in take(other, 1)] == ["running"]


def test_progress_is_merged_into_what_runs_alone(peer: Peer) -> None:
    """What else there is need not be remembered."""
    with Client() as client, client.events(progress=True) as stream:
        subscribed(peer, stream)
        client.submit(URL, id="j")
        peer.change("j", State.RUNNING)
        peer.progress("j", 5)
        assert [event.snapshot.bytes for event in take(stream, 3) if event.snapshot] == [0, 0, 5]
        assert stream._running is not None
        assert list(stream._running) == ["j"]
        peer.change("j", State.PAUSED)
        take(stream, 1)
        assert not stream._running


def test_something_else_can_be_asked_beside_it(peer: Peer) -> None:
    with Client() as client:
        with client.events() as stream:
            answer = stream.ask(Stats(), Statistics)
            deadline = Deadline(10)
            while not answer.done:
                stream.step(time.monotonic() + deadline.left("an answer"))
            assert answer.result().active == 1
        with pytest.raises(ClientClosedError):
            stream.ask(Stats(), Statistics)


def test_past_and_present_join_without_a_seam(peer: Peer) -> None:
    past(peer, 3)
    with Client() as client, client.events(0) as stream:
        assert [event.revision for event in take(stream, 3)] == [1, 2, 3]
        subscribed(peer, stream)
        peer.change("j", State.WAITING)
        peer.progress("j", 5)
        peer.complete("j")
        asked = len(peer.asked("events"))
        assert [(event.revision, event.type) for event in take(stream, 2)] == [
            (4, "waiting"),
            (5, "completed"),
        ]
        assert len(peer.asked("events")) == asked, "live events that follow on need no question"


def test_a_lost_event_is_fetched_and_nothing_is_repeated(peer: Peer) -> None:
    past(peer, 1)
    with Client() as client, client.events() as stream:
        subscribed(peer, stream)
        peer.change("j", State.RUNNING, publish=False)
        peer.change("j", State.WAITING, publish=False)
        peer.change("j", State.RUNNING)
        assert [event.revision for event in take(stream, 3)] == [2, 3, 4]
        peer.change("j", State.WAITING)
        assert [event.revision for event in take(stream, 1)] == [5]


def test_a_lost_last_event_is_told_by_the_heartbeat(peer: Peer) -> None:
    past(peer, 1)
    with Client() as client, client.events() as stream:
        subscribed(peer, stream)
        peer.complete("j", publish=False)
        peer.heartbeat()
        assert [event.type for event in take(stream, 1)] == ["completed"]
        asked = len(peer.asked("events"))
        peer.heartbeat()
        peer.progress("j", 1)
        peer.change("j", State.RUNNING)
        take(stream, 1)
        assert len(peer.asked("events")) == asked


def test_it_goes_on_over_a_restart(peer: Peer, start_peer: Callable[..., Peer]) -> None:
    past(peer, 2)
    with Client() as client, client.events(0) as stream:
        take(stream, 2)
        peer.change("j", State.WAITING, publish=False)
        peer.close()
        second = start_peer(epoch="e2", name="c2")
        second.change("j", State.RUNNING, publish=False)
        found = take(stream, 2)
        assert [(event.revision, event.epoch) for event in found] == [(3, "e2"), (4, "e2")]
        request = second.asked("events")[0][1]
        assert isinstance(request, Replay)
        assert (request.since, request.lineage) == (2, "l")


def test_history_gone(peer: Peer, start_peer: Callable[..., Peer]) -> None:
    past(peer, 3)
    peer.store.kept_from = 2
    with Client() as client:
        with pytest.raises(FetchdError) as caught:
            next(iter(client.events(1)))
        assert caught.value.code is Code.HISTORY_GONE
        assert [event.revision for event in client.events(2, follow=False)] == [3]
        with client.events() as stream:  # a restored database is another history
            subscribed(peer, stream)
            peer.close()
            peer.store.lineage = "restored"
            start_peer(epoch="e2", name="c2")
            with pytest.raises(FetchdError) as caught:
                take(stream, 1)
            assert caught.value.code is Code.HISTORY_GONE


def test_progress_comes_with_the_job_it_belongs_to(peer: Peer) -> None:
    past(peer, 1)
    with Client() as client, client.events(0, progress=True) as stream:
        take(stream, 1)
        subscribed(peer, stream)
        peer.change("j", State.RUNNING, attempt=1, total=10)
        peer.progress("j", 4)
        peer.complete("j")
        running, progress, completed = take(stream, 3)
        assert (running.type, completed.type) == ("running", "completed")
        assert progress.snapshot is not None
        assert (progress.type, progress.revision, progress.snapshot.bytes) == ("progress", None, 4)
        peer.progress("j", 4)
        (late,) = take(stream, 1)
        assert late.snapshot is None


def test_a_page_that_is_too_large_is_asked_for_in_parts(peer: Peer) -> None:
    past(peer, 3)
    peer.refuse["events"] = ErrorBody(code="too_large", message="ask for fewer")
    with Client() as client:
        assert [event.revision for event in islice(client.events(0), 3)] == [1, 2, 3]
    limits = [body.limit for _, body in peer.asked("events") if isinstance(body, Replay)]
    assert limits[:2] == [1000, 500]
