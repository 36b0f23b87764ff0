"""Which daemon: the socket a user names, else the endpoint that the daemon of this state directory wrote.

Looks, never talks: a ZeroMQ connect to a dead `ipc` path succeeds and then waits for ever, so whether
somebody listens is asked of the socket's file first.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from fetchd.protocol import paths
from fetchd.protocol.errors import Code, FetchdError

from .remote import Remote, is_remote

if TYPE_CHECKING:
    from fetchd.protocol.inotify import Watch


class Finder:
    """Finds the control endpoint anew each time, since a restarted daemon may have another.

    `socket` is a path or a ZeroMQ endpoint; without it the system's with `system`, else `FETCHD_SOCKET`, then
    `<state>/endpoint.json`. Over TCP it goes with `server_key`, else `FETCHD_SERVER_KEY`, and `key`, else
    `FETCHD_KEY` (see `Remote`). `met` tells whether a daemon was there once: that it is not now may be a
    restart.
    """

    def __init__(
        self, socket: str | os.PathLike[str] | None = None, *, system: bool = False,
        server_key: str | None = None, key: str | os.PathLike[str] | None = None,
    ) -> None:  # fmt: skip
        if system and not socket:
            socket = paths.SYSTEM_SOCKET
        named = os.fspath(socket) if socket else os.environ.get("FETCHD_SOCKET")
        self.named = paths.as_endpoint(named) if named else None
        self.remote: Remote | None = None
        self.met = False
        if self.named is not None and is_remote(self.named):
            env = os.environ
            self.remote = Remote(
                self.named, server_key or env.get("FETCHD_SERVER_KEY"), key or env.get("FETCHD_KEY")
            )
        elif server_key is not None or key is not None:
            raise FetchdError(Code.BAD_REQUEST, "keys are for a daemon over TCP: --socket tcp://HOST:PORT")

    @property
    def state(self) -> Path:
        """The state directory whose daemon is meant where no socket is named."""
        return paths.state_dir()

    def find(self) -> str | None:
        """The control endpoint of a daemon that listens now (over TCP: that may listen), or None.

        Raises `denied` where there is one that this user may not reach.
        """
        control = self.named
        if control is None:
            endpoint = paths.read_endpoint(self.state)
            if endpoint is None:
                _refuse_unreadable(paths.endpoint_file(self.state))
                return None
            control = endpoint.control
        if paths.is_listening(control):
            return control
        path = paths.ipc_path(control)
        if path is not None:
            _refuse_unreachable(path)
        return None

    def watch(self) -> "Watch | None":
        """A watch that tells when a daemon has written where it listens; None where nothing will tell."""
        if self.named is not None:
            return None  # a socket's file is there before anybody listens at it, so it tells nothing
        from fetchd.protocol.inotify import Watch

        file = paths.endpoint_file(self.state)
        try:
            return Watch(file.parent, [file.name])
        except OSError:
            return None  # no such directory yet, or no watches left

    def absent(self) -> FetchdError:
        """The error that says where nobody answers."""
        if self.remote is not None:
            return self.remote.absent()
        if self.named == paths.as_endpoint(str(paths.SYSTEM_SOCKET)):
            message = f"no daemon answers for {self.named}; as root: systemctl start fetchd.socket"
            return FetchdError(Code.NO_DAEMON, message, elsewhere=True)
        where = self.named or f"the state directory {self.state}"
        return FetchdError(Code.NO_DAEMON, f"no daemon answers for {where}")


def _refuse_unreadable(file: Path) -> None:
    try:
        os.stat(file)
        readable = os.access(file, os.R_OK, effective_ids=True)
    except PermissionError:
        readable = False
    except OSError:
        return
    if not readable:
        raise FetchdError(Code.DENIED, f"{file} may not be read by this user")


def _refuse_unreachable(socket: Path) -> None:
    """EACCES, told from "nobody listens" (unix(7): connecting takes write permission on the socket)."""
    try:
        os.stat(socket)
        reachable = os.access(socket, os.W_OK, effective_ids=True)
    except PermissionError:
        reachable = False
    except (OSError, ValueError):
        return
    if not reachable:
        raise FetchdError(Code.DENIED, f"the socket {socket} may not be used by this user")
