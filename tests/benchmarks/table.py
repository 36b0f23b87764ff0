"""Rounds, ratios and the table that every benchmark prints.

All contenders run once in every round, in the same order, so that whatever else the machine does meets them
alike. A ratio is of one round; its median is shown with its extremes.
"""

import os
import platform
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from .meter import Cost

Contender = Callable[[int], Cost]
"""Does the work once, in the round with this number (from 0), and says what it cost."""


class Row(NamedTuple):
    """One line of the table. `goal` says what performance.md asks for, `met` whether it is reached."""

    what: str
    ours: str
    peer: str = ""
    ratio: str = ""
    goal: str = ""
    met: bool | None = None


HEAD = Row("work", "fetchd", "peer", "ratio (min–max)", "goal")


def say(text: str) -> None:
    """Tell whoever waits what goes on; not part of the result."""
    print(f"  {text}", file=sys.stderr, flush=True)


def machine() -> str:
    """What the figures were taken on, in one line."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} CPUs, {memory:.0f} GiB, {_file_system()}, Linux {platform.release()}, "
        f"Python {platform.python_version()}, load {load}"
    )


def rounds(contenders: Mapping[str, Contender], count: int) -> dict[str, list[Cost]]:
    """Let all contenders run in turn, `count` times; what each of their runs cost."""
    costs: dict[str, list[Cost]] = {name: [] for name in contenders}
    for number in range(count):
        for name, contender in contenders.items():
            costs[name].append(cost := contender(number))
            took = f"{cost.wall:.3f} s, CPU {cost.cpu:.2f} s, {megabytes(cost.memory)}"
            say(f"round {number + 1} {name}: {took}")
    return costs


def spread(values: Iterable[float], digits: int = 2) -> str:
    """Median with minimum and maximum."""
    known = sorted(values)
    return f"{median(known):.{digits}f} ({known[0]:.{digits}f}–{known[-1]:.{digits}f})"


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Round by round, ours divided by theirs."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def compare(
    what: str, ours: Sequence[float], theirs: Sequence[float], show: Callable[[float], str], *,
    at_most: float | None = None, at_least: float | None = None,
) -> Row:  # fmt: skip
    """The row for one figure of two contenders; a goal bounds the median ratio."""
    found = ratios(ours, theirs)
    goal, met = "", None
    if at_most is not None:
        goal, met = f"≤ {at_most:g}×", median(found) <= at_most
    elif at_least is not None:
        goal, met = f"≥ {at_least:g}×", median(found) >= at_least
    return Row(what, show(median(ours)), show(median(theirs)), spread(found), goal, met)


def costs(peer: str, ours: Sequence[Cost], theirs: Sequence[Cost], at_most: float | None = None) -> list[Row]:
    """The rows for wall time, CPU and memory against one peer; the goal is of the wall time."""
    return [
        compare(f"wall, {peer}", [c.wall for c in ours], [c.wall for c in theirs], seconds, at_most=at_most),
        compare("  CPU", [c.cpu for c in ours], [max(c.cpu, 1e-3) for c in theirs], seconds),
        compare("  memory", [c.memory for c in ours], [max(c.memory, 1) for c in theirs], megabytes),
    ]


def bounded(what: str, value: float, show: Callable[[float], str], below: float | None = None) -> Row:
    """The row for a figure of ours that has an absolute goal, or none."""
    if below is None:
        return Row(what, show(value))
    return Row(what, show(value), goal=f"< {show(below)}", met=value < below)


def seconds(value: float) -> str:
    """Seconds for a reader, in milliseconds where there are few."""
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.{0 if value >= 0.1 else 2}f} ms"


def megabytes(value: float) -> str:
    """Bytes for a reader."""
    return f"{value / 1e6:.1f} MB"


def per_second(value: float) -> str:
    """A rate for a reader."""
    return f"{value:,.0f}/s"


def percentile(values: Iterable[float], share: float) -> float:
    """The value that this share of the others stays below."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def show(title: str, rows: Sequence[Row], disk: str = "") -> None:
    """Print the table under what was done, on what machine, and how its disk was."""
    lines = [HEAD, *rows]
    wide = [max(len(str(line[column])) for line in lines) for column in range(5)]
    print(f"\n{title}\n{machine()}{disk and ', ' + disk}\n")
    for number, line in enumerate(lines):
        verdict = {True: "  met", False: "  MISSED", None: ""}[line.met]
        cells = (str(cell).ljust(width) for cell, width in zip(line[:5], wide, strict=True))
        print(("  ".join(cells) + verdict).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in wide))
    sys.stdout.flush()


def _file_system() -> str:
    """The type of the file system that /tmp is on."""
    here, best = str(Path("/tmp").resolve()), ("", "?")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, kind, *_ = line.split()
        if (here + "/").startswith(point.rstrip("/") + "/") and len(point) > len(best[0]):
            best = point, kind
    return best[1]
