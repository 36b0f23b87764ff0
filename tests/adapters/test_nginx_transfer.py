"""The HTTP transfer against a real nginx: kept connections, TLS, paced, without ranges, restarted, gzip."""

from collections.abc import Iterator

import psutil
import pytest
from support.content import Pattern, first_difference, write_content
from support.nginx import Nginx
from support.tls import Certificates
from support.wait import Watch

from fetchd.protocol.errors import TRANSIENT
from fetchd.protocol.mailbox import Failed, Finished, Responded, Restart

from .attempts import Room
from .attempts import room as rooms
from .trials import PATHS

OBJECT = Pattern((6 << 20) + 12_345, 1)


@pytest.fixture
def room() -> Iterator[Room]:
    with rooms() as made:
        yield made


@pytest.fixture(params=[1, 8], ids=["1 segment", "8 segments"])
def segments(request: pytest.FixtureRequest) -> int:
    count: int = request.param
    return count


def got(room: Room, last: object, content: Pattern = OBJECT) -> None:
    """The attempt has finished with these bytes."""
    assert isinstance(last, Finished), last
    assert (last.size, first_difference(room.data, content)) == (content.size, None)


def connections(nginx: Nginx) -> set[int]:
    """Our ports of connections to nginx that are open."""
    found = psutil.Process().net_connections("tcp")
    return {one.laddr.port for one in found if one.raddr and one.raddr.port == nginx.http_port}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("place", ["f", "norange/f"])
def test_a_file(nginx: Nginx, room: Room, segments: int, place: str, path: str) -> None:
    room.paths = PATHS[path]
    write_content(nginx.www / "f", OBJECT)
    got(room, room.run(nginx.url(place), segments=segments))
    assert room.of(Restart) == []


@pytest.mark.parametrize("path", PATHS)
def test_over_tls(nginx: Nginx, https: Certificates, room: Room, segments: int, path: str) -> None:
    room.paths = PATHS[path]
    write_content(nginx.www / "f", OBJECT)
    url = nginx.url("f", https=True)
    got(room, room.run(url, segments=segments, ca_bundle=str(https.authority)))


def test_connections_are_kept(nginx: Nginx, room: Room, segments: int) -> None:
    write_content(nginx.www / "f", OBJECT)
    got(room, room.run(nginx.url("f"), segments=segments))
    before = connections(nginx)
    assert 1 <= len(before) <= segments
    room.empty()
    got(room, room.run(nginx.url("f"), segments=segments))
    assert connections(nginx) & before


def test_identity_where_gzip_is_offered(nginx: Nginx, room: Room, segments: int) -> None:
    text = bytes(2 << 20)
    (nginx.www / "f").write_bytes(text)
    last = room.run(nginx.url("gzip/f"), segments=segments)
    assert isinstance(last, Finished)
    assert room.data.read_bytes() == text
    assert room.of(Responded)[0].total == len(text)


def test_several_ranges_are_resumed(nginx: Nginx, room: Room, segments: int) -> None:
    """What is kept is not fetched again: it is of another content here, and stays."""
    write_content(nginx.www / "f", OBJECT)
    room.keep(bytes(OBJECT.size))
    etag = f'"{int((nginx.www / "f").stat().st_mtime):x}-{OBJECT.size:x}"'
    kept = [(0, 1 << 20), (3 << 20, 4 << 20)]
    last = room.run(nginx.url("f"), segments=segments, have=kept, etag=etag, total=OBJECT.size)
    assert isinstance(last, Finished)
    assert room.of(Restart) == []
    data = room.data.read_bytes()
    for start, stop in kept:
        assert not any(data[start:stop])
    rest = b"".join(OBJECT.pieces(1 << 20, 3 << 20)) + b"".join(OBJECT.pieces(4 << 20, OBJECT.size))
    assert data[1 << 20 : 3 << 20] + data[4 << 20 :] == rest


def test_paced(nginx: Nginx, room: Room, segments: int) -> None:
    content = Pattern((1 << 20) * (1 if segments == 1 else 4), 2)
    write_content(nginx.www / "f", content)
    got(room, room.run(nginx.url("slow/f"), segments=segments), content)


def test_restarted_in_the_middle(nginx: Nginx, room: Room, segments: int) -> None:
    content = Pattern((3 << 20) * (1 if segments == 1 else 3), 3)
    write_content(nginx.www / "f", content)
    url = nginx.url("slow/f")
    with Watch(room.directory) as watch:
        room.begin(url, segments=segments)
        watch.until(lambda: sum(stop - start for start, stop in room.ranges()) > 100_000, 10)
    nginx.stop()
    last = room.end()
    assert isinstance(last, Failed)
    assert last.code in TRANSIENT
    kept = room.ranges()
    assert kept
    refused = room.run(url, segments=segments, **room.carried())
    assert isinstance(refused, Failed)
    assert refused.code == "connect"
    assert room.ranges() in (kept, ())
    nginx.start()
    got(room, room.persist(url, segments=segments, **room.carried()), content)
    assert room.of(Restart) == []
