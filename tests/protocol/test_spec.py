"""SPEC.md and the code say the same: every table, every limit, every example."""

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from fetchd.protocol import codec, control, events, job, paths, status, version
from fetchd.protocol.errors import MEANINGS, Code

from . import make_vectors, samples
from .spec_types import fields

SPEC = (make_vectors.VECTORS.parent / "SPEC.md").read_text(encoding="utf-8")

PUBLIC: dict[str, type[msgspec.Struct]] = {
    name: struct
    for module in (control, events, job, status)
    for name, struct in vars(module).items()
    if isinstance(struct, type) and issubclass(struct, msgspec.Struct) and struct is not msgspec.Struct
}


def section(heading: str) -> str:
    """The text under a heading, up to the next one of any level."""
    found = re.findall(rf"^#+ [0-9. ]*{re.escape(heading)}\n(.*?)(?=^#+ |\Z)", SPEC, re.MULTILINE | re.DOTALL)
    assert len(found) == 1, f"{len(found)} headings {heading!r}"
    return str(found[0])


def rows(text: str) -> list[list[str]]:
    """The cells of the first table in `text`, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def unquoted(cell: str) -> str:
    return cell.removeprefix("`").removesuffix("`")


VERBS = {name: kind for name, kind in control.REQUESTS.items() if issubclass(kind, control.Verb)}
TABLES = [name for name, kind in PUBLIC.items() if kind not in VERBS.values()]
"""Messages with a table of their own; the verbs share that of `Verb`."""


@pytest.mark.parametrize("name", TABLES)
def test_every_message_is_described_with_its_fields_types_and_defaults(name: str) -> None:
    written = [
        (unquoted(field), kind, unquoted(default)) for field, kind, default, _ in rows(section(f"`{name}`"))
    ]
    assert written == fields(PUBLIC[name])


@pytest.mark.parametrize("kind", VERBS.values())
def test_every_verb_has_the_fields_of_a_verb(kind: type[msgspec.Struct]) -> None:
    text = section(f"`{kind.__name__}`")
    assert text.startswith("\nHas the fields of `Verb`.")
    assert not rows(text)
    assert fields(kind) == fields(control.Verb)
    assert f"`{kind.__name__}`" in section("`Verb`")


def test_what_each_verb_does_in_each_state() -> None:
    text = section("Verbs and states")
    head = next(line for line in text.splitlines() if line.startswith("|"))
    assert [unquoted(cell.strip()) for cell in head.split("|")[2:-1]] == list(VERBS)
    assert [unquoted(row[0]) for row in rows(text)] == list(job.State)
    words = {word for row in rows(text) for cell in row[1:] for word in re.findall(r"`(\w+)`", cell)}
    assert words <= set(job.State) | set(Code)


def test_endpoint_file() -> None:
    written = [(unquoted(row[0]), row[1]) for row in rows(section("Finding the daemon"))[:5]]
    assert written == [(name, kind) for name, kind, _ in fields(paths.Endpoint)]


def test_every_field_has_a_meaning() -> None:
    for name in TABLES:
        assert all(meaning for *_, meaning in rows(section(f"`{name}`")))


def test_error_codes() -> None:
    written = {unquoted(code): meaning for code, meaning, _ in rows(section("Error codes"))}
    assert written == {code.value: meaning for code, meaning in MEANINGS.items()}


def test_where_error_codes_are_used() -> None:
    used = {word for _, _, where in rows(section("Error codes")) for word in where.split(", ")}
    assert used == {"reply", "job", "warning", "outcome", "client"}


def test_request_types() -> None:
    written = [tuple(map(unquoted, row[:3])) for row in rows(section("Requests and replies"))]
    assert written == [
        (name, body.__name__, control.REPLIES[name].__name__) for name, body in control.REQUESTS.items()
    ]


def test_states() -> None:
    written = [(unquoted(state), terminal) for state, _, terminal in rows(section("States"))]
    assert written == [(state.value, "yes" if state in job.TERMINAL else "no") for state in job.State]


def test_reasons() -> None:
    assert [unquoted(row[0]) for row in rows(section("Reasons"))] == [reason.value for reason in job.Reason]


def test_lifecycle_types() -> None:
    for kind in samples.LIFECYCLE:
        assert f"`{kind}`" in section("Lifecycle events")


def test_topics() -> None:
    assert [unquoted(row[0]) for row in rows(section("Topics"))] == [
        "job.<id>.<type>",
        f"job.<id>.{events.PROGRESS}",
        f"sys.{events.HEARTBEAT}",
        f"sys.{events.METRICS}",
    ]


@pytest.mark.parametrize(
    "words",
    [
        f"protocol version {version.PROTOCOL}",
        f"A frame has at most {codec.MAX_MESSAGE:,} bytes",
        f"at most {codec.MAX_ITEMS:,} items",
        f"at most {codec.MAX_LENGTH:,} items",
        f"at most {codec.MAX_CONTAINERS:,} arrays and maps",
        "±(2^53 − 1)",
        "1 to 64 characters of `A-Z a-z 0-9 _ -`",
    ],
)
def test_limits(words: str) -> None:
    assert words in " ".join(SPEC.split())


def test_nesting_promised_is_nesting_read() -> None:
    nested: Any = None
    for _ in range(499):
        nested = [nested]
    assert codec.unpack(codec.encode(nested)) == nested


def examples() -> Iterator[tuple[str, dict[str, Any], str]]:
    """(name of the vector, JSON, hex) of every frame in the worked example."""
    for block in re.findall(r"```\n(.*?)```", section("Worked example"), re.DOTALL):
        for name, value, data in re.findall(r"^\w+: (.+)\n({.+})\n((?:[0-9a-f]+\n)+)", block, re.MULTILINE):
            yield name, json.loads(value), data.replace("\n", "")


def test_the_worked_example_is_made_of_golden_vectors() -> None:
    vectors = {
        vector["name"]: vector
        for file in ("headers", "requests", "replies", "events")
        for vector in json.loads((make_vectors.VECTORS / f"{file}.json").read_text(encoding="utf-8"))
    }
    found = list(examples())
    assert len(found) == 9
    for name, value, data in found:
        assert (vectors[name]["value"], vectors[name]["hex"]) == (value, data)


def test_every_vector_file_is_described() -> None:
    described = set(re.findall(r"`(\w+\.json)`", section("Golden vectors")))
    assert described == {path.name for path in make_vectors.VECTORS.iterdir()}


def test_the_newest_change_is_of_this_version() -> None:
    found = re.search(r"Spec version (\d+\.\d+)", SPEC)
    assert found is not None
    assert re.findall(r"^### Spec (.+)$", SPEC, re.MULTILINE)[0] == found[1]


def test_no_trailing_space() -> None:
    assert not [line for line in SPEC.splitlines() if line != line.rstrip()]
