"""The log: one line an event to stderr, which a service manager or the starter keeps."""

import logging
import sys

FORMAT = "%(asctime)s %(levelname)s %(message)s"


def set_up(level: str) -> None:
    """Log to stderr from `level` up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(FORMAT))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # these speak of every connection, with URLs in it
    for name in ("urllib3", "requests"):
        logging.getLogger(name).setLevel("WARNING")


logger = logging.getLogger("fetchd")
