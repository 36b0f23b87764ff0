"""The entry point: finds the command, and turns every way to end into an exit code.

Commands are imported when they are run, so that one does not pay for the others.
"""

import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from fetchd.protocol.errors import FetchdError
from fetchd.protocol.version import __version__

from . import exits
from .output import note, report
from .text import clean

COMMANDS = {
    "get": "fetchd.client.cli.submit:get",
    "add": "fetchd.client.cli.submit:add",
    "ls": "fetchd.client.cli.jobs:ls",
    "show": "fetchd.client.cli.jobs:show",
    "follow": "fetchd.client.cli.watching:follow",
    "wait": "fetchd.client.cli.jobs:wait",
    "events": "fetchd.client.cli.watching:events",
    "pause": "fetchd.client.cli.verbs:pause",
    "resume": "fetchd.client.cli.verbs:resume",
    "cancel": "fetchd.client.cli.verbs:cancel",
    "retry": "fetchd.client.cli.verbs:retry",
    "rm": "fetchd.client.cli.verbs:rm",
    "limit": "fetchd.client.cli.limit:limit",
    "stats": "fetchd.client.cli.stats:stats",
    "workspace": "fetchd.client.cli.workspace:workspace",
    "daemon": "fetchd.client.cli.daemon:daemon",
    "keys": "fetchd.client.cli.keys:keys_",
    "config": "fetchd.client.cli.machine:config",
    "doctor": "fetchd.client.cli.machine:doctor",
    "completion": "fetchd.client.cli.completion:completion",
    "help": "fetchd.client.cli.help:help_",
}
"""Commands in the order of the help, and where they live."""


class LazyGroup(click.Group):
    """A group whose commands are imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one."""
        home = COMMANDS.get(cmd_name)
        if home is None:
            return None
        module, _, name = home.partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="fetchd", message="%(prog)s %(version)s")
def cli() -> None:
    """Download files with a daemon that survives crashes and resumes.

    The daemon starts by itself when a command needs it.
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. Nothing but the code leaves here, tracebacks least of all."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    # End as other programs do whose reader has gone: quietly, by the signal. Sockets are not affected.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    code = _run(arguments, as_json="--json" in options)
    sys.stdout.flush()
    return code


def _run(arguments: list[str], as_json: bool) -> int:
    try:
        result: Any = cli.main(arguments, prog_name="fetchd", standalone_mode=False)
    except click.ClickException as error:
        if as_json:
            from fetchd.protocol.errors import Code

            report(FetchdError(Code.BAD_REQUEST, error.format_message()), as_json)
        else:
            error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        note("interrupted")
        return exits.INTERRUPTED
    except FetchdError as error:
        report(error, as_json)
        return exits.of_refusal(error.code)
    except Exception as error:
        if os.environ.get("FETCHD_DEBUG") == "1":
            import traceback

            traceback.print_exc()
        note(f"internal: {type(error).__name__}: {clean(str(error))} (FETCHD_DEBUG=1 shows where)")
        return exits.FAILED
    return result if isinstance(result, int) else exits.OK
