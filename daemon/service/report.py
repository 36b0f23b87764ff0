"""What the recovery of a start or of a fault had to do, for people: `recovery.json` in the state directory.

Every part of the daemon that repairs something keeps one key; `fetchd doctor` shows them all.
"""

import json
import os
from pathlib import Path
from typing import Any

NAME = "recovery.json"
MOST = 64 << 10
"""Bytes of the file; a value that would make it larger is left out."""


def read(state: Path) -> dict[str, Any]:
    """What was noted; nothing where the file is missing, too large or damaged."""
    try:
        with open(state / NAME, "rb") as file:
            found = json.loads(file.read(MOST))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def note(state: Path, key: str, value: Any) -> None:
    """Keep the newest value of a key; readers see the old file or the new one. OSError where that fails."""
    text = json.dumps({**read(state), key: value}, indent=1)
    if len(text) > MOST:
        return
    fresh = state / f"{NAME}.new"
    fresh.write_text(text, encoding="utf-8")
    os.replace(fresh, state / NAME)
