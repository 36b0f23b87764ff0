"""Requests of one attempt and their answers: redirects, credentials, cookies, and the head of what comes.

Redirects are followed here, because a library would carry credentials to other origins and read bodies
without bound. A header of the user goes to the origin of the URL that it was given for, and to no other.
"""

import contextlib
import http.client
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urljoin

import urllib3

from fetchd.protocol import urls
from fetchd.protocol.errors import Code, FetchdError
from fetchd.protocol.mailbox import Validator

from . import digests, gate, plan
from .api import Context, TransferError
from .connect import HOSTED, Connection, Managers, Wait, basic, shut, waiting
from .failures import status_error

if TYPE_CHECKING:
    from .cookies import Cookies

MAX_REDIRECTS = 20
MAX_URL = 16_384
REDIRECTS = frozenset({301, 302, 303, 307, 308})
BODY = frozenset({200, 206, 304, 416})
EXPIRED = frozenset({401, 403, 404, 410})
"""What the end of a redirect says when the address that it led to is no longer valid."""

STALE = (
    http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError, ConnectionAbortedError,
    ssl.SSLEOFError,
)  # fmt: skip


Notice = Callable[[Any], None]


class Place(NamedTuple):
    """A URL taken apart: as it is asked for (without userinfo), its origin, and who logs in there."""

    url: str
    bare: str
    origin: str
    login: tuple[str, str] | None


class Answer:
    """A response. `url` is where it comes from (without userinfo), `sock` what its body comes through."""

    def __init__(self, response: Any, connection: Connection, place: Place) -> None:
        self.url = place.bare
        self.end = place.url
        self.raw: gate.Response = connection.latest
        self.sock = connection.answering
        self.status: int = response.status
        self._response = response
        self._connection = connection
        self.head = plan.Response(status=self.status)
        self.fields = Fields(self.raw)
        self.disposition = self.fields.only("content-disposition")
        self.reusable = False
        self._closed = False

    def check(self) -> None:
        """Look at the head of a final response; a bad one is an error."""
        self.head = _head(self.status, self.fields)

    def close(self) -> None:
        """Keep the connection for another request, if its body has been read; else end it. Repeatable."""
        if self._closed:
            return
        self._closed = True
        self.raw.close()
        if not self.reusable or self.raw.will_close:
            self._connection.close()
        self._response.release_conn()


class Exchange:
    """Asks the sources of one attempt. Any thread may ask."""

    def __init__(self, context: Context, managers: Managers) -> None:
        self._context = context
        self._task = context.task
        self._managers = managers
        self._places: dict[str, Place] = {}
        self._jar: Cookies | None = None
        if self._task.cookies:
            self._cookies()
        self._lock = threading.Lock()
        self._ends: dict[str, str] = {}

    @contextlib.contextmanager
    def ask(
        self, source: str, conditions: dict[str, str], notice: Notice = lambda _sock: None
    ) -> Iterator[Answer]:
        """The answer at the end of the redirects, with a status of `BODY`; other ones are errors.

        The end of the redirects is remembered; when it is no longer valid they are followed anew. `notice`
        gets every socket at which an answer is waited for.
        """
        with contextlib.ExitStack() as stack:
            known = self._ends.get(source)
            answer = None
            if known is not None:
                with contextlib.suppress(_ExpiredError):
                    answer = self._follow(stack, source, known, conditions, notice)
            if answer is None:
                answer = self._follow(stack, source, source, conditions, notice)
            self._ends[source] = answer.end
            yield answer

    def _follow(
        self,
        stack: contextlib.ExitStack,
        source: str,
        url: str,
        conditions: dict[str, str],
        notice: Notice,
    ) -> Answer:
        remembered = url != source
        for _ in range(MAX_REDIRECTS + 1):
            self._context.check()
            place = self._place(url)
            self._context.speaks_to(place.origin)
            with contextlib.ExitStack() as hop:
                answer = self._request(hop, place, self._headers(source, place, conditions), notice)
                if answer.status in REDIRECTS and answer.fields.every("location"):
                    url = _redirected(answer.fields, url, downgrade=self._task.options.downgrade)
                    continue
                if answer.status not in BODY:
                    if remembered and answer.status in EXPIRED:
                        raise _ExpiredError
                    raise status_error(answer.status, answer.raw.reason, answer.raw.headers)
                answer.check()
                stack.push(hop.pop_all())
                return answer
        raise TransferError(Code.REDIRECT_LOOP, f"more than {MAX_REDIRECTS} redirects")

    def _request(
        self, stack: contextlib.ExitStack, place: Place, headers: dict[str, str], notice: Notice
    ) -> Answer:
        """One request. A kept connection that turns out to be gone is no failure: another one is taken."""
        context, task = self._context, self._task
        manager = self._managers.find(place.url, task, context.ca_bundle)
        timeout = urllib3.Timeout(connect=task.connect_timeout, read=task.read_timeout)
        for left in reversed(range(HOSTED + 1)):
            with contextlib.ExitStack() as attempt:
                wait = _Abortable(attempt, context, notice)
                try:
                    with waiting(wait):
                        response = manager.urlopen(
                            "GET", place.bare, headers=headers, redirect=False, retries=False,
                            preload_content=False, decode_content=False, timeout=timeout,
                        )  # fmt: skip
                except Exception as error:
                    context.check()
                    if wait.fresh or not left or not _is_stale(error):
                        raise
                    continue
                answer = Answer(response, wait.connection, place)
                stack.push(attempt.pop_all())
                stack.callback(answer.close)
                if answer.fields.every("set-cookie"):
                    with self._lock:
                        self._cookies().learn(place.bare, answer.raw)
                return answer
        raise AssertionError("the last connection was a fresh one")

    def _cookies(self) -> "Cookies":
        """The jars, whose libraries cost a worker 3 MB that most never need."""
        from .cookies import Cookies

        if self._jar is None:
            self._jar = Cookies(self._task.cookies)
        return self._jar

    def _place(self, url: str) -> Place:
        place = self._places.get(url)
        if place is None:
            place = self._places[url] = _taken_apart(url)
        return place

    def _headers(self, source: str, place: Place, conditions: dict[str, str]) -> dict[str, str]:
        task = self._task
        agent = task.options.user_agent or self._context.user_agent
        headers = {"User-Agent": agent, "Accept": "*/*", "Accept-Encoding": "identity"}
        home, beginning = self._place(task.url), self._place(source)
        pair = place.login or (beginning.login if place.origin == beginning.origin else None)
        if pair is not None:
            headers["Authorization"] = basic(pair)
        if place.origin == home.origin:
            if task.credentials is not None:
                headers["Authorization"] = basic(task.credentials)
            for name, value in task.headers.items():
                # spelt as ours: urllib3 sends what it takes for two headers twice
                headers[next((known for known in headers if known.lower() == name.lower()), name)] = value
        with self._lock:
            cookies = None if self._jar is None else self._jar.header(place.bare)
        if cookies is not None:
            own = next((name for name in headers if name.lower() == "cookie"), "Cookie")
            headers[own] = f"{headers[own]}; {cookies}" if own in headers else cookies
        headers.update(conditions)
        return headers


class _Abortable(Wait):
    """Lets a stop reach whatever a request waits at: a proxy, a handshake, the answer."""

    connection: Connection

    def __init__(self, stack: contextlib.ExitStack, context: Context, notice: Notice) -> None:
        super().__init__(gate.TIMES * context.task.read_timeout, context.task.network)
        self._stack = stack
        self._context = context
        self._notice = notice
        self._dialling = stack.enter_context(contextlib.ExitStack())

    def dialled(self, sock: socket.socket) -> None:
        # encryption takes the socket's descriptor away from it before it shakes hands
        other = self._dialling.enter_context(socket.socket(fileno=os.dup(sock.fileno())))
        self._dialling.enter_context(self._context.abortable(partial(shut, other)))
        self._notice(other)

    def sent(self, connection: Connection) -> None:
        self.connection = connection
        self._stack.enter_context(self._context.abortable(partial(shut, connection.sock)))
        self._notice(connection.sock)
        self._dialling.close()


class _ExpiredError(Exception):
    """The remembered end of the redirects is not valid any more."""


def _is_stale(error: BaseException) -> bool:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, STALE) or any(isinstance(part, STALE) for part in seen.args):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


class Fields:
    """The header fields of a response by name in lower case, taken in one pass."""

    def __init__(self, raw: gate.Response) -> None:
        self._found: dict[str, list[str]] = {}
        for name, value in raw.headers.items():
            self._found.setdefault(name.lower(), []).append(value)

    def every(self, name: str) -> list[str]:
        """All values of a header."""
        return self._found.get(name, [])

    def only(self, name: str) -> str | None:
        """A header that may stand once, or None; the first wins where a server repeats it."""
        values = self._found.get(name)
        return values[0][:8192] if values else None


def _head(status: int, fields: Fields) -> plan.Response:
    """The head of a response, its framing headers checked."""
    only = fields.only
    encoded = (only("content-encoding") or "identity").strip().lower() not in ("identity", "")
    coding = [value.strip().lower() for value in fields.every("transfer-encoding")]
    if coding not in ([], ["identity"], ["chunked"]):
        # the library would take such a body for whole wherever it ends
        raise TransferError(Code.BAD_RESPONSE, "a transfer coding that is not known")
    length = plan.content_length(fields.every("content-length"))
    modified = only("last-modified")
    return plan.Response(
        status=status,
        length=None if "chunked" in coding else length,
        content_range=only("content-range"),
        validator=Validator() if encoded else plan.strong_validator(only("etag"), modified, only("date")),
        said=Validator(etag=only("etag"), last_modified=modified),
        encoded=encoded,
        ranges=(only("accept-ranges") or "").strip().lower() != "none",
        modified=plan.microseconds(modified),
        # of the content as it is without the coding, or with it: nobody can tell
        digests=() if encoded else tuple(digests.announced(only("repr-digest"), only("digest"))),
    )


def _redirected(fields: Fields, url: str, *, downgrade: bool) -> str:
    """Where a redirect leads, or the error that it is."""
    locations = fields.every("location")
    if len(set(locations)) > 1:
        raise TransferError(Code.BAD_RESPONSE, "a redirect to two places at once")
    target = locations[0].encode("latin-1", "replace").decode("utf-8", "replace").strip()
    try:
        joined = urljoin(url, target)
        scheme = urls.scheme(joined)
        if scheme in ("http", "https"):
            joined = urllib3.util.parse_url(joined).url
            urls.split_url(joined)
    except (FetchdError, ValueError, urllib3.exceptions.LocationValueError):
        raise TransferError(Code.BAD_RESPONSE, "a redirect to something that is no URL") from None
    if len(joined) > MAX_URL:
        raise TransferError(Code.BAD_RESPONSE, f"a redirect to a URL of {len(joined)} characters")
    if scheme not in ("http", "https"):
        raise TransferError(Code.REDIRECT_REFUSED, f"a redirect to a {scheme}: URL")
    if scheme == "http" and urls.scheme(url) == "https" and not downgrade:
        raise TransferError(Code.REDIRECT_REFUSED, "a redirect from https to http")
    if urls.origin(joined) != urls.origin(url):
        # nobody logs us in to the servers of others
        parts = urls.split_url(joined)
        joined = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return joined


def _taken_apart(url: str) -> Place:
    parts = urls.split_url(url)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()
    return Place(url, bare, urls.origin(url), urls.userinfo(url))
