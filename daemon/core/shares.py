"""Max-min fair shares of a bandwidth: nobody gets more as long as somebody who wants more has less.

A limit over all, limits of hosts, and a limit of each attempt. What an attempt cannot use goes to the others,
and what nobody is known to want is shared out too, so that whoever can do more finds room for it.
"""

from collections.abc import Iterable
from math import inf

from msgspec import Struct

FULL = 0.97
"""An attempt that uses this part of its allowance may want more."""

ROOM = 1.05
"""What one that wants less may have, of the speed that it has shown."""

FLOOR = 1024.0
"""What everybody is supposed to want, whatever it has shown, in bytes a second."""


class Taker(Struct, frozen=True):
    """An attempt: its host, its own limit and what it is known to want at most, in bytes a second."""

    name: str
    host: str
    cap: float = inf
    wanted: float = inf


def wanted(speed: float | None, allowance: float | None) -> float:
    """What an attempt wants that has had this allowance for a while and came to this speed."""
    if speed is None or allowance is None or speed >= FULL * allowance:
        return inf
    return max(FLOOR, ROOM * speed)


def divide(
    takers: Iterable[Taker], total: float = inf, hosts: dict[str, float] | None = None
) -> dict[str, float]:
    """What each may have; `inf`: as much as it likes. The sums are never above the limits."""
    limits = hosts or {}
    everyone = list(takers)
    free = {t.name: t.cap for t in everyone if total == inf and t.host not in limits}
    bound = [t for t in everyone if t.name not in free]
    first = _fill({t.name: min(t.cap, t.wanted) for t in bound}, bound, total, limits)
    left = dict(limits)
    for taker in bound:
        if taker.host in left:
            left[taker.host] -= first[taker.name]
    more = _fill({t.name: t.cap - first[t.name] for t in bound}, bound, total - sum(first.values()), left)
    return free | {name: rate + more[name] for name, rate in first.items()}


def _fill(
    bounds: dict[str, float], takers: list[Taker], total: float, limits: dict[str, float]
) -> dict[str, float]:
    """The fair shares of takers that take up to their bounds."""
    of_host: dict[str, list[str]] = {}
    for taker in takers:
        if taker.host in limits:
            of_host.setdefault(taker.host, []).append(taker.name)
    found = dict(bounds)
    for host, names in of_host.items():
        edge = level([bounds[name] for name in names], limits[host])
        found.update({name: min(bounds[name], edge) for name in names})
    edge = level(list(found.values()), total)
    return {name: min(bound, edge) for name, bound in found.items()}


def level(bounds: list[float], limit: float) -> float:
    """The height up to which all bounds fit into a limit together; `inf` where they fit as they are."""
    if limit == inf:
        return inf
    left = max(0.0, limit)
    ordered = sorted(bounds)
    for index, bound in enumerate(ordered):
        share = left / (len(ordered) - index)
        if bound > share:
            return share
        left -= bound
    return inf
