"""What the host has to give before anything else: descriptors, a directory for sockets; and where we are."""

import os
import resource
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path

import msgspec

from fetchd.protocol.paths import MAX_IPC_PATH, Endpoint, endpoint_file, runtime_dir

OPEN_FILES = 65_536


class StartError(Exception):
    """The daemon cannot start; the message says why and what to do."""


def check_names(*places: Path) -> None:
    """Refuse directories whose names no message could have: text is UTF-8 there."""
    for place in places:
        try:
            str(place).encode()
        except UnicodeEncodeError:
            raise StartError(f"{place} is no UTF-8: set FETCHD_STATE_DIR and FETCHD_RUNTIME_DIR") from None


def raise_open_files() -> None:
    """Take as many descriptors as we may: libzmq aborts when it runs out of them."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def open_files() -> int:
    """How many descriptors we may have."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def prepare_runtime(state: Path, keep: Collection[Path] = ()) -> Path:
    """The directory of the sockets, ours alone; sockets of an earlier life are removed, but for `keep`."""
    runtime = runtime_dir(state)
    runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
    if runtime.stat().st_uid != os.geteuid():
        raise StartError(f"{runtime} belongs to somebody else")
    longest = runtime / "pymp-12345678" / "listener-12345678"
    if len(os.fsencode(longest)) > MAX_IPC_PATH:
        raise StartError(f"{runtime} is too long for a socket; set FETCHD_RUNTIME_DIR to a shorter one")
    for entry in runtime.iterdir():
        if entry.is_socket():
            if entry not in keep:
                entry.unlink()
        elif entry.name.startswith("pymp-"):
            shutil.rmtree(entry, ignore_errors=True)
    # multiprocessing puts the fork server's socket into a directory of its own, which a crash leaves behind
    tempfile.tempdir = str(runtime)
    return runtime


def write_endpoint(state: Path, endpoint: Endpoint) -> Path:
    """Tell clients where we listen; readers see the old file or the new one, never a part."""
    path = endpoint_file(state)
    fresh = path.with_suffix(".new")
    fresh.write_bytes(msgspec.json.encode(endpoint))
    fresh.replace(path)
    return path
