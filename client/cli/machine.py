"""`fetchd config` and `fetchd doctor`: this machine's settings and faults. Both need the daemon's code."""

from typing import NoReturn

import click

from .context import exec_daemon, json_option

config_option = click.option("--config", "file", metavar="FILE", help="The configuration file to look at.")


@click.group()
def config() -> None:
    """Look at the configuration."""


@config.command()
@click.option("--describe", is_flag=True, help="Say what each setting is, too; JSON always does.")
@config_option
@json_option
def show(file: str | None, as_json: bool, describe: bool) -> NoReturn:
    """Show every setting and where it comes from.

    A daemon that is started now would use these; fetchd daemon reload brings a running one up to date.
    """
    exec_daemon("config", *_options(file, as_json), *(["--describe"] if describe else []))


@click.command()
@config_option
@json_option
def doctor(file: str | None, as_json: bool) -> NoReturn:
    """Look for faults of this machine and installation.

    Each comes with what helps. Exit code 1 if something fails.
    """
    exec_daemon("doctor", *_options(file, as_json))


def _options(file: str | None, as_json: bool) -> list[str]:
    return [*(["--config", file] if file is not None else []), *(["--json"] if as_json else [])]
