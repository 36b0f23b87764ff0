"""Redirects that are traps, and those that must be followed with care."""

from support.exchange import Exchange, Resource, honest

from .status import redirect, status
from .table import behaviour


def _place(exchange: Exchange, query: str, *, scheme: str = "", host: str = "", user: str = "") -> str:
    """The URL of this path with another query."""
    request = exchange.request
    name, _, port = (request.header("host") or "").rpartition(":")
    scheme = scheme or ("https" if exchange.is_tls else "http")
    return f"{scheme}://{user}{host or name}:{port}{request.path}?{query}"


@behaviour
def redirect_bomb(exchange: Exchange, resource: Resource, *, code: int = 302) -> None:
    """A redirect to path?file with a body that does not end; there is the file."""
    if exchange.request.query:
        exchange.send(honest(exchange.request, resource))
        return
    exchange.hang_up()
    exchange.head(code, [("Location", _place(exchange, "file"))])
    while True:
        exchange.raw(b"it is elsewhere\n" * 4096)


@behaviour
def redirect_hosts(exchange: Exchange, resource: Resource, *, hops: int = 4) -> None:
    """`hops` redirects, each to another origin: 127.0.0.1 and localhost by turns; then the file."""
    hop = int(exchange.request.query or 0)
    if hop == hops:
        exchange.send(honest(exchange.request, resource))
        return
    here = (exchange.request.header("host") or "").startswith("localhost")
    redirect(exchange, resource, to=_place(exchange, str(hop + 1), host="127.0.0.1" if here else "localhost"))


@behaviour
def redirect_plain(exchange: Exchange, resource: Resource) -> None:
    """A redirect to the same place without encryption."""
    redirect(exchange, resource, to=_place(exchange, "plain", scheme="http"))


@behaviour
def redirect_userinfo(exchange: Exchange, resource: Resource) -> None:
    """A redirect to a URL with a user and a password in it; there is the file."""
    if exchange.request.query:
        exchange.send(honest(exchange.request, resource))
    else:
        redirect(exchange, resource, to=_place(exchange, "file", user="user:secret@"))


@behaviour
def two_locations(exchange: Exchange, resource: Resource, *, first: str, second: str) -> None:
    """A redirect with two Location headers, to path?first and path?second; there is the file."""
    if exchange.request.query:
        exchange.send(honest(exchange.request, resource))
        return
    places = [("Location", _place(exchange, query)) for query in (first, second)]
    status(exchange, resource, code=302, headers=places)


@behaviour
def signed_url(exchange: Exchange, resource: Resource) -> None:
    """The path redirects to path?N, another N each time; path?N serves the file once, and then 403."""
    query = exchange.request.query
    if not query:
        redirect(exchange, resource, to=_place(exchange, str(exchange.request.visit)))
    elif exchange.first(query):
        exchange.send(honest(exchange.request, resource))
    else:
        status(exchange, resource, code=403)
