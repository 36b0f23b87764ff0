"""`fetchd keys`: this user's keys for daemons over TCP, and whose keys the daemon of this machine lets in."""

import contextlib
import getpass
import os
import shlex
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click
import msgspec

from fetchd.protocol import keys, paths
from fetchd.protocol.errors import Code, FetchdError
from fetchd.protocol.keys import Authorized

from . import exits, text
from .context import Where, client, json_option, names_daemon
from .output import describe, note, print_json, table

F = TypeVar("F", bound=Callable[..., object])

HEAD = ("NAME", "KEY", "ADMIN", "COMMENT")


@click.group("keys")
def keys_() -> None:
    """Let other machines use a daemon over TCP.

    On the machine that wants in: fetchd keys generate, which prints a line. On the daemon's machine: fetchd
    keys authorize LINE, and fetchd keys show, which prints what to type on the other one.
    """


def _picks_list(command: F) -> F:
    """Give a command the options that say which `authorized_keys` is meant."""
    command = click.option(
        "--config", "file", metavar="FILE", type=click.Path(path_type=Path),
        help="The daemon's configuration file: its keys are beside it.",
    )(command)  # fmt: skip
    return click.option("--system", is_flag=True, help="The keys of the daemon for all users.")(command)


def _list_of(file: Path | None, system: bool) -> Path:
    if file is None and not system:
        file = paths.config_file(os.environ)
    return keys.authorized_file(file, system=system)


@keys_.command()
@click.argument("name", required=False)
def generate(name: str | None) -> None:
    """Make a key of your own, and print the line that authorizes it.

    The secret half stays in a file that only you can read; it is never shown, and no key is ever overwritten.
    Without a NAME it is the key called default, which is used where no --key says otherwise.
    """
    path = keys.client_key_file(name or keys.DEFAULT_NAME)
    try:
        if path.exists():
            line = _line(name, keys.read_secret(path))
            raise FetchdError(Code.BAD_REQUEST, f"{path} is there, and is not overwritten; its line: {line}")
        line = _line(name, keys.write_secret(path))
    except OSError as error:
        raise _failed(path, error) from None
    note(f"the secret key is in {text.clean(str(path))}")
    note(f"on the daemon's machine: fetchd keys authorize {shlex.quote(line)}")
    click.echo(line)


def _line(name: str | None, pair: keys.Pair) -> str:
    """The line for a key's owner: called as the key is, else as the user is."""
    user = ""
    with contextlib.suppress(KeyError, OSError):  # a user without a name
        user = getpass.getuser()
    if name is None:
        name = user if keys.is_name(user) else keys.DEFAULT_NAME
    comment = f"{user}@{socket.gethostname()}"
    return keys.format_authorized(Authorized(name, pair.public, comment=text.clean(comment)))


@keys_.command("list")
@_picks_list
@json_option
def list_(file: Path | None, system: bool, as_json: bool) -> None:
    """Show whose keys the daemon lets in."""
    path = _list_of(file, system)
    entries = _read(path)
    if as_json:
        print_json([msgspec.to_builtins(entry) for entry in entries])
    elif entries:
        table(HEAD, [(e.name, e.key, "admin" if e.admin else "", e.comment) for e in entries])
    else:
        note(f"nobody is authorized in {text.clean(str(path))}")


@keys_.command()
@click.argument("words", metavar="NAME PUBLICKEY", nargs=-1, required=True)
@click.option("--admin", is_flag=True, help="They see and steer all jobs, and may stop the daemon.")
@click.option("--comment", metavar="TEXT", help="Whose key it is, for those who read the list.")
@_picks_list
def authorize(
    words: tuple[str, ...], admin: bool, comment: str | None, file: Path | None, system: bool
) -> None:
    """Let the owner of a key in, as NAME; the whole line that keys generate printed will do.

    Their jobs are those of NAME: two machines of one person have two keys and one name. In a shell a key
    needs quotes. It is in force at once.
    """
    path = _list_of(file, system)
    asked = _entry(" ".join(words), admin, comment)

    def add(lines: list[str], entries: list[Authorized]) -> list[str] | None:
        for entry in entries:
            if entry.key == asked.key:
                _same(entry, asked)
                return None
        return [*lines, keys.format_authorized(asked)]

    change = _edit(path, add)
    done = "is authorized" if change else "was authorized already"
    note(f"{asked.name} {done}{', as an admin' if asked.admin else ''} ({text.clean(str(path))})")


def _entry(line: str, admin: bool, comment: str | None) -> Authorized:
    try:
        found = keys.parse_line(line)
        if found is None:
            raise ValueError("NAME PUBLICKEY is wanted")
        if found.admin and not admin:
            raise ValueError("the line is one of an admin; say --admin if that is meant")
        entry = Authorized(found.name, found.key, admin, found.comment if comment is None else comment)
        if keys.parse_line(keys.format_authorized(entry)) != entry:
            raise ValueError("the comment is not one line of plain text")
    except ValueError as error:
        raise click.UsageError(f"{error} (in a shell, put the key in quotes)") from None
    return entry


def _same(entry: Authorized, asked: Authorized) -> None:
    """Refuse to authorize a key anew for what it is not."""
    if entry.name == asked.name and entry.admin == asked.admin:
        return
    kind = "an admin's" if entry.admin else "not an admin's"
    raise FetchdError(
        Code.BAD_REQUEST,
        f"the key is authorized already, for {entry.name} and as {kind};"
        f" first: fetchd keys revoke {shlex.quote(entry.key)}",
    )


@keys_.command()
@click.argument("which", metavar="NAME|PUBLICKEY")
@_picks_list
def revoke(which: str, file: Path | None, system: bool) -> int:
    """Let a key in no more, or all keys of a name. It is in force at once; jobs that run go on."""
    path = _list_of(file, system)
    gone: list[Authorized] = []

    def drop(lines: list[str], entries: list[Authorized]) -> list[str] | None:
        gone.extend(entry for entry in entries if which in {entry.name, entry.key})
        left = {entry.key for entry in entries} - {entry.key for entry in gone}
        return [line for line in lines if (found := keys.parse_line(line)) is None or found.key in left]

    _edit(path, drop)
    if not gone:
        note(f"no such key: there is nothing of {text.clean(which)} in {text.clean(str(path))}")
        return exits.NO_SUCH_JOB
    for entry in gone:
        note(f"revoked {entry.key} of {entry.name}")
    note(f"{len(gone)} {'key' if len(gone) == 1 else 'keys'} revoked")
    return exits.OK


@keys_.command()
@json_option
@names_daemon
def show(where: Where, as_json: bool) -> int:
    """Show where the daemon listens on TCP, its public key, and what to type on another machine."""
    with client(where, start=False) as opened:
        sockets = opened.status().sockets
    endpoint, server_key = sockets.get("tcp"), sockets.get("server_key")
    if not endpoint or not server_key:
        note('the daemon does not listen on TCP; in fetchd.toml: listen = "tcp://HOST:PORT", then restart it')
        return exits.FAILED
    place, proof = shlex.quote(_seen_from_outside(endpoint)), shlex.quote(server_key)
    command = f"fetchd ls --socket {place} --server-key {proof}"
    if as_json:
        print_json({"endpoint": endpoint, "server_key": server_key, "command": command})
    else:
        describe(
            [("endpoint", text.clean(endpoint)), ("server key", server_key), ("there", text.clean(command))]
        )
    return exits.OK


def _seen_from_outside(endpoint: str) -> str:
    """With a name of this machine for an endpoint that is at all its addresses."""
    for everywhere in ("tcp://0.0.0.0:", "tcp://[::]:"):
        if endpoint.startswith(everywhere):
            return f"tcp://{socket.getfqdn()}:{endpoint.removeprefix(everywhere)}"
    return endpoint


# -- the file


def _read(path: Path) -> list[Authorized]:
    try:
        return keys.read_authorized(path)
    except OSError as error:
        raise _failed(path, error) from None


Edit = Callable[[list[str], list[Authorized]], list[str] | None]


def _edit(path: Path, change: Edit) -> bool:
    """Replace a list by what becomes of its lines, whole and under a lock; whether there was a change."""
    from fetchd.client.start import locked

    path = Path(os.path.realpath(path))  # what a link leads to is replaced, not the link
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with locked(path.with_name(f".{path.name}.lock")):
            whole = keys.read_list(path).removeprefix("\ufeff")
            lines = whole.splitlines()
            changed = change(lines, keys.parse_authorized(whole))
            if changed is None or changed == lines:
                return False
            _replace(path, "".join(f"{line}\n" for line in changed))
    except ValueError as error:
        raise FetchdError(Code.BAD_REQUEST, f"{path}: {error}; put it right first") from None
    except OSError as error:
        raise _failed(path, error) from None
    return True


def _replace(path: Path, content: str) -> None:
    descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            mode = 0o644  # the keys are public, and the daemon may be another user
            with contextlib.suppress(FileNotFoundError):
                before = path.stat()
                mode = before.st_mode & 0o777
                if os.geteuid() == 0:
                    os.fchown(file.fileno(), before.st_uid, before.st_gid)
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.rename(draft, path)
    except BaseException:
        os.unlink(draft)
        raise
    keys.sync_directory(path.parent)


def _failed(path: Path, error: OSError) -> FetchdError:
    code = Code.DENIED if isinstance(error, PermissionError) else Code.IO_ERROR
    return FetchdError(code, f"{error.filename or path}: {error.strerror}")
