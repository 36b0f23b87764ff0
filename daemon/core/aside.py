"""Lanes that were put aside because something holds them, by host: what holds them is often their host."""

from collections.abc import Iterator

from .job import Lane
from .rights import is_of


class Aside:
    """A set of lanes of which those of one host can be taken out without looking at the others."""

    def __init__(self) -> None:
        self._of: dict[str, set[Lane]] = {}
        self._count = 0

    def __contains__(self, lane: Lane) -> bool:
        return lane in self._of.get(lane.host, ())

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Lane]:
        return (lane for lanes in self._of.values() for lane in lanes)

    def add(self, lane: Lane) -> None:
        if lane not in self:
            self._of.setdefault(lane.host, set()).add(lane)
            self._count += 1

    def discard(self, lane: Lane) -> None:
        if lane in self:
            self._count -= 1
            self._of[lane.host].discard(lane)
            if not self._of[lane.host]:
                del self._of[lane.host]

    def take(self, freed: tuple[str, str] | None) -> list[Lane]:
        """Take out the lanes of a host or owner, by (kind, name), or all."""
        match freed:
            case None:
                taken = list(self)
            case ("host", host):
                taken = list(self._of.get(host, ()))
            case (_, owner):
                taken = [lane for lane in self if is_of(lane, owner)]
        for lane in taken:
            self.discard(lane)
        return taken
