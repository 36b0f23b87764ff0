"""Histories on a disk that loses and tears what was not synced, and proof that they find wrong orders.

`FETCHD_DISK=100000` runs so many histories instead of the default; `FETCHD_SIM_SEED=N` begins at seed N, and
with `FETCHD_DISK=1` repeats the one history whose seed a failure has printed.
"""

import os
from random import Random

import pytest

from . import histories
from .disk_model import HOLE, Disk
from .workspaces import MUTANTS

HISTORIES = int(os.environ.get("FETCHD_DISK", "300"))
FIRST = int(os.environ.get("FETCHD_SIM_SEED", "0"))
PARTS = 4


@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_is_lost_or_mixed(part: int) -> None:
    for seed in range(FIRST + part, FIRST + HISTORIES, PARTS):
        try:
            histories.stored(seed)
        except BaseException as error:
            error.add_note(f"seed {seed}: FETCHD_DISK=1 FETCHD_SIM_SEED={seed}")
            raise


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_wrong_order_is_found(mutant: str) -> None:
    with pytest.raises(AssertionError, match=r"is not whole|is not synced|is fetched again"):
        live_many(5000, mutant)


def live_many(count: int, mutant: str) -> None:
    for seed in range(count):
        histories.stored(seed, mutant)


# the model


def test_a_power_cut_leaves_any_part_of_what_was_not_synced() -> None:
    seen = set()
    for seed in range(200):
        disk = Disk()
        file = disk.make("d/f")
        file.write(0, 1)
        assert disk.sync(file)
        file.write(1, 1)
        file.write(2, 1)
        disk.power_cut(Random(seed))
        seen.add(tuple(disk.names["d/f"].cache))
    assert {(1,), (1, 1), (1, HOLE, 1), (1, 1, 1)} <= seen


def test_names_come_back_in_their_order_unless_the_directory_was_synced() -> None:
    seen = set()
    for seed in range(50):
        disk = Disk()
        disk.make("a/one")
        disk.sync_directory("a")
        disk.move({"a/one": "b/two"})
        disk.make("a/three")
        disk.power_cut(Random(seed))
        seen.add(tuple(sorted(disk.names)))
    assert seen == {("a/one",), ("b/two",), ("a/three", "b/two")}


def test_a_failed_sync_is_told_once_and_its_pages_are_lost() -> None:
    disk, rng = Disk(), Random(1)
    file = disk.make("d/f")
    for block in range(8):
        file.write(block, 1)
    file.lose(rng)
    assert not disk.sync(file)
    assert file.cache == [1] * 8
    assert disk.sync(file)
    assert file.disk != [1] * 8
