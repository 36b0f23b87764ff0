"""A daemon that listens at TCP, the keys of those who may come in there, and peers with any key or none."""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import zmq
from zmq.utils.monitor import recv_monitor_message

from fetchd.protocol import control
from fetchd.protocol.errors import FetchdError
from fetchd.protocol.keys import Pair, read_secret, write_secret

from .daemon import DaemonProcess
from .origin import Origin, Resource
from .wait import Deadline

if TYPE_CHECKING:
    from fetchd.client import Client, Job

OUT = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_DISCONNECTED
)
IN = zmq.EVENT_HANDSHAKE_SUCCEEDED
SIZE = 300_000


class Keyed:
    """The daemon and `ground`, the directory of its configuration and of all keys."""

    def __init__(
        self, make: Callable[..., DaemonProcess], ground: Path, listen: str = "tcp://127.0.0.1:0", **env: str
    ) -> None:
        self.ground = ground
        self.authorized = ground / "authorized_keys"
        config = ground / "fetchd.toml"
        config.touch()
        self.daemon = make({"FETCHD_CONFIG": str(config), "FETCHD_LISTEN": listen} | env)

    def start(self) -> Self:
        self.daemon.start()
        return self

    def line(self, file: str, name: str | None = None, *words: str) -> str:
        """The line of authorized_keys for the key in a file, which is made if it is not there."""
        return " ".join([name or file, self.pair(file).public, *words])

    def pair(self, file: str) -> Pair:
        path = self.path(file)
        return read_secret(path) if path.exists() else write_secret(path)

    def path(self, file: str) -> Path:
        return self.ground / f"{file}.key"

    def authorize(self, *lines: str) -> None:
        """Put these lines in force."""
        fresh = self.ground / "fresh"
        fresh.write_text("".join(f"{line}\n" for line in lines))
        fresh.replace(self.authorized)
        self.settle()

    def settle(self) -> None:
        """Return when the daemon has taken in what happened to its files before: two turns have seen it."""
        if self.daemon.is_running:
            with self.daemon.client() as client:
                client.status()
                client.status()

    @property
    def sockets(self) -> dict[str, str]:
        """What the status says of the sockets."""
        with self.daemon.client() as client:
            return client.status().sockets

    def client(self, file: str) -> "Client":
        """The real client, with the key of a file."""
        from fetchd.client import Client

        sockets = self.sockets
        return Client(
            sockets["tcp"], server_key=sockets["server_key"], key=self.path(file), timeout=20, resend_after=20
        )

    def peer(self, kind: int, endpoint: str, file: str | None = None, server: str | None = None) -> "Peer":
        """A ZeroMQ socket, connected with the key of a file, or without one."""
        options: dict[Any, Any] = {}
        if file is not None:
            pair = self.pair(file)
            options = {
                zmq.CURVE_SERVERKEY: (server or self.sockets["server_key"]).encode(),
                zmq.CURVE_PUBLICKEY: pair.public.encode(),
                zmq.CURVE_SECRETKEY: pair.secret.encode(),
            }
        return Peer(kind, endpoint, options)


class Peer:
    """A ZeroMQ socket, and what becomes of its connection."""

    def __init__(self, kind: int, endpoint: str, options: dict[Any, Any]) -> None:
        self.context: zmq.Context[Any] = zmq.Context()
        self.socket = self.context.socket(kind)
        for option, value in {zmq.LINGER: 0, zmq.RCVTIMEO: 10_000, zmq.IPV6: 1, **options}.items():
            self.socket.setsockopt(option, value)
        self._monitor = self.socket.get_monitor_socket(IN | OUT)
        self.socket.connect(endpoint)

    def fate(self, timeout: int = 20_000) -> int:
        """What happens next to the connection: `IN`, or one of `OUT`."""
        assert self._monitor.poll(timeout), "nothing happens to the connection"
        return int(recv_monitor_message(self._monitor)["event"])

    @property
    def let_in(self) -> bool:
        return self.fate() == IN

    def comes_back(self) -> bool:
        """It is dropped, and comes again by itself: whether it is let in, or refused."""
        assert not self.let_in
        while (fate := self.fate()) not in (IN, zmq.EVENT_HANDSHAKE_FAILED_AUTH):
            pass
        return fate == IN

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.disable_monitor()
        self._monitor.close(0)
        self.context.destroy(0)


def hello(client: "Client", host: str | None = None) -> control.Welcome:
    """What the daemon says to who has dialled this host."""
    return client._call(control.Hello(host=host), control.Welcome)


def submit(client: "Client", origin: Origin, downloads: Path, name: str) -> "Job":
    """A job and a file with this name."""
    url = origin.add(f"/{name}", Resource(size=SIZE, seed=1))
    return client.submit(url, directory=downloads, name=name, id=name)


def done(client: "Client", origin: Origin, downloads: Path, name: str) -> None:
    """Such a job, to its end."""
    submit(client, origin, downloads, name).result(timeout=20)


def code(call: Callable[[], object]) -> str:
    """The code with which it is refused; '' where it is not."""
    try:
        call()
    except FetchdError as error:
        return str(error.code)
    return ""


def listening(house: Keyed, file: str, endpoint: str, own: str) -> Peer:
    """Somebody who is let in and hears all that is said from now on. The last value of `own`, a finished job
    there, comes when the subscriptions are in force."""
    peer = house.peer(zmq.SUB, endpoint, file)
    peer.socket.subscribe(b"")
    peer.socket.subscribe(f"job.{own}.".encode())
    assert peer.let_in
    heard(peer, own)
    return peer


def heard(peer: Peer, last: str) -> set[str]:
    """The jobs that it hears of, until one is completed."""
    jobs: set[str] = set()
    deadline = Deadline(20)
    topic = ""
    while topic != f"job.{last}.completed":
        deadline.left(f"the end of {last}")
        topic = peer.socket.recv_multipart()[0].decode()
        if topic.startswith("job."):
            jobs.add(topic.split(".")[1])
    return jobs
