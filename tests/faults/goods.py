"""What a campaign offers for download: a path of its own for every job, and all contents it ever has.

Each kind of server is one function; what it may rightly end with beside its file is in `Goods.failures`.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from support.content import Pattern, digest_of, write_content
from support.nginx import Nginx
from support.origin import Origin, Resource, Step

VISITS = 60
"""Contents of an ever new file that are known."""

PIECE = 8192
"""Bytes in which a steady file is sent: what may be sent and never read when a connection breaks."""


@dataclass(frozen=True)
class Goods:
    """One file on offer. `versions` are the SHA-256 of all contents that it ever has.

    `size` is in bytes. `steady`: one content, at a pace at which next to nothing is under way in buffers, so
    that what the origin sent tells what was fetched twice.
    """

    kind: str
    path: str
    url: str
    size: int
    versions: frozenset[str]
    steady: bool = False
    failures: frozenset[str] = frozenset()


class Shop:
    """Makes goods of random kinds, sizes and contents. `name` is part of all their paths."""

    def __init__(self, name: str, origin: Origin, nginx: Nginx | None, chance: random.Random) -> None:
        self.name = name
        self.origin = origin
        self.nginx = nginx
        self._chance = chance
        self._count = 0

    def make(self) -> Goods:
        """Another file."""
        self._count += 1
        chance = self._chance
        kinds = [kind for kind in KINDS if self.nginx is not None or kind is not from_nginx]
        kind = chance.choices(kinds, [OFTEN.get(kind, 1) for kind in kinds])[0]
        odd = chance.random() < 0.1
        size = chance.choice([0, 1, 65_536, 65_537]) if odd else int(10 ** chance.uniform(4, 5.5))
        return kind(self, f"/{self.name}{self._count}", size, chance.randrange(1 << 30))

    def goods(
        self, behaviour: str, path: str, length: int, /, *seeds: int, times: int | None = None,
        **options: object,
    ) -> Goods:  # fmt: skip
        """Goods of the hostile origin, by one of its behaviours: the first of `seeds` is what it has now."""
        step = Step(Resource(size=length, seed=seeds[0]), behaviour, times or 1, **options)
        url = self.origin.script(path, step, *([] if times is None else [Step(step.resource)]))
        versions = frozenset(digest_of(Pattern(length, seed)) for seed in seeds)
        return Goods(behaviour, path, url, length, versions)

    def some(self, least: int, most: int) -> int:
        """A random number."""
        return self._chance.randint(least, most)


Kind = Callable[[Shop, str, int, int], Goods]


def plain(shop: Shop, path: str, size: int, seed: int) -> Goods:
    """By the rules, in one of several framings."""
    behaviour = ("plain", "chunked", "no_ranges", "trailers", "tiny_chunks")[seed % 5]
    return shop.goods(behaviour, path, size, seed)


def steady(shop: Shop, path: str, size: int, seed: int) -> Goods:
    """In small pieces at a pace: half a second to several."""
    size, interval = shop.some(300_000, 1_500_000), shop.some(7, 20) / 1000
    made = shop.goods("dripped_body", path, size, seed, interval=interval, size=PIECE)
    return replace(made, kind="steady", steady=True)


def cut(shop: Shop, path: str, size: int, seed: int) -> Goods:
    """The connection breaks once or twice on the way, by FIN or by RST."""
    after, times = shop.some(0, size), shop.some(1, 2)
    return shop.goods("cut", path, size, seed, times=times, after=after, reset=bool(seed % 2))


def cut_at(shop: Shop, path: str, size: int, seed: int) -> Goods:
    """The connection breaks at one offset, whoever comes across it."""
    return shop.goods("cut_at", path, size, seed, offset=shop.some(1, max(1, size)))


def headless(shop: Shop, path: str, size: int, seed: int) -> Goods:
    """No answer, half a head, or an error, and then the file."""
    kind = ("drop", "cut_head", "status")[seed % 3]
    if kind == "status":
        return shop.goods(kind, path, size, seed, times=1, code=500)
    return shop.goods(kind, path, size, seed, times=1)


def stalled(shop: Shop, path: str, size: int, seed: int) -> Goods:
    """Some bytes and then silence, until the client gives up; then the file."""
    return shop.goods("never", path, size, seed, times=1, after=size // 2)


def changed(shop: Shop, path: str, size: int, seed: int) -> Goods:
    """Another content with another ETag from some visit on; the first visits are slow enough to be cut."""
    return _changed(shop, path, max(size, 50_000), seed, Step)


def changed_blind(shop: Shop, path: str, size: int, seed: int) -> Goods:
    """The same, and ranges are served whatever If-Range says."""
    size = max(size, 50_000)
    return _changed(shop, path, size, seed, lambda new: Step(new, "cut", after=size, blind=True))


def _changed(shop: Shop, path: str, size: int, seed: int, later: Callable[[Resource], Step]) -> Goods:
    old, new = Resource(size=size, seed=seed), Resource(size=size, seed=seed + 1, etag='"v2"')
    first = Step(old, "paced", shop.some(1, 2), rate=size / shop.some(1, 3))
    url = shop.origin.script(path, first, later(new))
    versions = frozenset(digest_of(each.content) for each in (old, new))
    return Goods("changed", path, url, size, versions)


def ever_new(shop: Shop, path: str, size: int, seed: int) -> Goods:
    """Another content at every visit."""
    size = min(size, 50_000)
    return shop.goods("ever_new", path, size, *range(VISITS))


def range_liar(shop: Shop, path: str, size: int, seed: int) -> Goods:
    """A Range is answered by everything, by another part, or by an error."""
    kind = ("ignore_range", "shifted_206", "bare_416")[seed % 3]
    if kind == "shifted_206":
        return shop.goods(kind, path, size, seed, by=7)
    return shop.goods(kind, path, size, seed)


def elsewhere(shop: Shop, path: str, size: int, seed: int) -> Goods:
    """Redirects first."""
    kind = ("redirect_chain", "redirect_hosts")[seed % 2]
    return shop.goods(kind, path, size, seed, hops=3)


def dripping(shop: Shop, path: str, size: int, seed: int) -> Goods:
    """Small pieces, one after another."""
    size = min(size, 60_000)
    return shop.goods("dripped_body", path, size, seed, after=size // 3, interval=0.03, size=2_000)


def missing(shop: Shop, path: str, size: int, seed: int) -> Goods:
    """Nothing there."""
    made = shop.goods("status", path, size, seed, code=404)
    return replace(made, failures=frozenset({"not_found"}))


def from_nginx(shop: Shop, path: str, size: int, seed: int) -> Goods:
    """A real server, at its own pace, slow, or without ranges."""
    assert shop.nginx is not None
    content = Pattern(size, seed)
    write_content(shop.nginx.www / path[1:], content)
    folder = ("", "slow/", "norange/")[seed % 3]
    url = shop.nginx.url(folder + path[1:])
    return Goods(f"nginx/{folder}", path, url, size, frozenset({digest_of(content)}))


OFTEN: dict[Kind, int] = {steady: 6, changed: 2, changed_blind: 2}
"""How many times more often than another kind."""

KINDS: list[Kind] = [
    plain, steady, cut, cut_at, headless, stalled, changed, changed_blind, ever_new, range_liar, elsewhere,
    dripping, missing, from_nginx,
]  # fmt: skip
