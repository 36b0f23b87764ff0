"""Which stretches of a file are fetched by whom: pure rules of dividing work and taking it over.

A segment is a written range and the hole behind it: `[start, position)` is there, `[position, end)` is to
come. The board begins with what earlier attempts left, hands out holes, and where all are taken divides the
one that would last longest. Bytes up to `claimed` are already on their way and stay with their owner.

Nothing here is safe between threads; the sink holds its lock around it.
"""

from collections.abc import Iterable

SPLIT = 1 << 20
"""Bytes that a part must have at least to be worth a request, unless it would take its owner long."""

SPLIT_SLOW = 64 << 10
SETTLED = 1.0
"""Seconds after which a connection's speed says something."""

LONG = 2.0
"""Seconds: a remainder that lasts longer is divided down to `SPLIT_SLOW`."""

MAX_SEGMENTS = 112
"""Of the `journal.MAX_RANGES` that can be noted. No work is divided further then."""

Ranges = tuple[tuple[int, int], ...]


class Segment:
    """One written range and the hole behind it. `end` None: nobody knows yet.

    `since` and `before` are when its owner took it (s) and where: what its speed is measured from.
    """

    __slots__ = ("before", "claimed", "end", "index", "owner", "position", "since", "start")

    def __init__(self, index: int, start: int, position: int, end: int | None) -> None:
        self.index = index
        self.start = start
        self.position = position
        self.claimed = position
        self.end = end
        self.owner: object | None = None
        self.since = 0.0
        self.before = position

    @property
    def left(self) -> int:
        """Bytes that nobody has claimed yet; 0 where the end is not known."""
        return 0 if self.end is None else self.end - self.claimed

    @property
    def complete(self) -> bool:
        return self.end is not None and self.position >= self.end

    def speed(self, now: float) -> float:
        """Bytes a second since its owner took it."""
        return (self.position - self.before) / max(now - self.since, 1e-3)

    def claim(self, wanted: int) -> int:
        """How many of `wanted` bytes its owner may receive next; 0 at its end."""
        count = wanted if self.end is None else min(wanted, self.end - self.position)
        self.claimed = self.position + count
        return count


class Board:
    """All segments of a file of `total` bytes (None: not known), beginning with the ranges that are there."""

    def __init__(self, total: int | None, have: Ranges) -> None:
        starts = have if have and have[0][0] == 0 else ((0, 0), *have)
        ends = [start for start, _ in starts[1:]]
        self.total = total
        self.segments = [
            Segment(index, start, position, end)
            for index, ((start, position), end) in enumerate(zip(starts, [*ends, total], strict=True))
        ]

    def ranges(self) -> Ranges:
        """What is there, ascending, touching ones made one."""
        found: list[tuple[int, int]] = []
        for segment in sorted(self.segments, key=lambda segment: segment.start):
            if segment.position == segment.start:
                continue
            if found and found[-1][1] == segment.start:
                found[-1] = (found[-1][0], segment.position)
            else:
                found.append((segment.start, segment.position))
        return tuple(found)

    def frontier(self) -> int:
        """How far the file is there without a hole."""
        reached = 0
        for segment in sorted(self.segments, key=lambda segment: segment.start):
            if segment.start > reached:
                break
            reached = max(reached, segment.position)
        return reached

    @property
    def complete(self) -> bool:
        return all(segment.complete for segment in self.segments)

    def open(self) -> Iterable[Segment]:
        """Segments with a hole that nobody works at."""
        return (segment for segment in self.segments if segment.owner is None and not segment.complete)

    def take(self, owner: object, now: float, at: int | None = None) -> Segment | None:
        """A hole for this owner: the free one `at` this place, or the first one, or a part of a taken one."""
        if at is not None:
            segment = next((segment for segment in self.open() if segment.position == at), None)
        else:
            segment = min(self.open(), key=lambda segment: segment.position, default=None)
            segment = segment or self._divide(now)
        if segment is not None:
            segment.owner, segment.since, segment.before = owner, now, segment.position
            segment.claimed = segment.position
        return segment

    def give_back(self, segment: Segment) -> None:
        """Its owner goes: what is left of the hole is free."""
        segment.owner = None
        segment.claimed = segment.position

    def worth(self, parts: int) -> int:
        """Into how many parts the whole is worth to be divided, at most `parts`."""
        left = 0 if self.total is None else self.total - sum(end - start for start, end in self.ranges())
        return max(1, min(parts, left // SPLIT))

    def spread(self, parts: int) -> None:
        """Divide the holes evenly before anybody works at them."""
        while sum(1 for _ in self.open()) < parts and len(self.segments) < MAX_SEGMENTS:
            largest = max(self.open(), key=lambda segment: segment.left, default=None)
            if largest is None or largest.left < 2 * SPLIT:
                return
            self._cut(largest, largest.position + largest.left // 2)

    def _divide(self, now: float) -> Segment | None:
        if len(self.segments) >= MAX_SEGMENTS:
            return None
        taken = [segment for segment in self.segments if segment.owner is not None and segment.left > 0]
        if not taken:
            return None
        # whoever has just begun has no speed yet: it counts as one of the usual speed
        known = [segment.speed(now) for segment in taken if now - segment.since >= SETTLED]
        usual = max(sum(known) / len(known), 1.0) if known else None

        def seconds(segment: Segment) -> float:
            if usual is None:
                return segment.left
            return segment.left / max(segment.speed(now) if now - segment.since >= SETTLED else usual, 1.0)

        def is_worth_it(segment: Segment) -> bool:
            slow = usual is not None and seconds(segment) > LONG
            return segment.left >= (SPLIT_SLOW if slow else 2 * SPLIT)

        victim = max(filter(is_worth_it, taken), key=seconds, default=None)
        if victim is None:
            return None
        # both are to end together, if the newcomer is as fast as the others are
        speed = victim.left / seconds(victim)
        share = 0.5 if usual is None else speed / (speed + usual)
        assert victim.end is not None
        return self._cut(victim, victim.end - max(1, int(victim.left * (1 - share))))

    def _cut(self, victim: Segment, at: int) -> Segment:
        """Give everything from `at` on to a new segment."""
        made = Segment(len(self.segments), at, at, victim.end)
        victim.end = at
        self.segments.append(made)
        return made
