"""Through proxies: the right bytes, and each side sees only what is meant for it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from support.content import pattern
from support.net import refused_port
from support.origin import Origin, Resource
from support.proxy import HttpProxy, SocksProxy
from support.tls import Certificates

from fetchd.daemon.transfer.http import Http
from fetchd.protocol.mailbox import Options, Responded

from .attempts import Room, code
from .attempts import room as rooms

pytest.importorskip("socks", reason="PySocks is not installed: no tests of SOCKS proxies")

SIZE = 300_000
CONTENT = pattern(SIZE, 1)
FILE = Resource(size=SIZE, seed=1)
OK = "Finished"
PAIR = ("us er", "p:ä@ss")
USERINFO = "us%20er:p%3A%C3%A4%40ss"
SECRET = {"Authorization": "Bearer token", "X-Api-Key": "key", "Cookie": "a=1"}


@pytest.fixture
def room() -> Iterator[Room]:
    with rooms() as made:
        yield made


@pytest.fixture
def proxy() -> Iterator[Callable[..., HttpProxy]]:
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(HttpProxy(**options))


@pytest.fixture
def socks() -> Iterator[Callable[..., SocksProxy]]:
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(SocksProxy(**options))


@pytest.fixture
def server(
    request: pytest.FixtureRequest, make_origin: Callable[..., Origin], certificates: Certificates
) -> Origin:
    return make_origin(tls=certificates.server_context() if request.param == "https" else None)


BOTH = pytest.mark.parametrize("server", ["http", "https"], indirect=True)
Proxies = Callable[..., HttpProxy]
Socks = Callable[..., SocksProxy]


def fetch(room: Room, url: str, proxy: str, certificates: Certificates, **fields: Any) -> object:
    return room.run(url, proxy=proxy, ca_bundle=str(certificates.authority), **fields)


@BOTH
def test_credentials_are_for_the_proxy_alone(
    server: Origin, proxy: Proxies, room: Room, certificates: Certificates
) -> None:
    between = proxy(auth=PAIR)
    url = server.add("/f", FILE)
    last = fetch(room, url, between.url(USERINFO), certificates, headers=SECRET)
    assert code(last) == OK, last
    assert room.data.read_bytes() == CONTENT
    (seen,) = between.seen
    (request,) = server.requests
    assert "proxy-authorization" in seen.headers
    assert not [name for name, _ in request.headers if name.lower().startswith("proxy-")]
    assert {name: request.header(name) for name in SECRET} == SECRET
    if seen.method == "CONNECT":
        assert set(seen.headers) <= {"proxy-authorization", "host", "user-agent"}
    else:
        assert seen.target == url
        assert len(seen.names) == len(set(seen.names))
    assert not [word for word in ("ss@", "@ss", "%40ss") if word in str(room.reports)]


def test_the_origins_password_is_not_the_proxys(
    origin: Origin, proxy: Proxies, room: Room, certificates: Certificates
) -> None:
    between = proxy()
    url = origin.add("/f", FILE)
    assert code(fetch(room, url.replace("//", "//u:p@"), between.url(), certificates)) == OK
    assert between.seen[0].target == url
    assert "proxy-authorization" not in between.seen[0].headers
    assert origin.requests[0].header("authorization") == "Basic dTpw"


@BOTH
def test_a_user_may_name_headers_in_any_case(
    server: Origin, proxy: Proxies, room: Room, certificates: Certificates
) -> None:
    between = proxy()
    own = {"accept": "text/plain", "user-agent": "mine"}
    assert code(fetch(room, server.add("/f", FILE), between.url(), certificates, headers=own)) == OK
    names = [name.lower() for name, _ in server.requests[0].headers]
    assert len(names) == len(set(names)), names
    assert server.requests[0].header("accept") == "text/plain"
    assert server.requests[0].header("user-agent") == "mine"


@BOTH
def test_who_are_you(server: Origin, proxy: Proxies, room: Room, certificates: Certificates) -> None:
    between = proxy(auth=PAIR)
    url = server.add("/f", FILE)
    assert code(fetch(room, url, between.url(), certificates)) == "unauthorized"
    assert code(fetch(room, url, between.url("a:b"), certificates)) == "unauthorized"
    assert server.requests == []
    assert between.connections == 2


@pytest.mark.parametrize(
    ("server", "status", "wanted"),
    [("https", 403, "proxy"), ("https", 502, "proxy"), ("http", 403, "forbidden"),
     ("http", 502, "server_error")],
    indirect=["server"],
)  # fmt: skip
def test_a_proxy_that_refuses(
    server: Origin, proxy: Proxies, room: Room, certificates: Certificates, status: int, wanted: str
) -> None:
    """Without a tunnel nobody can tell whose answer it is."""
    between = proxy(refuse=status)
    last = fetch(room, server.add("/f", FILE), between.url(), certificates)
    assert code(last) == wanted, last
    assert between.connections == 1


@BOTH
@pytest.mark.parametrize("scheme", ["http", "https", "socks5", "socks5h"])
def test_a_proxy_that_is_not_there(
    server: Origin, room: Room, certificates: Certificates, scheme: str
) -> None:
    url = server.add("/f", FILE)
    with refused_port() as port:
        last = fetch(room, url, f"{scheme}://u:p%40ss@127.0.0.1:{port}", certificates)
    assert code(last) == "proxy", last
    assert not [word for word in ("ss@", "@ss", "%40ss") if word in str(room.reports)]


def test_a_proxy_without_an_address(origin: Origin, room: Room, certificates: Certificates) -> None:
    """PySocks does not tell the name of the proxy from that of the origin."""
    for scheme, wanted in (("http", "proxy"), ("socks5h", "dns")):
        last = fetch(room, origin.add("/f", FILE), f"{scheme}://no-such-host.invalid:80", certificates)
        assert code(last) == wanted, last


@BOTH
def test_a_proxy_that_hangs(server: Origin, proxy: Proxies, room: Room, certificates: Certificates) -> None:
    between = proxy(hang=True)
    url = server.add("/f", FILE)
    last = fetch(room, url, between.url(), certificates, connect_timeout=0.3, read_timeout=0.3)
    assert code(last) in ("timeout", "proxy"), last
    assert between.connections == 1


def test_socks_that_hangs(origin: Origin, socks: Socks, room: Room, certificates: Certificates) -> None:
    last = fetch(room, origin.add("/f", FILE), socks(hang=True).url(), certificates, connect_timeout=0.3)
    assert code(last) in ("timeout", "proxy"), last


@BOTH
def test_a_stop_while_a_proxy_hangs(
    server: Origin, proxy: Proxies, room: Room, certificates: Certificates
) -> None:
    """What waits for a tunnel can be stopped as what waits for an answer.

    Not so with SOCKS, whose library has the socket to itself until the proxy has answered: there the
    supervisor kills after its grace.
    """
    between = proxy(hang=True)
    room.begin(
        server.add("/f", FILE), proxy=between.url(), ca_bundle=str(certificates.authority),
        connect_timeout=60.0, read_timeout=60.0,
    )  # fmt: skip
    between.wait_for(lambda: between.connections == 1)
    assert room.attempt is not None
    room.attempt.stop(False)
    assert code(room.end(timeout=5)) == "Stopped"


@BOTH
@pytest.mark.parametrize("path", ["splice", "direct", "buffered"])
def test_every_way_for_bodies(
    server: Origin, proxy: Proxies, room: Room, certificates: Certificates, path: str
) -> None:
    transfer = room.transfers.find(server.url())
    assert isinstance(transfer, Http)
    transfer.paths = (path,)
    big = Resource(size=5_000_000, seed=3)
    assert code(fetch(room, server.add("/f", big), proxy().url(), certificates)) == OK
    assert room.data.read_bytes() == pattern(5_000_000, 3)


def test_from_http_to_https_through_a_proxy(
    make_origin: Callable[..., Origin], proxy: Proxies, room: Room, certificates: Certificates
) -> None:
    between = proxy(auth=PAIR)
    plain, secure = make_origin(), make_origin(tls=certificates.server_context())
    url = plain.add("/f", FILE, "redirect", to=secure.add("/g", FILE))
    assert code(fetch(room, url, between.url(USERINFO), certificates, headers=SECRET)) == OK
    assert [seen.method for seen in between.seen] == ["GET", "CONNECT"]
    assert not {name for name in SECRET if secure.requests[0].header(name)}
    assert room.of(Responded)[0].url == secure.url("/g")


@BOTH
def test_several_connections(server: Origin, proxy: Proxies, room: Room, certificates: Certificates) -> None:
    between = proxy(auth=PAIR)
    big = Resource(size=6 << 20, seed=5)
    # the first is not done before the others have begun
    url = server.add("/f", big, "lane_slow", visit=1, rate=2 << 20)
    last = fetch(
        room, url, between.url(USERINFO), certificates, connections=3, options=Options(segments=3)
    )  # fmt: skip
    assert code(last) == OK, last
    assert room.data.read_bytes() == pattern(6 << 20, 5)
    assert len(between.seen) >= 3


# a proxy that is encrypted itself


def test_an_encrypted_proxy(origin: Origin, proxy: Proxies, room: Room, certificates: Certificates) -> None:
    between = proxy(tls=certificates.server_context(), auth=PAIR)
    last = fetch(room, origin.add("/f", FILE), between.url(USERINFO), certificates)
    assert code(last) == OK, last
    assert room.data.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "path",
    [
        "splice",
        "direct",
        "buffered",
    ],
)
def test_encrypted_through_an_encrypted_proxy(
    make_origin: Callable[..., Origin], proxy: Proxies, room: Room, certificates: Certificates, path: str
) -> None:
    """TLS in TLS: the socket of the connection is none of the operating system's."""
    secure = make_origin(tls=certificates.server_context())
    between = proxy(tls=certificates.server_context())
    transfer = room.transfers.find(secure.url())
    assert isinstance(transfer, Http)
    transfer.paths = (path,)
    last = fetch(room, secure.add("/f", FILE), between.url(), certificates)
    assert code(last) == OK, last
    assert room.data.read_bytes() == CONTENT


def test_a_stop_in_two_layers(
    make_origin: Callable[..., Origin], proxy: Proxies, room: Room, certificates: Certificates
) -> None:
    secure = make_origin(tls=certificates.server_context())
    between = proxy(tls=certificates.server_context())
    url = secure.add("/f", FILE, "never")
    room.begin(url, proxy=between.url(), ca_bundle=str(certificates.authority), read_timeout=60.0)
    secure.wait_for(lambda: len(secure.requests) == 1)
    assert room.attempt is not None
    room.attempt.stop(False)
    assert code(room.end(timeout=5)) == "Stopped"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_encrypted_proxy_that_nobody_knows(
    make_origin: Callable[..., Origin], proxy: Proxies, room: Room, certificates: Certificates, scheme: str
) -> None:
    server = make_origin(tls=certificates.server_context() if scheme == "https" else None)
    between = proxy(tls=certificates.server_context())
    last = room.run(server.add("/f", FILE), proxy=between.url(USERINFO))
    assert code(last) in ("proxy", "tls_cert"), last
    assert between.seen == []


# SOCKS


@BOTH
def test_socks_with_credentials(server: Origin, socks: Socks, room: Room, certificates: Certificates) -> None:
    between = socks(auth=PAIR)
    last = fetch(room, server.add("/f", FILE), between.url(USERINFO), certificates)
    assert code(last) == OK, last
    assert room.data.read_bytes() == CONTENT
    assert between.seen[0].user == PAIR
    assert server.requests[0].header("authorization") is None


@BOTH
@pytest.mark.parametrize(("scheme", "asked"), [("socks5", "127.0.0.1"), ("socks5h", "localhost")])
def test_who_resolves_names(
    server: Origin, socks: Socks, room: Room, certificates: Certificates, scheme: str, asked: str
) -> None:
    between = socks(to=server.port)
    server.add("/f", FILE)
    url = server.url("/f", host="localhost")
    assert code(fetch(room, url, between.url(scheme=scheme), certificates)) == OK
    assert [seen.target.rpartition(":")[0] for seen in between.seen] == [asked]


@pytest.mark.parametrize("userinfo", ["", "a:b"])
def test_socks_that_wants_to_know(
    origin: Origin, socks: Socks, room: Room, certificates: Certificates, userinfo: str
) -> None:
    between = socks(auth=PAIR)
    last = fetch(room, origin.add("/f", FILE), between.url(userinfo), certificates)
    assert code(last) in ("proxy", "unauthorized"), last
    assert between.connections == 1


@pytest.mark.parametrize("refusal", range(1, 9))
def test_socks_that_refuses(
    origin: Origin, socks: Socks, room: Room, certificates: Certificates, refusal: int
) -> None:
    between = socks(refuse=refusal)
    last = fetch(room, origin.add("/f", FILE), between.url(), certificates)
    assert code(last) == "proxy", last
    assert between.connections == 1


def test_connections_of_a_proxy_are_not_those_of_another(
    origin: Origin, proxy: Proxies, room: Room, certificates: Certificates
) -> None:
    one, two = proxy(), proxy()
    url = origin.add("/f", FILE)
    for between in (one.url(), two.url(), None, one.url("u:p")):
        room.reports.clear()
        assert code(room.run(url, proxy=between)) == OK
    assert [len(one.seen), len(two.seen)] == [2, 1]
    assert "proxy-authorization" not in one.seen[0].headers
    assert "proxy-authorization" in one.seen[1].headers
