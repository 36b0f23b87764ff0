"""Several connections for one file: the right bytes, each fetched once, whatever one of them meets."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.content import Pattern, first_difference
from support.origin import Origin, Request, Resource, Step
from support.tls import Certificates

from fetchd.protocol.mailbox import Failed, Finished, Options, Responded, Restart, Stopped, Synced

from .attempts import Room, code
from .attempts import room as rooms

MIB = 1 << 20
SIZE = 16 * MIB
FILE = Resource(size=SIZE, seed=1)
OTHER = Resource(size=SIZE, seed=2, etag='"v2"')
OK = "Finished"


@pytest.fixture
def room() -> Iterator[Room]:
    with rooms() as made:
        yield made


def begin(room: Room, url: str, parts: int = 8, **fields: Any) -> None:
    room.begin(url, **{"options": Options(segments=parts), "connections": parts, **fields})


def run(room: Room, url: str, parts: int = 8, **fields: Any) -> Finished | Failed | Stopped:
    begin(room, url, parts, **fields)
    return room.end(30)


def whole(room: Room, resource: Resource = FILE) -> bool:
    return first_difference(room.data, resource.content) is None


def span(request: Request) -> tuple[int, int]:
    """The bounded range of a request."""
    start, _, last = (request.range or "").removeprefix("bytes=").partition("-")
    return int(start), int(last) + 1


def test_eight_connections_share_the_work(origin: Origin, room: Room) -> None:
    gate = origin.gate()
    begin(room, origin.add("/f", FILE, "hold", after=4096, gate=gate))
    gate.wait_arrived(8)
    first, *others = origin.requests_for("/f")[:8]
    gate.open()
    assert code(room.end()) == OK
    assert whole(room)
    assert (first.range, first.header("if-range")) == (None, None)
    assert {request.header("if-range") for request in others} == {'"v1"'}
    assert sorted(map(span, others)) == [(at, at + 2 * MIB) for at in range(2 * MIB, SIZE, 2 * MIB)]
    assert len(room.of(Responded)) == 1


def test_a_slow_connection_is_relieved(origin: Origin, room: Room) -> None:
    """Also where the others have long finished when it turns out to be slow: 2 MiB would take it 70 s."""
    assert code(run(room, origin.add("/f", FILE, "lane_slow", visit=3, rate=30_000))) == OK
    assert whole(room)


@pytest.mark.parametrize("after", [0, 5000, 3 * MIB // 2])
def test_a_connection_that_breaks_leaves_its_part_to_others(origin: Origin, room: Room, after: int) -> None:
    assert code(run(room, origin.add("/f", FILE, "lane_cut", visit=4, after=after))) == OK
    assert whole(room)
    assert room.of(Restart) == []


@pytest.mark.parametrize(
    "new",
    [OTHER, Resource(size=SIZE - 5, seed=2, etag='"v2"'), Resource(size=SIZE + 5, seed=2)],
    ids=["etag", "etag and size", "size alone"],
)
def test_a_file_that_changes_meanwhile(origin: Origin, room: Room, new: Resource) -> None:
    gate = origin.gate()
    url = origin.script("/f", Step(FILE, "hold", after=MIB, gate=gate), Step(new))
    assert code(run(room, url)) == OK
    assert whole(room, new)
    assert len(room.of(Restart)) == 1
    assert [said.generation for said in room.of(Responded)] == [0, 1]


REFUSALS: list[tuple[str, dict[str, Any]]] = [
    ("no_ranges", {}),
    ("ignore_range", {}),
    ("refuse_ranges", {}),
    ("refuse_ranges", {"code": 404}),
    ("answer_416", {}),
    ("wrong_range", {"content_range": None}),
    ("shifted_206", {"by": 5}),
]


@pytest.mark.parametrize(("behaviour", "options"), REFUSALS, ids=str)
def test_a_server_that_gives_no_parts(
    origin: Origin, room: Room, behaviour: str, options: dict[str, Any]
) -> None:
    """A plain request delivers it, so this does too."""
    assert code(run(room, origin.add("/f", FILE, behaviour, **options))) == OK
    assert whole(room)


def test_the_first_connection_goes_on_where_parts_are_refused(origin: Origin, room: Room) -> None:
    gate = origin.gate()
    first = Step(FILE, "hold", after=MIB, gate=gate)
    begin(room, origin.script("/f", first, Step(FILE, "refuse_ranges")), 2)
    origin.wait_for(lambda: any(request.finished for request in origin.requests))
    for thread in threading.enumerate():
        if thread.name == "lane 2":
            thread.join(10)
    gate.open()
    assert code(room.end()) == OK
    assert whole(room)
    assert (room.of(Restart), len(room.of(Responded))) == ([], 1)


def test_a_server_that_says_it_has_no_ranges_is_not_asked_for_any(origin: Origin, room: Room) -> None:
    told = Resource(size=SIZE, seed=1, headers=[("Accept-Ranges", "none")], ranges=False)
    assert code(run(room, origin.add("/f", told))) == OK
    assert (len(origin.requests), whole(room)) == (1, True)


@pytest.mark.parametrize("refusal", [503, 429, 500])
def test_a_server_that_bears_three_connections(origin: Origin, room: Room, refusal: int) -> None:
    url = origin.add("/f", FILE, "lane_limited", most=3, rate=8 * MIB, code=refusal)
    assert code(run(room, url)) == OK
    assert whole(room)
    assert len([request for request in origin.requests if request.status == refusal]) < 20


@pytest.mark.parametrize("parts", [2, 5])
def test_a_server_that_bears_one(origin: Origin, room: Room, parts: int) -> None:
    url = origin.add("/f", FILE, "lane_limited", most=1, rate=16 * MIB)
    assert code(run(room, url, parts)) == OK
    assert whole(room)


def test_when_all_connections_fail_the_attempt_does(origin: Origin, room: Room) -> None:
    last = run(room, origin.add("/f", FILE, "cut", after=100_000))
    assert isinstance(last, Failed)
    assert (last.code, last.source, last.mixed) == ("short_body", 0, False)
    assert last.bytes == sum(end - start for start, end in room.ranges()) > 0


@pytest.mark.parametrize("after", [None, 5000, MIB])
def test_a_connection_that_falls_silent(origin: Origin, room: Room, after: int | None) -> None:
    """Its part is fetched by another one when its time is up, though all others have ended by then."""
    steps = [Step(FILE, times=3), Step(FILE, "never", after=after), Step(FILE)]
    assert code(run(room, origin.script("/f", *steps), read_timeout=1.0)) == OK
    assert whole(room)


@pytest.mark.parametrize("most", [1, 300_000, MIB, 3 * MIB // 2])
def test_a_server_that_gives_less_than_was_asked_for(origin: Origin, room: Room, most: int) -> None:
    assert code(run(room, origin.add("/f", FILE, "lane_short", most=most))) == OK
    assert whole(room)


def test_encrypted_connections(
    make_origin: Callable[..., Origin], certificates: Certificates, room: Room
) -> None:
    secure = make_origin(tls=certificates.server_context())
    url = secure.add("/f", FILE)
    assert code(run(room, url, 4, ca_bundle=str(certificates.authority))) == OK
    assert whole(room)
    assert secure.connections == len({request.connection for request in secure.requests}) >= 4


def test_parts_come_from_where_the_first_answer_came(
    make_origin: Callable[..., Origin], origin: Origin, room: Room
) -> None:
    end = make_origin()
    assert code(run(room, origin.add("/f", FILE, "redirect", to=end.add("/end", FILE)))) == OK
    assert whole(room)
    assert len(origin.requests) == 1
    assert len(end.requests) >= 8


# stops, and going on


def paced(origin: Origin, room: Room, rate: float = 1_000_000, parts: int = 8, **fields: Any) -> None:
    """Begin, and wait until all connections have brought something."""
    begin(room, origin.add("/f", FILE, "paced", rate=rate), parts, **fields)
    origin.wait_for(lambda: sum(request.sent > 0 for request in origin.requests) == parts)


def test_what_is_kept_is_gone_on_from(origin: Origin, room: Room) -> None:
    paced(origin, room)
    attempt = room.attempt
    assert attempt is not None
    origin.wait_for(lambda: attempt.on_hand > 3 * MIB)
    attempt.stop(keep=True)
    stopped = room.end()
    kept = room.of(Synced)[-1].ranges
    assert isinstance(stopped, Stopped)
    assert room.ranges() == tuple(kept)
    assert stopped.bytes == sum(end - start for start, end in kept)
    assert len(kept) == 8
    room.reports.clear()

    url = origin.add("/g", FILE)
    assert code(run(room, url, have=kept, etag='"v1"', total=SIZE)) == OK
    assert whole(room)
    starts = [start for start, _ in kept[1:]]
    holes = [(end, start) for (_, end), start in zip(kept, [*starts, SIZE], strict=True)]
    requests = origin.requests_for("/g")
    assert sorted(map(span, requests)) == holes
    assert {request.header("if-range") for request in requests} == {'"v1"'}
    assert origin.bytes_sent("/g") == SIZE - stopped.bytes
    assert room.of(Responded)[0].kept == stopped.bytes


def test_holes_are_filled_by_one_connection_too(origin: Origin, room: Room) -> None:
    content = b"".join(Pattern(SIZE, 1).pieces(0, SIZE))
    have = [(MIB, 2 * MIB), (5 * MIB, 6 * MIB)]
    room.data.write_bytes(
        b"".join(content[a:b].rjust(b - last, b"\0") for (a, b), last in zip(have, [0, 2 * MIB], strict=True))
    )
    assert code(run(room, origin.add("/f", FILE), 1, have=have, etag='"v1"', total=SIZE)) == OK
    assert whole(room)
    assert [span(request) for request in origin.requests] == [(0, MIB), (2 * MIB, 5 * MIB), (6 * MIB, SIZE)]
    assert origin.connections == 1


def test_fewer_connections_are_allowed_and_more_again(origin: Origin, room: Room) -> None:
    paced(origin, room, 100_000)
    attempt = room.attempt
    assert attempt is not None
    assert origin.active == 8
    attempt.allow(2, None)
    origin.wait_for(lambda: origin.active == 2)
    attempt.allow(6, None)
    origin.wait_for(lambda: origin.active == 6)
    attempt.allow(1, None)
    origin.wait_for(lambda: origin.active == 1)
    origin.add("/f", FILE)
    attempt.allow(8, None)
    assert code(room.end(30)) == OK
    assert whole(room)


@pytest.mark.parametrize("keep", [True, False])
def test_a_stop_is_prompt_wherever_connections_wait(origin: Origin, room: Room, keep: bool) -> None:
    gate = origin.gate()
    parts = [Step(FILE, "hold", after=4096, gate=gate, times=4), Step(FILE, "stall", gate=gate)]
    begin(room, origin.script("/f", *parts), read_timeout=60.0)
    gate.wait_arrived(8)
    assert room.attempt is not None
    room.attempt.stop(keep=keep)
    assert isinstance(room.end(5), Stopped)
    assert len(room.of(Synced)) == keep


def test_a_rate_holds_for_all_of_them_and_ends_at_a_stop(origin: Origin, room: Room) -> None:
    begin(room, origin.add("/f", FILE), rate=1)
    origin.wait_for(lambda: len(origin.requests) == 8)
    assert room.attempt is not None
    room.attempt.stop(keep=True)
    assert isinstance(last := room.end(5), Stopped)
    assert last.bytes < MIB


# found out by trying


def test_more_connections_where_each_of_them_is_slow(origin: Origin, room: Room) -> None:
    begin(room, origin.add("/f", FILE, "paced", rate=500_000), 0, connections=8)
    origin.wait_for(lambda: origin.max_concurrent >= 4)
    assert room.attempt is not None
    room.attempt.stop(keep=False)
    room.end()


def test_no_more_where_one_is_fast(origin: Origin, room: Room) -> None:
    begin(room, origin.add("/f", FILE), 0, connections=8)
    assert code(room.end()) == OK
    assert (len(origin.requests), whole(room)) == (1, True)


def test_no_more_than_are_allowed(origin: Origin, room: Room) -> None:
    begin(room, origin.add("/f", Resource(size=8 * MIB, seed=1), "paced", rate=2 * MIB), 8, connections=2)
    assert code(room.end()) == OK
    assert origin.max_concurrent == 2


def test_the_connection_is_kept_for_the_next_attempt(origin: Origin, room: Room) -> None:
    """Whoever sees first that all is there does not end the connection under it."""
    url = origin.add("/f", Resource(size=2 * MIB, seed=1))
    for _ in range(40):
        assert code(run(room, url, 0)) == OK
        room.reports.clear()
    assert origin.connections == 1
