"""The origin sends what its behaviours say, records it, and ends cleanly."""

import gzip
import http.client
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from support.behaviours import BEHAVIOURS
from support.content import pattern, sha256_of
from support.origin import Origin, Resource, Step
from support.tls import Certificates

from .asking import BODY, FILE, SIZE, body_of, connected, get, raw


def test_plain(origin: Origin) -> None:
    origin.add("/f", replace(FILE, disposition='attachment; filename="a.bin"'))
    response, body = get(origin)
    assert (response.status, body) == (200, BODY)
    assert response.headers["Content-Length"] == str(SIZE)
    assert response.headers["ETag"] == '"v1"'
    assert response.headers["Content-Disposition"] == 'attachment; filename="a.bin"'
    assert response.headers["Accept-Ranges"] == "bytes"


def test_head_and_unknown_path(origin: Origin) -> None:
    origin.add("/f", FILE)
    response, body = get(origin, method="HEAD")
    assert (response.status, response.headers["Content-Length"], body) == (200, str(SIZE), b"")
    assert get(origin, "/nothing")[0].status == 404
    assert origin.bytes_sent("/f") == 0


@pytest.mark.parametrize("name", ["chunked", "until_close", "no_ranges"])
def test_other_framings(origin: Origin, name: str) -> None:
    origin.add("/f", FILE, name)
    response, body = get(origin)
    assert (response.status, body) == (200, BODY)
    assert (response.headers["Content-Length"] is None) == (name != "no_ranges")


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=1000-", 1000, SIZE),
        ("bytes=-7", SIZE - 7, SIZE),
        ("bytes=65535-999999", 65535, SIZE),
    ],
)
def test_ranges(origin: Origin, asked: str, start: int, stop: int) -> None:
    origin.add("/f", FILE)
    response, body = get(origin, Range=asked)
    assert (response.status, body) == (206, BODY[start:stop])
    assert response.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{SIZE}"


@pytest.mark.parametrize("asked", ["bytes=5-2", "lines=1-2", "bytes=x-", "bytes=1-2,5-6", "bytes=-"])
def test_ranges_that_are_ignored(origin: Origin, asked: str) -> None:
    origin.add("/f", FILE)
    assert get(origin, Range=asked)[0].status == 200


def test_range_behind_the_end(origin: Origin) -> None:
    origin.add("/f", FILE)
    response, _ = get(origin, Range=f"bytes={SIZE}-")
    assert (response.status, response.headers["Content-Range"]) == (416, f"bytes */{SIZE}")


@pytest.mark.parametrize(
    ("condition", "status"),
    [('"v1"', 206), ('"v2"', 200), ('W/"v1"', 200), ("Mon, 01 Jan 2024 00:00:00 GMT", 206), ("Tue", 200)],
)
def test_if_range(origin: Origin, condition: str, status: int) -> None:
    origin.add("/f", FILE)
    assert get(origin, Range="bytes=5-", If_Range=condition)[0].status == status


def test_weak_etag_never_matches(origin: Origin) -> None:
    origin.add("/f", replace(FILE, etag='W/"v1"'))
    assert get(origin, Range="bytes=5-", If_Range='W/"v1"')[0].status == 200


def test_cut_n_times(origin: Origin) -> None:
    origin.add("/f", FILE, "cut", after=70_000, times=2)
    for _ in range(2):
        with pytest.raises(http.client.IncompleteRead) as error:
            get(origin)
        assert error.value.partial == BODY[:70_000]
    assert get(origin)[1] == BODY
    origin.wait_for(lambda: [request.sent for request in origin.requests] == [70_000, 70_000, SIZE])


def test_cut_by_reset(origin: Origin) -> None:
    origin.add("/f", FILE, "cut", after=10, reset=True)
    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
        get(origin)


def test_cut_at_serves_what_lies_behind(origin: Origin) -> None:
    origin.add("/f", FILE, "cut_at", offset=1000)
    assert len(body_of(raw(origin))) == 1000
    assert get(origin, Range="bytes=1000-")[1] == BODY[1000:]


def test_script_changes_content(origin: Origin) -> None:
    other = replace(FILE, seed=8, etag='"v2"')
    origin.script("/f", Step(FILE, "cut", after=1000), Step(other, "blind_206"), Step(other))
    assert body_of(raw(origin)) == BODY[:1000]
    mixed = get(origin, Range="bytes=1000-", If_Range='"v1"')
    assert (mixed[0].status, mixed[1]) == (206, pattern(SIZE, 8)[1000:])
    assert get(origin, Range="bytes=1000-", If_Range='"v1"')[0].status == 200


def test_hold_at_a_gate(origin: Origin) -> None:
    gate = origin.gate()
    origin.add("/f", FILE, "hold", after=1000, gate=gate)
    with connected(origin) as connection:
        connection.request("GET", "/f")
        response = connection.getresponse()
        assert response.read(1000) == BODY[:1000]
        gate.wait_arrived()  # from here on all records are steady
        assert (origin.bytes_sent("/f"), origin.active, gate.waiting) == (1000, 1, 1)
        gate.open()
        assert response.read() == BODY[1000:]
    origin.wait_for(lambda: origin.active == 0)
    assert origin.requests[0].finished
    assert not origin.requests[0].broken


def test_a_peer_that_leaves_is_noticed_at_the_gate(origin: Origin) -> None:
    origin.add("/f", FILE, "hold", after=1000, gate=origin.gate())
    with connected(origin) as connection:
        connection.request("GET", "/f")
        origin.wait_for(lambda: origin.bytes_sent("/f") == 1000)
    origin.wait_for(lambda: origin.requests[0].finished is not None)
    assert origin.requests[0].broken


def test_stall(origin: Origin) -> None:
    gate = origin.gate()
    origin.add("/f", FILE, "stall", gate=gate)
    with connected(origin) as connection:
        connection.request("GET", "/f")
        gate.wait_arrived()
        gate.open()
        assert connection.getresponse().read() == BODY


def test_paced(origin: Origin) -> None:
    origin.add("/f", Resource(size=3000), "paced", rate=20_000)
    assert get(origin)[1] == pattern(3000)


def test_status_then_fine(origin: Origin) -> None:
    origin.add("/f", FILE, "status", code=503, retry_after=7, times=1)
    response, _ = get(origin)
    assert (response.status, response.headers["Retry-After"]) == (503, "7")
    assert get(origin)[0].status == 200
    origin.add("/f", FILE, "status", code=404)
    assert [get(origin)[0].status for _ in range(3)] == [404] * 3


def test_expired_url(origin: Origin) -> None:
    origin.add("/f", FILE, "refuse_ranges")
    assert (get(origin)[0].status, get(origin, Range="bytes=1-")[0].status) == (200, 403)


def test_redirects(origin: Origin) -> None:
    origin.add("/r", FILE, "redirect", to="/f", code=307)
    response, _ = get(origin, "/r")
    assert (response.status, response.headers["Location"]) == (307, "/f")
    origin.add("/c", FILE, "redirect_chain", hops=2)
    assert [get(origin, path)[0].headers["Location"] for path in ("/c", "/c?1", "/c?2")] == [
        "/c?1",
        "/c?2",
        None,
    ]
    origin.add("/l", FILE, "redirect_loop", code=301)
    assert get(origin, "/l?x")[0].headers["Location"] == "/l?x"


def test_cdn_without_if_range(origin: Origin) -> None:
    origin.add("/f", FILE, "no_if_range")
    assert get(origin, Range="bytes=5-", If_Range='"v1"')[0].status == 200
    assert get(origin, Range="bytes=5-")[0].status == 206


@pytest.mark.parametrize("by", [10, -10])
def test_lying_length(origin: Origin, by: int) -> None:
    origin.add("/f", FILE, "lying_length", by=by)
    data = raw(origin)
    assert b"Content-Length: %d\r\n" % (SIZE + by) in data
    assert body_of(data) == BODY


@pytest.mark.parametrize("value", ["-1", "rubbish", "12, 12", "9" * 400])
def test_raw_length(origin: Origin, value: str) -> None:
    origin.add("/f", FILE, "raw_length", value=value)
    assert f"Content-Length: {value}\r\n".encode() in raw(origin)


def test_double_length(origin: Origin) -> None:
    origin.add("/f", FILE, "double_length")
    assert raw(origin).count(b"Content-Length:") == 2


def test_range_lies(origin: Origin) -> None:
    origin.add("/f", FILE, "ignore_range")
    response, body = get(origin, Range="bytes=5-")
    assert (response.status, response.headers["Accept-Ranges"], body) == (200, "bytes", BODY)
    assert origin.requests[0].range == "bytes=5-"
    origin.add("/f", FILE, "shifted_206", by=3)
    response, body = get(origin, Range="bytes=5-")
    assert (response.headers["Content-Range"], body) == (f"bytes 8-{SIZE - 1}/{SIZE}", BODY[8:])
    origin.add("/f", FILE, "shifted_206", by=-3, admit=False)
    response, body = get(origin, Range="bytes=5-")
    assert (response.headers["Content-Range"], body) == (f"bytes 5-{SIZE - 1}/{SIZE}", BODY[2:-3])
    origin.add("/f", FILE, "wrong_range", content_range=None)
    response, body = get(origin, Range="bytes=5-")
    assert (response.status, response.headers["Content-Range"], body) == (206, None, BODY[5:])
    origin.add("/f", FILE, "unasked_206", start=9)
    assert get(origin)[1] == BODY[9:]
    origin.add("/f", FILE, "answer_416", total=5)
    assert get(origin, Range="bytes=5-")[0].headers["Content-Range"] == "bytes */5"


def test_gzip_despite_identity(origin: Origin) -> None:
    origin.add("/f", FILE, "gzip")
    response, body = get(origin, Accept_Encoding="identity")
    assert (response.headers["Content-Encoding"], response.headers["ETag"]) == ("gzip", 'W/"v1"')
    assert gzip.decompress(body) == BODY


@pytest.mark.parametrize("after", [None, 100])
def test_never(origin: Origin, after: int | None) -> None:
    origin.add("/f", FILE, "never", after=after)
    with connected(origin) as connection:
        connection.request("GET", "/f")
        origin.wait_for(lambda: origin.bytes_sent() == (after or 0) and origin.active == 1)
    origin.wait_for(lambda: origin.active == 0)


@pytest.mark.parametrize("name", ["endless_headers", "endless_body"])
def test_endless(origin: Origin, name: str) -> None:
    origin.add("/f", FILE, name)
    with socket.create_connection(("127.0.0.1", origin.port), 10) as connection:
        connection.sendall(b"GET /f HTTP/1.1\r\n\r\n")
        with connection.makefile("rb") as file:
            assert len(file.read(3 * SIZE)) == 3 * SIZE
    origin.wait_for(lambda: origin.active == 0)


def test_broken_connections(origin: Origin) -> None:
    origin.add("/f", FILE, "cut_head")
    assert raw(origin) == b"HTTP/1.1 200 OK\r\nContent-Len"
    origin.add("/f", FILE, "drop")
    assert raw(origin) == b""
    origin.add("/f", FILE, "rubbish", data=b"\0\0")
    assert raw(origin) == b"\0\0"
    origin.add("/f", FILE, "bad_chunk", after=10)
    assert raw(origin).endswith(BODY[:10] + b"\r\nzzz\r\nwhat?\r\n")
    origin.add("/f", FILE, "extra_headers", headers=[("ETag", "a"), ("ETag", "b")])
    assert raw(origin).count(b"ETag: ") == 2


def test_hold_then_cut(origin: Origin) -> None:
    gate = origin.gate()
    gate.open()
    origin.add("/f", FILE, "hold_then_cut", after=10, gate=gate)
    assert body_of(raw(origin)) == BODY[:10]


def test_connections_are_kept_and_counted(origin: Origin) -> None:
    origin.add("/f", FILE)
    with connected(origin) as connection:
        for _ in range(3):
            connection.request("GET", "/f?query")
            assert connection.getresponse().read() == BODY
    assert [(r.visit, r.connection, r.path) for r in origin.requests] == [(i, 1, "/f") for i in (1, 2, 3)]
    assert (origin.connections, origin.max_concurrent) == (1, 1)


def test_concurrent_requests_are_counted(origin: Origin) -> None:
    gate = origin.gate()
    origin.add("/f", FILE, "stall", gate=gate)
    clients = [threading.Thread(target=get, args=(origin,)) for _ in range(5)]
    for client in clients:
        client.start()
    gate.wait_arrived(5)
    gate.open()
    for client in clients:
        client.join()
    origin.wait_for(lambda: origin.active == 0)
    assert origin.max_concurrent == 5
    assert sorted(request.concurrent for request in origin.requests) == [1, 2, 3, 4, 5]
    assert all(request.finished and request.finished > 5 for request in origin.requests)


def test_tls(make_origin: Callable[..., Origin], certificates: Certificates) -> None:
    origin = make_origin(tls=certificates.server_context())
    origin.add("/f", FILE)
    context = certificates.client_context()
    connection = http.client.HTTPSConnection("localhost", origin.port, timeout=10, context=context)
    try:
        connection.request("GET", "/f")
        assert connection.getresponse().read() == BODY
    finally:
        connection.close()
    with (
        pytest.raises(ssl.SSLCertVerificationError),
        socket.create_connection(("127.0.0.1", origin.port)) as plain,
    ):
        ssl.create_default_context().wrap_socket(plain, server_hostname="localhost")


def test_close_ends_handlers_that_wait() -> None:
    with Origin() as origin:
        origin.add("/f", FILE, "hold", after=10, gate=origin.gate())
        origin.add("/big", Resource(size=1 << 30))
        clients = [socket.create_connection(("127.0.0.1", origin.port), 10) for _ in range(3)]
        for client, path in zip(clients, ("/f", "/big", ""), strict=True):
            client.sendall(f"GET {path} HTTP/1.1\r\n\r\n".encode() if path else b"GET")
        origin.wait_for(lambda: origin.active == 2 and origin.open_connections == 3)
    assert origin.active == origin.open_connections == 0
    for client in clients:
        client.close()


def test_slips_of_a_test_are_found_at_once(origin: Origin) -> None:
    with pytest.raises(ValueError, match=r"no behaviour 'cutt'; there are .*cut,"):
        origin.add("/f", FILE, "cutt")
    with pytest.raises(TypeError):
        origin.add("/f", FILE, "cut", gate=None)
    with pytest.raises(TimeoutError, match="no request"):
        origin.wait_for(lambda: False, timeout=0.01)


def test_every_behaviour_explains_itself() -> None:
    assert all(function.__doc__ for function in BEHAVIOURS.values())


def test_pattern_tells_shifted_content() -> None:
    block = 1 << 16
    data = pattern(4 * block, 1)
    assert data[100:200] != data[100 + block : 200 + block]
    assert sha256_of(4 * block, 1) != sha256_of(4 * block, 2)
