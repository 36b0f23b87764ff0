"""Keys for TCP: who may come in (`authorized_keys`), and files with a secret key, for both sides.

Keys are those of CurveZMQ (rfc.zeromq.org/spec/26) in Z85 (rfc.zeromq.org/spec/32): 40 characters, among them
`#`. Whoever has a secret key is whoever its public key stands for, so a file that others may read is refused,
and so is a list that others may write.
"""

import os
import re
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from .errors import Code, FetchdError

KEY_LENGTH = 40
LONGEST_LINE = 1024
LARGEST_FILE = 4 << 20
"""Characters of a line, and bytes of a file, that are read at most."""

ADMIN = "admin"
DEFAULT_NAME = "default"
NAMES = "a name is 1 to 64 of A-Z a-z 0-9 _ . - and begins with a letter or a digit"
CREDENTIAL = "fetchd-server-key"
"""The server's key where systemd hands it over (systemd.exec(5), LoadCredential=)."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
_BLANKS = re.compile(r"[ \t]+")
_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_DIGITS = {character: digit for digit, character in enumerate(_Z85)}


class Authorized(Struct, frozen=True):
    """One line of `authorized_keys`: who has the secret of the public `key` comes in as `key:NAME`."""

    name: str
    key: str
    admin: bool = False
    comment: str = ""


class Pair(Struct, frozen=True):
    """Both halves of a key, in Z85."""

    public: str
    secret: str

    def __repr__(self) -> str:
        """Without the secret, since what is shown may be logged."""
        return f"Pair(public={self.public!r})"


def is_name(text: str) -> bool:
    """Whether `text` may name a key: 1 to 64 of `A-Z a-z 0-9 _ . -`, the first a letter or a digit."""
    return _NAME.match(text) is not None


def is_key(text: str) -> bool:
    """Whether `text` is a key: Z85 of 32 bytes, of which not all are zero."""
    if len(text) != KEY_LENGTH or not _DIGITS.keys() >= set(text):
        return False
    groups = [_number(text[at : at + 5]) for at in range(0, KEY_LENGTH, 5)]
    return max(groups) < 1 << 32 and any(groups)


def _number(group: str) -> int:
    number = 0
    for character in group:
        number = number * 85 + _DIGITS[character]
    return number


def parse_authorized(text: str) -> list[Authorized]:
    """What is in a file: a line a key, `NAME PUBLICKEY [admin] [# comment]`.

    Empty lines and those that begin with `#` say nothing. A name may stand in several lines, a key in one.
    Raises ValueError "line 3: …" for what is not understood.
    """
    found = []
    lines: dict[str, int] = {}
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        try:
            entry = parse_line(line.removesuffix("\r"))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        if entry is None:
            continue
        if entry.key in lines:
            raise ValueError(f"line {number}: the key is that of line {lines[entry.key]}")
        lines[entry.key] = number
        found.append(entry)
    return found


def parse_line(line: str) -> Authorized | None:
    """The entry of one line, None where it says nothing. Raises ValueError for what is not understood."""
    if len(line) > LONGEST_LINE:
        raise ValueError(f"more than {LONGEST_LINE} characters")
    if not line.replace("\t", " ").isprintable():
        raise ValueError("a character that cannot be shown")
    line = line.strip(" \t")
    if not line or line.startswith("#"):
        return None
    name, key, *rest = *_BLANKS.split(line, 2), ""
    if not is_name(name):
        raise ValueError(NAMES)
    if not is_key(key):
        raise ValueError(f"after the name comes a public key, {KEY_LENGTH} characters of Z85")
    word, *comment = _BLANKS.split(rest[0], 1)
    if word != ADMIN:
        comment = rest[:1]
    return Authorized(name, key, word == ADMIN, _comment("".join(comment)))


def _comment(text: str) -> str:
    if text and not text.startswith("#"):
        raise ValueError(f"after the key come `{ADMIN}` and a comment that begins with #, and nothing else")
    return text.removeprefix("#").strip(" \t")


def format_authorized(entry: Authorized) -> str:
    """The line of an entry, without the end of the line."""
    words = [entry.name, entry.key]
    if entry.admin:
        words.append(ADMIN)
    if entry.comment:
        words.append(f"# {entry.comment}")
    return " ".join(words)


def read_authorized(path: Path) -> list[Authorized]:
    """The keys of a file; none where there is no file.

    Raises FetchdError `bad_request` where others than this user and root may write it, or a line is not
    understood, and OSError where it cannot be read.
    """
    try:
        return parse_authorized(read_list(path))
    except ValueError as error:
        raise _refusal(path, str(error)) from None


def read_list(path: Path) -> str:
    """The text of a list that nobody else may write; "" where there is no file. Links are followed."""
    try:
        text = _read(path, LARGEST_FILE, lambda found: _trust(path, found))
        for directory in {path.absolute().parent, path.resolve().parent}:
            found = directory.stat()
            if not found.st_mode & stat.S_ISVTX:  # in /tmp and the like nobody can replace another's file
                _trust(directory, found)
    except FileNotFoundError:
        return ""
    return text


def _trust(path: Path, found: os.stat_result) -> None:
    """Refuse what others than this user and root could change or replace."""
    if found.st_uid not in {0, os.geteuid()}:
        raise _refusal(path, f"it belongs to another user ({found.st_uid})")
    if found.st_mode & 0o022:
        raise _refusal(path, f"others may write it; chmod go-w {path}")


def read_secret(path: Path, *, shared: bool = False) -> Pair:
    """The key of a file that holds its secret, one word. With `shared` its group may read it, too.

    Raises FetchdError `bad_request` where others may read it or it is no key, and OSError.
    """
    forbidden = 0o037 if shared else 0o077

    def private(found: os.stat_result) -> None:
        if found.st_mode & forbidden:
            raise _refusal(path, f"others may read it; chmod {'0440' if shared else '0600'} {path}")

    secret = _read(path, LONGEST_LINE, private).strip()
    if not is_key(secret):
        raise _refusal(path, f"not a secret key, which is {KEY_LENGTH} characters of Z85")
    import zmq

    return Pair(zmq.curve_public(secret.encode()).decode(), secret)


def write_secret(path: Path) -> Pair:
    """Make a key and keep its secret in a file of its own, mode 0600, that is there whole or not at all.

    Raises FileExistsError where there is one, which is never replaced, and OSError.
    """
    import zmq

    public, secret = "-", ""
    while public.startswith("-"):  # as an argument it would be taken for an option
        public, secret = (half.decode() for half in zmq.curve_keypair())
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{secret}\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    finally:
        os.unlink(draft)
    sync_directory(path.parent)
    return Pair(public, secret)


def sync_directory(path: Path) -> None:
    """Bring a directory's names to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path, most: int, judge: Callable[[os.stat_result], None]) -> str:
    """The text of a plain file that `judge` has nothing against."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO would wait for its writer
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _refusal(path, "not a plain file")
        judge(found)
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(most + 1)
    finally:
        os.close(descriptor)
    if len(data) > most:
        raise _refusal(path, f"more than {most} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise _refusal(path, "not a text in UTF-8") from None


def _refusal(path: Path, why: str) -> FetchdError:
    return FetchdError(Code.BAD_REQUEST, f"{path}: {why}")


def configuration_dir(*, system: bool = False) -> Path:
    """`$XDG_CONFIG_HOME/fetchd`; for the system daemon `$CONFIGURATION_DIRECTORY`, else `/etc/fetchd`."""
    if system:
        return Path((os.environ.get("CONFIGURATION_DIRECTORY") or "/etc/fetchd").split(":")[0])
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home).absolute() / "fetchd"


def authorized_file(config: Path | None, *, system: bool = False) -> Path:
    """Where the keys are of those who may come in: beside the configuration file in use, if there is one."""
    directory = config.absolute().parent if config is not None else configuration_dir(system=system)
    return directory / "authorized_keys"


def client_key_file(name: str = DEFAULT_NAME) -> Path:
    """Where a client's own key of this name is. Raises FetchdError `bad_request` for what is no name."""
    if not is_name(name):
        raise FetchdError(Code.BAD_REQUEST, f"{name!r}: {NAMES}")
    return configuration_dir() / "keys" / f"{name}.key"


def server_key_file(state: Path) -> Path:
    """Where the daemon of a state directory keeps its own key."""
    return state / "keys" / "server.key"


def server_credential() -> Path | None:
    """The server's key as systemd hands it over, where it does; `shared` for `read_secret`."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(directory, CREDENTIAL) if directory else None
    return path if path is not None and path.exists() else None
