"""What the commands share: options for reaching the daemon, a client, and IDs written short."""

import contextlib
import functools
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar

import click

from fetchd.protocol import paths
from fetchd.protocol.errors import Code, FetchdError
from fetchd.protocol.ids import is_correlation_id

from . import text
from .output import note

if TYPE_CHECKING:
    from fetchd.client.sync import Client
    from fetchd.protocol.job import JobSnapshot

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON to stdout.")


class Where(NamedTuple):
    """Which daemon: the control socket a user named, and the keys for one over TCP."""

    socket: str | None
    server_key: str | None
    key: str | None


def names_daemon(command: F) -> F:
    """Give a command the options that name a daemon; they are passed on together as `where`."""

    @click.option("--socket", metavar="PATH|tcp://HOST:PORT",
                  help="The daemon's control socket (else FETCHD_SOCKET).")  # fmt: skip
    @click.option("--server-key", metavar="KEY",
                  help="Over TCP: the daemon's public key (else FETCHD_SERVER_KEY).")  # fmt: skip
    @click.option("--key", metavar="NAME|FILE",
                  help="Over TCP: your own key (else FETCHD_KEY, else default).")  # fmt: skip
    @click.option("--system", is_flag=True, help="The daemon for all users of this machine; never started.")
    @functools.wraps(command)
    def wrapped(
        *args: Any, socket: str | None, server_key: str | None, key: str | None, system: bool, **kwargs: Any
    ) -> Any:
        if system and socket:
            raise click.UsageError("give --socket or --system, not both")
        where = Where(str(paths.SYSTEM_SOCKET) if system else socket, server_key, key)
        return command(*args, where=where, **kwargs)

    return wrapped  # type: ignore[return-value]  # click looks at the attributes, which wraps() keeps


def reaches_daemon(command: F) -> F:
    """Give a command the options that name a daemon, --no-start, and a `reach` to open a client with.

    They are passed on as one argument `reach`, a function that returns a context manager.
    """

    @names_daemon
    @click.option("--no-start", is_flag=True, help="Do not start a daemon if none runs.")
    @functools.wraps(command)
    def wrapped(*args: Any, where: Where, no_start: bool, **kwargs: Any) -> Any:
        return command(*args, reach=lambda: client(where, start=not no_start), **kwargs)

    return wrapped  # type: ignore[return-value]  # click looks at the attributes, which wraps() keeps


def refuse_remote(what: str) -> None:
    """Refuse what concerns this machine alone where the environment names a daemon over TCP."""
    named = os.environ.get("FETCHD_SOCKET")
    if named and named.startswith("tcp://"):
        raise FetchdError(
            Code.BAD_REQUEST,
            f"FETCHD_SOCKET is {named}: a daemon over TCP is {what} on its own machine;"
            " for one on this machine unset FETCHD_SOCKET",
        )


Reach = Callable[[], contextlib.AbstractContextManager["Client"]]


@contextlib.contextmanager
def client(where: Where, *, start: bool, timeout: float = 30.0) -> "Iterator[Client]":
    """A client for one command."""
    from fetchd.client.sync import Client

    with Client(
        where.socket, start=start, timeout=timeout, server_key=where.server_key, key=where.key, notice=note
    ) as opened:
        yield opened


def resolve(client: "Client", ids: Iterable[str]) -> "list[JobSnapshot]":
    """The jobs that these IDs, or unique beginnings of IDs, name; each once, in order.

    Raises `no_such_job`, `invalid_id`, and click.UsageError where a beginning fits several jobs.
    """
    wanted = list(dict.fromkeys(ids))
    for written in wanted:
        if not is_correlation_id(written):
            raise FetchdError(Code.INVALID_ID, job=written)
    exact = client.find(wanted)
    found: dict[str, JobSnapshot] = {}
    for written in wanted:
        job = exact.get(written) or _by_prefix(client, written)
        found.setdefault(job.id, job)
    return list(found.values())


def _by_prefix(client: "Client", prefix: str) -> "JobSnapshot":
    matches = [job.last for job in client.list(prefix=prefix, limit=2) if job.last is not None]
    if not matches:
        raise FetchdError(Code.NO_SUCH_JOB, job=prefix)
    if len(matches) > 1:
        names = " and ".join(match.id for match in matches)
        raise click.UsageError(f"{prefix} is the beginning of several jobs, {names} among them")
    return matches[0]


def exec_daemon(*arguments: str) -> NoReturn:
    """Become `python -m fetchd.daemon`: what needs the daemon's code is not imported here."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "fetchd.daemon", *arguments])  # noqa: S606


class Pairs(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.2
    """`KEY<separator>VALUE`, as a tuple."""

    def __init__(self, separator: str, name: str) -> None:
        self.separator = separator
        self.name = name

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Split; a missing separator or key is a usage error."""
        key, separator, rest = str(value).partition(self.separator)
        if not separator or not key.strip():
            self.fail(f"{value!r} is not of the form {self.name}", param, ctx)
        return key.strip(), rest.strip()


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.2
    """Seconds from `90`, `2h`, `1h30m`. With `positive` more than none and at most 366 days."""

    name = "duration"

    def __init__(self, *, positive: bool = False) -> None:
        self.positive = positive

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse."""
        if isinstance(value, float):
            return value
        try:
            seconds = text.parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if self.positive and not 0 < seconds <= 366 * 86400:
            self.fail(f"{value!r} is not more than 0 and at most 366 days", param, ctx)
        return seconds


class Amount(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.2
    """Bytes from `500K`, or with `rate` bytes a second from `500K/s`; `least` is the smallest allowed."""

    def __init__(self, *, rate: bool = False, least: int = 0) -> None:
        self.name = "rate" if rate else "size"
        self.parse = text.parse_rate if rate else text.parse_size
        self.least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse."""
        if isinstance(value, int):
            return value
        try:
            count = self.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if count < self.least:
            self.fail(f"{value!r} would let nothing through", param, ctx)
        return count


class Since(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.2
    """A time, or a duration before now, as integer microseconds UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse."""
        if isinstance(value, int):
            return value
        try:
            return text.parse_since(str(value), time.time_ns() // 1000)
        except ValueError as error:
            self.fail(str(error), param, ctx)
