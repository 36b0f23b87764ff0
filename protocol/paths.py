"""Where state and sockets live: the one place that both the daemon and its clients ask.

State: `FETCHD_STATE_DIR`, else `$STATE_DIRECTORY` (systemd), else `$XDG_STATE_HOME/fetchd`, else
`~/.local/state/fetchd`. Sockets: `FETCHD_RUNTIME_DIR`, else `$RUNTIME_DIRECTORY`, else
`$XDG_RUNTIME_DIR/fetchd`, else `<state>/run`; and always `<state>/run` where the state directory was named by
`FETCHD_STATE_DIR`, so that two daemons never share a runtime directory by accident. Of systemd's lists the
first directory counts.
"""

import os
import socket
from collections.abc import Mapping
from pathlib import Path

from msgspec import DecodeError, Struct, json

MAX_IPC_PATH = 107
"""Longest path of a Unix socket in bytes (unix(7): sun_path has 108 with its NUL)."""


SYSTEM_SOCKET = Path("/run/fetchd/control")
"""Control socket of the daemon for all users of the machine; its state directory is not for them to read."""


class Endpoint(Struct, frozen=True, kw_only=True):
    """Content of `<state>/endpoint.json`: how to reach the daemon that owns this state directory."""

    pid: int
    version: str
    epoch: str
    control: str
    events: str


def state_dir() -> Path:
    """The state directory in force, absolute; it may not exist yet."""
    env = os.environ
    if named := env.get("FETCHD_STATE_DIR") or _first(env.get("STATE_DIRECTORY")):
        return Path(named).absolute()
    home = env.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home).absolute() / "fetchd"


def runtime_dir(state: Path) -> Path:
    """The directory of the sockets that belong to `state`."""
    env = os.environ
    if named := env.get("FETCHD_RUNTIME_DIR") or _first(env.get("RUNTIME_DIRECTORY")):
        return Path(named).absolute()
    base = env.get("XDG_RUNTIME_DIR")
    if env.get("FETCHD_STATE_DIR") or not base or not Path(base).is_dir():
        return state / "run"
    return Path(base).absolute() / "fetchd"


def config_file(environment: Mapping[str, str]) -> Path | None:
    """The configuration file in use: `$FETCHD_CONFIG`, else the first `fetchd.toml` that exists.

    It is looked for in `$CONFIGURATION_DIRECTORY` (systemd), for root in `/etc/fetchd`, and in
    `$XDG_CONFIG_HOME/fetchd`.
    """
    if named := environment.get("FETCHD_CONFIG"):
        return Path(named)
    home = environment.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    places = [
        _first(environment.get("CONFIGURATION_DIRECTORY")),
        "/etc/fetchd" if os.geteuid() == 0 else None,
        f"{home}/fetchd",
    ]
    files = [Path(place, "fetchd.toml") for place in places if place]
    return next((file for file in files if file.is_file()), None)


def endpoint_file(state: Path) -> Path:
    """Where the daemon of `state` writes its endpoints."""
    return state / "endpoint.json"


def read_endpoint(state: Path) -> Endpoint | None:
    """The endpoints last written for `state`, or None where there are none that can be read."""
    try:
        return json.decode(endpoint_file(state).read_bytes(), type=Endpoint)
    except (OSError, DecodeError, ValueError, RecursionError):
        return None


def is_listening(endpoint: str) -> bool:
    """Whether a process listens at an `ipc://` endpoint; never blocks.

    Other transports cannot be asked: True.
    """
    path = ipc_path(endpoint)
    if path is None:
        return True
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:
            return True  # its queue of connections is full: somebody owns it
        except (OSError, ValueError):
            return False
    return True


def ipc_path(endpoint: str) -> Path | None:
    """The file-system path of an `ipc://` endpoint, or None for another transport."""
    path = endpoint.removeprefix("ipc://")
    return Path(path) if path != endpoint else None


def as_endpoint(text: str) -> str:
    """A ZeroMQ endpoint from what a user wrote after `--socket`: a path or an endpoint."""
    return text if "://" in text else f"ipc://{Path(text).absolute()}"


def _first(paths: str | None) -> str | None:
    """The first directory of a list as systemd writes it, separated by colons."""
    return paths.split(":")[0] if paths else None
