"""The table of faults names code and tests that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "daemon" / "FAULTS.md"


def named(column: int) -> set[str]:
    """The paths in a column of the table."""
    rows = [line.split(" | ") for line in TABLE.read_text().splitlines() if line.startswith("| ")]
    return {path for row in rows if len(row) == 4 for path in re.findall(r"`([\w/]+\.py)`", row[column])}


@pytest.mark.parametrize(("column", "folder"), [(2, "daemon"), (3, "tests")])
def test_what_the_table_names_exists(column: int, folder: str) -> None:
    paths = named(column)
    assert len(paths) > 15, "the table was not read"
    assert not sorted(path for path in paths if not (ROOT / folder / path).is_file())
