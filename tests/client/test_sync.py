"""The blocking client against a scripted daemon on real sockets."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fetchd.client import Client, ClientClosedError, DownloadError, FetchdError, as_completed
from fetchd.protocol.control import ErrorBody, Submit, Wait
from fetchd.protocol.errors import Code
from fetchd.protocol.job import State

from .peer import Peer, Thread

URL = "http://h/a.iso"


def test_submit_and_result(peer: Peer) -> None:
    with Client() as client:
        job = client.submit(URL, directory="/d", id="j1", labels={"a": "b"})
        assert job.id == "j1"
        assert job.state is State.QUEUED
        waiting = Thread(lambda: job.result(timeout=10))
        peer.until(lambda: bool(peer.asked("wait")))
        peer.complete("j1")
        result = waiting.result()
        assert (result.path, result.size) == (Path("/d/j1.iso"), 10)
        assert job.done()
        assert job.exception() is None
    (_, body), *_ = peer.asked("submit")
    assert isinstance(body, Submit)
    assert body.jobs[0].spec.directory == "/d"


def test_failure_says_why(peer: Peer) -> None:
    with Client() as client:
        job = client.submit(URL)
        peer.fail(job.id, "unavailable")
        with pytest.raises(DownloadError) as caught:
            job.result()
        assert (caught.value.code, caught.value.retryable, caught.value.attempts) == (
            Code.UNAVAILABLE,
            True,
            3,
        )
        assert isinstance(job.exception(), DownloadError)


def test_code_from_the_future(peer: Peer) -> None:
    with Client() as client:
        job = client.submit(URL)
        peer.fail(job.id, "quantum_flux")
        with pytest.raises(DownloadError, match="quantum_flux") as caught:
            job.result()
        assert caught.value.code is Code.INTERNAL


def test_no_daemon_is_said_at_once(state: Path) -> None:
    with Client() as client, pytest.raises(FetchdError) as caught:
        client.submit(URL)
    assert caught.value.code is Code.NO_DAEMON


def test_a_left_over_endpoint_is_no_daemon(state: Path, start_peer: Callable[..., Peer]) -> None:
    start_peer().close()
    with Client() as client, pytest.raises(FetchdError) as caught:
        client.status()
    assert caught.value.code is Code.NO_DAEMON


def test_explicit_socket(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FETCHD_STATE_DIR", "/nonexistent")
    with Client(peer.control.removeprefix("ipc://")) as client:
        assert client.submit(URL, id="x").id == "x"
    monkeypatch.setenv("FETCHD_SOCKET", peer.control)
    with Client() as client:
        assert client.get("x").id == "x"


def test_an_unanswered_submit_is_repeated_and_done_once(peer: Peer) -> None:
    peer.lose["submit"] = 2
    with Client(resend_after=0.1) as client:
        client.submit(URL)
    asked = peer.asked("submit")
    assert len(asked) == 3
    assert len({req for req, _ in asked}) == 1
    assert peer.store.submits == 1


def test_a_lost_answer_is_repeated_not_done_again(peer: Peer) -> None:
    send = peer._send
    lost: list[str] = []

    def lose_first(identity: bytes, header: Any, body: Any, ok: bool = True) -> None:
        if header.type == "submit" and not lost:
            lost.append(header.req)
        else:
            send(identity, header, body, ok)

    peer._send = lose_first  # type: ignore[method-assign]
    with Client(resend_after=0.1) as client:
        client.submit(URL)
    assert lost
    assert peer.store.submits == 1


def test_silence_ends_in_no_daemon(peer: Peer) -> None:
    peer.lose["status"] = 1000
    with Client(timeout=0.4, resend_after=0.1) as client, pytest.raises(FetchdError) as caught:
        client.status()
    assert caught.value.code is Code.NO_DAEMON


def test_busy_is_tried_again(peer: Peer) -> None:
    peer.refuse["submit"] = ErrorBody(code="busy", message="later", retry_after=0.05)
    with Client() as client:
        client.submit(URL)
    assert len({req for req, _ in peer.asked("submit")}) == 1


@pytest.mark.parametrize("code", ["busy", "store_failed"])
def test_a_greeting_that_comes_too_early_is_repeated(peer: Peer, code: str) -> None:
    peer.refuse["hello"] = ErrorBody(code=code, message="later", retry_after=0.05)
    with Client() as client:
        client.submit(URL)
    (first, _), (second, _) = peer.asked("hello")
    assert first == second


@pytest.mark.parametrize(("code", "after"), [("busy", 60.0), ("store_failed", None), ("denied", None)])
def test_a_greeting_that_is_refused_for_good(peer: Peer, code: str, after: float | None) -> None:
    peer.refuse["hello"] = ErrorBody(code=code, message="no", retry_after=after)
    with Client(timeout=5) as client:
        with pytest.raises(FetchdError, match="no") as caught:
            client.submit(URL)
        assert caught.value.code == code
        client.submit(URL)  # the client goes on working


def test_refusals_are_raised(peer: Peer) -> None:
    peer.refuse["submit"] = ErrorBody(code="conflict", message="taken", details={"job": "j", "code": 1})
    with Client() as client:
        with pytest.raises(FetchdError, match="taken") as caught:
            client.submit(URL)
        assert caught.value.code is Code.CONFLICT
        assert caught.value.details["job"] == "j"
        client.submit(URL)  # the client goes on working


@pytest.mark.parametrize("name", ["c", "other"])
def test_result_survives_a_restart(peer: Peer, start_peer: Callable[..., Peer], name: str) -> None:
    with Client() as client:
        job = client.submit(URL)
        waiting = Thread(lambda: job.result(timeout=15))
        peer.until(lambda: len(peer.held) == 1)
        peer.close()
        second = start_peer(epoch="e2", name=name)
        second.until(lambda: len(second.asked("wait")) == 1)
        assert {req for req, _ in second.asked("wait")} <= {req for req, _ in peer.asked("wait")}
        second.complete(job.id)
        assert waiting.result().size == 10


def test_an_end_that_nobody_saw_is_found_after_the_restart(
    peer: Peer, start_peer: Callable[..., Peer]
) -> None:
    with Client() as client:
        job = client.submit(URL)
        waiting = Thread(lambda: job.result(timeout=15))
        peer.until(lambda: len(peer.held) == 1)
        peer.mute_waits = True
        peer.complete(job.id, publish=False)
        peer.close()
        start_peer(epoch="e2")
        assert waiting.result().size == 10


def test_wait_runs_out_of_time(peer: Peer) -> None:
    with Client() as client:
        job = client.submit(URL)
        for timeout in (0, 0.1):
            with pytest.raises(FetchdError) as caught:
                job.result(timeout=timeout)
            assert caught.value.code is Code.WAIT_TIMEOUT
        peer.complete(job.id)
        assert job.result(timeout=0).size == 10
    assert all(body.timeout <= 0.1 for _, body in peer.asked("wait") if isinstance(body, Wait))


def test_unknown_jobs(peer: Peer) -> None:
    with Client() as client:
        for call in (lambda: client.get("x"), lambda: client.wait(["x"]), lambda: client.snapshots(["x"])):
            with pytest.raises(FetchdError) as caught:
                call()
            assert caught.value.code is Code.NO_SUCH_JOB


def test_list_goes_through_the_pages(peer: Peer) -> None:
    with Client() as client:
        client.submit_many([{"url": URL, "id": f"j{i}"} for i in range(8)])
        assert sorted(job.id for job in client.list()) == [f"j{i}" for i in range(8)]
        assert len(list(client.list(limit=5))) == 5
        assert [job.id for job in client.list(prefix="j3", limit=2)] == ["j3"]


def test_submit_many_is_cut_into_messages(peer: Peer) -> None:
    with Client() as client:
        jobs = client.submit_many([URL] * 2500)
        assert len({job.id for job in jobs}) == 2500
        client.submit_many([{"url": URL, "headers": {"X": "y" * 8000}}] * 200)
    sizes = [len(body.jobs) for _, body in peer.asked("submit") if isinstance(body, Submit)]
    assert sizes[:3] == [1000, 1000, 500]
    assert sum(sizes[3:]) == 200
    assert len(sizes) > 4


def test_submit_many_says_what_was_accepted_before_a_refusal(peer: Peer) -> None:
    with Client() as client:
        batches = client.submit_batches([URL] * 1500)
        assert len(next(batches)) == 1000
        peer.refuse["submit"] = ErrorBody(code="draining", message="stopping")
        with pytest.raises(FetchdError):
            next(batches)


def test_wait_for_any_and_as_completed(peer: Peer) -> None:
    with Client() as client:
        jobs = client.submit_many([{"url": URL, "id": f"j{i}"} for i in range(3)])
        peer.complete("j1")
        assert [s.id for s in client.wait(jobs, 10, "any")] == ["j1"]
        order = as_completed(jobs, timeout=10)
        assert next(order).id == "j1"
        peer.fail("j2")
        assert next(order).id == "j2"
        with pytest.raises(FetchdError):
            list(as_completed([jobs[0]], timeout=0.05))
        peer.complete("j0")
        assert [job.id for job in order] == ["j0"]
        assert [s.state for s in client.wait(jobs)] == [State.COMPLETED, State.COMPLETED, State.FAILED]


def test_too_large_answers_are_asked_for_in_parts(peer: Peer) -> None:
    with Client() as client:
        jobs = client.submit_many([{"url": URL, "id": f"j{i}"} for i in range(4)])
        for kind in ("get", "wait"):
            peer.refuse[kind] = ErrorBody(code="too_large", message="ask for fewer")
        assert len(client.find([job.id for job in jobs])) == 4
        for job in jobs:
            peer.complete(job.id)
        assert len(client.wait(jobs)) == 4


def test_closing_ends_what_waits_and_cancels_nothing(peer: Peer) -> None:
    client = Client()
    job = client.submit(URL)
    events = job.events()
    next(events)  # a suspended generator holds a stream
    waiting = Thread(job.result)
    peer.until(lambda: len(peer.held) >= 1)
    client.close()
    client.close()
    with pytest.raises(ClientClosedError):
        waiting.result()
    with pytest.raises(ClientClosedError):
        next(events)
    assert not peer.asked("cancel")
    assert peer.store.jobs[job.id].state is State.QUEUED


def test_many_threads_share_a_client(peer: Peer) -> None:
    with Client() as client:
        threads = [Thread(lambda: client.submit(URL).id) for _ in range(8)]
        ids = {thread.result() for thread in threads}
        assert len(ids) == 8
        waiting = [Thread(partial(client.wait, [job_id], 10)) for job_id in ids]
        for job_id in ids:
            peer.complete(job_id)
        assert all(len(thread.result()) == 1 for thread in waiting)


def test_cancel(peer: Peer) -> None:
    with Client() as client:
        job = client.submit(URL)
        assert job.cancel()
        with pytest.raises(DownloadError) as caught:
            job.result()
        assert caught.value.code is Code.CANCELLED
