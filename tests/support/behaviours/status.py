"""Answers that are no file: errors and redirects."""

import time
from dataclasses import replace
from email.utils import formatdate

from support.exchange import Exchange, Headers, Resource, honest

from .table import behaviour


@behaviour
def status(
    exchange: Exchange,
    resource: Resource,
    *,
    code: int,
    retry_after: str | int | None = None,
    headers: Headers = (),
    body: bytes = b"this is not the file\n",
) -> None:
    """A status with a small body; `retry_after` in seconds or as an HTTP date."""
    extra = [*headers, *([] if retry_after is None else [("Retry-After", str(retry_after))])]
    if code in (204, 304):
        exchange.head(code, extra)
        return
    reply = honest(exchange.request, Resource(body=body, etag=None, ranges=False, headers=extra))
    reply.status = code
    exchange.send(reply)


@behaviour
def refuse_ranges(exchange: Exchange, resource: Resource, *, code: int = 403) -> None:
    """An expired URL: an error to every request with a Range, the file to others."""
    if exchange.request.range is None:
        exchange.send(honest(exchange.request, resource))
    else:
        status(exchange, resource, code=code)


@behaviour
def redirect(exchange: Exchange, resource: Resource, *, to: str, code: int = 302) -> None:
    """To another place: `to` is a path or a URL and goes over the wire as it is."""
    status(exchange, resource, code=code, headers=[("Location", to)], body=b"it is elsewhere\n")


@behaviour
def redirect_chain(exchange: Exchange, resource: Resource, *, hops: int, code: int = 302) -> None:
    """`hops` redirects from path to path?1, path?2 … and then the file."""
    hop = int(exchange.request.query or 0)
    if hop < hops:
        redirect(exchange, resource, to=f"{exchange.request.path}?{hop + 1}", code=code)
    else:
        exchange.send(honest(exchange.request, resource))


@behaviour
def redirect_loop(exchange: Exchange, resource: Resource, *, code: int = 302) -> None:
    """To itself for ever."""
    redirect(exchange, resource, to=exchange.request.target, code=code)


@behaviour
def no_if_range(exchange: Exchange, resource: Resource) -> None:
    """A CDN that answers every If-Range by 200 and everything, and a bare Range properly."""
    whole = exchange.request.header("if-range") is not None
    exchange.send(honest(exchange.request, replace(resource, ranges=not whole)))


@behaviour
def busy(
    exchange: Exchange,
    resource: Resource,
    *,
    code: int = 503,
    seconds: int = 7,
    date: bool = False,
    skew: float = 0,
) -> None:
    """Come back in so many seconds; `date`: said as an HTTP date, by a clock that is `skew` seconds off and
    stands in Date too."""
    now = time.time() + skew
    after = formatdate(now + seconds, usegmt=True) if date else seconds
    status(exchange, resource, code=code, retry_after=after, headers=[("Date", formatdate(now, usegmt=True))])
