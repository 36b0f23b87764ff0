"""Sockets that the service manager listens at for us (sd_listen_fds(3)): clients may come before us."""

import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

from .host import StartError

FIRST = 3
"""The first descriptor that is passed (SD_LISTEN_FDS_START)."""


def passed(environment: Mapping[str, str]) -> dict[Path, int]:
    """The listening Unix sockets passed to this process, by their path; none for another process.

    Raises `StartError` where something else was passed: whoever wrote the unit expects it to be served.
    """
    count = environment.get("LISTEN_FDS", "")
    if environment.get("LISTEN_PID") != str(os.getpid()) or not count.isdigit():
        return {}
    return {_path(fd): fd for fd in range(FIRST, FIRST + int(count))}


def _path(fd: int) -> Path:
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise StartError(f"descriptor {fd} was passed and is no socket")
        os.set_inheritable(fd, False)
        given = socket.socket(fileno=os.dup(fd))
    except OSError as error:
        raise StartError(f"descriptor {fd} was not passed: {error.strerror}") from None
    with given:
        where = given.getsockname() if given.family == socket.AF_UNIX else ""
        if given.type != socket.SOCK_STREAM or not given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            where = ""
    if not isinstance(where, str) or not where.startswith("/"):
        raise StartError(f"descriptor {fd} was passed and does not listen at a path")
    return Path(where)


def check(sockets: Mapping[Path, int], served: tuple[Path, ...]) -> None:
    """Raise `StartError` for a passed socket at a path that is not served."""
    for path in sockets:
        if path not in served:
            named = " and ".join(map(str, served))
            raise StartError(f"the service manager listens at {path}; served are {named}")
