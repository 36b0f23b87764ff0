"""What workers take, as it is measured: of real processes, and what is said where there are none."""

import os
from collections.abc import Iterator

import pytest
from support.wait import readable

from fetchd.daemon.supervise.helpers import Helpers
from fetchd.daemon.supervise.usage import Watch


@pytest.fixture
def helpers() -> Iterator[Helpers]:
    made = Helpers()
    yield made
    made.close()


def test_every_look_is_told_of(helpers: Helpers) -> None:
    """Also one at nobody: whoever listens hears of the rest then."""
    pids: dict[tuple[int, int], int] = {}
    told: list[int] = []
    watch = Watch(helpers, lambda: pids, lambda: 0, lambda _slot, _incarnation: None)
    watch.told = lambda: told.append(len(watch.usage))
    watch.look()
    assert told == [0]
    pids[0, 1] = os.getpid()
    watch.look()
    while len(told) < 2:
        readable(helpers.wake, 10)
        helpers.take()
    assert told == [0, 1]
    assert watch.of(0, 1)["memory"] > 1_000_000
    pids.clear()
    watch.look()
    assert told == [0, 1, 0]
