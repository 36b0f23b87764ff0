"""How many connections are good for a download: as many as were asked for, or found out by trying.

More are opened only where one does not fill the pipe: where what is left would take a while, and each
doubling has made it clearly faster. Pure: time and bytes come in, a number comes out.
"""

FIRST = 0.5
"""Seconds until one connection is judged, and between two doublings (their slow start included)."""

WORTH = 2.0
"""Seconds that the rest must take at the present speed for another connection to be worth opening."""

GAIN = 1.25
"""A doubling must bring this factor to be followed by another one; less than `KEEP` and it is undone."""

KEEP = 1.1


class Ramp:
    """`fixed`: the number that was asked for, None: as many as help, to `MOST`. `due`: when to ask next."""

    MOST = 8

    def __init__(self, fixed: int | None) -> None:
        self._want = fixed or 1
        self._decided = fixed is not None
        self._most = fixed or self.MOST
        self._speed = 0.0
        self._since = 0.0
        self._bytes = 0
        self.due: float | None = None

    def begin(self, now: float, on_hand: int) -> int:
        """How many to begin with."""
        if not self._decided:
            self._since, self._bytes, self.due = now, on_hand, now + FIRST
        return self._want

    def hold(self, working: int) -> None:
        """A connection was lost: not more than so many again."""
        self._most = max(1, working)
        self._want = min(self._want, self._most)
        if self._want == self._most and not self._decided:
            self._decide()

    def want(self, now: float, on_hand: int, total: int, *, limited: bool) -> int:
        """How many there should be now. `limited`: the rate is bounded, more connections bring nothing."""
        if self.due is None or now < self.due:
            return self._want
        speed = (on_hand - self._bytes) / (now - self._since)
        if limited or total - on_hand < WORTH * speed or speed <= 0:
            self._decide()
        elif self._want == 1 or speed >= GAIN * self._speed:
            self._grow(now, on_hand, speed)
        else:
            if speed < KEEP * self._speed:
                self._want = max(1, self._want // 2)
            self._decide()
        return self._want

    def _grow(self, now: float, on_hand: int, speed: float) -> None:
        if self._want >= self._most:
            self._decide()
            return
        self._want = min(self._most, 2 * self._want)
        self._speed, self._since, self._bytes, self.due = speed, now, on_hand, now + 2 * FIRST

    def _decide(self) -> None:
        self._decided, self.due = True, None
