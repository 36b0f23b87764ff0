"""Where files may be delivered to: never among the daemon's own, and below the roots where there are any.

This is looked at when a job is submitted; publishing has to see for itself that nothing has changed since.
"""

import contextlib
import os
import pwd
from collections.abc import Iterable
from pathlib import Path

from fetchd.protocol.errors import Code, FetchdError

from .area import HIDDEN

USER = "{user}"


class Roots:
    """`own` are the directories of the daemon. Called from helper threads; `limit` at any time."""

    def __init__(self, *own: Path) -> None:
        self._own = [os.path.realpath(path) for path in own]
        self._roots: tuple[str, ...] = ()

    def limit(self, roots: Iterable[str]) -> None:
        """Only below these directories from now on; none: anywhere."""
        self._roots = tuple(roots)

    @property
    def relative(self) -> bool:
        """Whether a directory may be given relative to the owner's root, the first one."""
        return bool(self._roots)

    def resolve(self, directory: str, owner: str) -> str:
        """The canonical path of a destination, or `FetchdError` with `destination`."""
        roots = [root.replace(USER, _name(owner)) if USER in root else root for root in self._roots]
        if roots:
            directory = os.path.join(roots[0], directory)
        canonical = os.path.realpath(directory)
        if HIDDEN in canonical.split("/") or any(_below(canonical, own) for own in self._own):
            raise FetchdError(Code.DESTINATION, f"{directory} is among the daemon's own files")
        if roots and not any(_below(canonical, os.path.realpath(root)) for root in roots):
            raise FetchdError(Code.DESTINATION, f"{directory} is not below {' or '.join(roots)}")
        return canonical


def _below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _name(owner: str) -> str:
    """An owner's name as a directory; that of a key cannot be a user's."""
    kind, _, name = owner.partition(":")
    if kind == "key":
        name = f"key-{name}"
    if kind == "uid":
        with contextlib.suppress(KeyError, ValueError):
            name = pwd.getpwuid(int(name)).pw_name
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        raise FetchdError(Code.DESTINATION, f"{owner} cannot have a directory of their own")
    return name
