"""`python -m tests.static.make_manual` writes the manual and the settings in README.md from the program.

Words come from the `--help` of the commands, from `Config`, the exit codes and the error codes. What none of
them says is in `*.in`, where a line `@NAME@` stands for what is made here. The pages are in man(7).
"""

import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import click
import msgspec
from msgspec import inspect as types

from fetchd.client.cli.exits import MEANINGS as EXITS
from fetchd.client.cli.main import cli
from fetchd.daemon.config import KEYS, Config
from fetchd.protocol.codec import MAX_INT
from fetchd.protocol.errors import MEANINGS as ERRORS
from fetchd.protocol.version import __version__

REPOSITORY = Path(__file__).parents[2]
PAGES = REPOSITORY / "client" / "man"
README = REPOSITORY / "README.md"
MARKS = "<!-- settings, by tests/static/make_manual.py -->\n", "<!-- end of settings -->\n"

COMMON = ("--json", "--socket", "--server-key", "--key", "--system", "--no-start")
"""Options that are described once for all commands, where they mean the same."""

# roff

SPECIAL = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"}
LITERAL = re.compile(r"`([^`]+)`|(?<![\w-])(--?[a-zA-Z][\w-]*)")
"""What is set in bold: what stands in backticks, and options."""


def escaped(text: str) -> str:
    """Text for roff, each character for itself (groff_char(7))."""
    return "".join(SPECIAL.get(char, char if char.isascii() else f"\\[u{ord(char):04X}]") for char in text)


def line(text: str) -> str:
    """A line of text, which is never a request; what is literal in it is bold."""
    found, at = "", 0
    for match in LITERAL.finditer(text):
        found += escaped(text[at : match.start()]) + f"\\fB{escaped(match[1] or match[2])}\\fR"
        at = match.end()
    found += escaped(text[at:])
    return f"\\&{found}" if found.startswith(".") else found


def tagged(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Paragraphs with tags."""
    for tag, text in rows:
        yield from (".TP", line(tag), line(text))


def paragraphs(text: str) -> Iterator[str]:
    """A help text as click takes it: lines that follow a backspace stay as they are."""
    for index, part in enumerate(inspect.cleandoc(text).split("\n\n")):
        if index:
            yield ".PP"
        if part.startswith("\b"):
            yield from (".nf", *map(line, part.splitlines()[1:]), ".fi")
        else:
            yield line(" ".join(part.split()))


# commands


def inner(context: click.Context, name: str) -> click.Context:
    """A command of a group."""
    assert isinstance(context.command, click.Group)
    command = context.command.get_command(context, name)
    assert command is not None
    return click.Context(command, info_name=name, parent=context)


def commands(context: click.Context) -> Iterator[click.Context]:
    """All commands below one, in the order of the help."""
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            found = inner(context, name)
            if not found.command.hidden:
                yield from (found, *commands(found))


Rows = dict[str, tuple[str, str]]
"""Options as `--help` shows them, by their first names."""


def options(context: click.Context) -> Rows:
    """All options of a command but `--help`."""
    found = [parameter for parameter in context.command.params if isinstance(parameter, click.Option)]
    rows = {option.opts[0]: option.get_help_record(context) for option in found}
    return {name: row for name, row in rows.items() if row is not None}


ROOT = click.Context(cli, info_name="fetchd")
GET, ADD = (options(inner(ROOT, name)) for name in ("get", "add"))
DOWNLOAD = [name for name in GET if name in ADD and name not in COMMON]
"""What describes a download: described once for `get` and `add`."""


def section(context: click.Context) -> Iterator[str]:
    """What there is to say of one command."""
    usage = " ".join([context.command_path, *context.command.collect_usage_pieces(context)])
    yield f".SS {escaped(usage)}"
    yield from paragraphs(context.command.help or "")
    mine = options(context)
    downloads = mine.keys() >= set(DOWNLOAD)
    common = [name for name in COMMON if mine.get(name) == GET[name]]
    shared = [*common, *DOWNLOAD] if downloads else common
    yield from tagged(row for name, row in mine.items() if name not in shared)
    also = [mine[name][0].split()[0] for name in common]
    if downloads:
        also.append("the options of a download")
    if also:
        yield from (".PP", line(f"Also {', '.join(also)}."))


# settings


def bounds(found: types.IntType | types.FloatType) -> str:
    """From where to where a number may go; nothing where that needs no word."""
    if found.ge and found.le is not None:
        return f", {found.ge} to {found.le}"
    least = ["more than 0"] if found.gt == 0 else []
    most = [] if found.le in (None, MAX_INT) else [f"at most {found.le}"]
    return "".join(f", {words}" for words in least + most)


def kind(found: types.Type) -> str:
    """What a value is, in words."""
    match found:
        case types.UnionType():
            return " or ".join(kind(one) for one in found.types if not isinstance(one, types.NoneType))
        case types.VarTupleType():
            return f"list; each: {kind(found.item_type)}"
        case types.IntType():
            return f"integer{bounds(found)}"
        case types.FloatType():
            return f"number{bounds(found)}"
        case types.StructType():
            return "table"
        case types.BoolType():
            return "boolean"
    return "string"


def toml(value: object) -> str:
    """A value as it is written in the file."""
    if isinstance(value, msgspec.Struct):
        fields = msgspec.structs.asdict(value).items()
        return f"{{{', '.join(f'{name} = {toml(inside)}' for name, inside in fields)}}}"
    return json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value)


def default(name: str) -> str:
    """The default of a setting, in words where its value says nothing."""
    value = getattr(Config(), name)
    large = KEYS[name].unit == "bytes" and value and not value % (1 << 20)
    return KEYS[name].default or f"`{toml(value)}`" + (f" ({value >> 20} MiB)" if large else "")


def settings() -> Iterator[tuple[str, str]]:
    """Each setting with what there is to say of it."""
    for field in types.type_info(Config).fields:  # type: ignore[attr-defined]
        hint = get_type_hints(Config)[field.name]
        words = ", ".join(get_args(hint)) if get_origin(hint) is Literal else kind(field.type)
        yield f"`{field.name}` ({words})", f"{KEYS[field.name].sentences()} Default: {default(field.name)}."


def readme() -> str:
    """README.md with the settings as they are."""
    head, _, rest = README.read_text().partition(MARKS[0])
    tail = rest.partition(MARKS[1])[2]
    rows = [(f"`{name}`", default(name), key.sentences()) for name, key in KEYS.items()]
    table = "".join(
        f"| {' | '.join(row)} |\n" for row in [("setting", "default", "what it is"), ("---",) * 3, *rows]
    )
    return f"{head}{MARKS[0]}{table}{MARKS[1]}{tail}"


# pages

PARTS: dict[str, Callable[[], Iterable[str]]] = {
    "COMMANDS": lambda: (text for command in commands(ROOT) for text in section(command)),
    "DOWNLOAD": lambda: tagged(GET[name] for name in DOWNLOAD),
    "COMMON": lambda: tagged(GET[name] for name in COMMON),
    "EXITS": lambda: tagged((f"`{code}`", words) for code, words in EXITS.items()),
    "ERRORS": lambda: tagged((f"`{code}`", words) for code, words in ERRORS.items()),
    "SETTINGS": lambda: tagged(settings()),
}


def page(name: str) -> str:
    """A page of the manual."""
    text = (PAGES / f"{name}.in").read_text().replace("@VERSION@", __version__)
    return re.sub(r"^@(\w+)@$", lambda part: "\n".join(PARTS[part[1]]()), text, flags=re.MULTILINE)


def files() -> dict[Path, str]:
    """All that is made, by path."""
    return {PAGES / name: page(name) for name in ("fetchd.1", "fetchd.toml.5")} | {README: readme()}


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text)
