"""Who has lost their rights hears no more, though they are connected; all others hear on."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support import person
from support.daemon import DaemonProcess
from support.person import Person, RefusedError

from fetchd.protocol.errors import FetchdError

from .test_users import ALICE, OTHERS, House, open_house

__all__ = ["open_house"]
pytestmark = pytest.mark.skipif(not person.IS_ROOT, reason=person.NEEDED)

LISTEN = """
from fetchd.protocol import control
context = zmq.Context()
news = context.socket(zmq.SUB)
news.setsockopt(zmq.LINGER, 0)
news.setsockopt(zmq.RCVTIMEO, 10_000)
monitor = news.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_AUTH)
news.connect(client._call(control.Hello(), control.Welcome).events)
news.subscribe(b"job.a.")
# its last value, which comes to whoever subscribes to a job
assert news.recv_multipart()[0] == b"job.a.running"
"""

ENDED = """
seen = []
while event not in seen:
    assert monitor.poll(10_000), seen
    seen.append(zmq.utils.monitor.recv_monitor_message(monitor)["event"])
result = seen[0] == zmq.EVENT_DISCONNECTED
"""

UNTIL = """
while news.recv_multipart()[0].decode() != topic:
    pass
"""

WAIT = """
from fetchd.protocol import codec, control
asking = zmq.Context().socket(zmq.DEALER)
asking.setsockopt(zmq.LINGER, 0)
asking.setsockopt(zmq.RCVTIMEO, 10_000)
asking.connect(f"ipc://{socket}")
wait = control.Wait(ids=["a"], since=client.get("a").snapshot().revision)
for kind, body in (("wait", wait), ("status", control.Status())):
    head = control.RequestHeader(v=1, type=kind, req=kind.encode().hex().zfill(32))
    asking.send_multipart([codec.encode(head), codec.encode(body)])
result = codec.decode(asking.recv_multipart()[0], control.ReplyHeader).type
"""

ANSWER = """
result = codec.decode(asking.recv_multipart()[1], control.Jobs).jobs
asking.context.destroy(0)
"""

HEARD = """
result = []
while news.poll(0):
    result.append(news.recv_multipart()[0].decode())
news.disable_monitor()
context.destroy(0)
"""

DISCONNECTED, SHUT_OUT = 0x200, 0x4000
"""ZMQ_EVENT_DISCONNECTED, ZMQ_EVENT_HANDSHAKE_FAILED_AUTH."""

GROUP, ADMINS = f'group = "{OTHERS[0]}"\n', f'admin_group = "{OTHERS[1]}"\n'


class Scene:
    """A job of alice's that runs, and how the daemon's groups are."""

    def __init__(self, house: House) -> None:
        self.house = house
        for name in ("FETCHD_GROUP", "FETCHD_ADMIN_GROUP"):
            # the environment of a running daemon stays
            del house.daemon.env[name]
        house.config.write_text(GROUP + ADMINS)
        house.daemon.restart()
        self.alice = house.person(ALICE)
        self.gate = house.held(self.alice, "a")

    def reload(self, text: str) -> None:
        self.house.config.write_text(text)
        with self.house.daemon.client() as own:
            own.reload()

    def finish(self) -> None:
        """Something is to be heard."""
        self.gate.open()
        with self.house.daemon.client() as own:
            own.get("a").result(timeout=30)


def heard(who: Person) -> list[str]:
    """What has come and was not taken."""
    return [str(topic) for topic in who.do(HEARD)]


@pytest.fixture
def scene(open_house: Callable[..., House]) -> Scene:
    return Scene(open_house(FETCHD_GROUP="", FETCHD_ADMIN_GROUP=""))


def test_an_admin_who_is_none_any_more(scene: Scene) -> None:
    carol = scene.house.admin()
    for one in (scene.alice, carol):
        one.do(LISTEN)
    scene.reload(GROUP)
    assert carol.do(ENDED, event=SHUT_OUT)
    # she has come again by herself, and gets the last value as at first
    scene.alice.do(UNTIL, topic="job.a.running")
    scene.finish()
    scene.alice.do(UNTIL, topic="job.a.completed")
    assert not heard(scene.alice)
    assert "job.a.completed" not in heard(carol)


def test_a_user_who_has_lost_the_group(scene: Scene) -> None:
    root = scene.house.person(0, 0)
    for one in (scene.alice, root):
        one.do(LISTEN)
    scene.reload("")
    assert scene.alice.do(ENDED, event=DISCONNECTED)
    root.do(UNTIL, topic="job.a.running")
    scene.finish()
    root.do(UNTIL, topic="job.a.completed")
    assert "job.a.completed" not in heard(scene.alice)
    assert not heard(root)


def test_who_has_lost_rights_waits_no_more(scene: Scene) -> None:
    """Everybody asks anew then."""
    carol = scene.house.admin()
    assert carol.do(WAIT) == "status"
    scene.reload(GROUP)
    assert carol.do(ANSWER) == []
    with pytest.raises(RefusedError, match="denied"):
        carol.do("client.get('a')")
    scene.finish()


def test_a_group_that_is_there_no_more(make_daemon: type[DaemonProcess], tmp_path: Path) -> None:
    """The configuration that was in force cannot be put in force again, either."""
    known, config = tmp_path / "group", tmp_path / "fetchd.toml"
    there = Path("/etc/group").read_text()
    known.write_text(f"{there}fetchers:x:60999:\n")
    config.write_text('group = "fetchers"\n')
    daemon = make_daemon(
        {"FETCHD_CONFIG": str(config)},
        wrapper=["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/group && exec "$@"', str(known)],
    ).start()
    known.write_text(there)
    with daemon.client() as client:
        for _ in range(2):
            with pytest.raises(FetchdError, match="fetchers"):
                client.reload()
    assert "Traceback" not in daemon.log()
