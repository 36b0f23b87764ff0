"""Starting the daemon of this user when a client needs it and none is running.

Under a lock, so that of many clients that start at once exactly one spawns it and the others find it
running. Readiness is what the daemon writes to an inherited pipe, so nothing is polled. Knows nothing of the
wire; prints nothing (`notice` says it).
"""

import contextlib
import fcntl
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fetchd.protocol import paths
from fetchd.protocol.errors import Code, FetchdError

START_TIMEOUT = 30.0
"""Seconds a starting daemon has to become ready (recovery of a large state directory included)."""

Notice = Callable[[str], None]


def start_daemon(
    state: Path, notice: Notice = lambda _line: None, timeout: float = START_TIMEOUT
) -> int | None:
    """Start the daemon of `state` unless one listens; its pid, or None if there was one already.

    Raises FetchdError `denied` under sudo, and `no_daemon` if it did not become ready.
    """
    refuse_sudo()
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(state / "start.lock"):
            endpoint = paths.read_endpoint(state)
            if endpoint is not None and paths.is_listening(endpoint.control):
                return None
            if os.geteuid() == 0:
                notice("warning: this daemon runs as root; a system service with its own user is safer")
            pid = _spawn(state, timeout)
    except OSError as error:
        raise _failed(f"cannot start the daemon: {error}") from None
    notice(f"started the daemon (pid {pid})")
    return pid


def refuse_sudo() -> None:
    """Root by way of sudo gets no daemon of its own: it would be the wrong user's, with root's power."""
    if os.geteuid() == 0 and os.environ.get("SUDO_UID"):
        raise FetchdError(
            Code.DENIED,
            "no daemon is started under sudo; name the user with `sudo -u USER fetchd …`, "
            "or use the system service",
        )


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, which is made if it is not there, and stays."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # whoever holds it has a deadline of its own
        yield
    finally:
        os.close(descriptor)


def log_file(state: Path) -> Path:
    """Where an auto-started daemon's output goes."""
    return state / "log" / "daemon.log"


def _spawn(state: Path, timeout: float) -> int:
    log = log_file(state)
    log.parent.mkdir(mode=0o700, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    output = os.open(log, flags, 0o600)
    reader, writer = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "fetchd.daemon", "run", "--ready-fd", str(writer), "--log-file", str(log)],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=(writer,), cwd="/",
            start_new_session=True, env=_environment(),
        )  # fmt: skip
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)
        os.close(output)
    # Somebody has to wait for the process if it ends before this one does, or it stays as a zombie.
    threading.Thread(target=process.wait, name="fetchd-daemon-reaper", daemon=True).start()
    try:
        line = _first_line(reader, time.monotonic() + timeout)
    finally:
        os.close(reader)
    if line == "ready":
        return process.pid
    if line is None:
        raise _failed(f"the daemon (pid {process.pid}) was not ready after {timeout:g} s; see {log}")
    if line.startswith("error: "):
        raise _failed(f"the daemon did not start: {line[7:]}")
    raise _failed(f"the daemon ended while it started; see {log}")


def _environment() -> dict[str, str]:
    """Without the proxies: the daemon does not ask for them, and there may be a password in one. And without
    the service manager: the daemon is not the service that starts it."""
    return {
        name: value
        for name, value in os.environ.items()
        if name != "NOTIFY_SOCKET" and not name.lower().endswith("_proxy")
    }


def _failed(message: str) -> FetchdError:
    """No daemon, and not for want of trying (which the details tell whoever gives advice)."""
    return FetchdError(Code.NO_DAEMON, message, tried_to_start=True)


def _first_line(reader: int, deadline: float) -> str | None:
    """The line written to a pipe, "" if it was closed without one, None if nothing came in time."""
    data = b""
    while b"\n" not in data:
        if not select.select([reader], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return None
        chunk = os.read(reader, 4096)
        if not chunk:
            break
        data += chunk
    line, newline, _ = data.partition(b"\n")
    return line.decode("utf-8", "replace") if newline or line else ""
