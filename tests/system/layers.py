"""Which layers stop what: every try again, in rooms that lack some of them.

python -m tests.system.layers [--detail]    (root; a minute)

A layer is named where its absence changes the answer, in the whole room or in one that lacks others already:
what two layers stop names both. They are taken out by a kernel that refuses them, in namespaces of the
daemon's own, as without any of them a worker of root could do anything. Prints what `rows.py` says otherwise,
and exits with 1 then; `--detail` shows every answer. It takes one who may not raise limits: who may is kept
from it by capabilities, too.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain, combinations
from pathlib import Path

from support import kernels

from fetchd.protocol.errors import FetchdError

from .mischief import House, house, rows
from .rows import Row

WITHOUT: dict[str, kernels.Calls] = {
    "Landlock": kernels.NO_LANDLOCK,
    "seccomp": kernels.NO_SECCOMP,
    "capabilities": kernels.NO_CAPSET,
    "limits": kernels.NO_CORE_LIMIT,
}
"""Layers in the order in which they are named, and what a kernel refuses that has none of it."""

NAMESPACES = ("unshare", "--mount", "--uts", "--ipc")

Lacking = frozenset[str]


def rooms() -> Iterator[Lacking]:
    """All rooms that lack some layers; the limits are missing alone, or together with capabilities."""
    others = [layer for layer in WITHOUT if layer != "limits"]
    for some in chain.from_iterable(combinations(others, count) for count in range(len(others) + 1)):
        yield frozenset(some)
    yield frozenset({"limits"})
    yield frozenset({"limits", "capabilities"})


def answers(lacking: Lacking, tried: Iterable[Row]) -> dict[str, str]:
    """What comes of each try in a job of its own, with a decoy for what it destroys."""
    refused = {call: error for layer in lacking for call, error in WITHOUT[layer].items()}
    found = {}
    with house({"FETCHD_SANDBOX": "best-effort"}, [*NAMESPACES, *kernels.wrapper(refused)]) as made:
        missing = {layer for layer, state in made.client.status().sandbox.items() if state != "on"}
        assert missing == {layer.lower() for layer in lacking}, missing
        made.aims["database"] = str(made.daemon.state / "decoy.db")
        made.aims["published"] = str(made.destination / "decoy")
        for row in tried:
            prepare(made)
            try:
                found[row.name] = made.deed(row.name) if row.deed else made.tries([row.name])[row.name]
            except FetchdError as error:
                found[row.name] = f"{error.code}: {error.message}"
        prepare(made)
    return found


def prepare(made: House) -> None:
    """Put what a try aims at, and what the one before it left, in order."""
    for place in (made.destination / "evil", Path("/dev/shm/evil")):
        with suppress(FileNotFoundError):
            place.rmdir() if place.is_dir() else place.unlink()
    os.sched_setscheduler(made.daemon.pid, os.SCHED_OTHER, os.sched_param(0))
    os.setpriority(os.PRIO_PROCESS, made.daemon.pid, 0)
    os.sched_setaffinity(made.daemon.pid, os.sched_getaffinity(0))
    for name in ("database", "published"):
        Path(str(made.aims[name])).write_text("decoy")


def layers_of(name: str, found: Mapping[Lacking, Mapping[str, str]]) -> list[str]:
    """The layers whose absence changes the answer."""
    return [
        layer
        for layer in WITHOUT
        if any(
            lacking | {layer} in found and found[lacking][name] != found[lacking | {layer}][name]
            for lacking in found
            if layer not in lacking
        )
    ]


def main() -> int:
    """Try everything in every room."""
    if os.geteuid() != 0:
        sys.exit("only root has capabilities that can be left to a worker")
    tried = [row for row in rows() if not row.deed or row.layer.partition(",")[0] in WITHOUT]
    found = {}
    for lacking in rooms():
        found[lacking] = answers(lacking, tried)
        print(f"without {', '.join(sorted(lacking)) or 'nothing'}: {len(tried)} tries", flush=True)
    wrong = 0
    for row in tried:
        said = ", ".join(layers_of(row.name, found)) or "none of them"
        named = row.layer if row.layer.partition(",")[0] in WITHOUT else "none of them"
        if said != named:
            wrong += 1
            print(f"{row.name}: {said}, not {named}")
        if "--detail" in sys.argv:
            for lacking, came in found.items():
                print(
                    f"    {row.name} without {'+'.join(sorted(lacking)) or 'nothing'}: {came[row.name][:60]}"
                )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
