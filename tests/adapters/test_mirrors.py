"""Several sources of one file: whichever are used, the bytes are never those of two objects."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.content import Pattern, first_difference, sha256_of
from support.origin import Origin, Resource

from fetchd.protocol.mailbox import Finished, Responded

from .attempts import Room, code
from .attempts import room as rooms

SIZE = (6 << 20) + 12_345
FILE = Resource(size=SIZE, seed=1)
CHECKSUM = f"sha256:{sha256_of(SIZE, 1)}"


@pytest.fixture
def room() -> Iterator[Room]:
    with rooms() as made:
        yield made


@pytest.fixture(params=[1, 8], ids=["1 segment", "8 segments"])
def segments(request: pytest.FixtureRequest) -> int:
    count: int = request.param
    return count


def is_one_of(room: Room, last: object, *seeds: int, size: int = SIZE) -> bool:
    """Whether the attempt has finished with the bytes of one of these objects."""
    return isinstance(last, Finished) and any(
        first_difference(room.data, Pattern(size, seed)) is None for seed in seeds
    )


@pytest.mark.parametrize("checksum", [None, CHECKSUM], ids=["trusted", "checked"])
@pytest.mark.parametrize(
    ("behaviour", "options"),
    [
        ("plain", {}),
        ("no_ranges", {}),
        ("ignore_range", {}),
        ("status", {"code": 404}),
        ("status", {"code": 503}),
        ("drop", {}),
        ("cut", {"after": 100_000}),
        ("changed", {"visit": 1, "etag": '"v1"'}),
        ("changed", {"visit": 1}),
        ("changed_blind", {"visit": 1}),
        ("changed_blind", {"visit": 1, "size": SIZE + 1}),
        ("http09", {}),
    ],
    ids=str,
)
def test_a_second_source_that_may_be_bad(
    make_origin: Callable[..., Origin],
    room: Room,
    segments: int,
    behaviour: str,
    options: dict[str, Any],
    checksum: str | None,
) -> None:
    """The first one has everything: the file is its object."""
    first, second = make_origin(), make_origin()
    mirror = second.add("/m", FILE, behaviour, **options)
    last = room.run(first.add("/f", FILE), mirrors=[mirror], segments=segments, checksum=checksum)
    # one of another content may be believed for a while, where the checksum finds out in the end
    doubtful = checksum is not None and behaviour.startswith("changed")
    assert is_one_of(room, last, 1) or (doubtful and code(last) == "checksum_mismatch"), last


def test_the_one_that_is_begun_with(make_origin: Callable[..., Origin], room: Room, segments: int) -> None:
    first, second = make_origin(), make_origin()
    url, mirror = first.add("/f", FILE), second.add("/m", FILE)
    last = room.run(url, mirrors=[mirror], source=1, alone=True, segments=segments)
    assert is_one_of(room, last, 1), last
    assert room.of(Responded)[0].url == mirror
    assert first.requests == []


def test_alone(make_origin: Callable[..., Origin], room: Room, segments: int) -> None:
    first, second = make_origin(), make_origin()
    url, mirror = first.add("/f", FILE), second.add("/m", FILE)
    assert is_one_of(room, room.run(url, mirrors=[mirror], alone=True, segments=segments), 1)
    assert second.requests == []


def test_secrets_are_not_for_mirrors(make_origin: Callable[..., Origin], room: Room, segments: int) -> None:
    first, second = make_origin(), make_origin()
    url, mirror = first.add("/f", FILE), second.add("/m", FILE)
    headers = {"X-Api-Key": "key"}
    assert is_one_of(room, room.run(url, mirrors=[mirror], headers=headers, segments=segments), 1)
    assert all(request.header("x-api-key") == "key" for request in first.requests)
    assert all(request.header("x-api-key") is None for request in second.requests)
