"""Which daemon: the socket a user names, else the endpoint that the daemon of this state directory wrote.

Looks, never talks: a ZeroMQ connect to a dead `ipc` path succeeds and then waits for ever, so whether
somebody listens is asked of the socket's file first.
"""

import os
from pathlib import Path

from fetchd.protocol import paths
from fetchd.protocol.errors import Code, FetchdError


class Finder:
    """Finds the control endpoint anew each time, since a restarted daemon may have another.

    `socket` is a path or a ZeroMQ endpoint; without it `FETCHD_SOCKET`, then `<state>/endpoint.json`.
    """

    def __init__(self, socket: str | os.PathLike[str] | None = None) -> None:
        named = os.fspath(socket) if socket else os.environ.get("FETCHD_SOCKET")
        self.named = paths.as_endpoint(named) if named else None

    @property
    def state(self) -> Path:
        """The state directory whose daemon is meant where no socket is named."""
        return paths.state_dir()

    def find(self) -> str | None:
        """The control endpoint of a daemon that listens now, or None."""
        control = self.named
        if control is None:
            endpoint = paths.read_endpoint(self.state)
            control = endpoint.control if endpoint else None
        return control if control is not None and paths.is_listening(control) else None

    def absent(self) -> FetchdError:
        """The error that says where nobody answers."""
        where = self.named or f"the state directory {self.state}"
        return FetchdError(Code.NO_DAEMON, f"no daemon answers for {where}")
