"""Simulated file systems: they fill up, are lost, come to a quota, and have room again."""

from random import Random

from fetchd.daemon.core import inputs
from fetchd.protocol.errors import Code

from .make import AREA

OTHER = "/other/.fetchd/one"
AREAS = (AREA, OTHER, "")
RESERVE = 1 << 20
PLENTY = 1 << 40


class FakeDisks:
    """What is wrong with each file system. A quota lets every write fail, and cannot be seen in `free`."""

    def __init__(self) -> None:
        self.wrong: dict[str, str] = {}
        self.checks: list[str] = []

    def change(self, rng: Random) -> None:
        """Something happens to one of them."""
        area = rng.choice(AREAS)
        if area in self.wrong or rng.random() < 0.3:
            self.wrong.pop(area, None)
        else:
            self.wrong[area] = rng.choice(["full", "low", "quota", "gone"])

    def code(self, area: str) -> Code | None:
        """Why nothing can be written there, or None."""
        wrong = self.wrong.get(area)
        if wrong in (None, "low"):
            return None
        return Code.DISK_GONE if wrong == "gone" else Code.DISK_FULL

    def answer(self, rng: Random) -> inputs.SpaceFound:
        """The answer to one of the questions, as it is now."""
        area = self.checks.pop(rng.randrange(len(self.checks)))
        wrong = self.wrong.get(area)
        free = {"full": 0, "low": RESERVE - 1}.get(str(wrong), PLENTY)
        return inputs.SpaceFound(area, free, RESERVE, "read-only" if wrong == "gone" else "")
