"""The options of `get` and `add` that describe a download, and what they become.

Their order is that of the help: what it is called, what it must be, from where, how fast, who asks, how it is
reached, what is done about trouble, and how it is kept.
"""

import sys
from collections.abc import Callable
from typing import Any, TypeVar, get_args

import click

from fetchd.protocol.job import MAX_SEGMENTS, Policy

from .context import Amount, Duration, Pairs
from .output import note

F = TypeVar("F", bound=Callable[..., Any])

SINGLE = {"-o": "output", "--id": "id", "--mirror": "mirrors"}
"""Options that make no sense for several URLs, and their parameters."""


class Segments(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.2
    """`auto` as 0, or a number of connections."""

    name = "segments"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse."""
        if value == "auto":
            return 0
        text = str(value)
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_SEGMENTS):
            self.fail(f"{text!r} is neither auto nor 1 to {MAX_SEGMENTS}", param, ctx)
        return int(text)


def _span(name: str, text: str) -> Callable[[F], F]:
    return click.option(name, type=Duration(positive=True), metavar="DURATION", help=text)


OPTIONS = [
    click.option("-o", "--output", metavar="NAME", help="Name of the file, or its path (single URL)."),
    click.option("-d", "--directory", metavar="DIR",
                 help="Where to put the files; default: here, over TCP your root there."),
    click.option("--if-exists", type=click.Choice(get_args(Policy)), default=None,
                 help="What to do if there is a file with this name; default: fail."),
    click.option("--if-newer", is_flag=True,
                 help="Fetch only what is newer than the file that is there, and replace that."),
    click.option("--keep-time/--no-keep-time", default=True,
                 help="Give the file the server's modification time; default: yes."),
    click.option("--checksum", metavar="ALGORITHM:HEX|ALGORITHM:@URL",
                 help="What the content must have, or the URL of a list as sha256sum writes it."),
    click.option("--max-size", type=Amount(), metavar="SIZE", help="Fail if it is larger: 500K, 20M, 1.5G."),
    click.option("--mirror", "mirrors", multiple=True, metavar="URL",
                 help="Another URL of the same file (repeatable, single URL)."),
    click.option("--segments", type=Segments(), metavar="auto|1..32",
                 help="Connections to fetch one file with; default: auto."),
    click.option("--limit-rate", type=Amount(rate=True, least=1), metavar="RATE",
                 help="Most bytes a second: 500K, 2M/s."),
    click.option("--min-speed", type=Amount(rate=True), metavar="RATE",
                 help="Try again what is slower than this for --min-speed-time; 0: any will do."),
    _span("--min-speed-time", "For how long it may be slower."),
    _span("--deadline", "Fail if it is not done so long after the submit: 30s, 2h, 7d."),
    _span("--connect-timeout", "Longest wait for a connection."),
    _span("--read-timeout", "Longest wait for the next bytes."),
    click.option("--retries", type=click.IntRange(0, 1000), default=8, show_default=True,
                 help="Attempts after failures that may pass."),
    click.option("--header", "headers", multiple=True, type=Pairs(":", "'NAME: VALUE'"),
                 metavar="'NAME: VALUE'", help="Send this request header (repeatable)."),
    click.option("-U", "--user-agent", metavar="TEXT", help="The User-Agent to send."),
    click.option("--user", metavar="USER[:PASSWORD]", help="Log in; without a password it is asked for."),
    click.option("--bearer", metavar="TOKEN|-", help="Send this bearer token; - reads it from stdin."),
    click.option("--netrc", is_flag=True, help="Log in as ~/.netrc (or $NETRC) says for the host."),
    click.option("--netrc-file", metavar="FILE", help="Log in as this netrc file says."),
    click.option("--cookie-file", metavar="FILE", help="Send the cookies of a Netscape cookie file."),
    click.option("--proxy", metavar="URL|none",
                 help="http://, https://, socks5:// or socks5h:// proxy; default: $https_proxy and so on."),
    click.option("--cert", metavar="FILE", help="Client certificate with its key (PEM)."),
    click.option("--ca", metavar="FILE", help="Trust these authorities (PEM) instead of the system's."),
    click.option("--insecure", is_flag=True, help="Do not check certificates. Dangerous."),
    click.option("--allow-downgrade", is_flag=True, help="Follow redirects from https to http."),
    click.option("--priority", type=click.IntRange(-100, 100), default=0, help="Higher runs first."),
    click.option("--label", "labels", multiple=True, type=Pairs("=", "KEY=VALUE"), metavar="KEY=VALUE",
                 help="Attach this to the job (repeatable)."),
    click.option("--id", metavar="ID",
                 help="The job's correlation ID: makes repeating the command harmless (single URL)."),
    click.option("--keep-partial/--no-keep-partial", default=None,
                 help="Keep what was fetched if it fails, for a retry; default: if it could be resumed."),
]  # fmt: skip


def job_options(command: F) -> F:
    """Give a command the options that describe a job; they arrive as keyword arguments."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def wishes(options: dict[str, Any], *, stdin: bool) -> dict[str, Any]:
    """The arguments of `Client.submit` that the options stand for, `-o` and `-d` apart.

    May ask for a password on the terminal. `stdin`: it is being read for something else.
    """
    asked = dict(options)
    netrc, netrc_file, user = asked.pop("netrc"), asked.pop("netrc_file"), asked.pop("user")
    ways = {"--user": user, "--bearer": asked["bearer"], "--netrc": netrc, "--netrc-file": netrc_file}
    if len(given := [way for way, value in ways.items() if value]) > 1:
        raise click.UsageError(f"{given[0]} and {given[1]} are two ways to log in; choose one")
    if asked["if_newer"] and asked["if_exists"] in {"skip", "rename"}:
        raise click.UsageError(f"--if-newer replaces the file; --if-exists {asked['if_exists']} does not")
    if asked["insecure"] and asked["ca"]:
        raise click.UsageError("--insecure checks no certificate, so --ca means nothing beside it")
    if asked["proxy"] == "none":
        asked["proxy"] = ""
    asked["client_certificate"] = asked.pop("cert")
    asked["downgrade"] = asked.pop("allow_downgrade")
    asked["headers"], asked["labels"] = dict(asked["headers"]), dict(asked["labels"])
    asked["netrc"] = netrc_file or netrc
    asked["credentials"] = None if user is None else _login(user)
    if asked["bearer"] == "-":
        if stdin:
            raise click.UsageError("--bearer - and a list of URLs cannot both be read from stdin")
        asked["bearer"] = sys.stdin.readline().strip()
    if asked["insecure"]:
        note("WARNING: --insecure: certificates are not checked; others may read and change what is fetched")
    return asked


def _login(user: str) -> tuple[str, str]:
    name, colon, password = user.partition(":")
    if not colon:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise click.UsageError("--user USER asks for the password, and there is no terminal to ask on")
        password = click.prompt(
            f"Password of {name}", hide_input=True, default="", show_default=False, err=True
        )
    return name, password
