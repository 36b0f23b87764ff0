"""The core in random histories: crashes, failed commits, dying and lying workers, races of every kind.

`FETCHD_SIM=100000` runs so many histories instead of the default; `FETCHD_SIM_SEED=N` begins at seed N, and
with `FETCHD_SIM=1` repeats the one history whose seed a failure has printed.
"""

import os

import pytest

from fetchd.daemon.core import schedule, waiting

from . import histories

HISTORIES = int(os.environ.get("FETCHD_SIM", "2500"))
FIRST = int(os.environ.get("FETCHD_SIM_SEED", "0"))
PARTS = 10


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows, lanes and waits so small that a few jobs overflow them."""
    monkeypatch.setattr(schedule, "MAX_LANES", 4)
    monkeypatch.setattr(schedule, "WINDOW", 4)
    monkeypatch.setattr(schedule, "ROWS_IN_MEMORY", 16)
    monkeypatch.setattr(waiting, "IN_MEMORY", 4)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("part", range(PARTS))
def test_random_histories(part: int) -> None:
    for seed in range(FIRST + part, FIRST + HISTORIES, PARTS):
        try:
            histories.live(seed)
        except BaseException as error:
            error.add_note(f"seed {seed}: FETCHD_SIM=1 FETCHD_SIM_SEED={seed}")
            raise
