"""The HTTP transfer's manners: secrets stay with their origin, stops are prompt, connections are reused."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.origin import Origin, Resource, Step
from support.tls import Certificates

from fetchd.protocol.mailbox import Responded, Restart, Stopped, Synced

from .attempts import Room, code
from .attempts import room as rooms

SIZE = 300_000
FILE = Resource(size=SIZE, seed=1)
OK = "Finished"


@pytest.fixture
def room() -> Iterator[Room]:
    with rooms() as made:
        yield made


# where secrets go

SECRET = {"Cookie": "session=1", "X-Api-Key": "key", "Authorization": "Bearer token"}


def names(origin: Origin, path: str) -> set[str]:
    """Which of the secret headers came with the first request of a path."""
    (request, *_) = origin.requests_for(path)
    return {name for name in SECRET if request.header(name) is not None}


def test_secrets_stay_with_their_origin(make_origin: Callable[..., Origin], room: Room) -> None:
    first, other = make_origin(), make_origin()
    back = first.add("/back", FILE)
    away = other.add("/away", FILE, "redirect", to=back)
    same_machine = first.url("/name", host="localhost")
    first.add("/name", FILE, "redirect", to=away)
    here = first.add("/here", FILE, "redirect", to=same_machine)
    start = first.add("/start", FILE, "redirect", to=here)
    assert code(room.run(start, headers=SECRET)) == OK
    assert names(first, "/start") == names(first, "/here") == set(SECRET)
    assert names(first, "/name") == names(other, "/away") == set()
    assert names(first, "/back") == set(SECRET)
    assert room.of(Responded)[0].origins == [
        first.url(""), first.url("", host="localhost"), other.url(""),
    ]  # fmt: skip


def test_userinfo_is_a_header_of_its_origin(make_origin: Callable[..., Origin], room: Room) -> None:
    first, other = make_origin(), make_origin()
    away = other.add("/away", FILE)
    url = first.add("/f", FILE, "redirect", to=away).replace("//", "//user:p%40ss@")
    assert code(room.run(url)) == OK
    assert first.requests[0].header("authorization") == "Basic dXNlcjpwQHNz"
    assert other.requests[0].header("authorization") is None
    assert "p%40ss" not in str(room.reports)


def test_cookies_of_a_server_stay_with_it(make_origin: Callable[..., Origin], room: Room) -> None:
    """To a cookie jar two ports of one host are one place; to us they are two origins."""
    first, other = make_origin(), make_origin()
    end = first.add("/end", FILE)
    away = other.add("/away", FILE, "redirect", to=end)
    setting = [("Set-Cookie", "id=1; Path=/"), ("Location", away)]
    start = first.add("/start", FILE, "status", code=302, headers=setting)
    assert code(room.run(start)) == OK
    assert other.requests[0].header("cookie") is None
    assert first.requests_for("/end")[0].header("cookie") == "id=1"
    # and no attempt has those of another
    assert code(room.run(end)) == OK
    assert first.requests_for("/end")[1].header("cookie") is None


def test_from_https_to_http_is_refused(
    make_origin: Callable[..., Origin], certificates: Certificates, room: Room
) -> None:
    plain, secure = make_origin(), make_origin(tls=certificates.server_context())
    url = secure.add("/f", FILE, "redirect", to=plain.add("/f", FILE))
    assert code(room.run(url, ca_bundle=str(certificates.authority))) == "redirect_refused"
    assert plain.requests == []


def test_the_environment_says_nothing(origin: Origin, room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert code(room.run(origin.add("/f", FILE))) == OK


# stops


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("where", ["never", "head", "body"])
def test_a_stop_does_not_wait_for_the_server(
    make_origin: Callable[..., Origin],
    certificates: Certificates,
    room: Room,
    where: str,
    keep: bool,
    tls: bool,
) -> None:
    server = make_origin(tls=certificates.server_context() if tls else None)
    gate = server.gate()
    answers: dict[str, dict[str, Any]] = {
        "never": {"behaviour": "never"},
        "head": {"behaviour": "stall", "gate": gate},
        "body": {"behaviour": "hold", "after": 5000, "gate": gate},
    }
    url = server.add("/f", FILE, **answers[where])
    room.begin(url, read_timeout=60.0, connect_timeout=60.0, ca_bundle=str(certificates.authority))
    server.wait_for(lambda: len(server.requests) == 1)
    if where == "body":
        room.wait(Responded)
        server.wait_for(lambda: server.requests[0].sent == 5000)
    assert room.attempt is not None
    room.attempt.stop(keep)
    last = room.end(timeout=5)
    assert isinstance(last, Stopped), last
    assert last.bytes == room.data.stat().st_size
    synced = [report.ranges for report in room.of(Synced)]
    if where == "body" and keep:
        assert synced[-1] == ([(0, last.bytes)] if last.bytes else [])
    gate.open()


@pytest.mark.parametrize("behaviour", ["endless_body", "plain"])
def test_a_stop_while_bytes_come(origin: Origin, room: Room, behaviour: str) -> None:
    url = origin.add("/f", Resource(size=50 << 20), behaviour)
    room.begin(url)
    room.wait(Responded)
    assert room.attempt is not None
    room.attempt.stop(True)
    last = room.end(timeout=5)
    assert code(last) in ("Stopped", "Finished")
    assert last.bytes == room.data.stat().st_size if isinstance(last, Stopped) else True


def test_a_stop_while_a_restart_is_asked_for(origin: Origin, room: Room) -> None:
    room.obeys = False
    room.keep(b"o" * 1000)
    room.begin(origin.add("/f", FILE, "ignore_range"), have=1000, etag='"v1"')
    room.wait(Restart)
    assert room.attempt is not None
    room.attempt.stop(True)
    assert isinstance(room.end(timeout=5), Stopped)
    assert room.data.read_bytes() == b"o" * 1000


def test_stopped_before_it_began(origin: Origin, room: Room) -> None:
    url = origin.script("/f", Step(FILE))
    for _ in range(5):
        room.reports.clear()
        room.begin(url)
        assert room.attempt is not None
        room.attempt.stop(False)
        assert code(room.end(timeout=5)) in ("Stopped", "Finished")


def test_connections_are_kept_for_the_next_attempt(origin: Origin, room: Room) -> None:
    url = origin.add("/f", FILE)
    for _ in range(3):
        room.reports.clear()
        assert code(room.run(url)) == OK
    assert origin.connections == 1


def test_a_workspace_that_cannot_be_used_fails_the_attempt(origin: Origin, room: Room) -> None:
    """Without a report the job would be running for ever: the worker's heart goes on beating."""
    (room.directory / "frontier").write_bytes(b"")
    assert code(room.run(origin.add("/f", FILE))) == "io_error"
