"""Jobs for the tests of the store: built by hypothesis in every field, or numbered in rows."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import msgspec
from hypothesis import strategies as st
from support.tmp import TempDir

from fetchd.daemon.core.commands import Durable, Event, SaveJob
from fetchd.daemon.core.job import Job
from fetchd.daemon.store.database import Database
from fetchd.protocol.codec import MAX_INT
from fetchd.protocol.job import Policy, Reason, State
from fetchd.protocol.mailbox import Options

WALL = 1_800_000_000_000_000
AREA = "/data/.fetchd/one"

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
counts = st.integers(0, MAX_INT)
BY_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    str: texts,
    int: counts,
    bytes: st.binary(max_size=16),
    bool: st.booleans(),
    State: st.sampled_from(State),
    Reason: st.sampled_from(Reason),
    Policy: st.sampled_from(get_args(Policy)),
    dict[str, str]: st.dictionaries(texts, texts, max_size=3),
}
BY_NAME: dict[str, st.SearchStrategy[Any]] = {
    "synced": st.lists(st.tuples(counts, counts), max_size=3).map(tuple),
    "options": st.builds(
        Options, mirrors=st.lists(texts, max_size=2).map(tuple), segments=st.integers(0, 32), max_size=counts
    ),
    "id": st.text("abcXYZ019_-", min_size=1, max_size=12),
}


def _values(field: msgspec.structs.FieldInfo) -> st.SearchStrategy[Any]:
    kinds = get_args(field.type)
    optional = type(None) in kinds
    kind = next((part for part in kinds if part is not type(None)), field.type) if optional else field.type
    made = BY_NAME[field.name] if field.name in BY_NAME else BY_TYPE[kind]
    return st.none() | made if optional else made


anything = st.fixed_dictionaries({field.name: _values(field) for field in msgspec.structs.fields(Job)}).map(
    lambda values: Job(**values)
)
"""Jobs with any value in any field, as their types allow."""


def job(seq: int, state: State = State.QUEUED, **fields: Any) -> Job:
    """A plain job."""
    host = fields.get("host", "a.test")
    values: dict[str, Any] = {
        "id": f"job-{seq}", "owner": "uid:1", "host": host, "area": AREA, "url": f"http://{host}/{seq}",
        "directory": "/data", "spec_hash": b"h" * 16, "created": WALL + seq, "revision": seq,
    }  # fmt: skip
    return Job(seq=seq, state=state, **{**values, **fields})


def saved(jobs: Iterable[Job]) -> list[tuple[Durable, bytes | None]]:
    """A batch that saves these jobs."""
    return [(SaveJob(index, one), None) for index, one in enumerate(jobs)]


def event(revision: int, one: Job, kind: str = "queued") -> tuple[Durable, bytes | None]:
    """A lifecycle event as it comes in a batch."""
    return Event(revision, kind, WALL + revision, one), b"\x80"


@contextmanager
def database() -> Iterator[Database]:
    """An empty database of its own."""
    with TempDir() as state:
        made = Database(state)
        try:
            yield made
        finally:
            made.close()


def reading(path: Path) -> sqlite3.Connection:
    """A read-only connection as the reading helper has it."""
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
