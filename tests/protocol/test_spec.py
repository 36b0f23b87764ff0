"""SPEC.md and the code say the same: every table, every limit, every example."""

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from fetchd.protocol import codec, control, events, job, paths, version
from fetchd.protocol.errors import MEANINGS

from . import make_vectors, samples
from .spec_types import fields

SPEC = (make_vectors.VECTORS.parent / "SPEC.md").read_text(encoding="utf-8")

PUBLIC: dict[str, type[msgspec.Struct]] = {
    name: struct
    for module in (control, events, job)
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


@pytest.mark.parametrize("name", PUBLIC)
def test_every_message_is_described_with_its_fields_types_and_defaults(name: str) -> None:
    written = [
        (unquoted(field), kind, unquoted(default)) for field, kind, default, _ in rows(section(f"`{name}`"))
    ]
    assert written == fields(PUBLIC[name])


def test_endpoint_file() -> None:
    written = [(unquoted(row[0]), row[1]) for row in rows(section("Finding the daemon"))[:5]]
    assert written == [(name, kind) for name, kind, _ in fields(paths.Endpoint)]


def test_every_field_has_a_meaning() -> None:
    for name in PUBLIC:
        assert all(meaning for *_, meaning in rows(section(f"`{name}`")))


def test_error_codes() -> None:
    written = {unquoted(code): meaning for code, meaning, _ in rows(section("Error codes"))}
    assert written == {code.value: meaning for code, meaning in MEANINGS.items()}


def test_where_error_codes_are_used() -> None:
    used = {word for _, _, where in rows(section("Error codes")) for word in where.split(", ")}
    assert used == {"reply", "job", "outcome", "client"}


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


def test_no_trailing_space() -> None:
    assert not [line for line in SPEC.splitlines() if line != line.rstrip()]
