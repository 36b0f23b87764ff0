"""Where state and sockets are, whatever the environment and whatever lies in endpoint.json."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fetchd.protocol import paths

VARIABLES = (
    "FETCHD_STATE_DIR", "STATE_DIRECTORY", "XDG_STATE_HOME", "FETCHD_RUNTIME_DIR", "RUNTIME_DIRECTORY",
    "XDG_RUNTIME_DIR",
)  # fmt: skip

GOOD = b'{"pid":7,"version":"0.1.0","epoch":"e","control":"ipc:///c","events":"ipc:///e"}'


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, "/home/ada/.local/state/fetchd"),
        ({"XDG_STATE_HOME": "/x"}, "/x/fetchd"),
        ({"XDG_STATE_HOME": ""}, "/home/ada/.local/state/fetchd"),
        ({"STATE_DIRECTORY": "/var/lib/fetchd", "XDG_STATE_HOME": "/x"}, "/var/lib/fetchd"),
        ({"STATE_DIRECTORY": "/var/lib/fetchd:/var/lib/other"}, "/var/lib/fetchd"),
        ({"FETCHD_STATE_DIR": "/s", "STATE_DIRECTORY": "/var/lib/fetchd", "XDG_STATE_HOME": "/x"}, "/s"),
        ({"FETCHD_STATE_DIR": "", "STATE_DIRECTORY": "/var/lib/fetchd"}, "/var/lib/fetchd"),
        ({"FETCHD_STATE_DIR": "/a:b"}, "/a:b"),
    ],
)
def test_state_dir(env: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert paths.state_dir() == Path(expected)


def test_a_relative_state_dir_becomes_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FETCHD_STATE_DIR", "s")
    assert paths.state_dir() == tmp_path / "s"


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, "/s/run"),
        ({"XDG_RUNTIME_DIR": "/"}, "/fetchd"),
        ({"XDG_RUNTIME_DIR": "/nowhere/at/all"}, "/s/run"),
        ({"XDG_RUNTIME_DIR": ""}, "/s/run"),
        ({"XDG_RUNTIME_DIR": "/", "FETCHD_STATE_DIR": "/s"}, "/s/run"),
        ({"RUNTIME_DIRECTORY": "/run/fetchd", "XDG_RUNTIME_DIR": "/"}, "/run/fetchd"),
        ({"RUNTIME_DIRECTORY": "/run/fetchd:/run/other", "FETCHD_STATE_DIR": "/s"}, "/run/fetchd"),
        (
            {"FETCHD_RUNTIME_DIR": "/r:1", "RUNTIME_DIRECTORY": "/run/fetchd", "FETCHD_STATE_DIR": "/s"},
            "/r:1",
        ),
    ],
)
def test_runtime_dir(env: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert paths.runtime_dir(Path("/s")) == Path(expected)


def test_read_endpoint(tmp_path: Path) -> None:
    paths.endpoint_file(tmp_path).write_bytes(GOOD)
    assert paths.read_endpoint(tmp_path) == paths.Endpoint(
        pid=7, version="0.1.0", epoch="e", control="ipc:///c", events="ipc:///e"
    )


def test_fields_of_a_later_daemon_are_ignored(tmp_path: Path) -> None:
    paths.endpoint_file(tmp_path).write_bytes(GOOD[:-1] + b',"more":[{}]}')
    assert paths.read_endpoint(tmp_path) is not None


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"null", b"[]", b"{}", b"7", GOOD[:-1], GOOD + b"x", GOOD.replace(b"7", b'"7"'),
        GOOD.replace(b'"e"', b"null", 1), b"\xff\xfe", b"\0" * 4096, b'{"version":"\\ud800"}', b"[" * 100_000,
        b'{"x":' * 100_000, b'{"pid":7,"x":' + b"[" * 100_000, GOOD.replace(b"7", b"1" * 5000),
    ],
)  # fmt: skip
def test_garbage_is_no_endpoint(content: bytes, tmp_path: Path) -> None:
    paths.endpoint_file(tmp_path).write_bytes(content)
    assert paths.read_endpoint(tmp_path) is None


def test_no_file_is_no_endpoint(tmp_path: Path) -> None:
    assert paths.read_endpoint(tmp_path) is None
    assert paths.read_endpoint(tmp_path / "nowhere") is None


def test_an_unreadable_file_is_no_endpoint(tmp_path: Path) -> None:
    paths.endpoint_file(tmp_path).mkdir()
    assert paths.read_endpoint(tmp_path) is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_forbidden_file_is_no_endpoint(tmp_path: Path) -> None:
    paths.endpoint_file(tmp_path).write_bytes(GOOD)
    paths.endpoint_file(tmp_path).chmod(0)
    assert paths.read_endpoint(tmp_path) is None


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("control")  # relative, for the length limit
        server.listen(0)
        yield server


def test_is_listening(listener: socket.socket, tmp_path: Path) -> None:
    assert paths.is_listening(f"ipc://{listener.getsockname()}")


def test_is_listening_does_not_block_on_a_full_backlog(listener: socket.socket) -> None:
    with socket.socket(socket.AF_UNIX) as waiting:
        waiting.connect(listener.getsockname())
        assert paths.is_listening("ipc://control")


def test_a_dead_socket_does_not_listen(listener: socket.socket) -> None:
    listener.close()
    assert Path("control").exists()
    assert not paths.is_listening("ipc://control")


@pytest.mark.parametrize(
    "endpoint",
    [
        "ipc:///nowhere/at/all",
        "ipc://" + "x" * 200,
        "ipc:///a\0b",
        "ipc:///\ud800",
        "ipc://[x",
        "ipc://",
        "ipc:///",
    ],
)
def test_nobody_listens_there(endpoint: str) -> None:
    assert not paths.is_listening(endpoint)


def test_other_transports_cannot_be_asked() -> None:
    assert paths.is_listening("tcp://127.0.0.1:1")


@pytest.mark.parametrize("path", ["/a", "/a#b", "/a?b", "/a b", "/a%20b", "/ä", "/[x", "relative/c"])
def test_ipc_path_takes_the_path_as_it_is(path: str) -> None:
    assert paths.ipc_path(f"ipc://{path}") == Path(path)


def test_ipc_path_of_other_transports() -> None:
    assert paths.ipc_path("tcp://h:1") is None


def test_as_endpoint(tmp_path: Path) -> None:
    assert paths.as_endpoint("tcp://h:1") == "tcp://h:1"
    assert paths.as_endpoint("/run/c") == "ipc:///run/c"
    assert paths.as_endpoint("c") == f"ipc://{tmp_path}/c"


def test_the_configuration_file(tmp_path: Path) -> None:
    environment = {"XDG_CONFIG_HOME": str(tmp_path / "x"), "CONFIGURATION_DIRECTORY": f"{tmp_path}/etc:/none"}
    usual = paths.config_file({"HOME": "/home/ada", "XDG_CONFIG_HOME": str(tmp_path / "none")})
    assert usual in {None, Path("/etc/fetchd/fetchd.toml")}
    for place in (tmp_path / "x" / "fetchd", tmp_path / "etc"):
        place.mkdir(parents=True)
        (place / "fetchd.toml").touch()
        assert paths.config_file(environment) == place / "fetchd.toml"
    assert paths.config_file({**environment, "FETCHD_CONFIG": "/f"}) == Path("/f")
