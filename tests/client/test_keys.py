"""`fetchd keys` on files: whatever lies there and whoever else is at it."""

import json
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from support.cli import COMMAND
from support.wait import readable
from zmq.utils import z85

from fetchd.client.start import locked
from fetchd.protocol import keys
from fetchd.protocol.inotify import Watch
from fetchd.protocol.keys import Authorized

from .test_cli import fetchd


def key(number: int) -> str:
    return z85.encode(number.to_bytes(32, "big")).decode()


IN_OPEN = 0x20
"""inotify(7)."""

A, B, C = key(1), key(2), key(3)


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The configuration directory of a user who has nothing yet."""
    for name in ("FETCHD_CONFIG", "CONFIGURATION_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "fetchd"


@pytest.fixture
def listed(home: Path) -> Path:
    """A list with a bit of everything."""
    home.mkdir(parents=True)
    path = home / "authorized_keys"
    path.write_text(f"# who may come in\n\nalice {A} # her laptop\nroot {B} admin", newline="")
    path.chmod(0o640)
    return path


def authorized(home: Path) -> list[Authorized]:
    return keys.read_authorized(home / "authorized_keys")


# -- generate


def test_a_key_is_made_and_its_line_printed(home: Path) -> None:
    done = fetchd("keys", "generate", "work")
    assert done.returncode == 0
    file = home / "keys" / "work.key"
    pair = keys.read_secret(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    entry = keys.parse_line(done.stdout.strip())
    assert entry is not None
    assert (entry.name, entry.key, entry.admin) == ("work", pair.public, False)
    assert "fetchd keys authorize 'work " in done.stderr
    assert str(file) in done.stderr
    assert pair.secret not in done.stdout + done.stderr


def test_the_default_key_is_called_as_its_user(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for user, name in (("ada", "ada"), ("a b", "default"), ("ä", "default")):
        monkeypatch.setenv("LOGNAME", user)
        done = fetchd("keys", "generate")
        assert done.stdout.split()[0] == name
        (home / "keys" / "default.key").unlink()


def test_a_key_is_never_overwritten(home: Path) -> None:
    line = fetchd("keys", "generate").stdout
    before = (home / "keys" / "default.key").read_bytes()
    again = fetchd("keys", "generate")
    assert again.returncode == 2
    assert again.stdout == ""
    assert line.strip() in again.stderr  # it can be authorized later
    assert (home / "keys" / "default.key").read_bytes() == before


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".x", "x" * 65])
def test_names_of_keys(name: str, home: Path) -> None:
    done = fetchd("keys", "generate", name)
    if name:
        assert done.returncode == 2
        assert "a name is 1 to 64" in done.stderr
    assert {path.name for path in home.rglob("*.key")} <= {"default.key"}


def test_where_no_key_can_be_made(home: Path) -> None:
    home.mkdir(parents=True)
    (home / "keys").write_text("not a directory")
    done = fetchd("keys", "generate")
    assert done.returncode == 1
    assert done.stderr.startswith("fetchd: io_error: ")
    assert len(done.stderr.splitlines()) == 1


# -- authorize


def test_keys_are_added(listed: Path, home: Path) -> None:
    assert fetchd("keys", "authorize", "bob", C, "--comment", "desk").returncode == 0
    assert listed.read_text() == (
        f"# who may come in\n\nalice {A} # her laptop\nroot {B} admin\nbob {C} # desk\n"
    )
    assert stat.S_IMODE(listed.stat().st_mode) == 0o640
    assert {path.name for path in home.iterdir()} == {"authorized_keys", ".authorized_keys.lock"}


def test_the_first_key_makes_the_list(home: Path) -> None:
    done = fetchd("keys", "authorize", "alice", A, "--admin")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"fetchd: alice is authorized, as an admin ({home / 'authorized_keys'})\n"
    assert authorized(home) == [Authorized("alice", A, True)]
    assert stat.S_IMODE((home / "authorized_keys").stat().st_mode) == 0o644


@pytest.mark.parametrize(
    "words", [[f"bob {C}"], [f"  bob \t {C} # x@y "], ["bob", C, "# x@y"], ["bob", C, "#", "x@y"]]
)
def test_a_pasted_line(words: list[str], home: Path) -> None:
    assert fetchd("keys", "authorize", *words).returncode == 0
    (entry,) = authorized(home)
    assert (entry.name, entry.key, entry.comment) in {("bob", C, ""), ("bob", C, "x@y")}


def test_what_generate_prints_is_what_authorize_takes(home: Path) -> None:
    line = fetchd("keys", "generate").stdout
    assert fetchd("keys", "authorize", line.strip()).returncode == 0
    assert authorized(home) == [keys.parse_line(line.strip())]


def test_a_person_with_two_machines(listed: Path, home: Path) -> None:
    assert fetchd("keys", "authorize", "alice", C).returncode == 0
    assert [entry.key for entry in authorized(home) if entry.name == "alice"] == [A, C]


def test_the_same_again_changes_nothing(listed: Path) -> None:
    before = (listed.read_bytes(), listed.stat().st_ino)
    done = fetchd("keys", "authorize", "alice", A)
    assert done.returncode == 0
    assert "alice was authorized already" in done.stderr
    assert (listed.read_bytes(), listed.stat().st_ino) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bob", A], "authorized already, for alice"),
        (["alice", A, "--admin"], "not an admin's"),
        (["root", B], "as an admin's"),
        (["bob"], "public key, 40 characters"),
        (["bob", C[1:]], "public key, 40 characters"),
        (["bob", f"{C}0"], "public key, 40 characters"),
        (["bob", "0" * 40], "public key, 40 characters"),
        ([C], "public key, 40 characters"),
        (["bob", C, "friend"], "nothing else"),
        (["-bob", C], "No such option"),
        (["b:b", C], "a name is 1 to 64"),
        (["# bob", C], "NAME PUBLICKEY is wanted"),
        (["bob", C, "admin"], "say --admin if that is meant"),
        (["bob", f"{C}\nevil {A} admin"], "cannot be shown"),
        (["bob", C, "--comment", f"x\nevil {C} admin"], "cannot be shown"),
        (["bob", C, "--comment", "x" * 1024], "more than 1024"),
        ([], "Missing argument"),
    ],
)
def test_what_is_not_added(arguments: list[str], words: str, listed: Path) -> None:
    before = listed.read_bytes()
    done = fetchd("keys", "authorize", *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert listed.read_bytes() == before


@pytest.mark.parametrize("what", [["authorize", "bob", C], ["revoke", "alice"], ["list"]])
@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        (f"alice {A}\nbob\n", 0o644, "line 2"),
        (f"alice {A}\nbob {A}\n", 0o644, "line 2: the key is that of line 1"),
        (f"alice {A}\n", 0o664, "chmod go-w"),
        (f"alice {A}\n", 0o646, "chmod go-w"),
        (f"alice {A}\0\n", 0o644, "line 1"),
    ],
)
def test_a_list_that_the_daemon_would_not_take_is_left_alone(
    listed: Path, what: list[str], content: str, mode: int, words: str
) -> None:
    listed.write_text(content)
    listed.chmod(mode)
    done = fetchd("keys", *what)
    assert done.returncode == 2
    assert words in done.stderr
    assert str(listed) in done.stderr
    assert listed.read_text() == content


@pytest.mark.parametrize("start", ["\ufeff", ""])
def test_a_list_from_elsewhere(listed: Path, home: Path, start: str) -> None:
    listed.write_text(f"{start}alice {A}\r\n# x\r\nbob {B}\r\n", newline="")
    assert fetchd("keys", "authorize", "carol", C).returncode == 0
    assert fetchd("keys", "revoke", "alice").returncode == 0
    assert authorized(home) == [Authorized("bob", B), Authorized("carol", C)]
    assert "# x" in listed.read_text()


def test_a_link_stays_one(listed: Path, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles"
    real.mkdir()
    listed.rename(real / "keys")
    listed.symlink_to(real / "keys")
    assert fetchd("keys", "authorize", "bob", C).returncode == 0
    assert listed.is_symlink()
    assert len(keys.read_authorized(real / "keys")) == 3


def test_a_link_in_circles(home: Path) -> None:
    home.mkdir(parents=True)
    (home / "authorized_keys").symlink_to("authorized_keys")
    for what in (["authorize", "bob", C], ["revoke", "bob"], ["list"]):
        done = fetchd("keys", *what)
        assert done.returncode == 1
        assert done.stderr.startswith("fetchd: io_error: ")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can write for others")
def test_root_leaves_a_list_to_its_owner(listed: Path) -> None:
    os.chown(listed, 0, 12345)
    assert fetchd("keys", "authorize", "bob", C).returncode == 0
    assert listed.stat().st_gid == 12345


@pytest.fixture
def crowd() -> Iterator[list["subprocess.Popen[bytes]"]]:
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def test_of_many_at_once_none_is_lost(
    listed: Path, home: Path, crowd: list["subprocess.Popen[bytes]"]
) -> None:
    for number in range(8):
        arguments = ["keys", "authorize", f"user-{number}", key(number + 10)]
        crowd.append(subprocess.Popen([*COMMAND, *arguments], stderr=subprocess.PIPE))
    assert [process.wait(60) for process in crowd] == [0] * 8
    assert {entry.name for entry in authorized(home)} == {"alice", "root"} | {f"user-{n}" for n in range(8)}


def test_a_change_waits_for_the_one_before(
    listed: Path, home: Path, crowd: list["subprocess.Popen[bytes]"]
) -> None:
    lock = home / ".authorized_keys.lock"
    with locked(lock):
        watch = Watch(home, [lock.name], IN_OPEN)
        try:
            command = [*COMMAND, "keys", "authorize", "bob", C]
            crowd.append(subprocess.Popen(command, stderr=subprocess.PIPE))
            readable(watch.fd, 30)
        finally:
            watch.close()
        listed.write_text(f"carol {A}\n")
    assert crowd[0].wait(60) == 0
    assert authorized(home) == [Authorized("carol", A), Authorized("bob", C)]


# -- revoke and list


def test_revoking_a_name(listed: Path, home: Path) -> None:
    assert fetchd("keys", "authorize", "alice", C).returncode == 0
    done = fetchd("keys", "revoke", "alice")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.splitlines()[-1] == "fetchd: 2 keys revoked"
    assert listed.read_text() == f"# who may come in\n\nroot {B} admin\n"


def test_revoking_a_key(listed: Path, home: Path) -> None:
    done = fetchd("keys", "revoke", B)
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1] == "fetchd: 1 key revoked"
    assert authorized(home) == [Authorized("alice", A, False, "her laptop")]


@pytest.mark.parametrize("which", ["bob", "alic", "alice2", C, "#", "her", "admin", ""])
def test_what_is_not_there_cannot_be_revoked(which: str, listed: Path) -> None:
    before = (listed.read_bytes(), listed.stat().st_ino)
    done = fetchd("keys", "revoke", which)
    assert done.returncode == 4
    assert "no such key" in done.stderr
    assert (listed.read_bytes(), listed.stat().st_ino) == before


def test_the_list(listed: Path) -> None:
    done = fetchd("keys", "list", "--json")
    assert json.loads(done.stdout) == [
        {"name": "alice", "key": A, "admin": False, "comment": "her laptop"},
        {"name": "root", "key": B, "admin": True, "comment": ""},
    ]
    assert fetchd("keys", "list").stdout.splitlines()[1].split() == ["alice", A, "her", "laptop"]


def test_an_empty_list(home: Path) -> None:
    done = fetchd("keys", "list")
    assert (done.returncode, done.stdout) == (0, "")
    assert f"nobody is authorized in {home / 'authorized_keys'}" in done.stderr
    assert json.loads(fetchd("keys", "list", "--json").stdout) == []
    assert not home.exists()


# -- which list


def test_beside_the_configuration_that_is_in_use(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, third = tmp_path / "other", tmp_path / "third"
    for directory in (other, third):
        directory.mkdir()
    assert fetchd("keys", "authorize", "a", A, "--config", str(other / "f.toml")).returncode == 0
    monkeypatch.setenv("FETCHD_CONFIG", str(third / "f.toml"))
    assert fetchd("keys", "authorize", "b", B).returncode == 0
    assert [entry.name for entry in authorized(other)] == ["a"]
    assert [entry.name for entry in authorized(third)] == ["b"]
    monkeypatch.setenv("CONFIGURATION_DIRECTORY", str(other))
    assert fetchd("keys", "authorize", "c", C, "--system").returncode == 0
    assert [entry.name for entry in authorized(other)] == ["a", "c"]
    assert not home.exists()


def test_show_needs_a_daemon(state: Path) -> None:
    assert fetchd("keys", "show").returncode == 3


def test_libzmq_takes_what_is_made_here(home: Path) -> None:
    fetchd("keys", "generate")
    pair = keys.read_secret(home / "keys" / "default.key")
    with zmq.Context() as context, context.socket(zmq.DEALER) as sock:
        sock.curve_secretkey, sock.curve_publickey = pair.secret.encode(), pair.public.encode()
        sock.curve_serverkey = pair.public.encode()
