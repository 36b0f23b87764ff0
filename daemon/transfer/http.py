"""HTTP and HTTPS through `requests`, one stream: ask, follow redirects, resume, count every byte ourselves.

`requests` is kept to what it is good at. Redirects are followed here, because it would read the body of every
one of them without bound and would carry credentials to other origins; retries are the supervisor's.
"""

import contextlib
import socket
from base64 import b64encode
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import requests.adapters
import urllib3
from requests.cookies import RequestsCookieJar
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from fetchd.protocol import urls
from fetchd.protocol.errors import Code, FetchdError
from fetchd.protocol.mailbox import Assign, Validator

from . import gate, plan
from .api import Context, Transfer, TransferError
from .failures import classify, status_error
from .verify import Verifier, matches

CHUNK = 1 << 20
MAX_REDIRECTS = 20
MAX_URL = 16_384
REDIRECTS = frozenset({301, 302, 303, 307, 308})
BODY = frozenset({200, 206, 416})


class _Session(requests.Session):
    """A session that takes nothing from the environment and never follows a redirect by itself.

    `notice` is called with the socket of every request whose answer is waited for.
    """

    def __init__(self, notice: Callable[[socket.socket], None]) -> None:
        super().__init__()
        self.trust_env = False
        self.headers.clear()
        adapter = requests.adapters.HTTPAdapter(
            pool_connections=1, pool_maxsize=1, max_retries=urllib3.Retry(0, read=False)
        )
        adapter.poolmanager.pool_classes_by_scheme = _pools(notice)
        self.mount("http://", adapter)
        self.mount("https://", adapter)

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        return None


def _pools(notice: Callable[[socket.socket], None]) -> dict[str, type[HTTPConnectionPool]]:
    """Connection pools by scheme whose connections tell which socket they wait at."""

    class Plain(HTTPConnection):
        response_class = gate.Response

        def getresponse(self) -> Any:
            notice(self.sock)
            return super().getresponse()

    class Encrypted(HTTPSConnection):
        response_class = gate.Response

        def getresponse(self) -> Any:
            notice(self.sock)
            return super().getresponse()

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class EncryptedPool(HTTPSConnectionPool):
        ConnectionCls = Encrypted

    return {"http": PlainPool, "https": EncryptedPool}


class Http(Transfer):
    """The transfer of `http:` and `https:`. Connections are kept for the next attempt of this worker."""

    def __init__(self) -> None:
        self._context: Context | None = None
        self._session = _Session(self._waits_at)

    def close(self) -> None:
        self._session.close()

    def _waits_at(self, sock: socket.socket) -> None:
        if self._context is not None:
            self._context.on_abort(partial(_shut, sock))

    def run(self, context: Context) -> int:
        self._context = context
        try:
            return self._run(context)
        except (TransferError, FetchdError) as error:
            context.check()
            if isinstance(error, FetchdError):
                raise TransferError(error.code, error.message) from None
            raise
        except Exception as error:
            context.check()
            raise classify(error) from error
        finally:
            context.on_abort(None)
            self._context = None

    def _run(self, context: Context) -> int:
        task = context.task
        kept = _kept(task)
        conditions = plan.range_headers(kept)
        if conditions is None:
            context.restart("there is no validator and no checksum to resume with")
            kept, conditions = _nothing(kept), {}
        for attempt in range(3):
            with self._final_response(context, conditions) as (response, hops):
                head = _head(response)
                decision = plan.decide(kept, bool(conditions), head)
                if isinstance(decision, plan.Again) and attempt < 2:
                    context.restart(decision.why)
                    kept, conditions = _nothing(kept), {}
                    continue
                return self._deliver(context, kept, decision, response, head, hops)
        raise TransferError(Code.BAD_RESPONSE, "the server answers no request whole")

    def _deliver(
        self,
        context: Context,
        kept: plan.Kept,
        decision: plan.Decision,
        response: requests.Response,
        head: plan.Response,
        hops: list[str],
    ) -> int:
        match decision:
            case plan.Append(offset, total):
                validator = _merged(kept.validator, head.validator)
            case plan.Complete(total):
                offset, validator = total, kept.validator
            case plan.Whole(total):
                if kept.size:
                    context.restart("the server sent another content, or the whole of it")
                offset, validator = 0, head.validator
            case plan.Again(why):
                raise TransferError(Code.BAD_RESPONSE, why)
        context.responded(
            status=response.status_code,
            url=response.url or context.task.url,
            total=total,
            kept=offset,
            validator=validator,
            disposition=_only(response, "content-disposition"),
            origins=hops,
        )
        context.sink.begin(validator, total, context.task.generation, offset)
        checksum = context.task.checksum
        verifier = Verifier(context.sink.fd, checksum.partition(":")[0]) if checksum else None
        try:
            if not isinstance(decision, plan.Complete):
                self._copy(context, response, total, verifier)
            size = context.sink.position
            if verifier is not None and checksum is not None:
                matches(checksum, verifier.finish(size, context.check))
        finally:
            if verifier is not None:
                verifier.stop()
        return size

    def _copy(
        self, context: Context, response: requests.Response, total: int | None, verifier: Verifier | None
    ) -> None:
        raw, sink = response.raw, context.sink
        while data := raw.read1(CHUNK, decode_content=False):
            context.check()
            if total is not None and sink.position + len(data) > total:
                raise TransferError(Code.BAD_RESPONSE, "the server sent more than it announced")
            sink.write(data)
            if verifier is not None:
                verifier.advance(sink.position)
        context.check()
        if total is not None and sink.position != total:
            raise TransferError(Code.SHORT_BODY, f"the body ended after {sink.position} of {total} bytes")

    @contextlib.contextmanager
    def _final_response(
        self, context: Context, conditions: dict[str, str]
    ) -> Iterator[tuple[requests.Response, list[str]]]:
        """The response at the end of the redirects, and every origin on the way."""
        task = context.task
        url, home, hops = task.url, urls.origin(task.url), []
        # browsers share cookies between the ports of a host; here nothing leaves the origin that set it
        jars: dict[str, RequestsCookieJar] = {}
        for _ in range(MAX_REDIRECTS + 1):
            context.check()
            here = urls.origin(url)
            if here not in hops:
                hops.append(here)
            self._session.cookies = jars.setdefault(here, RequestsCookieJar())
            response = self._request(context, url, here == home, conditions)
            try:
                if response.status_code in REDIRECTS and "location" in response.headers:
                    url = _redirected(response, url)
                    continue
                if response.status_code not in BODY:
                    raise status_error(response.status_code, response.reason, response.headers)
                yield response, hops
                return
            finally:
                context.on_abort(None)
                response.close()
        raise TransferError(Code.REDIRECT_LOOP, f"more than {MAX_REDIRECTS} redirects")

    def _request(
        self, context: Context, url: str, at_home: bool, conditions: dict[str, str]
    ) -> requests.Response:
        task = context.task
        headers = {"User-Agent": context.user_agent, "Accept": "*/*", "Accept-Encoding": "identity"}
        if at_home:
            headers.update(_credentials(task.url))
            headers.update(task.headers)
        headers.update(conditions)
        return self._session.get(
            _bare(url),
            headers=headers,
            stream=True,
            allow_redirects=False,
            timeout=(task.connect_timeout, task.read_timeout),
            verify=context.ca_bundle or True,
        )


def _kept(task: Assign) -> plan.Kept:
    """What of the task's ranges a single stream can go on from: those that begin at 0."""
    size = task.have[0][1] if task.have and task.have[0][0] == 0 else 0
    return plan.Kept(
        size=size, validator=task.validator, total=task.total, verifiable=task.checksum is not None
    )


def _nothing(kept: plan.Kept) -> plan.Kept:
    return plan.Kept(size=0, validator=Validator(), total=None, verifiable=kept.verifiable)


def _merged(kept: Validator, now: Validator) -> Validator:
    return Validator(etag=kept.etag or now.etag, last_modified=kept.last_modified or now.last_modified)


def _head(response: requests.Response) -> plan.Response:
    """The head of a response, its framing headers checked."""
    encoded = (_only(response, "content-encoding") or "identity").strip().lower() not in ("identity", "")
    coding = [value.strip().lower() for value in response.raw.headers.getlist("transfer-encoding")]
    if coding not in ([], ["identity"], ["chunked"]):
        # the library would take such a body for whole wherever it ends
        raise TransferError(Code.BAD_RESPONSE, "a transfer coding that is not known")
    length = plan.content_length(response.raw.headers.getlist("content-length"))
    validator = plan.strong_validator(
        _only(response, "etag"), _only(response, "last-modified"), _only(response, "date")
    )
    return plan.Response(
        status=response.status_code,
        length=None if "chunked" in coding else length,
        content_range=_only(response, "content-range"),
        validator=Validator() if encoded else validator,
        said=Validator(etag=_only(response, "etag"), last_modified=_only(response, "last-modified")),
        encoded=encoded,
    )


def _only(response: requests.Response, name: str) -> str | None:
    """A header that may stand once, or None; the first wins where a server repeats it."""
    values: list[str] = response.raw.headers.getlist(name)
    return values[0][:8192] if values else None


def _redirected(response: requests.Response, url: str) -> str:
    """Where a redirect leads, or the error that it is."""
    locations = response.raw.headers.getlist("location")
    if len(set(locations)) > 1:
        raise TransferError(Code.BAD_RESPONSE, "a redirect to two places at once")
    target = locations[0].encode("latin-1", "replace").decode("utf-8", "replace").strip()
    try:
        joined = requests.utils.requote_uri(urljoin(url, target))
        scheme = urlsplit(joined).scheme.lower()
        if scheme in ("http", "https"):
            urls.split_url(joined)
    except (FetchdError, ValueError):
        raise TransferError(Code.BAD_RESPONSE, "a redirect to something that is no URL") from None
    if len(joined) > MAX_URL:
        raise TransferError(Code.BAD_RESPONSE, f"a redirect to a URL of {len(joined)} characters")
    if scheme not in ("http", "https"):
        raise TransferError(Code.REDIRECT_REFUSED, f"a redirect to a {scheme}: URL")
    if scheme == "http" and urls.split_url(url).scheme.lower() == "https":
        raise TransferError(Code.REDIRECT_REFUSED, "a redirect from https to http")
    return joined


def _credentials(url: str) -> dict[str, str]:
    """Basic authentication from a URL's userinfo (RFC 7617)."""
    pair = urls.userinfo(url)
    if pair is None:
        return {}
    return {"Authorization": "Basic " + b64encode(":".join(pair).encode()).decode()}


def _bare(url: str) -> str:
    """The URL without its userinfo, which goes into a header."""
    parts = urls.split_url(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()


def _shut(sock: socket.socket) -> None:
    """Make a read that waits for the server return."""
    with contextlib.suppress(OSError):
        # not the method of an encrypted socket: that would have it go on reading without decrypting
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
