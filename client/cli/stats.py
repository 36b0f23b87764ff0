"""`fetchd stats`: totals."""

from typing import Any

import click
import msgspec

from fetchd.protocol.control import Statistics

from . import text
from .context import Reach, json_option, reaches_daemon
from .output import describe, print_json


@click.command()
@json_option
@reaches_daemon
def stats(reach: Reach, as_json: bool) -> None:
    """Show how much is done, and how fast."""
    with reach() as client:
        found = client.stats()
    if as_json:
        fields: dict[str, Any] = msgspec.to_builtins(found)
        print_json(fields)
    else:
        describe(_lines(found))


def _lines(found: Statistics) -> list[tuple[str, str]]:
    rate = found.success_rate
    lines: list[tuple[str, str | None]] = [
        ("active", f"{found.active} at {text.speed(found.speed)}"),
        ("pending", str(found.pending)),
        ("workers", f"{found.slots.total - found.slots.free} of {found.slots.total} busy"),
        ("completed", f"{found.completed} with {text.size(found.bytes)}"),
        ("failed", str(found.failed)),
        ("cancelled", str(found.cancelled)),
        ("success rate", None if rate is None else f"{rate * 100:.1f} %"),
        ("bulk verbs", f"{found.intents} under way" if found.intents else None),
        ("uptime", text.duration(found.uptime)),
    ]
    return [(name, value) for name, value in lines if value is not None]
