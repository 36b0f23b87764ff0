"""Runs the cases of the matrix: one attempt, or attempts until the end, and what came of it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

from support.content import Content, digest_of, first_difference, write_content
from support.origin import Origin

from fetchd.protocol.errors import TRANSIENT
from fetchd.protocol.mailbox import Failed, Finished, Stopped, Warned

from .attempts import Room, code
from .cases import CASES, OK, Case, Ends

PATHS = {
    "splice": ("splice", "buffered"),
    "direct": ("direct", "buffered"),
    "buffered": ("buffered",),
}  # fmt: skip
SEGMENTS = (1, 8)
PATIENCE = 5.0
"""Seconds after which an attempt hangs."""


@dataclass(frozen=True)
class Trial:
    """A case in one way of fetching."""

    case: Case
    path: str
    segments: int
    resumed: bool = False
    tls: bool = False

    @property
    def wanted(self) -> Ends:
        """The ends that are right."""
        if self.resumed:
            return self.case.resumed
        return self.case.many if self.segments > 1 and self.case.many else self.case.fresh

    @property
    def title(self) -> str:
        """Its row in the table."""
        return self.case.name + " (resumed)" * self.resumed + " (tls)" * self.tls

    def __str__(self) -> str:
        return f"{self.title} {self.path} {self.segments}"


def trials(cases: Iterable[Case] = CASES) -> Iterator[Trial]:
    """All of them, row by row."""
    for case in cases:
        for tls, resumed in product((False, True), (False, True)):
            if case.tls not in ((True, "only") if tls else (False, True)):
                continue
            for path, segments in product(PATHS, SEGMENTS):
                trial = Trial(case, path, segments, resumed, tls)
                if trial.wanted and not (tls and path == "splice"):
                    yield trial


def attempt(trial: Trial, origin: Origin, room: Room, authority: str = "") -> str:
    """One attempt: how it ended, or what is wrong with that."""
    case = trial.case
    url = origin.add("/f", case.resource, case.behaviour, **case.options)
    fields = _fields(trial, authority)
    room.paths = PATHS[trial.path]
    if case.warm:
        _ended(room, url, fields)
        room.empty()
    if trial.resumed:
        fields |= _kept(room, case, trial.segments)
    last = _ended(room, url, fields)
    return "hung" if last is None else _judged(case, room, last, contents(case))


def persist(trial: Trial, origin: Origin, room: Room, authority: str = "") -> str:
    """Attempts until the end, at a server that behaves after a few visits."""
    case = trial.case
    url = origin.add("/f", case.resource, case.behaviour, times=case.times, **case.options)
    room.paths = PATHS[trial.path]
    try:
        last = room.persist(url, patience=PATIENCE, **_fields(trial, authority))
    except AssertionError:
        _stop(room)
        return "hung"
    return _judged(case, room, last, (*contents(case), case.resource.content))


def in_the_end(trial: Trial) -> Ends:
    """How attempts may end at a server that behaves after a few visits: what is transient passes."""
    return frozenset({OK}) | (trial.wanted - TRANSIENT)


def may_pass(case: Case) -> bool:
    """Whether another attempt may be fine: the daemon retries by itself."""
    return bool(case.times and (case.fresh | case.many) & TRANSIENT)


def contents(case: Case) -> tuple[Content, ...]:
    """What a finished file may be."""
    return case.contents or (case.resource.content,)


def _fields(trial: Trial, authority: str) -> dict[str, Any]:
    checksum = f"sha256:{_sha256(trial.case.resource.content)}" if trial.case.checked else None
    return {
        "connect_timeout": 5.0,
        "read_timeout": 3.0,
        "ca_bundle": authority if trial.tls else "",
        "checksum": checksum,
        "segments": trial.segments,
        **trial.case.fields,
    }


def _kept(room: Room, case: Case, segments: int) -> dict[str, Any]:
    """What an earlier attempt may have left of the object: one piece, or several as segments do."""
    size = case.size
    pieces = [(0, size // 3)] if segments == 1 else [(0, size // 6), (size // 3, size // 2), (size - 9, size)]
    write_content(room.data, _Holes(case.resource.content, pieces))
    return {"have": pieces, "etag": case.resource.etag, "total": size}


@dataclass(frozen=True)
class _Holes:
    """A content of which only some ranges are there."""

    content: Content
    have: list[tuple[int, int]]

    @property
    def size(self) -> int:
        """Up to the end of the last range."""
        return self.have[-1][1]

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        """Zeros between the ranges."""
        for first, last in self.have:
            yield bytes(first - start)
            yield from self.content.pieces(first, last)
            start = last


def _ended(room: Room, url: str, fields: dict[str, Any]) -> Finished | Failed | Stopped | None:
    """The end of an attempt, or None if there is none."""
    room.begin(url, **fields)
    try:
        return room.end(PATIENCE)
    except AssertionError:
        _stop(room)
        return None


def _stop(room: Room) -> None:
    """End an attempt that hangs."""
    assert room.attempt is not None
    room.attempt.stop(False)
    room.end(PATIENCE)


def _judged(case: Case, room: Room, last: Finished | Failed | Stopped, known: tuple[Content, ...]) -> str:
    """The end, if what it says is true; `known` is what may be in the file."""
    whole = next((one for one in known if first_difference(room.data, one) is None), None)
    if isinstance(last, Finished):
        if whole is None or last.size != whole.size:
            return "WRONG BYTES"
        if case.warned and case.warned not in {warning.code for warning in room.of(Warned)}:
            return f"no warning of {case.warned}"
    elif isinstance(last, Failed):
        if last.code in TRANSIENT and not case.secret and not any(_holds(room, one) for one in known):
            return "WRONG BYTES KEPT"
        if case.retry_after not in (None, last.retry_after):
            return f"retry after {last.retry_after}"
    return code(last)


def _holds(room: Room, content: Content) -> bool:
    """Whether the ranges of the frontier are this content's."""
    with room.data.open("rb") as file:
        for start, stop in room.ranges():
            file.seek(start)
            if stop > content.size or file.read(stop - start) != b"".join(content.pieces(start, stop)):
                return False
    return True


@lru_cache(maxsize=8)
def _sha256(content: Content) -> str:
    return digest_of(content)
