"""`fetchd limit`: limits of speed, while downloads run."""

from typing import Any

import click
import msgspec

from fetchd.protocol.control import LimitsInForce

from . import exits, text
from .completion import job_ids
from .context import Reach, json_option, reaches_daemon, resolve
from .output import describe, note, print_json
from .verbs import tell


@click.command()
@click.argument("words", metavar="[ID...] [RATE|off]", nargs=-1, shell_complete=job_ids)
@click.option("--host", metavar="HOST[:PORT]", help="All downloads from this host together.")
@json_option
@reaches_daemon
def limit(reach: Reach, words: tuple[str, ...], host: str | None, as_json: bool) -> int:
    """Limit the speed of jobs, of a host, or of everything.

    RATE is in bytes a second: 500K, 2M/s (K, M and G are powers of 1024). It is in force from now on, after a
    restart too; off lifts it. Without any argument the limits in force are shown; for that of a job see
    fetchd show ID.
    """
    if not words:
        if host is not None:
            raise click.UsageError("to what? fetchd limit --host HOST RATE|off")
        with reach() as client:
            found = client.limits()
        _show(found, as_json)
        return exits.OK
    if host == "":
        raise click.UsageError("--host is empty")
    *ids, rate = words
    if ids and host is not None:
        raise click.UsageError("limit jobs or a host, not both")
    wanted = _rate(rate)
    with reach() as client:
        chosen = [job.id for job in resolve(client, ids)]
        found = client.limit(wanted, ids=chosen, host=host)
    done = "no limit any more" if wanted is None else f"limited to {text.speed(wanted)}"
    if as_json:
        _show(found, as_json)
    elif not ids:
        note(f"{text.clean(host or 'everything together')}: {done}")
    return tell(found.jobs, done, as_json)


def _rate(word: str) -> int | None:
    if word == "off":
        return None
    try:
        rate = text.parse_rate(word)
    except ValueError as error:
        raise click.UsageError(f"{error}, or off; it comes last: fetchd limit [ID...] RATE") from None
    if rate < 1:
        raise click.UsageError("a rate of 0 would stop it: use fetchd pause, or off for no limit")
    return rate


def _show(found: LimitsInForce, as_json: bool) -> None:
    if as_json:
        fields: dict[str, Any] = msgspec.to_builtins(found)
        print_json(fields)
        return
    total = "no limit" if found.total is None else text.speed(found.total)
    hosts = [(text.clean(host), text.speed(rate)) for host, rate in sorted(found.hosts.items())]
    describe([("everything together", total), *hosts])
