"""The log: one line an event, to stderr for a service manager to keep, or to a file that is rotated."""

import logging
import logging.handlers
import os
import sys
from pathlib import Path

FORMAT = "%(asctime)s %(levelname)s %(message)s"

LARGEST = 5_000_000
KEPT = 3
"""Bytes of a log file before it is put aside, and how many of those are kept."""


def set_up(level: str, file: Path | None = None) -> None:
    """Log from `level` up to stderr, or to a file that stdout and stderr are then directed to as well."""
    handler = logging.StreamHandler(sys.stderr) if file is None else Rotated(file)
    handler.setFormatter(logging.Formatter(FORMAT))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # these speak of every connection, with URLs in it, and warn with them too
    for name in ("urllib3", "requests"):
        logging.getLogger(name).setLevel("CRITICAL")


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
