"""`python -m fetchd.daemon run`: the foreground daemon. `fetchd daemon run` is this.

`--ready-fd N` gets one line, `ready` or `error: …`, as soon as it is known how the start went.
"""

import argparse
import os
import sqlite3
import sys
from pathlib import Path

from fetchd.protocol.errors import FetchdError
from fetchd.protocol.paths import state_dir

from .app import App, StartError
from .config import ConfigError, ca_bundle, load
from .service.lock import LockedError
from .service.log import logger, set_up
from .store.schema import SchemaError


def main(arguments: list[str] | None = None) -> int:
    """Run the daemon; the exit status: 0 ended as asked, 1 could not start or go on, 2 usage."""
    parser = argparse.ArgumentParser(prog="fetchd daemon", description="the fetchd daemon")
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="run in the foreground")
    run.add_argument("--config", type=Path, help="configuration file")
    run.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    tell = _Teller(options.ready_fd)
    os.umask(0o077)
    environment = dict(os.environ)
    try:
        config = load(options.config, environment)
        set_up(config.log_level)
        app = App(config, state_dir(), ca_bundle(config, environment), environment)
        return app.run(lambda: tell.line("ready"))
    except (ConfigError, StartError, LockedError, SchemaError, FetchdError) as error:
        message = str(error)
    except sqlite3.Error as error:
        message = f"the database cannot be used: {error}"
    except OSError as error:
        message = f"{error.filename or 'start'}: {error.strerror}"
    tell.line(f"error: {message}")
    if logger.hasHandlers():
        logger.error("%s", message)
    else:
        print(f"fetchd: {message}", file=sys.stderr)
    return 1


class _Teller:
    """Tells whoever started us, once."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd

    def line(self, text: str) -> None:
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.write(fd, f"{text}\n".encode())
            os.close(fd)


if __name__ == "__main__":
    sys.exit(main())
