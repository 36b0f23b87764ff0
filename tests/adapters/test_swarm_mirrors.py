"""Several sources for one file: all are drawn from where a checksum proves it, and a bad one is dropped."""

import base64
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.content import first_difference, sha256_of
from support.net import refused_port
from support.origin import Origin, Resource, Step

from fetchd.protocol.errors import Code
from fetchd.protocol.mailbox import Failed, Finished, Options, Restart, Warned

from .attempts import Room, code
from .attempts import room as rooms

MIB = 1 << 20
SIZE = 16 * MIB
FILE = Resource(size=SIZE, seed=1)
SUM = f"sha256:{sha256_of(SIZE, 1)}"
OK = "Finished"


@pytest.fixture
def room() -> Iterator[Room]:
    with rooms() as made:
        yield made


@pytest.fixture
def mirror(make_origin: Callable[..., Origin]) -> Origin:
    return make_origin()


def digest(hexadecimal: str) -> str:
    """A Repr-Digest of SHA-256."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(hexadecimal)).decode()}:"


def begin(room: Room, url: str, *mirrors: str, parts: int = 4, **fields: Any) -> None:
    values: dict[str, Any] = {
        "options": Options(segments=parts),
        "connections": parts,
        "checksum": SUM,
        **fields,
    }
    room.begin(url, mirrors=list(mirrors), **values)


def whole(room: Room) -> bool:
    return first_difference(room.data, FILE.content) is None


def test_both_are_drawn_from(origin: Origin, mirror: Origin, room: Room) -> None:
    gates = origin.gate(), mirror.gate()
    urls = [
        made.add("/f", FILE, "hold", after=4096, gate=gate)
        for made, gate in zip([origin, mirror], gates, strict=True)
    ]
    begin(room, *urls)
    for gate in gates:
        gate.wait_arrived(2)
    for gate in gates:
        gate.open()
    last = room.end()
    assert isinstance(last, Finished)
    assert last.digests == {"sha256": sha256_of(SIZE, 1)}
    assert whole(room)
    assert min(origin.bytes_sent(), mirror.bytes_sent()) >= 4 * MIB
    assert room.of(Warned) == []


@pytest.mark.parametrize("announced", [True, False])
def test_without_a_checksum_there_is_one_source(
    origin: Origin, mirror: Origin, room: Room, announced: bool
) -> None:
    """That of the server will do."""
    headers = [("Repr-Digest", digest(sha256_of(SIZE, 1)))] if announced else []
    gate = origin.gate()
    url = origin.add("/f", Resource(size=SIZE, seed=1, headers=headers), "hold", after=4096, gate=gate)
    begin(room, url, mirror.add("/f", FILE), checksum=None)
    gate.wait_arrived(2)
    gate.open()
    assert code(room.end()) == OK
    assert whole(room)
    assert bool(mirror.requests) == announced


@pytest.mark.parametrize("fields", [{"alone": True}, {"ranges": False}])
def test_a_job_that_is_to_stay_with_its_source(
    origin: Origin, mirror: Origin, room: Room, fields: dict[str, Any]
) -> None:
    begin(room, origin.add("/f", FILE), mirror.add("/f", FILE), **fields)
    assert code(room.end()) == OK
    assert (mirror.requests, whole(room)) == ([], True)


BAD: list[tuple[str, Resource, str, dict[str, Any]]] = [
    ("length", Resource(size=SIZE - 1, seed=1), "plain", {}),
    ("larger", Resource(size=SIZE + 1, seed=1), "plain", {}),
    ("length, whole", Resource(size=SIZE - 1, seed=1, ranges=False), "plain", {}),
    ("digest", Resource(size=SIZE, seed=3, headers=[("Repr-Digest", digest("0" * 64))]), "plain", {}),
    ("missing", FILE, "status", {"code": 404}),
    ("forbidden", FILE, "status", {"code": 403}),
    ("broken", FILE, "status", {"code": 500}),
    ("down", FILE, "drop", {}),
    ("rubbish", FILE, "rubbish", {}),
    ("elsewhere", FILE, "redirect", {"to": "file:///etc/passwd"}),
]


@pytest.mark.parametrize(("bad", "behaviour", "options"), [r[1:] for r in BAD], ids=[r[0] for r in BAD])
def test_a_bad_mirror_is_dropped(
    origin: Origin, mirror: Origin, room: Room, bad: Resource, behaviour: str, options: dict[str, Any]
) -> None:
    gate = origin.gate()
    url = origin.add("/f", FILE, "hold", after=4096, gate=gate)
    begin(room, url, mirror.add("/f", bad, behaviour, **options))
    assert room.wait(Warned).code == Code.MIRROR_DIFFERS
    # its places are taken by others of the good one
    gate.wait_arrived(4)
    asked = len(mirror.requests)
    gate.open()
    assert code(room.end()) == OK
    assert whole(room)
    assert len(mirror.requests) == asked <= 2
    assert room.of(Restart) == []


def test_a_mirror_of_another_scheme_is_for_a_whole_attempt(origin: Origin, room: Room) -> None:
    """It gives no parts over HTTP, and nobody is warned of it."""
    begin(room, origin.add("/f", FILE), "ftp://127.0.0.1:1/f")
    assert code(room.end()) == OK
    assert whole(room)
    assert room.of(Warned) == []


def test_a_mirror_without_ranges_is_left_alone(origin: Origin, mirror: Origin, room: Room) -> None:
    gate = origin.gate()
    url = origin.add("/f", FILE, "hold", after=4096, gate=gate)
    begin(room, url, mirror.add("/f", Resource(size=SIZE, seed=1, ranges=False)))
    gate.wait_arrived(4)
    gate.open()
    assert code(room.end()) == OK
    assert whole(room)


@pytest.mark.parametrize("refusal", [404, 503])
def test_a_mirror_that_is_the_last_to_fail_is_not_the_end(
    origin: Origin, mirror: Origin, room: Room, refusal: int
) -> None:
    """The others have ended meanwhile: there was nothing left that was worth dividing."""
    gate = mirror.gate()
    url = mirror.add("/f", FILE, "lane_late_error", gate=gate, code=refusal)
    begin(room, origin.add("/f", FILE), url, parts=2)
    gate.wait_arrived()
    origin.wait_for(lambda: bool(origin.requests) and origin.active == 0)
    gate.open()
    assert code(room.end()) == OK
    assert whole(room)
    assert [warned.code for warned in room.of(Warned)] == [Code.MIRROR_DIFFERS]


def test_a_mirror_whose_file_changes(origin: Origin, mirror: Origin, room: Room) -> None:
    first, second = origin.gate(), mirror.gate()
    url = origin.add("/f", FILE, "hold", after=4096, gate=first)
    old, new = (Resource(size=SIZE, seed=1, etag=f'"{name}"') for name in ("old", "new"))
    away = mirror.script("/f", Step(old, "cut", after=2 * MIB), Step(new, "stall", gate=second))
    begin(room, url, away, parts=2)
    second.wait_arrived()
    assert mirror.requests[1].header("if-range") == '"old"'
    second.open()
    assert room.wait(Warned).code == Code.MIRROR_DIFFERS
    first.open()
    assert code(room.end()) == OK
    assert whole(room)


def test_two_answers_of_a_mirror_that_differ(origin: Origin, mirror: Origin, room: Room) -> None:
    """Both were asked for before either came: nothing was pinned then."""
    first, second = origin.gate(), mirror.gate()
    url = origin.add("/f", FILE, "hold", after=4096, gate=first)
    steps = [Step(Resource(size=SIZE, seed=1, etag=f'"{name}"'), "stall", gate=second) for name in "ab"]
    begin(room, url, mirror.script("/f", *steps), parts=4)
    second.wait_arrived(2)
    second.open()
    assert room.wait(Warned).code == Code.MIRROR_DIFFERS
    first.open()
    assert code(room.end()) == OK
    assert whole(room)
    assert [request.header("if-range") for request in mirror.requests[:2]] == [None, None]


def test_who_is_to_blame_for_another_content(origin: Origin, mirror: Origin, room: Room) -> None:
    gates = origin.gate(), mirror.gate()
    url = origin.add("/f", FILE, "hold", after=4096, gate=gates[0])
    begin(room, url, mirror.add("/f", Resource(size=SIZE, seed=2), "hold", after=4096, gate=gates[1]))
    for gate in gates:
        gate.wait_arrived(2)
        gate.open()
    last = room.end()
    assert isinstance(last, Failed)
    assert (last.code, last.mixed) == ("checksum_mismatch", True)


@pytest.mark.parametrize("source", [0, 1])
def test_a_single_source_that_fails_is_named(origin: Origin, mirror: Origin, room: Room, source: int) -> None:
    urls = [made.add("/f", FILE, "status", code=404) for made in (origin, mirror)]
    begin(room, *urls, source=source)
    last = room.end()
    assert isinstance(last, Failed)
    assert (last.code, last.source, last.mixed) == ("not_found", source, False)
    assert len((origin, mirror)[source].requests) == 1
    assert (origin, mirror)[1 - source].requests == []


def test_a_mirror_is_begun_with_and_the_first_one_helps(origin: Origin, mirror: Origin, room: Room) -> None:
    gates = origin.gate(), mirror.gate()
    urls = [
        made.add("/f", FILE, "hold", after=4096, gate=gate)
        for made, gate in zip([origin, mirror], gates, strict=True)
    ]
    begin(room, *urls, source=1)
    for gate in gates:
        gate.wait_arrived(2)
    assert mirror.requests[0].range is None
    assert all(request.range for request in origin.requests)
    for gate in gates:
        gate.open()
    assert code(room.end()) == OK
    assert whole(room)


def test_a_mirror_that_cannot_be_reached(origin: Origin, room: Room) -> None:
    gate = origin.gate()
    with refused_port() as port:
        begin(room, origin.add("/f", FILE, "hold", after=4096, gate=gate), f"http://127.0.0.1:{port}/f")
        assert "mirror 1" in room.wait(Warned).message
        gate.open()
        assert code(room.end()) == OK
    assert whole(room)


def test_no_source_has_parts_but_the_first_has_the_file(origin: Origin, mirror: Origin, room: Room) -> None:
    gate = mirror.gate()
    url = origin.add("/f", FILE, "refuse_ranges")
    begin(room, url, mirror.add("/f", FILE, "lane_late_error", gate=gate), parts=3)
    gate.wait_arrived()
    gate.open()
    assert code(room.end()) == OK
    assert whole(room)


def test_what_mirrors_have_taken_over_is_not_waited_for(
    origin: Origin, make_origin: Callable[..., Origin], room: Room
) -> None:
    """Nobody has shown that the first one gives parts, and there is no need to: the file is there."""
    quick, slow = make_origin(), make_origin()
    gate = slow.gate()
    held = slow.add("/f", FILE, "hold", after=4096, gate=gate)
    begin(room, origin.add("/f", FILE), quick.add("/f", FILE), held, parts=3)
    gate.wait_arrived()
    quick.wait_for(lambda: len(quick.requests) > 1 and quick.active == 0)
    gate.open()
    assert code(room.end()) == OK
    assert whole(room)
