"""A client over TCP, with a scripted daemon: who is let in, who is not, how soon, and in which words."""

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from fetchd.client import Client, FetchdError
from fetchd.client.locate import Finder
from fetchd.client.remote import TRIES, Contact, Remote
from fetchd.protocol import keys
from fetchd.protocol.errors import Code
from fetchd.protocol.job import State

from .peer import Peer, Thread
from .tcp import Tcp

Start = Callable[..., Peer]
FAR = 3600.0
"""A patience that no test has: what is told at once does not wait for it."""


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("FETCHD_SOCKET", "FETCHD_SERVER_KEY", "FETCHD_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


@pytest.fixture
def pair() -> keys.Pair:
    """The default key of this user."""
    return keys.write_secret(keys.client_key_file())


@pytest.fixture
def tcp(pair: keys.Pair) -> Tcp:
    """A daemon's TCP side that knows this user."""
    made = Tcp()
    made.known.add(pair.public)
    return made


def over(tcp: Tcp, **options: object) -> Client:
    return Client(tcp.endpoint, server_key=tcp.public, timeout=FAR, **options)  # type: ignore[arg-type]


def refused(client: Client) -> FetchdError:
    with client, pytest.raises(FetchdError) as caught:
        client.stats()
    return caught.value


# -- at work


def test_requests_and_events(tcp: Tcp, start_peer: Start) -> None:
    peer = start_peer(tcp=tcp)
    with over(tcp) as client:
        job = client.submit("http://h/a", directory="/there")
        with client.follow([job]) as follower:
            peer.until(lambda: f"job.{job.id}.".encode() in peer.subscriptions)
            peer.change(job.id, State.RUNNING)
            peer.progress(job.id, 5)
            seen = [follower.step_before_deadline() for _ in range(2)]
            assert seen
            peer.complete(job.id)
            while follower.live:
                follower.step_before_deadline()
        assert job.result(timeout=10).size == 10
    hello = peer.asked("hello")[0][1]
    assert getattr(hello, "host", None) == "127.0.0.1"


@pytest.mark.parametrize("how", ["name", "path", "Path", "environment"])
def test_where_keys_come_from(
    how: str, tcp: Tcp, start_peer: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = keys.write_secret(keys.client_key_file("work"))
    tcp.known = {made.public}
    start_peer(tcp=tcp)
    path = tmp_path / "fetchd" / "keys" / "work.key"
    if how == "environment":
        monkeypatch.setenv("FETCHD_SOCKET", tcp.endpoint)
        monkeypatch.setenv("FETCHD_SERVER_KEY", tcp.public)
        monkeypatch.setenv("FETCHD_KEY", "work")
        client = Client(timeout=FAR)
    else:
        client = over(tcp, key={"name": "work", "path": str(path), "Path": path}[how])
    with client:
        assert client.stats().active == 1


def test_an_ipv6_address(pair: keys.Pair, start_peer: Start) -> None:
    if not socket.has_ipv6:
        pytest.fail("no IPv6 in this Python")
    tcp = Tcp("::1")
    tcp.known.add(pair.public)
    peer = start_peer(tcp=tcp)
    with over(tcp) as client:
        job = client.submit("http://h/a", directory="/there")
        with client.follow([job]) as follower:
            peer.until(lambda: f"job.{job.id}.".encode() in peer.subscriptions)
            peer.complete(job.id)
            while follower.live:
                follower.step_before_deadline()
    assert getattr(peer.asked("hello")[0][1], "host", None) == "::1"


def test_a_name_with_several_addresses(tcp: Tcp, start_peer: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon listens at the second one only."""
    start_peer(tcp=tcp)
    real = socket.getaddrinfo

    def both(host: str, port: int, **options: int) -> list[object]:
        found = [found for one in ("127.0.0.2", "127.0.0.1") for found in real(one, port, **options)]
        return found if host == "several.test" else real(host, port, **options)  # type: ignore[return-value]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    with Client(f"tcp://several.test:{tcp.port}", server_key=tcp.public, timeout=FAR) as client:
        assert client.stats().active == 1


def test_a_restart_is_waited_for(tcp: Tcp, start_peer: Start) -> None:
    """Also where something takes connections and ends them meanwhile, as a tunnel does."""
    peer = start_peer(tcp=tcp)
    with over(tcp) as client:
        job = client.submit("http://h/a", directory="/there")
        peer.close()
        waiting = Thread(lambda: client.wait([job]))
        with socket.create_server(("127.0.0.1", int(tcp.port))) as server:
            for _ in range(TRIES + 1):
                server.accept()[0].close()
        start_peer(epoch="e2", tcp=tcp).complete(job.id)
        (snapshot,) = waiting.result()
        assert snapshot.state is State.COMPLETED


def test_a_key_that_is_revoked_meanwhile(tcp: Tcp, start_peer: Start) -> None:
    peer = start_peer(tcp=tcp)
    with over(tcp) as client:
        client.stats()
        peer.close()
        tcp.known.clear()
        start_peer(epoch="e2", tcp=tcp)
        with pytest.raises(FetchdError) as caught:
            client.stats()
    assert caught.value.code is Code.DENIED


# -- not let in, and told so at once


def test_a_key_that_is_not_known(tcp: Tcp, pair: keys.Pair, start_peer: Start) -> None:
    tcp.known.clear()
    start_peer(tcp=tcp)
    error = refused(over(tcp))
    assert error.code is Code.DENIED
    assert error.message.startswith(f"the daemon at {tcp.endpoint} does not know this key")
    assert pair.public in error.message


def test_another_daemon_than_was_meant(tcp: Tcp, pair: keys.Pair, start_peer: Start) -> None:
    start_peer(tcp=tcp)
    error = refused(Client(tcp.endpoint, server_key=pair.public, timeout=FAR))
    assert error.code is Code.DENIED
    assert pair.public in error.message


@pytest.fixture
def stranger() -> Iterator[tuple[str, socket.socket]]:
    """A port that listens and does not talk ZeroMQ by itself."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}", server


def test_a_server_without_curve(tcp: Tcp) -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.linger = 0
        port = router.bind_to_random_port("tcp://127.0.0.1")
        error = refused(Client(f"tcp://127.0.0.1:{port}", server_key=tcp.public, timeout=FAR))
    assert error.code is Code.DENIED


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_who_is_no_daemon_at_all(tcp: Tcp, stranger: tuple[str, socket.socket], says: bytes) -> None:
    endpoint, server = stranger

    def answer() -> None:
        for _ in range(3):
            connection, _address = server.accept()
            with connection:
                connection.recv(10)
                connection.sendall(says)

    thread = threading.Thread(target=answer)
    thread.start()
    error = refused(Client(endpoint, server_key=tcp.public, timeout=FAR))
    thread.join()
    assert error.code is Code.DENIED


@pytest.mark.parametrize("weak", ["0" * 39 + "1", "rs}s}" + "0" * 35])
def test_a_server_key_that_opens_nothing(tcp: Tcp, start_peer: Start, weak: str) -> None:
    start_peer(tcp=tcp)
    assert refused(Client(tcp.endpoint, server_key=weak, timeout=FAR)).code is Code.DENIED


def test_nobody_listens(tcp: Tcp, stranger: tuple[str, socket.socket]) -> None:
    endpoint, server = stranger
    server.close()
    error = refused(Client(endpoint, server_key=tcp.public, timeout=FAR))
    assert error.code is Code.NO_DAEMON
    assert "listen" in error.message


def test_who_accepts_and_says_nothing(tcp: Tcp, stranger: tuple[str, socket.socket]) -> None:
    endpoint, _server = stranger
    error = refused(Client(endpoint, server_key=tcp.public, timeout=0.4, resend_after=0.1))
    assert error.code is Code.NO_DAEMON


def test_a_name_that_does_not_resolve(tcp: Tcp) -> None:
    error = refused(Client("tcp://fetchd.invalid:9", server_key=tcp.public, timeout=FAR))
    assert error.code is Code.NO_DAEMON
    assert error.message.startswith("the host name fetchd.invalid does not resolve")


def test_a_name_that_cannot_be_one(tcp: Tcp) -> None:
    for host in ("x" * 300, "a..b", "ä" * 70):
        error = refused(Client(f"tcp://{host}:9", server_key=tcp.public, timeout=FAR))
        assert error.code is Code.NO_DAEMON


def test_it_is_not_started(tcp: Tcp, state: Path, stranger: tuple[str, socket.socket]) -> None:
    endpoint, server = stranger
    server.close()
    client = Client(endpoint, server_key=tcp.public, start=True, timeout=FAR)
    assert refused(client).code is Code.NO_DAEMON
    assert not list(state.iterdir())


# -- what cannot be meant


@pytest.mark.parametrize(
    "endpoint",
    ["tcp://", "tcp://h", "tcp://h:", "tcp://:1", "tcp://h:0", "tcp://h:65536", "tcp://h:1:2", "tcp://h:x",
     "tcp://::1:5", "tcp://*:5", "tcp://h h:5", "tcp://h/x:5", "tcp://h:1\n", "tcp://h:٣"],
)  # fmt: skip
def test_what_is_no_endpoint(endpoint: str, tcp: Tcp) -> None:
    with pytest.raises(FetchdError, match="is not tcp://HOST:PORT") as caught:
        Client(endpoint, server_key=tcp.public)
    assert caught.value.code is Code.BAD_REQUEST


def test_keys_that_are_missing_or_wrong(tcp: Tcp, tmp_path: Path) -> None:
    cases: list[tuple[dict[str, str], str]] = [
        ({}, "fetchd keys show"),
        ({"server_key": ""}, "fetchd keys show"),
        ({"server_key": tcp.public[:-1]}, "is not 40 characters of Z85"),
        ({"server_key": tcp.public, "key": "other"}, "fetchd keys generate other`"),
        ({"server_key": tcp.public, "key": str(tmp_path / "none.key")}, "fetchd keys generate`"),
        ({"server_key": tcp.public, "key": f"{tmp_path}/"}, "not a plain file"),
        ({"server_key": tcp.public, "key": "a b"}, "a name is"),
        ({"server_key": tcp.public, "key": "/dev/null/x"}, "Not a directory"),
    ]
    for options, words in cases:
        with pytest.raises(FetchdError, match=words) as caught:
            Client("tcp://127.0.0.1:9", **options)  # type: ignore[arg-type]
        assert caught.value.code is Code.BAD_REQUEST


def test_a_key_that_others_may_read(tcp: Tcp, pair: keys.Pair) -> None:
    keys.client_key_file().chmod(0o640)
    with pytest.raises(FetchdError, match="others may read it") as caught:
        Client("tcp://127.0.0.1:9", server_key=tcp.public)
    assert pair.secret not in caught.value.message


@pytest.mark.parametrize("options", [{"server_key": "x"}, {"key": "x"}])
def test_keys_go_with_tcp(options: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A forgotten --socket must not become the daemon of this machine."""
    with pytest.raises(FetchdError, match="--socket tcp://HOST:PORT"):
        Client(**options)  # type: ignore[arg-type]
    monkeypatch.setenv("FETCHD_SERVER_KEY", "x")
    assert Finder().remote is None


def test_what_is_of_this_machine_stays_here(
    tcp: Tcp, start_peer: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = start_peer(tcp=tcp)
    monkeypatch.setenv("http_proxy", "http://localhost:3128")
    with over(tcp) as client:
        client.submit("http://h/a")
        client.submit("http://h/b", directory="sub/../x")
        client.submit("http://h/c", directory="/srv", proxy="p:1")
        with pytest.raises(FetchdError, match="whole path"):
            client.submit("http://h/d", directory="~/x")
    specs = [body.jobs[0].spec for _, body in peer.asked("submit")]  # type: ignore[attr-defined]
    assert [(spec.directory, spec.proxy) for spec in specs] == [
        (".", None),
        ("sub/../x", None),
        ("/srv", "http://p:1"),
    ]


def test_addresses_take_turns(tcp: Tcp, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([["127.0.0.1", "::1", "127.0.0.1"], ["127.0.0.3"]])
    real = socket.getaddrinfo

    def scripted(_host: str, port: int, **options: int) -> list[object]:
        return [found for one in next(answers) for found in real(one, port, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", scripted)
    contact = Contact(Remote("tcp://h:5", tcp.public, None))
    dialled = []
    for contact.turn in range(3):
        dialled.append(contact.address())
    assert dialled == [
        ("tcp://127.0.0.1:5", "127.0.0.1"),
        ("tcp://[::1]:5", "::1"),
        ("tcp://127.0.0.3:5", "127.0.0.3"),
    ]
