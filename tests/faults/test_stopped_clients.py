"""Clients and subscribers by the hundred that do not read: nobody else notices, and they find out themselves.

That a subscriber which missed events can tell and catch up is in `process/test_watching.py`.
"""

from pathlib import Path

import pytest
from support.daemon import DaemonProcess
from support.origin import Origin, Resource

from fetchd.protocol import codec
from fetchd.protocol.control import NewJob, Submit, Submitted
from fetchd.protocol.job import JobSpec, State

from .stopped_clients import FILL, Deaf, allowed, run, show

SUBSCRIBERS = 100


def test_downloads_beside_stopped_clients(
    daemon: DaemonProcess, origin: Origin, downloads: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guarantee 14: what 500 connections and 100 subscribers do not read holds nothing up."""
    before, after = run(daemon, origin, downloads, clients=500, subscribers=SUBSCRIBERS, files=50)
    with capsys.disabled():
        print()
        show(before, after)
    assert after.rss - before.rss < allowed(before, after, SUBSCRIBERS)


def test_a_client_that_was_stopped_asks_again(daemon: DaemonProcess, origin: Origin, downloads: Path) -> None:
    """Its answer is dropped; the same request again gets the same answer, and nothing is done twice."""
    url = origin.add("/f", Resource(size=1000))
    spec = JobSpec(url=url, directory=str(downloads))
    body = codec.encode(Submit(jobs=[NewJob(id="late", spec=spec)]))
    with Deaf("late", daemon.endpoint.control, FILL, said=body.hex()) as deaf, daemon.client() as client:
        deaf.stop()
        origin.wait_for(lambda: len(origin.requests) == 1, 30)
        client.get("late").result(timeout=30)
        deaf.go_on()
        assert deaf.line() == "lost", "nothing was dropped: the test asks too little"
        answer = codec.decode(bytes.fromhex(deaf.line()), Submitted).jobs[0]
        assert (answer.id, answer.state, answer.duplicate) == ("late", State.QUEUED, False)
        told = [past.type for past in client.events(0, follow=False) if past.job == "late"]
    assert told == ["queued", "running", "publishing", "completed"]
    assert len(origin.requests) == 1
