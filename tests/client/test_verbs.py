"""Verbs, totals and workspaces in the library, against a scripted daemon."""

import pytest

from fetchd.client import Cleanup, Client, DownloadError, FetchdError, State
from fetchd.client.jobs import refused
from fetchd.protocol import control
from fetchd.protocol.control import ErrorBody, Outcome
from fetchd.protocol.errors import Code

from .peer import Peer, snapshot

URL = "http://h/a.iso"


def test_a_job_is_paused_resumed_cancelled_retried_and_removed(peer: Peer) -> None:
    with Client() as client:
        job = client.submit(URL)
        assert job.pause()
        assert str(job.state) == "paused"
        assert job.resume()
        assert job.cancel()
        with pytest.raises(DownloadError):
            job.result()
        assert not job.pause(), "it is over"
        assert job.retry()
        assert str(job.state) == "queued"
        peer.complete(job.id)
        assert job.result().size == 10, "the earlier end is forgotten"
        assert job.remove()
        with pytest.raises(FetchdError) as caught:
            client.get(job.id)
        assert caught.value.code is Code.NO_SUCH_JOB


def test_many_jobs_go_in_parts_and_come_in_order(peer: Peer) -> None:
    ids = [f"j{number}" for number in range(450)]
    for number, job_id in enumerate(ids):
        peer.store.jobs[job_id] = snapshot(job_id, revision=number + 1)
    with Client() as client:
        assert [outcome.id for outcome in client.pause(ids)] == ids
        assert client.pause([]) == []
    assert [len(body.ids) for _, body in peer.asked("pause") if isinstance(body, control.Pause)] == [
        200,
        200,
        50,
    ]


def test_all_and_failed_are_intents(peer: Peer) -> None:
    with Client() as client:
        for verb in (client.pause, client.resume, client.cancel, client.retry, client.remove):
            assert verb(all=True) == []
        client.retry(failed=True)
        client.remove(failed=True)
        with pytest.raises(ValueError, match="not both"):
            client.cancel(["j"], all=True)
    sent = [body for _, _, body in peer.requests if isinstance(body, control.Verb)]
    assert [(body.ids, body.all) for body in sent] == [([], True)] * 7
    assert [body.failed for body in sent] == [False] * 5 + [True] * 2


def test_the_error_of_an_outcome() -> None:
    assert (
        "running already"
        in refused(Outcome(id="j", state=State.RUNNING, revision=1, code="too_late")).message
    )
    assert refused(Outcome(id="j", state=None, revision=0, code="no_such_job")).code is Code.NO_SUCH_JOB
    assert refused(Outcome(id="j", state=None, revision=0, code="new")).code is Code.INTERNAL


def test_a_verb_that_a_job_cannot_take_raises(peer: Peer) -> None:
    with Client() as client:
        job = client.submit(URL)
        outcome = Outcome(id=job.id, state=State.FAILED, revision=2, code="secrets_gone")
        peer.store.replies.clear()
        peer._apply = lambda verb, job_id: outcome  # type: ignore[method-assign]
        with pytest.raises(FetchdError) as caught:
            job.retry()
        assert caught.value.code is Code.SECRETS_GONE


def test_what_is_kept_of_a_failed_download(peer: Peer) -> None:
    with Client() as client:
        client.submit(URL)
        client.submit(URL, keep_partial=True)
        client.submit(URL, keep_partial=False, cleanup=Cleanup(success=False))
        with pytest.raises(ValueError, match="not both"):
            client.submit(URL, keep_partial=True, cleanup=Cleanup(failure=True))
    specs = [body.jobs[0].spec for _, body in peer.asked("submit") if isinstance(body, control.Submit)]
    assert [spec.cleanup for spec in specs] == [
        Cleanup(), Cleanup(failure=False), Cleanup(success=False, failure=True),
    ]  # fmt: skip


def test_totals_workspaces_and_reload(peer: Peer) -> None:
    with Client() as client:
        assert (client.stats().slots.free, client.stats().success_rate) == (4, 0.75)
        assert [info.job for info in client.workspaces()] == ["abc1", "abd2"]
        assert [outcome.id for outcome in client.clean_workspaces(orphans=True)] == ["abd2"]
        client.clean_workspaces(["abc1"], older_than=7.0)
        assert client.reload().live == ["workers"]
    sent = peer.asked("clean")[-1][1]
    assert sent == control.Clean(ids=["abc1"], older_than=7.0)


@pytest.mark.parametrize("code", ["busy", "store_failed"])
def test_later_means_again_under_the_same_id(peer: Peer, code: str) -> None:
    with Client() as client:
        job = client.submit(URL)
        peer.refuse["cancel"] = ErrorBody(code=code, message="later", retry_after=0.01)
        assert job.cancel()
    asked = peer.asked("cancel")
    assert len(asked) == 2
    assert len({req for req, _ in asked}) == 1


def test_later_than_the_time_out_is_an_error(peer: Peer) -> None:
    with Client(timeout=0.5) as client:
        for retry_after in (60.0, None):
            peer.refuse["stats"] = ErrorBody(code="store_failed", message="later", retry_after=retry_after)
            with pytest.raises(FetchdError) as caught:
                client.stats()
            assert caught.value.code is Code.STORE_FAILED
