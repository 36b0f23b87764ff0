"""The room of a worker: what of this machine it needs, as the policy of a sandbox.

It may write only beneath its rooms, whose files the supervisor has made; it may read the interpreter, our
code and that of plug-ins, the authorities, and what the resolver reads.
"""

import functools
import importlib.util
import os
import site
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from fetchd.daemon.sandbox import room
from fetchd.daemon.transfer.schemes import plug_ins
from fetchd.protocol.mailbox import Start

RESOLVER = (
    "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf",
    "/etc/services", "/etc/protocols",
)  # fmt: skip
"""Their inodes are part of the rules: when one is replaced, so are the workers."""

LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache")
TLS = ("/etc/ssl/openssl.cnf", "/etc/ssl/certs", "/etc/pki/tls", "/usr/share/ca-certificates")
OTHERS = (
    "/dev/null", "/dev/urandom", "/etc/localtime", "/usr/share/zoneinfo", "/proc/sys/kernel/random/boot_id",
)  # fmt: skip

MEMORY = 1 << 30
OPEN_FILES = 256


def policy(start: Start) -> room.Policy:
    """What a worker may do."""
    readable = {*LIBRARIES, *RESOLVER, *TLS, *OTHERS, *code()} | ({start.ca_bundle} - {""})
    return room.Policy(
        writable=tuple(start.rooms),
        readable=tuple(sorted(readable)),
        ports=None if start.ports is None else tuple(start.ports),
        memory=MEMORY,
        open_files=OPEN_FILES,
        file_size=start.file_size,
    )


@functools.cache
def code() -> tuple[str, ...]:
    """Where code lies: never all of `sys.path`, which may begin with the home directory."""
    return tuple(_code())


def _code() -> Iterator[str]:
    yield from sysconfig.get_paths().values()
    yield from site.getsitepackages()
    if site.ENABLE_USER_SITE:
        yield site.getusersitepackages()
    yield from (path for path in sys.path if path.startswith((sys.prefix, sys.base_prefix)))
    # an editable installation lies elsewhere, and so may a plug-in
    ours = Path(__file__).parents[2]
    yield from (str(ours / name) for name in ("daemon", "protocol"))
    for place in plug_ins().values():
        found = importlib.util.find_spec(place.partition(".")[0].partition(":")[0])
        if found is not None:
            yield from found.submodule_search_locations or [found.origin or ""]


def furnish(home: Path) -> None:
    """An environment with nothing in it: `home` is the only directory that a library may look for."""
    keep = {"LANG": "C.UTF-8", "PATH": "/usr/bin:/bin"}
    keep |= dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"), str(home))
    os.environ.clear()
    os.environ.update(keep)
    os.umask(0o077)
    os.chdir(home)
