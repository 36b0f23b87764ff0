"""Every row of the table of mischief holds, and the table in the documentation is the one that is held."""

from pathlib import Path

import pytest

from fetchd.daemon.sandbox import room

from . import mischief

DOCUMENT = Path(__file__).parents[2] / "daemon" / "sandbox" / "MISCHIEF.md"


def test_every_row() -> None:
    if lacking := room.missing(room.probe()):
        pytest.skip(lacking)
    with mischief.house() as house:
        wanted = mischief.rows()
        found = house.tries([row.name for row in wanted if not row.deed])
        found |= {row.name: house.deed(row.name) for row in wanted if row.deed}
        wrong = {row.name: found[row.name] for row in wanted if not row.fits(found[row.name])}
    assert not wrong
    assert house.untouched


def test_the_table_is_current() -> None:
    assert DOCUMENT.read_text() == mischief.document()
