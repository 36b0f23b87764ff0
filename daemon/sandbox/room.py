"""The room: one interface, and the layers behind it in the order that they have to come in.

`enter` first thing in the process, before it has threads: limits, capabilities, no_new_privs, Landlock.
`seal` once what needs more is done (a connection by a socket with a path, say): seccomp. Both tell of each
layer whether it is `on`, `partial: why`, `unavailable: why`, or `off`.
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Literal, NamedTuple

from . import landlock, privileges, seccomp
from .kernel import LayerError

Mode = Literal["required", "best-effort", "off"]

ENTERED, SEALED = ("limits", "capabilities", "no_new_privs", "landlock"), ("seccomp",)
LAYERS = (*ENTERED, *SEALED)

Layers = dict[str, str]
ON, OFF = "on", "off"


class Policy(NamedTuple):
    """What is left to a process.

    It may write files beneath `writable`, and make and remove some there only with `make`; it may read
    beneath `readable`. TCP connections go to `ports` (None: to any). Memory is its address space, in bytes.
    """

    writable: tuple[str, ...]
    readable: tuple[str, ...]
    make: bool = False
    ports: tuple[int, ...] | None = None
    memory: int = 1 << 30
    open_files: int = 256
    file_size: int | None = None


class RoomError(Exception):
    """A layer that is required is not to be had; the message says which and why."""


def enter(policy: Policy, mode: Mode) -> Layers:
    """Lock everything but seccomp. Raises `RoomError` where `mode` requires what there is not."""
    return _apply(
        mode,
        limits=lambda: privileges.limit(
            memory=policy.memory, open_files=policy.open_files, file_size=policy.file_size
        ),
        capabilities=privileges.drop_capabilities,
        no_new_privs=privileges.no_new_privileges,
        landlock=lambda: _landlock(policy),
    )


def seal(mode: Mode) -> Layers:
    """Lock the last layer, for all threads. Raises `RoomError` where `mode` requires what there is not."""
    return _apply(mode, seccomp=seccomp.install)


def probe() -> Layers:
    """What could be had here: every layer is tried, in a forked child, so that nothing is changed."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            tried = enter(Policy((), (), memory=sys.maxsize), "best-effort") | seal("best-effort")
            os.write(writing, json.dumps(tried).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    if not said:
        ended = os.waitstatus_to_exitcode(status)
        return dict.fromkeys(LAYERS, f"unavailable: a trial ended with {ended}")
    found: Layers = json.loads(said)
    return found


def missing(layers: Layers) -> str | None:
    """What of it does not hold, in words, or None."""
    return "; ".join(f"{name}: {state}" for name, state in layers.items() if state != ON) or None


def _landlock(policy: Policy) -> str | None:
    with landlock.Ruleset(connect=policy.ports is not None) as rules:
        rules.allow(policy.readable, landlock.READ)
        rules.allow(policy.writable, landlock.WRITE | (landlock.MAKE if policy.make else 0))
        rules.allow_ports(policy.ports or ())
        rules.restrict()
    passing = landlock.ungoverned(rules.version)
    return f"partial: version {rules.version} does not govern {passing}" if passing else None


def _apply(mode: Mode, **layers: Callable[[], str | None]) -> Layers:
    if mode == "off":
        return dict.fromkeys(layers, OFF)
    found: Layers = {}
    for name, lock in layers.items():
        try:
            found[name] = lock() or ON
        except OSError as error:
            found[name] = f"unavailable: {error.strerror}"
        except (LayerError, ValueError) as error:
            found[name] = f"unavailable: {error}"
    if mode == "required" and (why := missing(found)) is not None:
        raise RoomError(why)
    return found
