"""The log: one line an event, to stderr for a service manager to keep, or to a file that is rotated.

As text, as JSON, or as fields of the journal. What an event is about is said by `extra=`: `job`, `worker`
(the slot) and `attempt`, and nothing else of a record gets out: no secrets, no URLs.
"""

import json
import logging
import logging.handlers
import os
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

FORMAT = "%(asctime)s %(levelname)s %(message)s"
Format = Literal["auto", "text", "json", "journal"]

JOURNAL = "/run/systemd/journal/socket"
ABOUT = ("job", "worker", "attempt")
"""What a record may say beside its message."""

LARGEST = 5_000_000
KEPT = 3
"""Bytes of a log file before it is put aside, and how many of those are kept."""


def set_up(level: str, file: Path | None = None, form: Format = "auto") -> None:
    """Log from `level` up to stderr, or to a file that stdout and stderr are then directed to as well.

    `auto` is the journal where stderr leads there, else text.
    """
    if file is None and (form == "journal" or (form == "auto" and _stderr_is_journal())):
        handler: logging.Handler = Journal()
    else:
        handler = logging.StreamHandler(sys.stderr) if file is None else Rotated(file)
    handler.setFormatter(Lines() if form == "json" else logging.Formatter(FORMAT))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # these speak of every connection, with URLs in it, and warn with them too
    for name in ("urllib3", "requests"):
        logging.getLogger(name).setLevel("CRITICAL")


def _stderr_is_journal() -> bool:
    """Whether stderr is the stream that the service manager connected with the journal (systemd.exec(5))."""
    try:
        found = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def _about(record: logging.LogRecord) -> Iterator[tuple[str, object]]:
    for name in ABOUT:
        value = getattr(record, name, None)
        if value is not None:
            yield name, value


class Lines(logging.Formatter):
    """One JSON object a line; `time` is RFC 3339 UTC, `error` a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")
        fields: dict[str, object] = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **dict(_about(record)),
        }
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return json.dumps(fields)


class Journal(logging.StreamHandler):  # type: ignore[type-arg]  # no generic at run time
    """Fields for the journal, by its own protocol; to stderr as text where the journal does not take them."""

    PRIORITY = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (0, 7))
    """From which level on which priority (syslog(3))."""

    LONGEST = 64 << 10
    """Bytes of a field: a datagram has to hold them all."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record."""
        message = record.getMessage()
        if record.exc_info:
            message += "\n" + logging.Formatter().formatException(record.exc_info)
        priority = next(value for level, value in self.PRIORITY if record.levelno >= level)
        fields = [("MESSAGE", message), ("PRIORITY", priority), ("SYSLOG_IDENTIFIER", "fetchd")]
        fields += [(name.upper(), value) for name, value in _about(record)]
        try:
            self._socket.sendto(b"".join(self._field(name, str(value)) for name, value in fields), JOURNAL)
        except OSError:
            super().emit(record)

    def _field(self, name: str, text: str) -> bytes:
        value = text.encode("utf-8", "backslashreplace")[: self.LONGEST]
        # with its length, so that no line end in a value can begin another field
        return name.encode() + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"


class Rotated(logging.handlers.RotatingFileHandler):
    """A log file with its predecessors `.1` to `.3`. What bypasses logging (a fatal error of the interpreter)
    goes to the newest of them too; children keep the one that was newest when the fork server started."""

    def __init__(self, file: Path) -> None:
        super().__init__(
            file, maxBytes=LARGEST, backupCount=KEPT, encoding="utf-8", errors="backslashreplace"
        )
        self._redirect()

    def doRollover(self) -> None:  # noqa: N802  # the standard library's name
        """Put the file aside and go on in a new one."""
        super().doRollover()
        self._redirect()

    def _redirect(self) -> None:
        assert self.stream is not None, "open since the start: delay is off"
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor in (1, 2):
            os.dup2(self.stream.fileno(), descriptor)


logger = logging.getLogger("fetchd")
