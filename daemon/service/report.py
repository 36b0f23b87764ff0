"""What the last recovery did, for `doctor` and for the next start: a small JSON file in the state directory.

Nothing depends on it for long: a file that is gone or cannot be read says nothing.
"""

import json
import os
from pathlib import Path
from typing import Any

FILE = "recovery.json"
MAX = 1 << 16
"""Bytes: a longer file is none of ours, and a longer report is not written."""


def noted(state: Path) -> dict[str, Any]:
    """All notes by their keys."""
    try:
        with (state / FILE).open("rb") as file:
            found = json.loads(file.read(MAX + 1))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def note(state: Path, key: str, value: Any) -> None:
    """Replace one note; a reader sees the old file or the new one. Raises OSError, or ValueError if too long.

    For one writer at a time.
    """
    data = json.dumps({**noted(state), key: value}, indent=1).encode()
    if len(data) > MAX:
        raise ValueError(f"a report of {len(data)} bytes is too long")
    fresh = state / f"{FILE}.new"
    with fresh.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(state / FILE)
