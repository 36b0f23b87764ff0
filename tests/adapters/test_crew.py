"""What a worker is told: everything about its job, and what it may take, however that changes meanwhile."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from fetchd.daemon.core import commands, inputs
from fetchd.daemon.core.job import Job
from fetchd.daemon.supervise.assignment import Settings
from fetchd.daemon.supervise.crew import Crew
from fetchd.protocol import mailbox
from fetchd.protocol.codec import encode
from fetchd.protocol.errors import Code, FetchdError
from fetchd.protocol.mailbox import Options, Secrets

from .staged import House, no_descriptors

USUAL = Settings(
    connect_timeout=10.0, read_timeout=30.0, ca_bundle="", workers_lock="", min_speed=1024,
    min_speed_time=60.0, max_size=0,
)  # fmt: skip


class Outbox:
    """A mailbox that keeps what is sent."""

    beat = 1.0

    def __init__(self) -> None:
        self.sent: list[mailbox.ToWorker] = []

    def open(self, slot: int, incarnation: int, secret: str) -> str:
        return "nowhere"

    def send(self, slot: int, incarnation: int, message: mailbox.ToWorker) -> None:
        self.sent.append(message)

    def close(self, slot: int, incarnation: int) -> None:
        pass


class Later:
    """Helpers that do their work when the test says so. Spawning is left out: no process is needed here."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def run(
        self, key: str, function: Callable[[], Any], then: Callable[..., None], *, long: bool = False
    ) -> None:
        def call() -> None:
            try:
                result = function()
            except Exception as error:
                then(None, error)
            else:
                then(result, None)

        if not key.startswith("spawn"):
            self.calls.append(call)

    def work(self) -> None:
        while self.calls:
            self.calls.pop(0)()


class Stage:
    """A crew with one worker in a house."""

    def __init__(self, downloads: Path, settings: Settings = USUAL, hidden: Secrets | None = None) -> None:
        (downloads / "target").mkdir()
        self.house = House(downloads, downloads / "target")
        self.post, self.helpers = Outbox(), Later()
        self.fed: list[inputs.Input] = []
        self.crew = Crew(
            settings=settings, post=self.post, watch=None, helpers=self.helpers, spawner=None,  # type: ignore[arg-type]
            workspaces=self.house.workspaces, open_area=lambda _area: None,
            load_secrets=lambda _job, then: then(encode(hidden or Secrets()), None), feed=self.fed.append,
        )  # fmt: skip
        self.crew.spawn(commands.Spawn(0, 1, frozenset({str(self.house.area)})))
        for member in self.crew._members.values():
            for room in member.rooms.values():
                Path(room).mkdir(parents=True)

    def assign(self, connections: int = 1, rate: int | None = None, **fields: Any) -> Job:
        job = self.house.job(attempt=1, **fields)
        self.crew.assign(commands.AssignJob(0, 1, job, connections, rate))
        return job

    def allow(self, connections: int, rate: int | None, *, attempt: int = 1) -> None:
        self.crew.allow(commands.Allow(0, 1, "job", attempt, connections, rate))

    def told(self, **fields: Any) -> mailbox.Assign:
        """What the worker learns of a job with these fields."""
        self.assign(**fields)
        self.helpers.work()
        (message,) = self.post.sent
        assert isinstance(message, mailbox.Assign)
        return message


def test_what_is_configured_holds_where_the_job_has_no_wish(downloads: Path) -> None:
    told = Stage(downloads).told()
    assert (told.connect_timeout, told.read_timeout) == (10.0, 30.0)
    assert (told.min_speed, told.min_speed_time, told.max_size) == (1024, 60.0, None)
    assert (told.source, told.alone, told.ranges, told.newer_than) == (0, False, True, None)


def test_the_wishes_of_a_job_come_first(downloads: Path) -> None:
    wishes = Options(
        connect_timeout=1.0, read_timeout=2.0, min_speed=0, min_speed_time=3.0, segments=4,
        mirrors=("http://b.test/f",), proxy="http://p.test",
    )  # fmt: skip
    told = Stage(downloads).told(options=wishes, source=1, alone=True)
    assert (told.connect_timeout, told.read_timeout) == (1.0, 2.0)
    assert (told.min_speed, told.min_speed_time) == (0, 3.0)
    assert (told.options, told.mirrors, told.proxy) == (wishes, ["http://b.test/f"], "http://p.test")
    assert (told.source, told.alone) == (1, True)


@pytest.mark.parametrize(
    ("wanted", "most", "told"),
    [(None, 77, 77), (0, 77, 77), (99, 77, 77), (5, 77, 5), (5, 0, 5), (0, 0, None)],
)
def test_the_smaller_size_holds(downloads: Path, wanted: int | None, most: int, told: int | None) -> None:
    """Whoever may ask for a job may not allow more than the configuration does."""
    stage = Stage(downloads, replace(USUAL, max_size=most))
    assert stage.told(options=Options(max_size=wanted)).max_size == told


def test_secrets_are_told_instead_of_what_is_shown(downloads: Path) -> None:
    hidden = Secrets(
        url="http://a.test/f?token=x", mirrors=("http://b.test/f?token=y",), headers={"X": "1"},
        credentials=("u", "p"), cookies="c", proxy="http://u:p@p.test", client_certificate="cert", ca="ca",
    )  # fmt: skip
    shown = Options(mirrors=("http://b.test/f?token=***",), proxy="http://p.test")
    told = Stage(downloads, hidden=hidden).told(secret=True, options=shown)
    assert (told.url, told.mirrors, told.headers) == (hidden.url, list(hidden.mirrors), hidden.headers)
    assert (told.credentials, told.cookies, told.proxy) == (hidden.credentials, "c", hidden.proxy)
    assert (told.client_certificate, told.ca) == ("cert", "ca")


@pytest.mark.parametrize(("restarts", "ranges"), [(0, True), (1, True), (2, False), (9, False)])
def test_after_two_restarts_no_ranges_are_asked_for(downloads: Path, restarts: int, ranges: bool) -> None:
    assert Stage(downloads).told(restarts=restarts).ranges == ranges


# what it may take


def test_an_attempt_begins_with_the_newest_allowance(downloads: Path) -> None:
    stage = Stage(downloads)
    stage.assign(8, None)
    stage.allow(4, 1000)
    stage.allow(3, 900)
    assert not stage.post.sent, "its workspace is not there yet"
    stage.helpers.work()
    (told,) = stage.post.sent
    assert isinstance(told, mailbox.Assign)
    assert (told.connections, told.rate) == (3, 900)


def test_a_running_attempt_is_told_at_once_and_no_other_is(downloads: Path) -> None:
    stage = Stage(downloads)
    stage.told(connections=8)
    stage.allow(4, None)
    stage.allow(2, 5, attempt=7)
    assert stage.post.sent[1:] == [mailbox.Allow(job="job", attempt=1, connections=4, rate=None)]
    stage.crew.reported(0, 1, mailbox.Stopped(job="job", attempt=1, bytes=0))
    stage.allow(1, 1)
    assert len(stage.post.sent) == 2, "it is over"


# not modified


def test_not_modified_counts_only_where_there_is_a_file(downloads: Path) -> None:
    stage = Stage(downloads)
    said = mailbox.NotModified(job="job", attempt=1)
    assert stage.told(options=Options(if_newer=True)).newer_than is None
    stage.crew.reported(0, 1, said)
    assert [type(event) for event in stage.fed] == [inputs.Violation]


def test_not_modified_is_passed_on(downloads: Path) -> None:
    stage = Stage(downloads)
    (stage.house.target / "f").write_text("old")
    assert stage.told(options=Options(if_newer=True)).newer_than is not None
    said = mailbox.NotModified(job="job", attempt=1)
    stage.crew.reported(0, 1, said)
    assert stage.fed == [inputs.WorkerReport(0, 1, said)]


# what cannot begin


def refusals(stage: Stage) -> list[inputs.AssignRefused]:
    return [event for event in stage.fed if isinstance(event, inputs.AssignRefused)]


@pytest.mark.parametrize("alone", [False, True])
def test_a_job_without_room_says_whether_it_is_alone(downloads: Path, alone: bool) -> None:
    stage = Stage(downloads)

    def fit(_job: Job, _data: str) -> None:
        raise FetchdError(Code.DISK_FULL, "no room", **({"alone": True} if alone else {}))

    stage.house.workspaces._fit = fit
    stage.assign()
    stage.helpers.work()
    (refused,) = refusals(stage)
    assert (refused.code, refused.message, refused.alone) == (Code.DISK_FULL, "workspace: no room", alone)


def test_an_area_is_opened_before_anything_is_made_in_it(downloads: Path) -> None:
    """It says whether its file system is mounted at all."""
    stage = Stage(downloads)

    def gone(_area: str) -> None:
        raise FetchdError(Code.DISK_GONE, "not mounted")

    stage.crew._open_area = gone
    stage.assign()
    stage.helpers.work()
    (refused,) = refusals(stage)
    assert (refused.code, refused.alone) == (Code.DISK_GONE, False)
    assert list((stage.house.area / "jobs").iterdir()) == []


def test_a_worker_without_a_room_is_replaced(downloads: Path) -> None:
    """The job is not to blame, and tries again with another one."""
    stage = Stage(downloads)
    (member,) = stage.crew._members.values()
    (room,) = member.rooms.values()
    Path(room).rmdir()
    stage.assign()
    stage.helpers.work()
    (refused,) = refusals(stage)
    assert refused.code is Code.EXHAUSTED
    assert member.doom == "its room is gone"


def test_out_of_descriptors_is_said_as_such(downloads: Path) -> None:
    stage = Stage(downloads)
    stage.assign()
    with no_descriptors():
        stage.helpers.work()
    (refused,) = refusals(stage)
    assert refused.code is Code.EXHAUSTED
