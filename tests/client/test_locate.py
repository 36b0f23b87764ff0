"""Finding a daemon: waiting for it without a timer, and telling "not there" from "not for you"."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.wait import readable

from fetchd.client import Client, link
from fetchd.client.cli.output import error_lines
from fetchd.client.locate import Finder
from fetchd.protocol.inotify import COMPLETE, GROWTH, Watch
from fetchd.protocol.job import State

from .peer import Peer, Thread

NOBODY = 65534
PROBE = """
import os, sys
from fetchd.client.locate import Finder
from fetchd.client import Client, FetchdError
import fetchd.client.sync
os.setgroups([]); os.setgid({nobody}); os.setuid({nobody})
try:
    with Client() as client:
        client.status()
except FetchdError as error:
    print(error.code, error.message)
"""


def told(watch: Watch) -> bool:
    readable(watch.fd, 10)
    return watch.changed()


def test_a_watch_tells_of_the_files_it_is_for(state: Path) -> None:
    watch = Watch(state, ["wanted"])
    try:
        assert not watch.changed()
        (state / "other").write_text("x")
        assert not told(watch)
        (state / "wanted").write_text("x")
        assert told(watch)
        (state / "new").write_text("x")
        (state / "new").rename(state / "wanted")
        assert told(watch)
    finally:
        watch.close()
        watch.close()


def test_a_watch_on_growth(state: Path) -> None:
    with (state / "log").open("w") as file:
        watch = Watch(state, ["log"], GROWTH)
        try:
            file.write("line\n")
            file.flush()
            assert told(watch)
        finally:
            watch.close()


def test_no_watch_where_nothing_can_be_watched(state: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Watch(state / "none", ["x"], COMPLETE)
    assert Finder("/x").watch() is None


def test_a_daemon_that_comes_back_is_noticed_without_a_timer(
    peer: Peer, start_peer: Callable[..., Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "WATCHED_PAUSE", 3600.0)
    with Client() as client:
        job = client.submit("http://h/a")
        with client.follow([job]) as follower:
            follower.step()
            peer.close()
            while follower.connected or follower._watcher._link._watch is None:
                follower.step(time.monotonic() + 0.01)
            start_peer(epoch="e2").complete(job.id)
            while follower.live:
                follower.step()
            assert follower.finished[job.id].state is State.COMPLETED


def test_a_call_in_another_thread_waits_for_the_daemon_too(
    peer: Peer, start_peer: Callable[..., Peer]
) -> None:
    with Client() as client:
        client.stats()
        peer.close()
        call = Thread(client.stats)
        start_peer(epoch="e2")
        assert call.result().active == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("closed", ["socket", "directory", "endpoint"])
def test_a_socket_of_somebody_else_is_denied(peer: Peer, state: Path, closed: str) -> None:
    state.chmod(0o700 if closed == "directory" else 0o755)
    (state / "endpoint.json").chmod(0o600 if closed == "endpoint" else 0o644)
    (state / "c").chmod(0o600)
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(nobody=NOBODY)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.startswith("denied "), done.stdout + done.stderr


def test_a_socket_that_nobody_listens_at_is_no_daemon(state: Path) -> None:
    path = state / "s"
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(path))
        assert Finder(path).find() is None
    assert Finder(state / "none").find() is None
    assert Finder().find() is None


def test_the_systems_daemon_is_not_started_like_ones_own() -> None:
    told = "\n".join(error_lines(Finder(system=True).absent()))
    assert "systemctl start fetchd.socket" in told
    assert "fetchd daemon start" not in told
    assert "fetchd daemon start" in "\n".join(error_lines(Finder().absent()))
