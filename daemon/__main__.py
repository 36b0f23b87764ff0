"""`python -m fetchd.daemon run | install | uninstall | config | doctor`: what needs the daemon's code.

`fetchd` runs these by exec.

`run --ready-fd N` writes one line to a descriptor, `ready` or `error: …`, as soon as it is known how the
start went. Each verb imports what it needs: the doctor must be able to say that something is missing.
"""

import argparse
import io
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; the exit status: 0 all is well, 1 it is not, 2 usage."""
    options = _parser().parse_args(arguments)
    if options.verb != "run":
        # end as other programs do whose reader has gone: quietly, by the signal
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        if isinstance(sys.stdout, io.TextIOWrapper):
            # a path may be no UTF-8
            sys.stdout.reconfigure(errors="backslashreplace")
    if options.verb == "config":
        return _config(options.config, options.json, options.describe)
    if options.verb == "doctor":
        from . import doctor

        return doctor.main(options.config, options.json)
    if options.verb in ("install", "uninstall"):
        return _install(options)
    return _run(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fetchd daemon", description="the fetchd daemon")
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="run in the foreground")
    run.add_argument("--log-file", type=Path, help="log to a file that is rotated instead of stderr")
    run.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)
    config = verbs.add_parser("config", help="show the settings in force and where they come from")
    config.add_argument("--describe", action="store_true", help="say what each of them is")
    doctor = verbs.add_parser("doctor", help="check this machine and this installation")
    for verb in (run, config, doctor):
        verb.add_argument("--config", type=Path, help="configuration file")
    for verb in (config, doctor):
        verb.add_argument("--json", action="store_true", help="write JSON to stdout")
    for name, does in (("install", "write the units of systemd"), ("uninstall", "remove them")):
        verb = verbs.add_parser(name, help=does)
        whose = verb.add_mutually_exclusive_group()
        whose.add_argument("--system", action="store_true", help="for all users; default for root")
        whose.add_argument("--user", action="store_true", help="for yourself; default for others")
        verb.add_argument("--prefix", help="below this directory, as for a package")
        verb.add_argument("--dry-run", action="store_true", help="only print it")
        verb.add_argument("--force", action="store_true", help="also files that were edited by hand")
        verb.add_argument("--now", action="store_true", help="start, or stop, the service as well")
    return parser


def _install(options: argparse.Namespace) -> int:
    from .install import Options, install, run, uninstall

    asked = Options(
        system=options.system or (os.geteuid() == 0 and not options.user),
        prefix=Path(options.prefix) if options.prefix else None,
        dry_run=options.dry_run,
        force=options.force,
        now=options.now,
    )
    return run(install if options.verb == "install" else uninstall, asked)


def _run(options: argparse.Namespace) -> int:
    import sqlite3

    import zmq

    from fetchd.protocol.errors import FetchdError
    from fetchd.protocol.keys import authorized_file
    from fetchd.protocol.paths import config_file, state_dir

    from .app import App
    from .config import ConfigError, ca_bundle, load
    from .service.environment import shorten
    from .service.host import StartError
    from .service.lock import LockedError
    from .service.log import logger, set_up
    from .store.schema import SchemaError

    tell = _Teller(options.ready_fd)
    os.umask(0o077)
    environment = dict(os.environ)
    try:
        config = load(options.config, environment)
        set_up(config.log_level, options.log_file, config.log_format)
        shorten(os.environ)
        app = App(
            config,
            state_dir(),
            lambda current: ca_bundle(current, environment),
            environment,
            lambda: load(options.config, environment),
            authorized_file(options.config or config_file(environment), system=config.system),
        )
        return app.run(lambda: tell.line("ready"))
    except (ConfigError, StartError, LockedError, SchemaError, FetchdError) as error:
        message = str(error)
    except sqlite3.Error as error:
        message = f"the database cannot be used: {error}"
    except zmq.ZMQError as error:
        message = f"the sockets cannot be opened: {error}"
    except OSError as error:
        message = f"{error.filename or 'start'}: {error.strerror}"
    tell.line(f"error: {message}")
    if logger.hasHandlers():
        logger.error("%s", message)
    else:
        print(f"fetchd: {message}", file=sys.stderr)
    return 1


def _config(path: Path | None, as_json: bool, describe: bool) -> int:
    import textwrap

    from msgspec.structs import asdict

    from .config import ConfigError, in_force

    try:
        settings = in_force(path, os.environ)
    except ConfigError as error:
        print(f"fetchd: {error}", file=sys.stderr)
        return 1
    if as_json:
        print(json.dumps([asdict(setting) for setting in settings], indent=2))
        return 0
    rows = [(s.key, json.dumps(s.value), s.source + (f" ({s.where})" if s.where else "")) for s in settings]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for setting, (key, value, source) in zip(settings, rows, strict=True):
        print(f"{key:{widths[0]}}  {value:{widths[1]}}  {source}")
        if describe:
            print(textwrap.indent(textwrap.fill(setting.description, 76), "    "))
    return 0


class _Teller:
    """Tells whoever started us, once."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd

    def line(self, text: str) -> None:
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.write(fd, f"{text}\n".encode(errors="backslashreplace"))
            os.close(fd)


if __name__ == "__main__":
    sys.exit(main())
