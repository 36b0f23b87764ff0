"""TCP: whoever has a key that is listed comes in as whom the list says, and nobody else gets anything."""

import contextlib
import os
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import msgpack
import pytest
import zmq
from support.daemon import DaemonProcess, StartError
from support.keyed import SIZE, Keyed, Peer, code, done, heard, hello, listening, submit
from support.net import listen
from support.origin import Origin, Resource

from fetchd.client import Client
from fetchd.protocol.keys import server_key_file, write_secret
from fetchd.protocol.paths import ipc_path

Make = Callable[..., Keyed]


def until(peer: socket.socket, word: bytes) -> bytes:
    """What a raw peer hears, up to a word and what comes with it."""
    answer = b""
    while word not in answer:
        data = peer.recv(4096)
        assert data, answer
        answer += data
    return answer


def everything(peer: socket.socket) -> bytes:
    """What it hears until the connection ends."""
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while data := peer.recv(4096):
            answer += data
    return answer


@pytest.mark.parametrize(
    ("where", "address"),
    [("tcp://127.0.0.1:0", "127.0.0.1"), ("tcp://[::1]:0", "[::1]"), ("tcp://*:0", "0.0.0.0")],
)
def test_a_key_opens(keyed: Make, origin: Origin, downloads: Path, where: str, address: str) -> None:
    house = keyed(listen=where)
    house.authorize(house.line("alice"))
    house.start()
    told = house.sockets
    assert told["tcp"].startswith(f"tcp://{address}:")
    assert f"listening at {told['tcp']} with the key {told['server_key']}" in house.daemon.log()
    near = told["tcp"].replace("0.0.0.0", "127.0.0.1")
    with Client(near, server_key=told["server_key"], key=house.path("alice")) as client:
        welcome = hello(client)
        assert welcome.owner == "key:alice"
        assert welcome.events.startswith(f"tcp://{address}:")
        port = urlsplit(welcome.events).port
        assert port != urlsplit(near).port
        for host, named in (("localhost", "localhost"), ("::1", "[::1]"), ("[::1]", "[::1]")):
            assert hello(client, host).events == f"tcp://{named}:{port}"
        for strange in ("", "a b", "a:1", "h/x", "-h", "fe80::1%x", "*", "x" * 254, "h\n"):
            assert hello(client, strange).events == welcome.events, strange
        job = submit(client, origin, downloads, "a")
        kinds = [event.type for event in job.events()]
        assert kinds[-1] == "completed"
        assert job.result(timeout=20).path == downloads / "a"
        assert (downloads / "a").stat().st_size == SIZE
        with house.daemon.client() as local:
            assert local.get("a").last.owner == "key:alice"
            assert hello(local, "localhost").events.startswith("ipc://")
            assert local.status().sockets["tcp"] == told["tcp"]


STRANGERS: dict[str, Callable[[Keyed, int, str], Peer]] = {
    "an unknown key": lambda house, kind, at: house.peer(kind, at, "mallory"),
    "no key": lambda house, kind, at: house.peer(kind, at),
    "a password": lambda _house, kind, at: Peer(
        kind, at, {zmq.PLAIN_USERNAME: b"alice", zmq.PLAIN_PASSWORD: b"alice"}
    ),
    "another server's key": lambda house, kind, at: house.peer(
        kind, at, "alice", house.pair("mallory").public
    ),
}


@pytest.mark.parametrize("stranger", STRANGERS.values(), ids=STRANGERS)
@pytest.mark.parametrize("kind", [zmq.DEALER, zmq.SUB], ids=["control", "events"])
def test_nobody_else_gets_anything(house: Keyed, kind: int, stranger: Callable[..., Peer]) -> None:
    with house.client("alice") as alice:
        at = hello(alice).events if kind == zmq.SUB else house.sockets["tcp"]
        with stranger(house, kind, at) as peer:
            if kind == zmq.SUB:
                peer.socket.subscribe(b"")
            else:
                head = {"v": 1, "type": "hello", "req": secrets.token_hex(16)}
                peer.socket.send_multipart([msgpack.packb(head), b"\x80"])
            assert not peer.let_in
            assert not peer.socket.poll(0)
        assert alice.status().pid == house.daemon.pid
    assert "Traceback" not in house.daemon.log()


@pytest.mark.parametrize(
    "said", [b"GET / HTTP/1.1\r\n\r\n", bytes(1000), b"\xff" * 200, b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0NULL"]
)
def test_bytes_that_are_no_curve(house: Keyed, said: bytes) -> None:
    place = urlsplit(house.sockets["tcp"])
    with socket.create_connection((place.hostname, place.port), 20) as peer:
        peer.sendall(said)
        with contextlib.suppress(OSError):  # the daemon may have ended it already
            peer.shutdown(socket.SHUT_WR)
        answer = everything(peer)
        assert len(answer) <= 64, "no more than the greeting that everybody gets (rfc.zeromq.org/spec/23)"
    with house.client("alice") as alice:
        assert alice.status().pid == house.daemon.pid


def test_refusals_are_logged_and_not_without_end(house: Keyed) -> None:
    at = house.sockets["tcp"]
    for _ in range(8):
        with house.peer(zmq.DEALER, at, "mallory") as peer:
            assert not peer.let_in
    line = f"refused: 127.0.0.1 with the key {house.pair('mallory').public}"
    assert house.daemon.log().count(line) == 5


def test_a_key_is_nothing_over_ipc(house: Keyed) -> None:
    """A user of this machine is who they are, whatever they say: their metadata is not the handler's."""
    named = {"Socket-Type": "DEALER", "User-Id": house.pair("root").public, "Peer-Address": "127.0.0.1"}
    ready = b"\x05READY" + b"".join(
        bytes([len(name)]) + name.encode() + len(value).to_bytes(4, "big") + value.encode()
        for name, value in named.items()
    )
    head = msgpack.packb({"v": 1, "type": "hello", "req": secrets.token_hex(16)})
    path = ipc_path(house.daemon.endpoint.control)
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(20)
        peer.connect(str(path))
        peer.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(52, b"\0"))
        peer.sendall(b"\x04" + bytes([len(ready)]) + ready)
        until(peer, b"READY")
        peer.sendall(b"\x01" + bytes([len(head)]) + head + b"\x00\x01\x80")
        answer = until(peer, b"max_items")
    assert f"uid:{os.geteuid()}".encode() in answer
    assert b"key:root" not in answer
    with house.peer(zmq.DEALER, f"ipc://{path}", "root") as over:
        assert not over.let_in


def test_each_key_has_its_own_jobs_and_an_admin_has_all(
    house: Keyed, origin: Origin, downloads: Path
) -> None:
    with (
        house.client("alice") as alice,
        house.client("bob") as bob,
        house.client("root") as root,
        house.daemon.client() as local,
    ):
        places = [hello(one).events for one in (alice, bob, root, local)]
        assert len(set(places)) == 4
        assert [hello(one).owner for one in (alice, root)] == ["key:alice", "key:root"]
        ways = (("bob", places[0], False), ("alice", places[2], False), ("root", places[1], True))
        for file, place, wanted in ways:
            with house.peer(zmq.SUB, place, file) as peer:
                assert peer.let_in == wanted
        for one, name in ((alice, "a0"), (bob, "b0")):
            done(one, origin, downloads, name)
        with (
            listening(house, "alice", places[0], "a0") as of_alice,
            listening(house, "bob", places[1], "b0") as of_bob,
            listening(house, "root", places[2], "a0") as of_root,
        ):
            for one, name in ((alice, "a"), (local, "l"), (bob, "b")):
                done(one, origin, downloads, name)
            assert heard(of_alice, "a") == {"a"}
            assert heard(of_bob, "b") == {"b"}
            assert heard(of_root, "b") == {"a", "b", "l"}
        lists = [sorted(job.id for job in one.list()) for one in (alice, bob, root, local)]
        every = ["a", "a0", "b", "b0", "l"]
        assert lists == [["a", "a0"], ["b", "b0"], every, every]
        assert code(lambda: bob.get("a")) == "no_such_job"
        assert code(alice.reload) == "denied"
        root.reload()


def test_the_key_of_the_server_stays(house: Keyed) -> None:
    before = house.sockets["server_key"]
    file = server_key_file(house.daemon.state)
    assert file.stat().st_mode & 0o777 == 0o600
    house.daemon.restart(kill=True)
    assert house.sockets["server_key"] == before
    house.daemon.terminate()
    handed = house.ground / "credentials"
    pair = write_secret(handed / "fetchd-server-key")
    (handed / "fetchd-server-key").chmod(0o440)
    house.daemon.env["CREDENTIALS_DIRECTORY"] = str(handed)
    house.daemon.start()
    assert house.sockets["server_key"] == pair.public


@pytest.mark.parametrize(
    ("given", "mode", "words"),
    [
        ("", 0o600, "not a secret key"),
        ("#" * 40, 0o600, "not a secret key"),
        (None, 0o644, "others may read it"),
    ],
)
def test_a_server_key_that_cannot_be_used(keyed: Make, given: str | None, mode: int, words: str) -> None:
    house = keyed()
    file = server_key_file(house.daemon.state)
    write_secret(file)
    if given is not None:
        file.write_text(given)
    file.chmod(mode)
    with pytest.raises(StartError, match=words):
        house.start()
    assert "Traceback" not in house.daemon.log()


def test_where_it_cannot_listen(keyed: Make) -> None:
    with listen() as taken, pytest.raises(StartError, match="Address already in use"):
        keyed(listen=f"tcp://127.0.0.1:{taken.getsockname()[1]}").start()
    for wrong in (
        "tcp://localhost:1",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:65536",
        "ipc:///x",
        "tcp://[*]:1",
        "tcp://1.2.3:4",
    ):
        with pytest.raises(StartError, match="listen"):
            keyed(listen=wrong).start()


def below_taken(keyed: Make, taken: int) -> Keyed | None:
    """A daemon that listens at the port below one that is taken; None where that is taken, too."""
    house = keyed(listen=f"tcp://127.0.0.1:{taken - 1}")
    house.authorize(house.line("alice"))
    with contextlib.suppress(StartError):
        return house.start()
    return None


def test_ports_of_events_are_above_that_of_control(keyed: Make) -> None:
    for _ in range(20):
        with listen() as other:
            taken = other.getsockname()[1]
            house = below_taken(keyed, taken)
            if house is None:
                continue
            with house.client("alice") as client:
                assert taken < (urlsplit(hello(client).events).port or 0) < taken + 256
            return
    pytest.fail("no two ports beside each other are free")


def test_directories_are_below_the_roots(keyed: Make, origin: Origin, downloads: Path) -> None:
    house = keyed(FETCHD_ROOTS=f"{downloads}/{{user}}")
    house.authorize(house.line("root"))
    house.start()
    with house.client("root") as client:
        url = origin.add("/a", Resource(size=SIZE, seed=1))
        job = client.submit(url, directory="x", name="a")
        assert job.result(timeout=20).path == downloads / "key-root" / "x" / "a"
        assert code(lambda: client.submit(url, directory=downloads / "root", name="b")) == "destination"


def test_without_listen_there_is_nothing(daemon: DaemonProcess) -> None:
    with daemon.client() as client:
        assert set(client.status().sockets) == {"control", "events"}
    assert not server_key_file(daemon.state).exists()
