"""Users of one daemon: each has their own jobs and no others, admins have all, strangers get nothing."""

import grp
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import person
from support.daemon import DaemonProcess
from support.gate import Gate
from support.origin import Origin, Resource
from support.person import Person, RefusedError
from support.plugins import install

pytestmark = pytest.mark.skipif(not person.IS_ROOT, reason=person.NEEDED)

SIZE, HALF = 200_000, 100_000
OTHERS = [entry.gr_name for entry in grp.getgrall() if entry.gr_gid != 0 and not entry.gr_mem]
ALICE, BOB, CAROL, MALLORY = 60_001, 60_002, 60_003, 60_009
"""Users of the group, an admin, and a stranger."""

REFUSED = """
context = zmq.Context()
peer = context.socket(getattr(zmq, kind))
peer.setsockopt(zmq.LINGER, 0)
monitor = peer.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_SUCCEEDED)
peer.connect(endpoint)
assert monitor.poll(10_000)
event = zmq.utils.monitor.recv_monitor_message(monitor)["event"]
result = event == zmq.EVENT_HANDSHAKE_FAILED_AUTH
context.destroy(0)
"""

LISTEN = """
context = zmq.Context()
news = context.socket(zmq.SUB)
news.setsockopt(zmq.LINGER, 0)
news.setsockopt(zmq.RCVTIMEO, 10_000)
news.connect(endpoint)
news.subscribe(b"job.")
# its last value comes when this is in force, and so is what was said before
news.subscribe(f"job.{own}.".encode())
news.recv_multipart()
"""

HEARD = """
topics = []
while f"job.{last}.running" not in topics:
    topics.append(news.recv_multipart()[0].decode())
result = sorted({topic.split(".")[1] for topic in topics} - {"a0", "b0"})
"""


class House:
    """A shared daemon, an origin, and people. `files` is where everybody delivers to."""

    def __init__(self, make: Callable[..., DaemonProcess], origin: Origin, ground: Path, **env: str) -> None:
        ground.chmod(0o711)
        self.origin = origin
        self.files = ground / "files"
        self.files.mkdir()
        self.group, self.admins = (grp.getgrnam(name).gr_gid for name in OTHERS[:2])
        runtime = ground / "run"
        settings = {"FETCHD_GROUP": OTHERS[0], "FETCHD_ADMIN_GROUP": OTHERS[1]}
        self.config = ground / "fetchd.toml"
        self.config.write_text("")
        settings |= {"FETCHD_RUNTIME_DIR": str(runtime), "FETCHD_CONFIG": str(self.config)} | env
        self.daemon = make(settings).start()
        self.runtime = runtime
        self.people: list[Person] = []

    def person(self, uid: int, gid: int | None = None, *groups: int) -> Person:
        """Somebody, by default of the group."""
        control = str(self.runtime / "control")
        self.people.append(Person(control, uid, self.group if gid is None else gid, groups))
        return self.people[-1]

    def admin(self) -> Person:
        """Of the admins; the sockets are the other group's."""
        return self.person(CAROL, self.admins, self.group)

    def held(self, who: Person, name: str, **options: object) -> Gate:
        """A job that runs and has got half-way."""
        gate = self.origin.gate()
        resource = Resource(size=SIZE, seed=3, etag='"e"')
        url = self.origin.add(f"/{name}", resource, "hold", times=1, after=HALF, gate=gate)
        self.submit(who, url, name, **options)
        self.origin.wait_for(lambda: gate.waiting == 1)
        return gate

    def submit(self, who: Person, url: str, job: str, **options: object) -> Any:
        fields = {"id": job, "name": job, "directory": str(self.files), **options}
        return who.do("client.submit(url, **fields)", url=url, fields=fields)

    def close(self) -> None:
        for one in self.people:
            one.close()


@pytest.fixture
def open_house(
    make_daemon: Callable[..., DaemonProcess], origin: Origin, downloads: Path
) -> Iterator[Callable[..., House]]:
    made: list[House] = []

    def make(**env: str) -> House:
        made.append(House(make_daemon, origin, downloads, **env))
        return made[-1]

    yield make
    for house in made:
        house.close()


SPY = '''
"""A transfer that tries to speak to the daemon as its client."""

from urllib.parse import urlsplit

import zmq
from fetchd.daemon.transfer.api import Transfer, TransferError
from fetchd.protocol.errors import Code
from zmq.utils.monitor import recv_monitor_message


class Spy(Transfer):
    def run(self, context):
        events = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_SUCCEEDED
        path = urlsplit(context.task.url).path
        with zmq.Context() as own, own.socket(zmq.SUB if path.endswith("events") else zmq.DEALER) as peer:
            monitor = peer.get_monitor_socket(events)
            peer.connect(f"ipc://{path}")
            refused = monitor.poll(10_000) and recv_monitor_message(monitor)["event"] != \
                zmq.EVENT_HANDSHAKE_SUCCEEDED
            peer.disable_monitor()
            monitor.close(0)
        raise TransferError(Code.FORBIDDEN if refused else Code.NOT_FOUND, "as told")

    def close(self):
        pass
'''

LISTED = "sorted(job.id for job in client.list())"
CODES = "[outcome.code for outcome in {}]"


def test_each_has_their_own_jobs_and_an_admin_has_all(open_house: Callable[..., House]) -> None:
    house = open_house()
    alice, bob, carol = house.person(ALICE), house.person(BOB), house.admin()
    gate = house.held(alice, "a")
    house.held(bob, "b")
    revision = alice.ask("client.get('a').last.revision")
    (area,) = (house.daemon.state / ".fetchd").iterdir()
    (area / "jobs" / "orphan").mkdir()

    # nothing of alice's exists for bob
    assert bob.ask(LISTED) == ["b"]
    assert bob.ask("sorted(client.find(['a', 'b']))") == ["b"]
    with pytest.raises(RefusedError, match="no_such_job"):
        bob.ask("client.get('a')")
    with pytest.raises(RefusedError, match="no_such_job"):
        bob.ask("client.wait(['a'], timeout=10)")
    assert bob.ask("sorted({event.job for event in client.events(0, follow=False)})") == ["b"]
    assert bob.ask("[info.job for info in client.workspaces()]") == ["b"]
    stats = bob.ask("(lambda s: (s.active, sum(s.counts.values()), s.slots.free))(client.stats())")
    assert stats == [1, 1, 3]
    assert bob.ask("[w.job for w in client.status().workers if w.job]") == ["b"]
    assert bob.ask("client.status().counts['running']") == 1

    # nor can he do anything about it
    for verb in ("cancel", "pause", "resume", "retry", "remove", "clean_workspaces"):
        assert bob.ask(CODES.format(f"client.{verb}(['a'])")) == ["no_such_job"], verb
    assert bob.ask(CODES.format("client.limit(10, ids=['a']).jobs")) == ["no_such_job"]
    assert bob.ask(CODES.format("client.clean_workspaces(['orphan'], orphans=True)")) == ["no_such_job"]
    for denied in ("client.limit(10, host='h')", "client.limit(10)", "client.reload()", "client.shutdown()"):
        with pytest.raises(RefusedError, match="denied"):
            bob.do(denied)
    with pytest.raises(RefusedError) as taken:
        house.submit(bob, house.origin.url("/x"), "a")
    assert (taken.value.code, taken.value.details) == ("conflict", {})
    assert "a" not in taken.value.message.split()
    assert alice.ask("client.get('a').last.revision") == revision, "nothing was done to it"

    # the admin has all
    assert carol.ask(LISTED) == ["a", "b"]
    assert carol.ask("sorted({event.job for event in client.events(0, follow=False)})") == ["a", "b"]
    assert carol.ask("sorted(info.job for info in client.workspaces())") == ["a", "b", "orphan"]
    assert carol.ask("[o.id for o in client.clean_workspaces(orphans=True)]") == ["orphan"]
    assert carol.ask("client.stats().active") == 2
    assert carol.ask("sorted(w.job for w in client.status().workers if w.job)") == ["a", "b"]
    # `all` is about her own jobs, of which she has none
    carol.do("client.cancel(all=True); client.pause(all=True); client.resume(all=True)")
    assert carol.ask("client.limit(100_000, host='h.test').hosts") == {"h.test": 100_000}
    carol.do("client.reload()")
    assert carol.ask(CODES.format("client.cancel(['b'])")) == [None]
    assert bob.ask("client.get('b').last.state") == "cancelled"
    gate.open()
    assert alice.ask("str(client.get('a').result(30).path)") == str(house.files / "a")
    assert carol.ask("client.get('a').last.owner") == f"uid:{ALICE}"
    assert [one.ask("client.stats().bytes") for one in (alice, bob)] == [SIZE, 0]


def test_events_are_for_their_owner_and_the_admins(open_house: Callable[..., House]) -> None:
    house = open_house()
    alice, bob, carol = house.person(ALICE), house.person(BOB), house.admin()
    endpoint = "client._call(control.Hello(), control.Welcome).events"
    for one in (alice, bob, carol):
        one.do("from fetchd.protocol import control")
    of_alice, of_bob, of_carol = (one.ask(endpoint) for one in (alice, bob, carol))
    assert len({of_alice, of_bob, of_carol}) == 3
    assert alice.ask(endpoint) == of_alice

    refused = [bob.do(REFUSED, kind="SUB", endpoint=one) for one in (of_alice, of_bob, of_carol)]
    assert refused == [True, False, True]
    assert [carol.do(REFUSED, kind="SUB", endpoint=one) for one in (of_alice, of_carol)] == [False, False]

    # all listen to everything, then alice's job begins, and bob's after it
    gates = [house.held(one, name) for one, name in ((alice, "a0"), (bob, "b0"))]
    for one, own, place in ((alice, "a0", of_alice), (bob, "b0", of_bob), (carol, "a0", of_carol)):
        one.do(LISTEN, own=own, endpoint=place)
    house.held(alice, "a")
    house.held(bob, "b")
    assert alice.do(HEARD, last="a") == ["a"]
    assert bob.do(HEARD, last="b") == ["b"]
    assert carol.do(HEARD, last="b") == ["a", "b"]
    # the last value is for those whom it concerns
    last = """
        news.unsubscribe(b"job.")
        news.subscribe(b"job.a.")
        news.subscribe(b"job.b.")
        result = news.recv_multipart()[0].decode()
        context.destroy(0)
    """
    assert alice.do(last) == carol.do(last) == "job.a.running"
    assert bob.do(last) == "job.b.running"
    for gate in gates:
        gate.open()


def test_strangers_get_nothing(open_house: Callable[..., House]) -> None:
    """Neither by the modes of the files nor, where those would let them pass, by the daemon itself."""
    house = open_house()
    modes = {
        path.name: (path.stat().st_mode & 0o7777, path.stat().st_gid) for path in house.runtime.iterdir()
    }
    assert (house.runtime.stat().st_mode & 0o7777, house.runtime.stat().st_gid) == (0o750, house.group)
    assert modes["control"] == (0o660, house.group)
    shared = {name for name, (mode, _) in modes.items() if mode & 0o077}
    assert shared == {"control", "events"}
    assert house.daemon.state.stat().st_mode & 0o077 == 0

    outside = house.person(MALLORY, MALLORY)
    with pytest.raises(RefusedError, match="denied"):
        outside.ask(LISTED)
    # the files let this one in, for a group that the system does not know of
    inside = house.person(MALLORY, MALLORY, house.group)
    assert inside.do(REFUSED, kind="DEALER", endpoint=f"ipc://{house.runtime}/control")
    with pytest.raises(RefusedError, match="denied"):
        inside.ask(LISTED)


def test_a_private_daemon_is_for_its_own_user(open_house: Callable[..., House]) -> None:
    house = open_house(FETCHD_GROUP="", FETCHD_ADMIN_GROUP="")
    assert house.runtime.stat().st_mode & 0o077 == 0
    with pytest.raises(RefusedError, match="denied"):
        house.person(ALICE).ask(LISTED)
    # even where the modes are wrong
    house.runtime.chmod(0o755)
    (house.runtime / "control").chmod(0o666)
    assert house.people[0].do(REFUSED, kind="DEALER", endpoint=f"ipc://{house.runtime}/control")


def test_groups_change_while_it_runs(open_house: Callable[..., House]) -> None:
    house = open_house(FETCHD_GROUP="", FETCHD_ADMIN_GROUP="")
    del house.daemon.env["FETCHD_GROUP"]
    with house.daemon.client() as own:
        assert own.stats().active == 0
    # the environment of a running process stays, so the configuration file has to say it
    house.daemon.env.pop("FETCHD_ADMIN_GROUP")
    house.daemon.restart()
    house.config.write_text(f'group = "{OTHERS[0]}"\nmax_queued = 1\n')
    with house.daemon.client() as own:
        assert sorted(own.reload().live) == ["group", "max_queued"]
    alice = house.person(ALICE)
    assert alice.ask(LISTED) == []
    house.config.write_text("")
    with house.daemon.client() as own:
        own.reload()
    # she is connected, and yet nobody any more
    with pytest.raises(RefusedError, match="denied"):
        alice.ask("client.stats()")
    house.config.write_text('group = "no such group"\n')
    with house.daemon.client() as own, pytest.raises(Exception, match="no such group"):
        own.reload()


def test_quotas(open_house: Callable[..., House]) -> None:
    """Of each owner; what one may not have more of another still gets."""
    house = open_house(FETCHD_MAX_QUEUED="2", FETCHD_MAX_RUNNING="1")
    alice, bob = house.person(ALICE), house.person(BOB)
    gate = house.held(alice, "a")
    url = house.origin.add("/f", Resource(size=10))
    house.submit(alice, url, "a1")
    house.submit(alice, url, "a2")
    last = "(lambda last: [last.state, last.reason])(client.get('a1').last)"
    assert alice.ask(last) == ["queued", "host_limit"]
    with pytest.raises(RefusedError) as full:
        house.submit(alice, url, "a3")
    assert full.value.code == "busy"
    assert full.value.retry_after
    with pytest.raises(RefusedError, match="no_such_job"):
        alice.ask("client.get('a3')")
    house.held(bob, "b")
    gate.open()
    assert alice.ask("[s.state for s in client.wait(['a', 'a1', 'a2'], timeout=30)]") == ["completed"] * 3


def test_a_worker_is_no_client(open_house: Callable[..., House], downloads: Path) -> None:
    """Its uid is that of an admin; without the sandbox, which denies such sockets, the pid tells."""
    site = downloads / "site"
    site.mkdir()
    install(site, "spying_transfer", {"spy": "spying_transfer:Spy"}, SPY)
    house = open_house(FETCHD_SANDBOX="off", PYTHONPATH=str(site))
    for socket in ("control", "events"):
        with house.daemon.client() as own:
            job = own.submit(f"spy://host{house.runtime}/{socket}", directory=house.files, retries=0)
            error = job.exception(30)
        assert error is not None
        assert error.code == "forbidden", error


def test_destinations(open_house: Callable[..., House], downloads: Path) -> None:
    """Below the roots and nowhere else, with the modes and the group of a shared directory."""
    root = downloads / "files"
    house = open_house(FETCHD_ROOTS=f"{root}/{{user}}", FETCHD_FILE_MODE="0640", FETCHD_DIR_MODE="2750")
    own = root / str(ALICE)
    own.mkdir()
    os.chown(own, -1, house.group)
    own.chmod(0o2770)
    alice = house.person(ALICE)
    url = house.origin.add("/f", Resource(size=10))
    alice.do("from fetchd.protocol import control; from fetchd.protocol.job import JobSpec")
    submit = """
        spec = JobSpec(url=url, directory=directory, name=name)
        new = control.NewJob(spec=spec, id=name)
        result = client._call(control.Submit(jobs=[new]), control.Submitted).jobs[0].id
    """
    (root / "link").symlink_to("/")
    for number, directory in enumerate(
        (root, root / str(BOB), "/", "../x", f"{own}/../{BOB}", f"{own}/.fetchd/x", f"{root}/link/etc")
    ):
        with pytest.raises(RefusedError, match="destination"):
            alice.do(submit, url=url, directory=str(directory), name=f"bad{number}")
    for name, directory in (("one", "."), ("two", "deep/er"), ("three", str(own))):
        alice.do(submit, url=url, directory=directory, name=name)
    assert (
        alice.ask("[s.state for s in client.wait(['one', 'two', 'three'], timeout=30)]") == ["completed"] * 3
    )
    for path in (own / "one", own / "deep" / "er" / "two", own / "three"):
        found = path.stat()
        assert (found.st_mode & 0o7777, found.st_gid) == (0o640, house.group), path
    assert (own / "deep").stat().st_mode & 0o7777 == 0o2750


@pytest.mark.parametrize("part", ["state", "state/x", "run", "files/.fetchd"])
def test_the_daemons_own_files_are_no_destination(
    make_daemon: Callable[..., DaemonProcess], origin: Origin, downloads: Path, part: str
) -> None:
    daemon = make_daemon({"FETCHD_RUNTIME_DIR": str(downloads / "run")}).start()
    base = daemon.root if part.startswith("state") else downloads
    with daemon.client() as client, pytest.raises(Exception, match="the daemon's own files"):
        client.submit(origin.add("/f", Resource(size=10)), directory=base / part)
