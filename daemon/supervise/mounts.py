"""Which mount a path lies on (proc(5), mountinfo): a rename works within one mount only.

The mount point is what is remembered of a mount: it is the same again after the file system was unmounted and
mounted, and another one while it is not there.
"""

import os
import re
from typing import NamedTuple

_OCTAL = re.compile(r"\\([0-7]{3})")


class Mount(NamedTuple):
    """A mounted file system. `id` names this mount of it, until it is unmounted."""

    point: str
    id: str


def mounts() -> list[Mount]:
    """All mounts, longest mount point first; of two on one point the upper one first."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = line.split(" ")
            found.append(Mount(_OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4]), fields[0]))
    # the later one is on top
    found.reverse()
    return sorted(found, key=lambda mount: -len(mount.point))


def mount_of(path: str, among: list[Mount] | None = None) -> Mount:
    """The mount that a canonical path lies on. Nothing on the file system itself is touched for that."""
    for mount in mounts() if among is None else among:
        if path == mount.point or path.startswith(mount.point.rstrip("/") + "/"):
            return mount
    return Mount("/", "")


def same_mount(one: str, other: str) -> bool:
    """Whether two canonical paths lie on one mount, so that a rename between them is possible."""
    among = mounts()
    return mount_of(one, among) == mount_of(other, among)


def nearest(path: str) -> str:
    """The path itself, or the nearest of its parents that exists."""
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return path
