"""`fetchd config` and `fetchd doctor`: this machine's settings and faults. Both need the daemon's code."""

from typing import NoReturn

import click

from .context import exec_daemon, json_option

config_option = click.option("--config", "file", metavar="FILE", help="The configuration file to look at.")


@click.group()
def config() -> None:
    """Look at the configuration."""


@config.command()
@config_option
@json_option
def show(file: str | None, as_json: bool) -> NoReturn:
    """Show every setting, its value, and whether it is the default, from the file or the environment.

    This is what a daemon started now would use; fetchd daemon reload brings a running one up to date.
    """
    exec_daemon("config", *_options(file, as_json))


@click.command()
@config_option
@json_option
def doctor(file: str | None, as_json: bool) -> NoReturn:
    """Check this machine and this installation, and say what helps. Exit code 1 if something fails."""
    exec_daemon("doctor", *_options(file, as_json))


def _options(file: str | None, as_json: bool) -> list[str]:
    return [*(["--config", file] if file is not None else []), *(["--json"] if as_json else [])]
