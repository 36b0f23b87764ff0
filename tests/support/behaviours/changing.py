"""Content that is replaced while it is fetched."""

from dataclasses import replace

from support.exchange import Exchange, Resource, honest

from .table import behaviour


def _now(
    exchange: Exchange, resource: Resource, visit: int, seed: int, size: int | None, etag: str
) -> Resource:
    """What is there at this visit."""
    if exchange.request.visit < visit:
        return resource
    return replace(resource, seed=seed, size=resource.size if size is None else size, etag=etag)


@behaviour
def changed(
    exchange: Exchange,
    resource: Resource,
    *,
    visit: int = 2,
    seed: int = 9,
    size: int | None = None,
    etag: str = '"v2"',
) -> None:
    """From this visit on another content with another ETag (and size, if given); If-Range is kept."""
    exchange.send(honest(exchange.request, _now(exchange, resource, visit, seed, size, etag)))


@behaviour
def changed_blind(
    exchange: Exchange,
    resource: Resource,
    *,
    visit: int = 2,
    seed: int = 9,
    size: int | None = None,
    etag: str = '"v2"',
) -> None:
    """Like `changed`, but a Range gets a part of the new content, with its ETag, whatever If-Range says."""
    exchange.send(honest(exchange.request, _now(exchange, resource, visit, seed, size, etag), blind=True))


@behaviour
def changed_secretly(exchange: Exchange, resource: Resource, *, visit: int = 2, seed: int = 9) -> None:
    """From this visit on another content of the same size with the same ETag: only a checksum can tell."""
    etag = resource.etag or ""
    exchange.send(honest(exchange.request, _now(exchange, resource, visit, seed, None, etag)))


@behaviour
def ever_new(exchange: Exchange, resource: Resource) -> None:
    """Another content with another ETag at every visit: its seed is the visit's number."""
    visit = exchange.request.visit
    exchange.send(honest(exchange.request, replace(resource, seed=visit, etag=f'"v{visit}"')))
