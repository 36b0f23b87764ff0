"""The FTP transfer against a server that does anything: the right bytes, or the right code."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.content import pattern
from support.ftp import FtpServer
from support.net import listen, refused_port, silent_port
from support.tls import Certificates, make_certificates

from fetchd.daemon.transfer import ftp
from fetchd.protocol.mailbox import Failed, Finished, Options, Responded, Restart, Stopped

from .attempts import Room, code
from .attempts import room as rooms

SIZE = 300_000
CONTENT = pattern(SIZE, 1)
OLD = pattern(SIZE, 7)
MODIFIED = "20240102030405"
OK = "Finished"


@pytest.fixture
def room() -> Iterator[Room]:
    with rooms() as made:
        yield made


@pytest.fixture
def server() -> Iterator[FtpServer]:
    with FtpServer({"f": CONTENT}) as made:
        yield made


def test_an_honest_server(server: FtpServer, room: Room) -> None:
    last = room.run(server.url("f"))
    assert isinstance(last, Finished)
    assert last.size == SIZE
    assert room.data.read_bytes() == CONTENT
    (head,) = room.of(Responded)
    assert (head.total, head.kept, head.validator.last_modified) == (SIZE, 0, MODIFIED)
    assert head.modified == 1_704_164_645_000_000
    assert head.origins == [server.url("").rstrip("/")]
    assert server.commands == [
        "USER anonymous", "PASS anonymous@", "TYPE I", "SIZE f", "MDTM f", "PASV", "RETR f",
    ]  # fmt: skip


FRESH: list[tuple[dict[str, Any], dict[str, str | None], str]] = [
    # attributes of the server, replies to commands, end
    ({}, {"SIZE": "500 what?", "MDTM": "500 what?", "REST": "500 what?"}, OK),
    ({}, {"SIZE": "550 not in this mode"}, OK),
    ({}, {"SIZE": "200 well"}, OK),
    ({}, {"SIZE": f"213 {SIZE + 1}"}, "short_body"),
    ({}, {"SIZE": f"213 {SIZE - 1}"}, "bad_response"),
    ({}, {"SIZE": "213 -1"}, "bad_response"),
    ({}, {"SIZE": "213 " + "9" * 5000}, "bad_response"),
    ({}, {"SIZE": "213 \u00b2"}, "bad_response"),
    ({}, {"SIZE": "421 going down"}, "unavailable"),
    ({}, {"MDTM": "213 20241399999999"}, OK),
    ({}, {"MDTM": "213 " + "x" * 5000}, OK),
    ({"cut": 1000}, {}, "short_body"),
    ({"cut": 1000}, {"SIZE": "500 what?"}, "reset"),
    ({"extra": b"x"}, {}, "bad_response"),
    ({"greeting": "421 too many"}, {}, "unavailable"),
    ({"greeting": "530 not you"}, {}, "unauthorized"),
    ({"greeting": "220-first\nsecond\n220 ready"}, {}, OK),
    ({"greeting": "220-f\xfcr alle\n220 ready"}, {}, OK),
    ({"greeting": "220-for ever+"}, {}, "bad_response"),
    ({"greeting": "220-\n" + "x" * 100_000}, {}, "bad_response"),
    ({"greeting": "HTTP/1.1 400 Bad Request"}, {}, "bad_response"),
    ({"greeting": "120 soon"}, {}, OK),
    ({"greeting": ""}, {}, "reset"),
    ({"greeting": None}, {}, "timeout"),
    ({}, {"USER": "230 in at once"}, OK),
    ({}, {"USER": "530 no"}, "unauthorized"),
    ({}, {"PASS": "530 no"}, "unauthorized"),
    ({}, {"PASS": "332 account"}, "http_error"),
    ({}, {"PASS": "430 no"}, "unauthorized"),
    ({}, {"TYPE": "504 no"}, "http_error"),
    ({}, {"TYPE": ""}, "reset"),
    ({}, {"PASV": "502 no"}, "http_error"),
    ({}, {"PASV": "227 what"}, "bad_response"),
    ({}, {"PASV": "227 (127,0,0,1,999,999)"}, "bad_response"),
    ({}, {"PASV": None}, "timeout"),
    ({}, {"RETR": "550 no such file"}, "not_found"),
    ({}, {"RETR": "450 busy"}, "server_error"),
    ({}, {"RETR": "425 no data connection"}, "server_error"),
    ({}, {"RETR": "553 no"}, "http_error"),
    ({}, {"RETR": "350 what?"}, "bad_response"),
    ({}, {"RETR": "150 but it never comes"}, "timeout"),
    ({}, {"RETR": ""}, "reset"),
    ({}, {"RETR": None}, "timeout"),
    ({}, {"RETR": "150-never\nending+"}, "bad_response"),
    ({"stall": 1000}, {}, "timeout"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "replies", "wanted"), FRESH, ids=lambda value: str(value)[:60])
def test_a_first_attempt(
    server: FtpServer, room: Room, fields: dict[str, Any], replies: dict[str, str | None], wanted: str
) -> None:
    for name, value in fields.items():
        setattr(server, name, value)
    server.replies.update(replies)
    last = room.run(server.url("f"), read_timeout=0.3 if wanted == "timeout" else 5.0)
    assert code(last) == wanted, last
    on_hand = room.data.read_bytes()
    assert CONTENT.startswith(on_hand)
    if wanted == OK:
        assert on_hand == CONTENT
    else:
        assert room.ranges() == (((0, len(on_hand)),) if on_hand else ())


def test_no_file_of_that_name(server: FtpServer, room: Room) -> None:
    last = room.run(server.url("other"))
    assert code(last) == "not_found"
    assert last.message == "550 no such file"  # type: ignore[union-attr]


def test_a_length_that_is_not_told_needs_the_servers_word(server: FtpServer, room: Room) -> None:
    server.replies["SIZE"] = "500 what?"
    server.goodbye = "426 broken off"
    assert code(room.run(server.url("f"))) == "short_body"


@pytest.mark.parametrize("verb", ["USER", "RETR"])
def test_a_reply_that_drips(
    server: FtpServer, room: Room, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.setattr(ftp, "REPLY_SECONDS", 0.3)
    server.replies[verb] = "2~"
    assert code(room.run(server.url("f"))) == "timeout"


def test_another_address_in_a_reply_is_not_spoken_to(server: FtpServer, room: Room) -> None:
    server.address = "192,0,2,1"
    assert code(room.run(server.url("f"), connect_timeout=1.0)) == OK


def test_a_data_port_that_refuses(server: FtpServer, room: Room) -> None:
    with refused_port() as port:
        server.data_port = port
        assert code(room.run(server.url("f"))) == "connect"


def test_addresses_that_fail(room: Room) -> None:
    with refused_port() as port:
        assert code(room.run(f"ftp://127.0.0.1:{port}/f")) == "connect"
    with silent_port() as port:
        assert code(room.run(f"ftp://127.0.0.1:{port}/f", read_timeout=0.3)) == "timeout"
    assert code(room.run("ftp://no-such-host.invalid/f")) == "dns"


def test_an_empty_file(server: FtpServer, room: Room) -> None:
    server.files["empty"] = b""
    last = room.run(server.url("empty"))
    assert isinstance(last, Finished)
    assert last.size == 0


# names and secrets


@pytest.mark.parametrize(
    ("path", "sent", "name"),
    [
        ("dir/f", "dir/f", "/dir/f"), ("%2Fetc/motd", "/etc/motd", "/%2Fetc/motd"),
        ("a%20b;type=i", "a b", "/a%20b"), ("a?b", "a?b", "/a%3Fb"),
        ("%E6%97%A5", "日", "/%E6%97%A5"), ("日", "日", "/日"), ("x#part", "x", "/x"),
    ],
)  # fmt: skip
def test_paths(server: FtpServer, room: Room, path: str, sent: str, name: str) -> None:
    server.files[sent] = b"here"
    assert code(room.run(server.url(path))) == OK
    assert server.commands[-1] == f"RETR {sent}"
    assert room.of(Responded)[0].url == server.url("").rstrip("/") + name


@pytest.mark.parametrize("path", ["", "dir/", "f%0D%0ADELE%20f", "f%0aNOOP", "f%00"])
def test_paths_that_are_not_sent(server: FtpServer, room: Room, path: str) -> None:
    assert code(room.run(server.url(path))) == "invalid_url"
    assert not [command for command in server.commands if command.startswith(("DELE", "NOOP", "RETR"))]


@pytest.mark.parametrize("userinfo", ["a%0d%0aDELE f:x@", "a:%0aNOOP@", "a%00:x@"])
def test_names_of_users_that_are_not_sent(server: FtpServer, room: Room, userinfo: str) -> None:
    assert code(room.run(server.url("f", userinfo.replace(" ", "%20")))) == "invalid_url"
    assert server.commands == []


def test_who_logs_in(server: FtpServer, room: Room) -> None:
    room.run(server.url("f"), credentials=("me", "pässword"))
    room.run(server.url("f", "you%40home:p%3Aw@"), credentials=("me", "password"))
    assert [command for command in server.commands if command.startswith(("USER", "PASS"))] == [
        "USER me", "PASS pässword", "USER you@home", "PASS p:w",
    ]  # fmt: skip
    assert "you" not in room.of(Responded)[1].url


# resuming

SAME = {"last_modified": MODIFIED, "total": SIZE}
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"

RESUMED: list[tuple[dict[str, Any], dict[str, str | None], bool]] = [
    # what was kept, replies to commands, whether it stays
    (SAME, {}, True),
    ({"total": SIZE}, {}, False),
    ({"last_modified": MODIFIED}, {}, False),
    ({}, {}, False),
    ({**SAME, "total": SIZE + 1}, {}, False),
    ({**SAME, "last_modified": "20230102030405"}, {}, False),
    (SAME, {"MDTM": "500 what?"}, False),
    (SAME, {"SIZE": "500 what?"}, False),
    (SAME, {"REST": "502 no"}, False),
    ({**SAME, "ranges": False}, {}, False),
]


@pytest.mark.parametrize(("kept", "replies", "stays"), RESUMED, ids=str)
def test_a_resumed_attempt(
    server: FtpServer, room: Room, kept: dict[str, Any], replies: dict[str, str | None], stays: bool
) -> None:
    room.keep((CONTENT if stays else OLD)[:200_000])
    server.replies.update(replies)
    assert code(room.run(server.url("f"), have=200_000, **kept)) == OK
    assert room.data.read_bytes() == CONTENT
    assert len(room.of(Restart)) == (not stays)
    assert room.of(Responded)[0].kept == (200_000 if stays else 0)
    assert ("REST 200000" in server.commands) == (stays or "REST" in replies)


@pytest.mark.parametrize("replies", [{}, {"MDTM": "500 what?"}, {"SIZE": "500 what?", "MDTM": "500 what?"}])
def test_a_checksum_will_tell(server: FtpServer, room: Room, replies: dict[str, str | None]) -> None:
    room.keep(CONTENT[:200_000])
    server.replies.update(replies)
    assert code(room.run(server.url("f"), have=200_000, checksum=SHA256)) == OK
    assert room.data.read_bytes() == CONTENT
    assert room.of(Restart) == []


def test_a_checksum_does_not_excuse_a_difference(server: FtpServer, room: Room) -> None:
    room.keep(OLD[:200_000])
    assert code(room.run(server.url("f"), have=200_000, checksum=SHA256, total=SIZE + 5)) == OK
    assert len(room.of(Restart)) == 1


def test_ranges_without_a_beginning(server: FtpServer, room: Room) -> None:
    """The file is fetched from its start, over what was synced: the daemon has to know before."""
    room.keep(b"\0" * 1000 + CONTENT[1000:2000])
    assert code(room.run(server.url("f"), have=[(1000, 2000)], **SAME)) == OK
    assert room.data.read_bytes() == CONTENT
    assert len(room.of(Restart)) == 1


def test_a_file_that_has_shrunk(server: FtpServer, room: Room) -> None:
    room.keep(OLD)
    server.files["f"] = CONTENT[:1000]
    checksum = f"sha256:{hashlib.sha256(CONTENT[:1000]).hexdigest()}"
    assert code(room.run(server.url("f"), have=SIZE, checksum=checksum)) == OK
    assert room.data.read_bytes() == CONTENT[:1000]


def test_a_complete_file_is_not_fetched_again(server: FtpServer, room: Room) -> None:
    room.keep(CONTENT)
    assert code(room.run(server.url("f"), have=SIZE, **SAME)) == OK
    assert server.commands[-1] == "MDTM f"


# limits and stops


@pytest.mark.parametrize("replies", [{}, {"SIZE": "500 what?"}])
def test_a_file_that_is_too_large(server: FtpServer, room: Room, replies: dict[str, str | None]) -> None:
    server.replies.update(replies)
    assert code(room.run(server.url("f"), max_size=SIZE)) == OK
    assert code(room.run(server.url("f"), max_size=SIZE - 1)) == "file_too_large"


@pytest.mark.parametrize("silent", ["USER", "SIZE", "RETR", "data"])
def test_a_stop_is_prompt(server: FtpServer, room: Room, silent: str) -> None:
    if silent == "data":
        server.stall = 1000
    else:
        server.replies[silent] = None
    room.begin(server.url("f"), read_timeout=60.0)
    server.wait_for("RETR" if silent == "data" else silent)
    assert room.attempt is not None
    room.attempt.stop(keep=False)
    assert isinstance(room.end(timeout=10), Stopped)


def test_a_stop_in_the_middle_of_a_handshake(room: Room) -> None:
    with listen() as listener:
        room.begin(f"ftps://127.0.0.1:{listener.getsockname()[1]}/f", read_timeout=60.0)
        with listener.accept()[0]:
            assert room.attempt is not None
            room.attempt.stop(keep=False)
            assert isinstance(room.end(timeout=10), Stopped)


@pytest.mark.parametrize("fields", [{"proxy": "http://a.test/"}, {"client_certificate": "x"}])
def test_what_it_cannot_do_it_refuses(server: FtpServer, room: Room, fields: dict[str, Any]) -> None:
    assert code(room.run(server.url("f"), **fields)) in ("proxy", "client_cert")
    assert server.commands == []


# encryption


@pytest.fixture
def secure(certificates: Certificates) -> Iterator[FtpServer]:
    with FtpServer({"f": CONTENT}, certificates.server_context()) as made:
        yield made


def test_encrypted_from_the_start(secure: FtpServer, certificates: Certificates, room: Room) -> None:
    assert code(room.run(secure.url("f"), ca_bundle=str(certificates.authority))) == OK
    assert room.data.read_bytes() == CONTENT
    assert secure.commands[2:5] == ["PBSZ 0", "PROT P", "TYPE I"]
    assert secure.resumed == [False, True], "the data connection is not of the same session"


def test_whom_it_trusts(secure: FtpServer, certificates: Certificates, room: Room) -> None:
    assert code(room.run(secure.url("f"))) == "tls_cert"
    assert secure.commands == []
    assert code(room.run(secure.url("f"), ca=certificates.authority.read_text())) == OK
    assert code(room.run(secure.url("f"), options=Options(insecure=True))) == OK


def test_a_certificate_of_another_host(certificates: Certificates, downloads: Path, room: Room) -> None:
    other = make_certificates(downloads, names="DNS:other.test")
    with FtpServer({"f": CONTENT}, other.server_context()) as server:
        assert code(room.run(server.url("f"), ca_bundle=str(other.authority))) == "tls_cert"


def test_a_server_that_will_not_protect_the_data(
    secure: FtpServer, certificates: Certificates, room: Room
) -> None:
    secure.replies["PROT"] = "536 no"
    assert code(room.run(secure.url("f"), ca_bundle=str(certificates.authority))) == "http_error"
    assert "RETR f" not in secure.commands


def test_no_encryption_where_it_was_promised(server: FtpServer, room: Room) -> None:
    last = room.run(server.url("f").replace("ftp:", "ftps:"))
    assert isinstance(last, Failed)
    assert code(last) == "tls"
    assert server.commands == []


@pytest.mark.parametrize("cut", [0, 1000])
def test_an_encrypted_end_that_came_too_early(
    secure: FtpServer, certificates: Certificates, room: Room, cut: int
) -> None:
    secure.cut = cut
    assert code(room.run(secure.url("f"), ca_bundle=str(certificates.authority))) == "short_body"
