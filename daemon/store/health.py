"""What the state directory tells of the database without opening it: backups, what was put aside, repairs.

For `fetchd doctor`, beside a daemon that runs.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from fetchd.daemon.service import report

from . import backup, damage

Line = tuple[Literal["ok", "warn", "fail"], str, str | None]
"""How bad it is, what it is, and what helps."""


def look(state: Path) -> Iterator[Line]:
    """All there is to say."""
    backups = backup.found(state)
    if backups:
        age = max(0, time.time_ns() // 1000 - backups[-1].time) // 60_000_000
        yield "ok", f"{len(backups)} backups, the newest {age // 60} h {age % 60} min old", None
    elif (state / "fetchd.db").exists():
        yield "warn", "there is no backup yet", "the daemon makes one by itself, see backup_interval"
    else:
        yield "ok", "there is none yet", None
    if (reason := damage.marked(state)) is not None:
        yield "warn", f"suspected to be damaged: {reason}", "the daemon checks it when it opens it next"
    aside = sorted(path.name for path in (state / "damaged").glob("*"))
    if aside:
        text = f"{len(aside)} damaged ones were put aside in {state / 'damaged'}, the last one {aside[-1]}"
        yield "warn", text, "check the disk and the memory; delete them when they are not needed any more"
    told = report.read(state)
    for key in ("database", "secrets"):
        if isinstance(told.get(key), dict):
            yield "warn", f"last repair: {told[key].get('message')}", None
