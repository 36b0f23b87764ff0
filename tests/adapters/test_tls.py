"""Encryption: who is trusted, how we show who we are, and what becomes of handshakes that fail."""

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.content import pattern
from support.origin import Origin, Resource
from support.serving import Peer, Talker
from support.tls import Certificates, encrypted, make_certificates
from support.tmp import TempDir

from fetchd.daemon.transfer import connect
from fetchd.protocol.mailbox import Options, Responded, Warned

from .attempts import Room, code
from .attempts import room as rooms

SIZE = 300_000
CONTENT = pattern(SIZE, 1)
FILE = Resource(size=SIZE, seed=1)
OK = "Finished"
INSECURE = Options(insecure=True)

# `connect` turns it off, pytest turns it on again for each test
pytestmark = pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")


@pytest.fixture
def room() -> Iterator[Room]:
    with rooms() as made:
        yield made


@pytest.fixture
def talker() -> Iterator[Callable[..., Talker]]:
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(Talker(*args, **options))


@pytest.fixture(scope="module")
def others() -> Iterator[Certificates]:
    """Of an authority that the servers' one has nothing to do with."""
    with TempDir() as directory:
        yield make_certificates(directory)


@pytest.fixture
def secure(make_origin: Callable[..., Origin], certificates: Certificates) -> Origin:
    return make_origin(tls=certificates.server_context())


def left(room: Room) -> set[str]:
    """What lies in the private directory (the room's own, here)."""
    return {path.name for path in room.directory.iterdir()} - {"data", "frontier"}


# who is trusted


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("way", ["text", "bundle", "text over bundle"])
def test_a_trusted_server(
    secure: Origin, certificates: Certificates, others: Certificates, room: Room, host: str, way: str
) -> None:
    secure.add("/f", FILE)
    fields: dict[str, Any] = {
        "text": {"ca": certificates.authority.read_text()},
        "bundle": {"ca_bundle": str(certificates.authority)},
        "text over bundle": {
            "ca": certificates.authority.read_text(), "ca_bundle": str(others.authority),
        },
    }[way]  # fmt: skip
    assert code(room.run(secure.url("/f", host=host), **fields)) == OK
    assert room.data.read_bytes() == CONTENT


@pytest.mark.parametrize("scheme", ["HTTPS", "Https"])
def test_a_scheme_in_capitals_is_the_same(
    secure: Origin, certificates: Certificates, room: Room, scheme: str
) -> None:
    url = secure.add("/f", FILE).replace("https", scheme)
    assert code(room.run(url, ca_bundle=str(certificates.authority))) == OK
    room.reports.clear()
    assert code(room.run(url)) == "tls_cert"


@pytest.mark.parametrize("way", ["text", "bundle", "none"])
def test_an_unknown_authority(secure: Origin, others: Certificates, room: Room, way: str) -> None:
    """`none`: those that come with requests, and nobody else."""
    url = secure.add("/f", FILE)
    fields: dict[str, Any] = {
        "text": {"ca": others.authority.read_text()}, "bundle": {"ca_bundle": str(others.authority)},
        "none": {},
    }[way]  # fmt: skip
    assert code(room.run(url, **fields)) == "tls_cert"
    assert secure.requests == []
    assert secure.connections == 1


def test_a_bundle_that_was_read_before(
    secure: Origin, certificates: Certificates, others: Certificates, room: Room, downloads: Path
) -> None:
    """As in a worker: it holds as long as the file is the same, and for jobs with nothing of their own."""
    bundle, url = downloads / "authorities.pem", secure.add("/f", FILE)
    bundle.write_bytes(certificates.authority.read_bytes())
    connect.read_authorities(str(bundle))
    try:
        assert code(room.run(url, ca_bundle=str(bundle))) == OK
        task = room.attempt.task
        assert connect.tls_context(task, str(bundle)) is connect.tls_context(task, str(bundle))
        for fields, wanted in (
            ({"ca": others.authority.read_text()}, "tls_cert"), ({"options": INSECURE}, OK), ({}, OK),
        ):  # fmt: skip
            room.empty()
            assert code(room.run(url, ca_bundle=str(bundle), **fields)) == wanted
        (downloads / "new").write_bytes(others.authority.read_bytes())
        (downloads / "new").rename(bundle)
        with rooms() as another:
            assert code(another.run(url, ca_bundle=str(bundle))) == "tls_cert"
    finally:
        connect._known.clear()


def test_a_bundle_that_could_not_be_read_before(secure: Origin, room: Room, downloads: Path) -> None:
    """It is read when it is needed, and the job says what is wrong with it."""
    connect.read_authorities("")
    connect.read_authorities(str(downloads / "missing"))
    (downloads / "rubbish").write_text("rubbish")
    connect.read_authorities(str(downloads / "rubbish"))
    assert connect._known == {}
    assert code(room.run(secure.add("/f", FILE), ca_bundle=str(downloads / "rubbish"))) == "tls"


@pytest.mark.parametrize(
    "text", ["", "rubbish", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"]
)
def test_authorities_that_cannot_be_read(secure: Origin, room: Room, text: str) -> None:
    assert code(room.run(secure.add("/f", FILE), ca=text)) == "tls"
    assert secure.connections == 0


@pytest.mark.parametrize("kind", ["expired", "other host", "other address", "self-signed"])
def test_certificates_that_are_not_good(
    make_origin: Callable[..., Origin], downloads: Path, room: Room, kind: str
) -> None:
    names = {"other host": "DNS:other.test", "other address": "DNS:localhost"}.get(kind, "IP:127.0.0.1")
    made = make_certificates(downloads, names, expired=kind == "expired")
    server = make_origin(tls=made.server_context())
    fields = {} if kind == "self-signed" else {"ca_bundle": str(made.authority)}
    assert code(room.run(server.add("/f", FILE), **fields)) == "tls_cert"
    assert server.requests == []
    room.reports.clear()
    # and who says that it does not matter is told so, once
    assert code(room.run(server.url("/f"), options=INSECURE, **fields)) == OK
    assert [report.code for report in room.of(Warned)] == ["insecure"]


def test_insecure_warns_once_of_several_requests(
    secure: Origin, certificates: Certificates, room: Room
) -> None:
    url = secure.add("/f", FILE, "redirect_chain", hops=3)
    assert code(room.run(url, options=INSECURE)) == OK
    assert len(room.of(Warned)) == 1


# who we are


@pytest.fixture
def picky(make_origin: Callable[..., Origin], certificates: Certificates, others: Certificates) -> Origin:
    """Lets those in who show a certificate of `others`."""
    return make_origin(tls=certificates.server_context(clients=others.authority))


def test_a_client_certificate(
    picky: Origin, certificates: Certificates, others: Certificates, room: Room
) -> None:
    url = picky.add("/f", FILE)
    bundle = str(certificates.authority)
    assert code(room.run(url, ca_bundle=bundle, client_certificate=others.chain)) == OK
    assert room.data.read_bytes() == CONTENT
    assert left(room) == set()


@pytest.mark.parametrize("shown", ["none", "of a stranger"])
def test_without_the_right_one(picky: Origin, certificates: Certificates, room: Room, shown: str) -> None:
    url = picky.add("/f", FILE)
    chain = None if shown == "none" else certificates.chain
    last = room.run(url, ca_bundle=str(certificates.authority), client_certificate=chain)
    # in TLS 1.3 a server says so after the handshake, if it says so at all before it hangs up
    assert code(last) in ("tls", "reset"), last
    assert picky.requests == []
    assert picky.connections == 1


@pytest.mark.parametrize("kind", ["empty", "rubbish", "no key", "key of another", "encrypted", "only a key"])
def test_certificates_of_ours_that_cannot_be_used(
    picky: Origin, certificates: Certificates, others: Certificates, room: Room, kind: str
) -> None:
    text = {
        "empty": "", "rubbish": "rubbish", "no key": others.certificate.read_text(),
        "key of another": others.certificate.read_text() + certificates.key.read_text(),
        "encrypted": others.certificate.read_text() + encrypted(others.key),
        "only a key": others.key.read_text(),
    }[kind]  # fmt: skip
    last = room.run(picky.add("/f", FILE), ca_bundle=str(certificates.authority), client_certificate=text)
    assert code(last) == "client_cert", last
    assert "PRIVATE KEY" not in str(room.reports)
    assert left(room) == set()
    assert picky.connections == 0


# connections of one identity are never used for another


def test_no_connection_is_shared_between_identities(
    make_origin: Callable[..., Origin], certificates: Certificates, others: Certificates, room: Room
) -> None:
    context = certificates.server_context(clients=others.authority)
    context.verify_mode = ssl.CERT_OPTIONAL
    server = make_origin(tls=context)
    url = server.add("/f", FILE)
    bundle, text = str(certificates.authority), certificates.authority.read_text()
    identities: list[dict[str, Any]] = [
        {"ca_bundle": bundle}, {"ca": text}, {"ca_bundle": bundle, "client_certificate": others.chain},
        {"ca": text, "client_certificate": others.chain}, {"options": INSECURE},
        {"options": INSECURE, "client_certificate": others.chain},
    ]  # fmt: skip
    for number, identity in enumerate(identities, 1):
        for _ in range(2):
            room.reports.clear()
            assert code(room.run(url, **identity)) == OK
        assert server.connections == number
    # trust that was not asked to be checked helps nobody who asks for it
    room.reports.clear()
    assert code(room.run(url)) == "tls_cert"


# handshakes


def test_the_protocol_is_named(
    make_origin: Callable[..., Origin], certificates: Certificates, room: Room
) -> None:
    """A server that prefers HTTP/2 would use it where nothing was said."""
    offered: list[str | None] = []
    context = certificates.server_context()
    context.set_alpn_protocols(["h2", "http/1.1"])

    def look(peer: Peer) -> None:
        assert isinstance(peer.connection, ssl.SSLSocket)
        offered.append(peer.connection.selected_alpn_protocol())
        peer.read()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")

    with Talker(look, context) as server:
        assert code(room.run(server.url(), ca_bundle=str(certificates.authority))) == OK
    assert offered == ["http/1.1"]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_a_protocol_that_is_too_old(
    make_origin: Callable[..., Origin], certificates: Certificates, room: Room
) -> None:
    context = certificates.server_context()
    context.maximum_version = ssl.TLSVersion.TLSv1
    context.minimum_version = ssl.TLSVersion.TLSv1
    server = make_origin(tls=context)
    last = room.run(server.add("/f", FILE), ca_bundle=str(certificates.authority))
    assert code(last) == "tls", last
    assert server.connections == 1


def _garbage(peer: Peer) -> None:
    peer.send(b"SSH-2.0 what\r\n" * 9)
    peer.wait_gone()


def _http(peer: Peer) -> None:
    peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    peer.wait_gone()


def _hello_then_cut(peer: Peer) -> None:
    peer.connection.recv(1 << 16)


def _reset(peer: Peer) -> None:
    peer.connection.recv(1)
    peer.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def _half_a_record(peer: Peer) -> None:
    peer.connection.recv(1 << 16)
    peer.send(b"\x16\x03\x03\x40\x00\x02")
    peer.connection.shutdown(socket.SHUT_WR)
    peer.wait_gone()


@pytest.mark.parametrize(
    ("talk", "wanted"),
    [(_garbage, {"tls"}), (_http, {"tls"}), (_hello_then_cut, {"tls"}), (_reset, {"reset", "tls"}),
     (_half_a_record, {"tls"})],
)  # fmt: skip
def test_handshakes_that_fail(
    talker: Callable[..., Talker], room: Room, talk: Callable[[Peer], None], wanted: set[str]
) -> None:
    server = talker(talk)
    last = room.run(server.url().replace("http", "https"))
    assert code(last) in wanted, last
    # a new connection that breaks is no stale one: the supervisor waits before it tries again
    assert server.connections == 1


def _drip(peer: Peer) -> None:
    peer.connection.recv(1 << 16)
    peer.drip(b"\x16\x03\x03\x40\x00" + b"\x02" * 0x4000, 0.05)


@pytest.mark.parametrize("talk", [Peer.wait_gone, _drip], ids=["silent", "drip"])
def test_a_handshake_that_does_not_end(
    talker: Callable[..., Talker], room: Room, talk: Callable[[Peer], None]
) -> None:
    server = talker(talk)
    last = room.run(server.url().replace("http", "https"), connect_timeout=0.4)
    assert code(last) == "timeout", last


def test_a_stop_in_a_handshake(talker: Callable[..., Talker], room: Room) -> None:
    server = talker(Peer.wait_gone)
    room.begin(server.url().replace("http", "https"), connect_timeout=60.0)
    server.wait_for(lambda: server.connections == 1)
    assert room.attempt is not None
    room.attempt.stop(True)
    assert code(room.end(timeout=5)) == "Stopped"
    assert room.of(Responded) == []
