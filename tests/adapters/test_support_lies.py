"""The origin's lies, as they go over the wire: what a test of a client stands on has to be true itself."""

import gzip
import hashlib
import http.client
import socket
from base64 import b64encode
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from support.behaviours.coded import packed
from support.content import pattern
from support.origin import Origin

from .asking import BODY, FILE, SIZE, body_of, connected, get, raw


def part(origin: Origin, behaviour: str, asked: str = "bytes=1000-1999", **options: Any) -> tuple[Any, bytes]:
    """Content-Range and body of the answer to a Range."""
    origin.add("/f", FILE, behaviour, **options)
    response, body = get(origin, Range=asked)
    assert response.status == 206
    return response.headers["Content-Range"], body


def test_parts_of_other_lengths(origin: Origin) -> None:
    assert part(origin, "short_206", most=10) == (f"bytes 1000-1009/{SIZE}", BODY[1000:1010])
    assert part(origin, "long_206", by=10) == (f"bytes 1000-2009/{SIZE}", BODY[1000:2010])
    assert part(origin, "overlong_206") == (f"bytes 1000-1999/{SIZE}", BODY[1000:2000] + b"?")
    assert part(origin, "other_total") == (f"bytes 1000-1999/{SIZE + 7}", BODY[1000:2000])
    assert part(origin, "other_total", by=0) == ("bytes 1000-1999/*", BODY[1000:2000])
    assert part(origin, "other_total", visit=2) == (f"bytes 1000-1999/{SIZE}", BODY[1000:2000])
    found, body = part(origin, "multipart_206")
    assert found is None
    assert body.startswith(b"--edge\r\n")
    assert BODY[1000:2000] in body
    origin.add("/f", FILE, "cut_206", after=10)
    with pytest.raises(http.client.IncompleteRead):
        get(origin, Range="bytes=1000-1999")
    for behaviour in ("short_206", "long_206", "overlong_206", "cut_206", "multipart_206", "weak_parts"):
        origin.add("/f", FILE, behaviour)
        assert get(origin)[1] == BODY


def test_refusals(origin: Origin) -> None:
    origin.add("/f", FILE, "bare_416")
    response, _ = get(origin, Range="bytes=0-")
    assert (response.status, response.headers["Content-Range"]) == (416, None)
    origin.add("/f", FILE, "refuse_visit", visit=2, code=404)
    assert [get(origin)[0].status for _ in range(3)] == [200, 404, 200]
    origin.add("/f", FILE, "connection_limit", most=0)
    assert get(origin)[0].status == 503


def test_validators_of_parts(origin: Origin) -> None:
    origin.add("/f", FILE, "forgets_validators")
    assert get(origin, Range="bytes=0-")[0].headers["ETag"] is None
    assert get(origin)[0].headers["ETag"] == '"v1"'
    origin.add("/f", FILE, "weak_parts")
    response, _ = get(origin, Range="bytes=0-", If_Range='"other"')
    assert (response.status, response.headers["ETag"]) == (206, 'W/"v1"')


def test_changing_content(origin: Origin) -> None:
    new = pattern(SIZE, 9)
    condition = {"Range": "bytes=9-", "If_Range": '"v1"'}
    for behaviour, status, etag, body in (
        ("changed", 200, '"v2"', new),
        ("changed_blind", 206, '"v2"', new[9:]),
        ("changed_secretly", 206, '"v1"', new[9:]),
    ):
        origin.add("/f", FILE, behaviour)
        assert get(origin)[1] == BODY
        response, got = get(origin, **condition)
        assert (response.status, response.headers["ETag"], got) == (status, etag, body)
    origin.add("/f", FILE, "ever_new")
    assert [get(origin)[0].headers["ETag"] for _ in range(2)] == ['"v1"', '"v2"']


def test_heads(origin: Origin) -> None:
    origin.add("/f", FILE, "interim_first", count=2)
    assert raw(origin).startswith(b"HTTP/1.1 103 Wait\r\nLink: </style.css>\r\n\r\nHTTP/1.1 103 Wait\r\n")
    origin.add("/f", FILE, "only_interim")
    assert raw(origin) == b"HTTP/1.1 102 Processing\r\n\r\n"
    origin.add("/f", FILE, "nul_head")
    assert b"\r\nX-Nul: a\0b\r\n" in raw(origin)
    origin.add("/f", FILE, "http10", length=False)
    assert raw(origin) == b"HTTP/1.0 200 OK\r\n\r\n" + BODY
    origin.add("/f", FILE, "http09")
    assert raw(origin) == BODY
    origin.add("/f", FILE, "head_only")
    assert body_of(raw(origin)) == b""


@pytest.mark.parametrize(
    "behaviour",
    ["dripped_head", "endless_interim", "endless_trailers", "dripped_trailers", "endless_extension",
     "dripped_body", "redirect_bomb"],
)  # fmt: skip
def test_what_does_not_end(origin: Origin, behaviour: str) -> None:
    options: dict[str, Any] = {"interval": 0.001} if behaviour.startswith("dripped") else {}
    origin.add("/f", FILE, behaviour, **options)
    enough = 300 if options else 3 * SIZE
    with socket.create_connection(("127.0.0.1", origin.port), 10) as connection:
        connection.sendall(b"GET /f HTTP/1.1\r\nHost: a:1\r\n\r\n")
        with connection.makefile("rb") as file:
            assert len(file.read(enough)) == enough
    origin.wait_for(lambda: origin.active == 0)


def test_chunks_that_are_legal(origin: Origin) -> None:
    for behaviour in ("tiny_chunks", "trailers", "chunk_extensions", "chunked_with_length"):
        origin.add("/f", FILE, behaviour)
        assert get(origin)[1] == BODY


def test_chunks_that_are_not(origin: Origin) -> None:
    origin.add("/f", FILE, "chunk_size", text="0x10")
    assert body_of(raw(origin)).startswith(b"0x10\r\n" + BODY[:16] + b"\r\n")
    origin.add("/f", FILE, "huge_chunk")
    assert body_of(raw(origin)) == b"f" * 15 + b"\r\n" + BODY
    origin.add("/f", FILE, "joined_chunks")
    assert BODY[:65536] + b"10000\r\n" in body_of(raw(origin))
    origin.add("/f", FILE, "no_last_chunk", cut=1)
    assert not raw(origin).endswith(b"0\r\n\r\n")


def test_redirects(origin: Origin) -> None:
    def location(behaviour: str, **options: Any) -> str | None:
        origin.add("/f", FILE, behaviour, **options)
        return get(origin)[0].headers["Location"]

    assert location("redirect_hosts") == origin.url("/f?1", host="localhost")
    assert location("redirect_plain") == origin.url("/f?plain")
    assert location("redirect_userinfo") == origin.url("/f?file", host="user:secret@127.0.0.1")
    assert location("signed_url") == origin.url("/f?1")
    assert [get(origin, "/f?1")[0].status for _ in range(2)] == [200, 403]
    assert get(origin)[0].headers["Location"] == origin.url("/f?4")
    origin.add("/f", FILE, "two_locations", first="a", second="b")
    assert raw(origin).count(b"\r\nLocation: ") == 2


def again(connection: http.client.HTTPConnection) -> None:
    """Another request on a connection."""
    connection.request("GET", "/f")
    connection.getresponse()


def test_connections(origin: Origin) -> None:
    for behaviour in ("stale_connection", "silent_close"):
        origin.add("/f", FILE, behaviour)
        with connected(origin) as connection:
            connection.request("GET", "/f")
            response = connection.getresponse()
            assert (response.headers["Connection"], response.read()) == (None, BODY)
            with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
                again(connection)
    origin.add("/f", FILE, "extra_bytes")
    assert body_of(raw(origin)) == BODY + b"?"
    origin.add("/f", FILE, "cut_until_close", after=10)
    assert body_of(raw(origin)) == BODY[:10]
    origin.add("/f", FILE, "wait_first", seconds=0.01)
    assert get(origin)[1] == BODY


def test_codings_and_digests(origin: Origin) -> None:
    origin.add("/f", FILE, "gzip_length", ranges=True)
    response, body = get(origin)
    assert (response.headers["Content-Encoding"], gzip.decompress(body)) == ("gzip", BODY)
    assert get(origin, Range="bytes=9-")[1] == packed(FILE.content)[9:]
    origin.add("/f", FILE, "gzip_bomb", size=1 << 20)
    assert gzip.decompress(get(origin)[1]) == bytes(1 << 20)
    right = b64encode(hashlib.sha256(BODY).digest()).decode()
    origin.add("/f", FILE, "announced_digest")
    assert get(origin, Range="bytes=9-")[0].headers["Repr-Digest"] == f"sha-256=:{right}:"
    origin.add("/f", FILE, "announced_digest", header="Digest", right=False)
    assert get(origin)[0].headers["Digest"] != f"sha-256={right}"


def test_come_back_later(origin: Origin) -> None:
    origin.add("/f", FILE, "busy", date=True, skew=-5000)
    headers = get(origin)[0].headers
    after, now = (parsedate_to_datetime(headers[name]) for name in ("Retry-After", "Date"))
    assert (after - now).total_seconds() == 7
