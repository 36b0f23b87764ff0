"""Prints what comes of every behaviour, by the way that the bytes take and the number of segments.

python -m tests.adapters.matrix [splice|direct|buffered …] [WORD …]

With words, only behaviours with one of them in their names. A cell that is not as it should be has a `!`.
"""

import sys
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))  # where the tests find `support`

if TYPE_CHECKING:
    from support.tls import Certificates

    from .trials import Trial

FIRST, CELL = 60, 19


def line(first: str, cells: Iterable[str]) -> None:
    """One line of the table."""
    print(first[:FIRST].ljust(FIRST), *(cell.ljust(CELL) for cell in cells), flush=True)


def end_of(trial: "Trial", certificates: "Certificates") -> str:
    """What comes of a trial, at an origin and in a workspace of its own."""
    from support.origin import Origin

    from .attempts import room as rooms
    from .trials import attempt

    with Origin(certificates.server_context() if trial.tls else None) as origin, rooms() as room:
        end = attempt(trial, origin, room, str(certificates.authority))
    return ("ok" if end == "Finished" else end) + " !" * (end not in trial.wanted)


def main(words: list[str]) -> int:
    """Run the trials and print a row for each case; 1 if there is a wrong cell."""
    from support import tls
    from support.tmp import TempDir

    from .cases import CASES
    from .trials import PATHS, SEGMENTS, trials

    names = [word for word in words if word not in PATHS]
    chosen = [case for case in CASES if not names or any(name in case.name for name in names)]
    paths = [path for path in PATHS if path in words] or list(PATHS)
    columns = [(path, segments) for path in paths for segments in SEGMENTS]
    wrong = 0
    line("behaviour", (f"{path}, {segments}" for path, segments in columns))
    with TempDir() as directory:
        certificates = tls.make_certificates(directory)
        for title, row in groupby(trials(chosen), lambda trial: trial.title):
            at = {(trial.path, trial.segments): trial for trial in row}
            cells = [end_of(at[column], certificates) if column in at else "" for column in columns]
            wrong += sum(cell.endswith("!") for cell in cells)
            line(title, cells)
    print(f"{wrong} cells are not as they should be")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
