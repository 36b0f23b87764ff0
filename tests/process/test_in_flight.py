"""How many bytes of one owner are on their way at a time: what goes beyond waits, and comes in its turn."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.daemon import DaemonProcess
from support.gate import Gate
from support.look import until
from support.origin import Origin, Resource, Step

from fetchd.client import Client, Job
from fetchd.protocol.job import Reason, State

SIZE = 10_000
SOME = 1000


class Scene:
    """Free workers, and a limit of a file and a half."""

    def __init__(self, make: Callable[..., DaemonProcess], origin: Origin, downloads: Path) -> None:
        self.origin = origin
        self.downloads = downloads
        self.daemon = make({"FETCHD_WORKERS": "5"})
        self.config = self.daemon.root / "fetchd.toml"
        self.daemon.env["FETCHD_CONFIG"] = str(self.config)
        self.config.write_text(f"max_in_flight = {SIZE + SIZE // 2}\n")
        self.daemon.start()

    def begin(self, client: Client, name: str) -> tuple[Job, Gate]:
        """A job that runs until its gate opens; its size is known."""
        gate = self.origin.gate()
        resource = Resource(size=SIZE, etag='"e"')
        url = self.origin.add(f"/{name}", resource, "hold", times=1, after=SOME, gate=gate)
        job = client.submit(url, directory=self.downloads, id=name)
        until(job, lambda snapshot: snapshot.bytes == SOME)
        return job, gate

    def queue(self, client: Client, name: str) -> Job:
        """A job that has to wait, for nothing but the limit."""
        url = self.origin.add(f"/{name}", Resource(size=SIZE))
        job = client.submit(url, directory=self.downloads, id=name)
        self.waits(client, job)
        return job

    def waits(self, client: Client, job: Job) -> None:
        shown = job.snapshot()
        assert (shown.state, shown.reason) == (State.QUEUED, Reason.HOST_LIMIT)
        assert client.stats().slots.free > 0
        assert not self.asked(job.id)

    def asked(self, name: str) -> bool:
        return bool(self.origin.requests_for(f"/{name}"))


@pytest.fixture
def scene(make_daemon: Callable[..., DaemonProcess], origin: Origin, downloads: Path) -> Scene:
    return Scene(make_daemon, origin, downloads)


def test_what_goes_beyond_waits_for_an_end(scene: Scene) -> None:
    with scene.daemon.client() as client:
        (first, one), (second, other) = (scene.begin(client, name) for name in ("first", "second"))
        third = scene.queue(client, "third")
        one.open()
        first.result(timeout=30)
        third.result(timeout=30)
        assert second.state is State.RUNNING
        other.open()
        second.result(timeout=30)


def test_a_size_that_is_known_counts_from_the_start(scene: Scene) -> None:
    """After a restart, though the server has not answered yet."""
    scene.config.write_text(f"max_in_flight = {SIZE // 2}\n")
    scene.daemon.restart()
    before, after = scene.origin.gate(), scene.origin.gate()
    resource = Resource(size=SIZE)
    steps = Step(resource, "hold", after=SOME, gate=before), Step(resource, "stall", gate=after)
    with scene.daemon.client() as client:
        first = client.submit(scene.origin.script("/first", *steps), directory=scene.downloads, id="first")
        until(first, lambda snapshot: snapshot.bytes == SOME)
        second = scene.queue(client, "second")
    scene.daemon.restart()
    with scene.daemon.client() as client:
        after.wait_arrived()
        scene.waits(client, client.get(second.id))
        after.open()
        for name in ("first", "second"):
            client.get(name).result(timeout=30)


def test_a_reload_lifts_it(scene: Scene) -> None:
    with scene.daemon.client() as client:
        held = [scene.begin(client, name) for name in ("first", "second")]
        third = scene.queue(client, "third")
        scene.config.write_text("")
        assert client.reload().live == ["max_in_flight"]
        third.result(timeout=30)
        for job, gate in held:
            assert job.state is State.RUNNING
            gate.open()
            job.result(timeout=30)
