"""Who gets to see what: credentials, headers and cookies go where they belong, and into no report."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from support.content import pattern
from support.origin import Origin, Request, Resource
from support.proxy import HttpProxy
from support.tls import Certificates

from fetchd.daemon.transfer.cookies import Cookies
from fetchd.protocol.mailbox import Options, Responded

from .attempts import Room, code
from .attempts import room as rooms

SIZE = 100_000
CONTENT = pattern(SIZE, 1)
FILE = Resource(size=SIZE, seed=1)
OK = "Finished"
ALICE = ("alice", "s3cr:t")
BASIC = "Basic YWxpY2U6czNjcjp0"
FAR = 4_000_000_000


@pytest.fixture
def room() -> Iterator[Room]:
    with rooms() as made:
        yield made


@pytest.fixture
def web(origin: Origin) -> Iterator[str]:
    """A proxy through which every host name is the origin."""
    with ExitStack() as stack:
        yield stack.enter_context(HttpProxy(to=origin.port)).url()


def only(origin: Origin, path: str) -> Request:
    """The one request for a path."""
    (request,) = origin.requests_for(path)
    return request


# credentials


def test_credentials(origin: Origin, room: Room) -> None:
    assert code(room.run(origin.add("/f", FILE), credentials=ALICE)) == OK
    assert only(origin, "/f").header("authorization") == BASIC


@pytest.mark.parametrize(
    ("userinfo", "sent"),
    [
        ("alice:s3cr%3At@", BASIC), ("alice@", "Basic YWxpY2U6"), (":p@", "Basic OnA="), ("@", "Basic Og=="),
        ("j%C3%BCrgen:%E2%82%AC@", "Basic asO8cmdlbjrigqw="),
    ],
)  # fmt: skip
def test_userinfo(origin: Origin, room: Room, userinfo: str, sent: str) -> None:
    url = origin.add("/f", FILE).replace("//", f"//{userinfo}")
    assert code(room.run(url)) == OK
    assert only(origin, "/f").header("authorization") == sent
    assert room.of(Responded)[0].url == origin.url("/f")


def test_what_counts_more(origin: Origin, room: Room) -> None:
    """A header of the user, then credentials, then userinfo; one of them is sent."""
    url = origin.add("/f", FILE).replace("//", "//bob:b@")
    assert code(room.run(url, credentials=ALICE)) == OK
    room.reports.clear()
    assert code(room.run(url, credentials=ALICE, headers={"authorization": "Bearer t"})) == OK
    sent = [[v for k, v in request.headers if k.lower() == "authorization"] for request in origin.requests]
    assert sent == [[BASIC], ["Bearer t"]]


def test_every_mirror_has_its_own(make_origin: Callable[..., Origin], room: Room) -> None:
    first, second = make_origin(), make_origin()
    url = first.add("/f", FILE).replace("//", "//one:1@")
    mirror = second.add("/g", FILE).replace("//", "//two:2@")
    fields: dict[str, Any] = {"mirrors": [mirror], "headers": {"X-Key": "key"}, "credentials": ALICE}
    assert code(room.run(url, source=1, **fields)) == OK
    assert first.requests == []
    assert only(second, "/g").header("authorization") == "Basic dHdvOjI="
    assert only(second, "/g").header("x-key") is None
    room.reports.clear()
    assert code(room.run(url, source=0, **fields)) == OK
    assert only(first, "/f").header("authorization") == BASIC


def test_a_mirror_at_the_same_origin(origin: Origin, room: Room) -> None:
    """It is the same server, to which the same secrets belong."""
    origin.add("/f", FILE)
    mirror = origin.add("/g", FILE)
    last = room.run(origin.url("/f"), mirrors=[mirror], source=1, credentials=ALICE)
    assert code(last) == OK
    assert only(origin, "/g").header("authorization") == BASIC


@pytest.mark.parametrize("name", ["user-agent", "USER-AGENT", "User-Agent"])
def test_the_agent(origin: Origin, room: Room, name: str) -> None:
    options = Options(user_agent="of the job/1")
    url = origin.add("/f", FILE)
    assert code(room.run(url, options=options)) == OK
    room.reports.clear()
    assert code(room.run(url, options=options, headers={name: "mine/1", "ACCEPT": "x/y"})) == OK
    room.reports.clear()
    assert code(room.run(url)) == OK
    agents = [[v for k, v in request.headers if k.lower() == "user-agent"] for request in origin.requests]
    assert agents[:2] == [["of the job/1"], ["mine/1"]]
    assert agents[2][0].startswith("fetchd/")
    accepted = [[v for k, v in request.headers if k.lower() == "accept"] for request in origin.requests]
    assert accepted == [["*/*"], ["x/y"], ["*/*"]]


# redirects

SECRETS: dict[str, Any] = {
    "credentials": ALICE, "headers": {"X-Api-Key": "k3y", "Cookie": "own=c00kie"},
}  # fmt: skip
NAMES = ("authorization", "x-api-key", "cookie")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_nothing_goes_to_another_port(make_origin: Callable[..., Origin], room: Room, status: int) -> None:
    first, other = make_origin(), make_origin()
    url = first.add("/f", FILE, "redirect", to=other.add("/g", FILE), code=status)
    assert code(room.run(url.replace("//", "//u:us3r@"), **SECRETS)) == OK
    assert [only(first, "/f").header(name) for name in NAMES] == [BASIC, "k3y", "own=c00kie"]
    assert [only(other, "/g").header(name) for name in NAMES] == [None] * 3
    assert only(other, "/g").method == "GET"
    said = str(room.reports)
    assert not [secret for secret in ("s3cr", "k3y", "c00kie", "us3r") if secret in said]


@pytest.mark.parametrize("behaviour", ["drop", "cut", "status", "redirect_loop", "rubbish"])
def test_no_failure_tells_a_secret(origin: Origin, room: Room, behaviour: str) -> None:
    options: dict[str, Any] = {"cut": {"after": 10}, "status": {"code": 403}}.get(behaviour, {})
    url = origin.add("/f", FILE, behaviour, **options).replace("//", "//u:us3r@")
    last = room.run(url, **SECRETS, cookies=f"127.0.0.1\tFALSE\t/\tFALSE\t{FAR}\tfile\tj4r\n")
    assert code(last) not in (OK, "internal")
    said = str(room.reports)
    assert not [secret for secret in ("s3cr", "k3y", "c00kie", "us3r", "j4r") if secret in said]


def test_userinfo_of_a_redirect(make_origin: Callable[..., Origin], room: Room) -> None:
    """A server may say who we are to itself, not to others."""
    first, other = make_origin(), make_origin()
    end = other.add("/end", FILE)
    away = first.add("/away", FILE, "redirect", to=end.replace("//", "//evil:1@"))
    same = first.add("/same", FILE, "redirect", to=away.replace("//", "//own:2@"))
    start = other.add("/start", FILE, "redirect", to=same.replace("//", "//evil:3@"))
    assert code(room.run(start)) == OK
    assert only(first, "/same").header("authorization") is None
    assert only(first, "/away").header("authorization") == "Basic b3duOjI="
    assert only(other, "/end").header("authorization") is None
    assert room.of(Responded)[0].url == end
    assert "evil" not in str(room.reports)


def test_the_way_back_may_not_change_who_we_are(make_origin: Callable[..., Origin], room: Room) -> None:
    first, other = make_origin(), make_origin()
    back = first.add("/back", FILE).replace("//", "//evil:1@")
    url = first.add("/f", FILE, "redirect", to=other.add("/g", FILE, "redirect", to=back))
    assert code(room.run(url.replace("//", "//u:p@"))) == OK
    assert only(first, "/back").header("authorization") == "Basic dTpw"


def test_a_relative_redirect_keeps_userinfo(origin: Origin, room: Room) -> None:
    origin.add("/d/g", FILE)
    url = origin.add("/d/f", FILE, "redirect", to="g").replace("//", "//u:p@")
    assert code(room.run(url)) == OK
    assert only(origin, "/d/g").header("authorization") == "Basic dTpw"


@pytest.mark.parametrize("allowed", [False, True])
def test_downgrade(
    make_origin: Callable[..., Origin], certificates: Certificates, room: Room, allowed: bool
) -> None:
    plain, secure = make_origin(), make_origin(tls=certificates.server_context())
    url = secure.add("/f", FILE, "redirect", to=plain.add("/g", FILE))
    last = room.run(url, ca_bundle=str(certificates.authority), options=Options(downgrade=allowed), **SECRETS)
    assert code(last) == (OK if allowed else "redirect_refused")
    for request in plain.requests:
        assert [request.header(name) for name in NAMES] == [None] * 3
    assert len(plain.requests) == allowed


# cookies of the file


def line(domain: str, name: str, *, wide: bool = False, path: str = "/", secure: bool = False,
         until: int | str = FAR, mark: str = "") -> str:  # fmt: skip
    """One line of a cookie file."""
    fields = [domain, str(wide).upper(), path, str(secure).upper(), str(until), name, f"of-{name}"]
    return mark + "\t".join(fields) + "\n"


FILE_OF_COOKIES = "# Netscape HTTP Cookie File\n\n" + "".join([
    line("a.test", "host"), line(".a.test", "wide", wide=True), line("a.test", "bare", wide=True),
    line("sub.a.test", "sub"), line("a.test", "path", path="/d"), line("a.test", "slash", path="/d/"),
    line("a.test", "secure", secure=True), line("a.test", "old", until=1), line("a.test", "session", until=0),
    line("a.test", "http", mark="#HttpOnly_"), line("b.test", "other"), line("A.TEST", "capital"),
    "# a.test\tFALSE\t/\tFALSE\t0\tcomment\tx\n",
    line("localhost", "local"), line("127.0.0.1", "address"), line("test", "tld", wide=True),
])  # fmt: skip

EVERYWHERE = {"wide", "bare"}
AT_HOST = EVERYWHERE | {"host", "session", "http", "capital"}


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("http://a.test/", AT_HOST),
        ("http://A.Test/", AT_HOST),
        ("http://a.test:8080/", AT_HOST),
        ("https://a.test/", AT_HOST | {"secure"}),
        ("http://a.test/d", AT_HOST | {"path"}),
        ("http://a.test/d/e", AT_HOST | {"path", "slash"}),
        ("http://a.test/de", AT_HOST),
        ("http://sub.a.test/", EVERYWHERE | {"sub"}),
        ("http://deep.sub.a.test/", EVERYWHERE),
        ("http://xa.test/", set()),
        ("http://a.test.evil.test/", set()),
        ("http://b.test/", {"other"}),
        ("http://localhost:8000/", {"local"}),
        ("http://127.0.0.1:8000/", {"address"}),
        ("http://evil.localhost/", set()),
    ],
)
def test_where_cookies_belong(url: str, wanted: set[str]) -> None:
    header = Cookies(FILE_OF_COOKIES).header(url)
    found = dict(pair.split("=", 1) for pair in (header or "").split("; ") if pair)
    assert set(found) - {"tld"} == wanted
    assert all(value == f"of-{name}" for name, value in found.items())


def test_cookies_of_the_file_and_of_the_user(origin: Origin, room: Room, web: str) -> None:
    """All of them, in one header; those of the file go where they belong, also behind a redirect."""
    origin.add("/f", FILE, "redirect", to="http://sub.a.test/g")
    origin.add("/g", FILE, "redirect", to="http://b.test/h")
    origin.add("/h", FILE)
    last = room.run("http://a.test/f", proxy=web, cookies=FILE_OF_COOKIES, headers={"cookie": "own=1"})
    assert code(last) == OK
    sent = {
        path: [value for name, value in only(origin, path).headers if name.lower() == "cookie"]
        for path in ("/f", "/g", "/h")
    }
    assert all(len(values) == 1 for values in sent.values())
    names = {path: {pair.split("=")[0] for pair in values[0].split("; ")} for path, values in sent.items()}
    assert names["/f"] - {"tld"} == AT_HOST | {"own"}
    assert names["/g"] - {"tld"} == EVERYWHERE | {"sub"}
    assert names["/h"] - {"tld"} == {"other"}


def test_cookies_of_a_server_along_redirects(origin: Origin, room: Room) -> None:
    cookies = line("127.0.0.1", "file")
    sets = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2; HttpOnly; Path=/"), ("Set-Cookie", "c=3; Secure"),
            ("Set-Cookie", "d=4; Max-Age=0"), ("Set-Cookie", "e=5; Domain=.com"),
            ("Location", "/g")]  # fmt: skip
    url = origin.add("/f", FILE, "status", code=302, headers=sets)
    origin.add("/g", FILE)
    assert code(room.run(url, cookies=cookies, headers={"Cookie": "own=1"})) == OK
    assert only(origin, "/f").header("cookie") == "own=1; file=of-file"
    found = (only(origin, "/g").header("cookie") or "").split("; ")
    assert sorted(found) == ["a=1", "b=2", "file=of-file", "own=1"]


@pytest.mark.parametrize(
    "value", ["", "=", "a", "a=" + "x" * 60_000, "a=\x01\x02", 'a="', ";;;", "a=1; Expires=" + "1" * 5000,
              "a=1; Max-Age=" + "9" * 5000, "\xff=\xfe"],
)  # fmt: skip
def test_cookies_that_are_none(origin: Origin, room: Room, value: str) -> None:
    url = origin.add("/f", FILE, "status", code=302, headers=[("Set-Cookie", value), ("Location", "/g")])
    origin.add("/g", FILE)
    assert code(room.run(url)) == OK
    assert len(only(origin, "/g").header("cookie") or "") < 10_000


def test_cookies_without_end(origin: Origin, room: Room) -> None:
    sets = [("Set-Cookie", f"n{number}=" + "x" * 4000) for number in range(90)]
    url = origin.add("/f", FILE, "status", code=302, headers=[*sets, ("Location", "/g")])
    origin.add("/g", FILE)
    assert code(room.run(url)) == OK
    assert (only(origin, "/g").header("cookie") or "").count("=") == 50
