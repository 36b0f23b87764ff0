"""`authorized_keys`, files with a secret key, and where both are."""

import os
import stat
from itertools import combinations
from pathlib import Path

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st
from zmq.utils import z85

from fetchd.protocol import keys
from fetchd.protocol.errors import Code, FetchdError
from fetchd.protocol.keys import Authorized


def key(number: int) -> str:
    """A key that is nobody's."""
    return z85.encode(number.to_bytes(32, "big")).decode()


A, B = key(1), key(2)
HASHES = "0####" * 8


# -- keys and names


@pytest.mark.parametrize(
    "text", [A, HASHES, "%nSc0" * 8, pytest.param(zmq.curve_keypair()[0].decode(), id="made")]
)
def test_keys(text: str) -> None:
    assert keys.is_key(text)
    assert len(z85.decode(text)) == 32


@pytest.mark.parametrize(
    "text",
    [
        "", A[1:], f"{A}0", f"{A}\n", " " * 40, "0" * 40, "%nSc1" * 8, "#" * 40,
        f"{A[1:]}ä", f"{A[1:]}٣", f"{A[1:]}~",
    ],
    ids=str,
)  # fmt: skip
def test_not_keys(text: str) -> None:
    assert not keys.is_key(text)


@given(st.binary(min_size=32, max_size=32))
def test_the_z85_of_any_32_bytes_is_a_key(raw: bytes) -> None:
    assert keys.is_key(z85.encode(raw).decode()) == any(raw)


@pytest.mark.parametrize("text", ["a", "Z", "0", "alice", "a.b-c_d", "x" * 64])
def test_names(text: str) -> None:
    assert keys.is_name(text)


@pytest.mark.parametrize(
    "text", ["", ".", "..", "-a", "_a", "#", "a b", "a/b", "a\n", "a\0", "ä", "٣", "x" * 65, "a:b"]
)
def test_not_names(text: str) -> None:
    assert not keys.is_name(text)


# -- the list

UNDERSTOOD: dict[str, tuple[str, list[Authorized]]] = {
    "nothing": ("", []),
    "blank lines and comments": ("\n \t\n# alice\n  # bob\n#\n", []),
    "a key": (f"alice {A}\n", [Authorized("alice", A)]),
    "no newline at the end": (f"alice {A}", [Authorized("alice", A)]),
    "tabs and blanks": (f" \talice\t \t{A}\t \n", [Authorized("alice", A)]),
    "CRLF": (f"alice {A} admin\r\n\r\nbob {B}\r\n", [Authorized("alice", A, True), Authorized("bob", B)]),
    "a byte order mark": (f"\ufeffalice {A}\n", [Authorized("alice", A)]),
    "an admin": (f"root {A} admin\n", [Authorized("root", A, True)]),
    "a comment": (f"alice {A} # her laptop", [Authorized("alice", A, False, "her laptop")]),
    "a comment by tabs": (f"alice {A}\tadmin\t#her laptop", [Authorized("alice", A, True, "her laptop")]),
    "an admin with a comment": (f"alice {A} admin  #  a  b ", [Authorized("alice", A, True, "a  b")]),
    "an admin only in the comment": (f"alice {A} # admin", [Authorized("alice", A, False, "admin")]),
    "an admin stuck to the hash": (f"alice {A} #admin", [Authorized("alice", A, False, "admin")]),
    "an empty comment": (f"alice {A} #", [Authorized("alice", A)]),
    "hashes in the comment": (f"alice {A} ## #", [Authorized("alice", A, False, "# #")]),
    "hashes in the key": (f"alice {HASHES} # x", [Authorized("alice", HASHES, False, "x")]),
    "a name that is a word of ours": (f"admin {A}", [Authorized("admin", A)]),
    "any script in a comment": (f"alice {A} # Ålices 🖥", [Authorized("alice", A, False, "Ålices 🖥")]),
    "a person with two keys": (f"alice {A}\nalice {B}", [Authorized("alice", A), Authorized("alice", B)]),
    "the longest line": (f"a {A} # ".ljust(1024, "x"), [Authorized("a", A, False, "x" * (1024 - 45))]),
}  # fmt: skip


@pytest.mark.parametrize("case", UNDERSTOOD)
def test_what_is_understood(case: str) -> None:
    text, expected = UNDERSTOOD[case]
    assert keys.parse_authorized(text) == expected


REFUSED: dict[str, tuple[str, int, str]] = {
    "a name alone": ("alice", 1, "public key"),
    "a key alone": (A, 1, "public key"),
    "no name": (f" {A}", 1, "public key"),
    "a bad name": (f"-alice {A}", 1, "a name is"),
    "a name beyond ASCII": (f"älice {A}", 1, "a name is"),
    "an overlong name": (f"{'a' * 65} {A}", 1, "a name is"),
    "a short key": (f"alice {A[1:]}", 1, "public key"),
    "a key beyond 2^32": (f"alice {'%nSc1' * 8}", 1, "public key"),
    "a key of nothing": (f"alice {'0' * 40}", 1, "public key"),
    "a word too many": (f"alice {A} Admin", 1, "nothing else"),
    "admin twice": (f"alice {A} admin admin", 1, "nothing else"),
    "a comment stuck to admin": (f"alice {A} admin# x", 1, "nothing else"),
    "a comment stuck to the key": (f"alice {A}# x", 1, "public key"),
    "a comment without a hash": (f"alice {A} her laptop", 1, "nothing else"),
    "another line": (f"\n# x\nalice {A}\nbob", 4, "public key"),
    "a key twice": (f"alice {A}\nbob {B}\nalice {A}", 3, "that of line 1"),
    "a key under two names": (f"alice {A}\r\nbob {A}", 2, "that of line 1"),
    "NUL": (f"alice {A}\0", 1, "cannot be shown"),
    "NUL in a comment": ("\n# \0", 2, "cannot be shown"),
    "a bare CR": (f"alice {A}\rbob {B}", 1, "cannot be shown"),
    "a vertical tab": (f"alice\v{A}", 1, "cannot be shown"),
    "a separator of lines": (f"alice {A} # x\u2028bob {B}", 1, "cannot be shown"),
    "an override of direction": (f"alice {A} # \u202e", 1, "cannot be shown"),
    "another kind of blank": (f"alice\u00a0{A}", 1, "cannot be shown"),
    "a byte order mark later": (f"alice {A}\n\ufeffbob {B}", 2, "cannot be shown"),
    "a line without end": (f"alice {A}\n# {'x' * 1023}", 2, "more than 1024"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_understood(case: str) -> None:
    text, line, words = REFUSED[case]
    with pytest.raises(ValueError, match=rf"^line {line}: .*{words}"):
        keys.parse_authorized(text)


def test_ten_thousand_keys() -> None:
    entries = [Authorized(f"user-{number}", key(number + 1), number % 7 == 0) for number in range(10_000)]
    assert keys.parse_authorized("\n".join(map(keys.format_authorized, entries))) == entries


def test_a_repeated_key_is_found_wherever_it_is() -> None:
    lines = [f"n{number} {key(number + 1)}" for number in range(12)]
    for first, second in combinations(range(12), 2):
        doubled = lines.copy()
        doubled[second] = f"other {lines[first].split()[1]}"
        with pytest.raises(ValueError, match=f"^line {second + 1}: .* line {first + 1}$"):
            keys.parse_authorized("\n".join(doubled))


@given(st.text())
def test_any_text_is_understood_or_refused_by_its_line(text: str) -> None:
    try:
        found = keys.parse_authorized(text)
    except ValueError as error:
        found = []
        assert str(error).startswith("line ")  # noqa: PT017
    assert keys.parse_authorized("\n".join(map(keys.format_authorized, found))) == found


entries = st.builds(
    Authorized,
    name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", fullmatch=True),
    key=st.binary(min_size=32, max_size=32).filter(any).map(lambda raw: z85.encode(raw).decode()),
    admin=st.booleans(),
    comment=st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), max_size=100).map(str.strip),
)


@given(st.lists(entries, unique_by=lambda entry: entry.key))
def test_what_is_written_is_what_is_read(found: list[Authorized]) -> None:
    assert keys.parse_authorized("".join(f"{keys.format_authorized(entry)}\n" for entry in found)) == found


# -- its file


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    path = tmp_path / "authorized_keys"
    path.write_text(f"alice {A}\n")
    path.chmod(0o644)
    return path


def refused(path: Path) -> str:
    with pytest.raises(FetchdError) as caught:
        keys.read_authorized(path)
    assert caught.value.code is Code.BAD_REQUEST
    return caught.value.message


@pytest.mark.parametrize("mode", [0o644, 0o600, 0o444, 0o755])
def test_a_list_that_others_may_read(listed: Path, mode: int) -> None:
    listed.chmod(mode)
    assert keys.read_authorized(listed) == [Authorized("alice", A)]


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o620, 0o602])
def test_a_list_that_others_may_write(listed: Path, mode: int) -> None:
    listed.chmod(mode)
    assert refused(listed) == f"{listed}: others may write it; chmod go-w {listed}"


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_list_that_others_may_replace(listed: Path, mode: int) -> None:
    listed.parent.chmod(mode)
    assert refused(listed) == f"{listed.parent}: others may write it; chmod go-w {listed.parent}"


def test_a_list_in_a_directory_like_tmp(listed: Path) -> None:
    listed.parent.chmod(0o1777)
    assert keys.read_authorized(listed) == [Authorized("alice", A)]


def test_no_list_has_no_keys(tmp_path: Path) -> None:
    assert keys.read_authorized(tmp_path / "authorized_keys") == []
    assert keys.read_authorized(tmp_path / "nowhere" / "authorized_keys") == []


def test_a_link_is_followed_and_its_target_judged(listed: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = elsewhere / "authorized_keys"
    link.symlink_to(listed)
    assert keys.read_authorized(link) == [Authorized("alice", A)]
    listed.parent.chmod(0o777)
    assert "others may write it" in refused(link)
    listed.parent.chmod(0o755)
    elsewhere.chmod(0o777)
    assert "others may write it" in refused(link)


def test_a_dangling_link_is_no_list(tmp_path: Path) -> None:
    (tmp_path / "authorized_keys").symlink_to("nowhere")
    assert keys.read_authorized(tmp_path / "authorized_keys") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_list_of_another_user(listed: Path) -> None:
    os.chown(listed, 12345, -1)
    assert "belongs to another user (12345)" in refused(listed)
    os.chown(listed, 0, -1)
    os.chown(listed.parent, 12345, -1)
    assert "belongs to another user (12345)" in refused(listed)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"alice\n", "line 1: after the name"),
        (b"\xff", "not a text in UTF-8"),
        (b"alice " + A.encode("utf-16"), "not a text in UTF-8"),
        (b"# x\n" * (1 << 20) + b"\n", "more than 4194304 bytes"),
    ],
    ids=["line", "latin-1", "utf-16", "large"],
)
def test_a_list_that_is_not_understood(listed: Path, content: bytes, words: str) -> None:
    listed.write_bytes(content)
    assert words in refused(listed)


def test_a_list_that_is_no_plain_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert refused(tmp_path / "pipe").endswith("not a plain file")
    assert refused(tmp_path).endswith("not a plain file")


# -- files with a secret


def test_a_secret_is_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "keys" / "default.key"
    made = keys.write_secret(path)
    assert keys.read_secret(path) == made
    assert zmq.curve_public(made.secret.encode()).decode() == made.public
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]


def test_a_secret_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "default.key"
    made = keys.write_secret(path)
    with pytest.raises(FileExistsError):
        keys.write_secret(path)
    assert keys.read_secret(path) == made
    assert list(tmp_path.iterdir()) == [path]


def test_a_secret_is_not_written_through_a_link(tmp_path: Path) -> None:
    path = tmp_path / "default.key"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        keys.write_secret(path)
    assert not (tmp_path / "elsewhere").exists()


def test_a_secret_does_not_show() -> None:
    assert B not in repr(keys.Pair(A, B))
    assert B not in f"{keys.Pair(A, B)}"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610, 0o602, 0o440])
def test_a_secret_that_others_may_read(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "default.key"
    keys.write_secret(path)
    path.chmod(mode)
    with pytest.raises(FetchdError, match="others may read it; chmod 0600") as caught:
        keys.read_secret(path)
    assert caught.value.code is Code.BAD_REQUEST


@pytest.mark.parametrize(
    ("mode", "fine"), [(0o440, True), (0o400, True), (0o460, False), (0o444, False), (0o450, False)]
)
def test_a_secret_of_a_group(tmp_path: Path, mode: int, fine: bool) -> None:
    path = tmp_path / "fetchd-server-key"
    made = keys.write_secret(path)
    path.chmod(mode)
    if fine:
        assert keys.read_secret(path, shared=True) == made
    else:
        with pytest.raises(FetchdError, match="others may read it; chmod 0440"):
            keys.read_secret(path, shared=True)


@pytest.mark.parametrize(
    "content",
    [b"", A[1:].encode(), f"{A} {B}".encode(), f"{A}\n{B}\n".encode(), b"0" * 40, b"\xff", b" " * 1025],
)  # fmt: skip
def test_what_is_no_secret(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "default.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(FetchdError) as caught:
        keys.read_secret(path)
    assert caught.value.code is Code.BAD_REQUEST
    assert caught.value.message.startswith(f"{path}: ")
    assert A not in caught.value.message


def test_a_link_to_a_secret_and_what_is_no_file(tmp_path: Path) -> None:
    made = keys.write_secret(tmp_path / "default.key")
    (tmp_path / "link.key").symlink_to("default.key")
    assert keys.read_secret(tmp_path / "link.key") == made
    os.mkfifo(tmp_path / "pipe.key", 0o600)
    with pytest.raises(FetchdError, match="not a plain file"):
        keys.read_secret(tmp_path / "pipe.key")
    with pytest.raises(FileNotFoundError):
        keys.read_secret(tmp_path / "nowhere.key")


# -- where they are


def test_places(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CONFIG_HOME", "CONFIGURATION_DIRECTORY", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/ada")
    assert keys.authorized_file(None) == Path("/home/ada/.config/fetchd/authorized_keys")
    assert keys.authorized_file(None, system=True) == Path("/etc/fetchd/authorized_keys")
    assert keys.authorized_file(Path("/srv/f.toml"), system=True) == Path("/srv/authorized_keys")
    assert keys.client_key_file() == Path("/home/ada/.config/fetchd/keys/default.key")
    assert keys.server_key_file(Path("/s")) == Path("/s/keys/server.key")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/x")
    monkeypatch.setenv("CONFIGURATION_DIRECTORY", "/etc/one:/etc/two")
    assert keys.authorized_file(None) == Path("/x/fetchd/authorized_keys")
    assert keys.authorized_file(None, system=True) == Path("/etc/one/authorized_keys")
    assert keys.client_key_file("work") == Path("/x/fetchd/keys/work.key")


def test_a_key_file_is_named_by_a_name() -> None:
    with pytest.raises(FetchdError, match="a name is"):
        keys.client_key_file("../work")


def test_the_credential_of_systemd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert keys.server_credential() is None
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert keys.server_credential() is None
    keys.write_secret(tmp_path / "fetchd-server-key")
    assert keys.server_credential() == tmp_path / "fetchd-server-key"
