"""What `fetchd top` asks and when, against a scripted daemon: page by page, anew where history is gone."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.cli import Fetchd, Running
from support.terminal import Terminal

from fetchd.client import Client
from fetchd.protocol import codec
from fetchd.protocol.events import Metrics
from fetchd.protocol.job import State

from .peer import Peer

COUNT = 10
"""More jobs than fit into one page of the peer's."""


@pytest.fixture
def run(state: Path) -> Iterator[Fetchd]:
    made = Fetchd(os.environ, state)
    yield made
    made.close()


def until(stream: Running, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Read to the first line that is as wanted."""
    while True:
        for line in stream.read():
            if wanted(line):
                return dict(line)


def submitted(peer: Peer, running: int) -> None:
    with Client() as client:
        client.submit_many([{"url": f"http://h/{n}", "id": f"j{n}"} for n in range(COUNT)])
    for number in range(running):
        peer.change(f"j{number}", State.RUNNING, publish=False, attempt=1, started=number)


def test_all_pages_are_read(peer: Peer, run: Fetchd) -> None:
    submitted(peer, 5)
    found = run("top", "--once", "--json").json()
    assert [job["id"] for job in found["running"]] == ["j0", "j1", "j2", "j3", "j4"]
    assert {job["id"] for job in found["next"]} == {"j5", "j6", "j7", "j8", "j9"}


def test_progress_of_what_ran_before_is_shown(peer: Peer, run: Fetchd) -> None:
    submitted(peer, 1)
    stream = run.begin("top", "--json", "--interval", "0.1")
    until(stream, lambda line: len(line["running"]) == 1)
    peer.until(lambda: b"job." in peer.subscriptions)
    peer.progress("j0", 5)
    until(stream, lambda line: bool(line["running"][0]["bytes"] == 5))
    stream.interrupt()
    assert stream.end().code == 130


def test_another_size_is_drawn_at_once(peer: Peer, run: Fetchd) -> None:
    """Nothing else happens here that would have it drawn again."""
    submitted(peer, 3)
    with Terminal(run, "top") as terminal:
        terminal.until(lambda screen: "MEMORY" in str(screen))
        terminal.resize(20, 24)
        terminal.until(lambda screen: "NAME" in str(screen) and "MEMORY" not in str(screen))
        terminal.type("q")
        assert terminal.end() == 0


def test_only_what_is_missing_is_asked_for(peer: Peer, run: Fetchd) -> None:
    """Nothing while what is told fits what is known; the lists again where fewer are known than wait."""
    submitted(peer, 1)
    stream = run.begin("top", "--json", "--interval", "0.1")
    until(stream, lambda line: len(line["running"]) == 1)
    peer.until(lambda: b"sys." in peer.subscriptions)
    asked = len(peer.requests)

    def told(**counts: int) -> None:
        peer.metrics(codec.encode(Metrics(workers=[], counts=counts)))
        until(stream, lambda line: bool(line["counts"] == counts))

    for number in range(5):
        told(running=1, queued=9, completed=number)
    assert {kind for kind, _req, _body in peer.requests[asked:]} <= {"events"}
    peer.metrics(codec.encode(Metrics(workers=[], counts={"running": 1, "queued": 10})))
    peer.until(lambda: {"status", "list"} <= {kind for kind, _req, _body in peer.requests[asked:]})
    stream.interrupt()
    assert stream.end().code == 130


def test_where_history_is_gone_it_begins_anew(start_peer: Callable[..., Peer], run: Fetchd) -> None:
    peer = start_peer()
    submitted(peer, 2)
    stream = run.begin("top", "--json", "--interval", "0.1")
    until(stream, lambda line: len(line["running"]) == 2)
    peer.close()
    until(stream, lambda line: not line["daemon"]["connected"])
    peer.store.lineage = "another"
    del peer.store.jobs["j0"]
    start_peer(epoch="e2")
    found = until(stream, lambda line: bool(line["daemon"]["connected"]))
    assert found["daemon"]["restarted"]
    assert [job["id"] for job in found["running"]] == ["j1"]
    stream.interrupt()
    assert stream.end().code == 130
