"""`fetchd doctor`: what is wrong with this machine, installation and state directory, and what helps.

Looks and tries out, repairs nothing. Each check yields findings; one that itself goes wrong is a finding too,
never a traceback. Only the standard library is imported up here, so that missing packages can be reported.
"""

import contextlib
import ctypes
import json
import os
import resource
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, NamedTuple

FLOORS = {
    "pyzmq": (26,), "msgpack": (1, 2, 3), "msgspec": (0, 19), "requests": (2, 32, 4), "urllib3": (2, 8, 0),
    "psutil": (5, 9), "click": (8, 1), "rich": (13,),
}  # fmt: skip
"""Oldest versions that do; setup.cfg has the same, checked by a test."""

OLDEST_PYTHON, OLDEST_SQLITE, OLDEST_ZMQ = (3, 11), (3, 37, 0), (4, 3, 5)
OLDEST_KERNEL, LANDLOCK_KERNEL = (5, 6), (5, 13)
"""openat2(2) and pidfd are in the older, Landlock is from the newer on."""

LITTLE_SPACE, NO_SPACE = 1 << 30, 64 << 20
FEW_WATCHES, FEW_INSTANCES = 128, 16
LONGEST_SOCKET = "reader-4194304"
OPEN_FILES = 65_536

Level = Literal["ok", "warn", "fail"]
_libc = ctypes.CDLL(None, use_errno=True)


class Finding(NamedTuple):
    """What was found, how bad it is, and what to do about it."""

    check: str
    level: Level
    message: str
    advice: str | None = None


@dataclass(frozen=True)
class House:
    """What is looked at. `config` is the `--config` file if there is one."""

    state: Path
    config: Path | None

    @property
    def ground(self) -> Path:
        """The state directory, or the nearest directory above it that exists."""
        return next(path for path in (self.state, *self.state.parents) if path.is_dir())


def main(config: Path | None, as_json: bool) -> int:
    """Run all checks and print what they find; 1 if something fails."""
    findings = list(examine(config))
    if as_json:
        print(json.dumps([finding._asdict() for finding in findings], indent=2))
    else:
        for finding in findings:
            print(f"{finding.level:4}  {finding.check}: {_plain(finding.message)}")
            if finding.advice is not None:
                print(f"      → {_plain(finding.advice)}")
    return int(any(finding.level == "fail" for finding in findings))


def examine(config: Path | None) -> Iterator[Finding]:
    """All findings."""
    packages = list(_guarded("packages", check_packages))
    yield from (*_guarded("python", check_python), *packages)
    if any(finding.level == "fail" and finding.message.endswith("missing") for finding in packages):
        return  # the rest needs them
    from fetchd.protocol.paths import state_dir

    house = House(state_dir(), config)
    for name, check in CHECKS.items():
        yield from _guarded(name, lambda check=check: check(house))  # type: ignore[misc]


def _guarded(name: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except Exception as error:
        yield Finding(name, "warn", f"could not be checked: {type(error).__name__}: {error}")


def check_python() -> Iterator[Finding]:
    """The interpreter and what it was built with."""
    yield _floor("python", sys.version_info[:3], OLDEST_PYTHON, "install a newer Python")
    yield _floor("sqlite", sqlite3.sqlite_version_info, OLDEST_SQLITE, "use a Python with a newer SQLite")


def check_packages() -> Iterator[Finding]:
    """The packages, and the library behind pyzmq."""
    for name, floor in FLOORS.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            yield Finding("packages", "fail", f"{name} is missing", f"pip install {name}")
            continue
        yield _floor(name, _numbers(found), floor, f"pip install --upgrade {name}")
    with contextlib.suppress(ImportError):
        import zmq

        advice = "pip install --upgrade pyzmq: its wheels bring a newer libzmq"
        yield _floor("libzmq", zmq.zmq_version_info(), OLDEST_ZMQ, advice)


def check_config(house: House) -> Iterator[Finding]:
    """Whether the configuration can be used."""
    from .config import ConfigError, ca_bundle, in_force, load

    try:
        changed = [setting for setting in in_force(house.config, os.environ) if setting.where is not None]
        config = load(house.config, os.environ)
    except ConfigError as error:
        yield Finding("config", "fail", str(error), "correct it; fetchd config show says what is in force")
        return
    told = ", ".join(f"{setting.key} from {setting.where}" for setting in changed)
    yield Finding("config", "ok", told or "all settings have their defaults")
    try:
        bundle = ca_bundle(config, os.environ)
    except ConfigError as error:
        yield Finding("certificates", "fail", str(error), "correct ca_bundle or SSL_CERT_FILE")
        return
    if bundle:
        yield Finding("certificates", "ok", bundle)
    else:
        advice = "install the ca-certificates package, or set ca_bundle"
        yield Finding("certificates", "warn", "no bundle of the system found; requests' own is used", advice)


def check_limits(house: House) -> Iterator[Finding]:
    """Descriptors against the number of workers."""
    from .config import ConfigError, check_limits, load

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    try:
        check_limits(load(house.config, os.environ), most)
    except ConfigError as error:
        yield Finding("open files", "fail", str(error), "raise the hard limit (ulimit -Hn), or lower workers")
        return
    yield Finding("open files", "ok", f"up to {most}")


def check_state(house: House) -> Iterator[Finding]:
    """The state directory: whose, how open, how full."""
    state = house.state
    if not state.is_dir():
        if state.exists():
            yield Finding("state", "fail", f"{state} is no directory", "set FETCHD_STATE_DIR to one")
            return
        able = os.access(house.ground, os.W_OK | os.X_OK)
        made = "the first start makes it" if able else f"{house.ground} is not writable"
        advice = None if able else "set FETCHD_STATE_DIR to a directory of yours"
        yield Finding("state", "ok" if able else "fail", f"{state} does not exist yet; {made}", advice)
    else:
        found = state.stat()
        if found.st_uid != os.geteuid():
            text = f"{state} belongs to uid {found.st_uid}, not to you ({os.geteuid()})"
            yield Finding("state", "fail", text, "run this as its owner, or set FETCHD_STATE_DIR")
        elif found.st_mode & 0o077:
            text = f"{state} is open to others (mode {found.st_mode & 0o7777:04o})"
            yield Finding("state", "warn", text, f"chmod 700 {state}")
        else:
            yield Finding("state", "ok", str(state))
    yield from _space(house)


def _space(house: House) -> Iterator[Finding]:
    """How full its file system is, what is to stay free of it, and whether the database has its ballast."""
    from .config import ConfigError, load
    from .service.ballast import Ballast, fitting
    from .supervise.space import look, shown

    try:
        room = look(str(house.ground), load(house.config, os.environ).min_free)
    except ConfigError:
        room = look(str(house.ground), None)
    little = max(LITTLE_SPACE, 2 * room.reserve)
    short = room.free < max(NO_SPACE, room.reserve)
    level: Level = "fail" if short else "warn" if room.free < little else "ok"
    advice = None if level == "ok" else "make room: a full disk holds every download"
    text = f"{shown(room.free)} are free at {house.ground}, {shown(room.reserve)} are to stay free"
    yield Finding("space", level, text, advice)
    if (house.state / "fetchd.db").exists():
        held = Ballast(house.state / "ballast", fitting(house.state)).held
        yield Finding("ballast", "ok" if held else "warn", "is there" if held else "is missing",
                      None if held else "a running daemon makes it again when there is room")  # fmt: skip


def check_sockets(house: House) -> Iterator[Finding]:
    """The directory of the sockets."""
    from fetchd.protocol.paths import MAX_IPC_PATH, runtime_dir

    runtime = runtime_dir(house.state)
    length = len(os.fsencode(runtime / LONGEST_SOCKET))
    if length > MAX_IPC_PATH:
        text = f"{runtime} is {length - MAX_IPC_PATH} bytes too long for sockets"
        yield Finding("sockets", "fail", text, "set FETCHD_RUNTIME_DIR to a shorter path")
    elif runtime.exists() and runtime.stat().st_uid != os.geteuid():
        yield Finding("sockets", "fail", f"{runtime} belongs to somebody else", "set FETCHD_RUNTIME_DIR")
    else:
        yield Finding("sockets", "ok", str(runtime))


def check_daemon(house: House) -> Iterator[Finding]:
    """Whether a daemon runs, and whether it is of this version."""
    from fetchd.protocol.paths import is_listening, read_endpoint
    from fetchd.protocol.version import __version__

    endpoint = read_endpoint(house.state)
    if endpoint is None:
        yield Finding("daemon", "ok", "does not run")
    elif not is_listening(endpoint.control):
        text = f"does not run; the last one (pid {endpoint.pid}) ended without tidying up"
        yield Finding(
            "daemon", "warn", text, "the next start recovers; fetchd daemon logs says what happened"
        )
    elif endpoint.version != __version__:
        text = f"runs with version {endpoint.version} (pid {endpoint.pid}), installed is {__version__}"
        yield Finding("daemon", "warn", text, "restart it: fetchd daemon stop && fetchd daemon start")
    else:
        yield Finding("daemon", "ok", f"runs, pid {endpoint.pid}, version {endpoint.version}")


def check_inotify(_house: House) -> Iterator[Finding]:
    """Whether files can be watched."""
    descriptor = _libc.inotify_init1(os.O_CLOEXEC)
    if descriptor < 0:
        advice = "raise fs.inotify.max_user_instances"
        yield Finding("inotify", "fail", f"no instance: {os.strerror(ctypes.get_errno())}", advice)
        return
    os.close(descriptor)
    limits = Path("/proc/sys/fs/inotify")
    watches = int((limits / "max_user_watches").read_text())
    instances = int((limits / "max_user_instances").read_text())
    text = f"{watches} watches, {instances} instances a user"
    if watches < FEW_WATCHES or instances < FEW_INSTANCES:
        yield Finding("inotify", "warn", text, "raise fs.inotify.max_user_watches and max_user_instances")
    else:
        yield Finding("inotify", "ok", text)


def check_files(house: House) -> Iterator[Finding]:
    """What the file system of the state directory can do, tried out in a directory that is removed again."""
    from .service import able

    if not os.access(house.ground, os.W_OK | os.X_OK):
        yield Finding("files", "fail", f"{house.ground} is not writable", "set FETCHD_STATE_DIR")
        return
    with tempfile.TemporaryDirectory(prefix=".fetchd-doctor-", dir=house.ground) as name:
        for finding in able.look(Path(name)):
            yield Finding(*finding)


def check_tcp(house: House) -> Iterator[Finding]:
    """Where other machines reach the daemon, and by which keys, if they do."""
    from fetchd.protocol.keys import authorized_file
    from fetchd.protocol.paths import config_file

    from .config import load
    from .service import tcp

    config = load(house.config, os.environ)
    authorized = authorized_file(house.config or config_file(os.environ), system=config.system)
    for level, message, advice in tcp.look(config.listen, house.state, authorized):
        yield Finding("tcp", level, message, advice)


def check_sandbox(_house: House) -> Iterator[Finding]:
    """What the kernel offers to lock workers in."""
    from .sandbox import room

    advice = "a kernel from 6.12 on, with landlock in its lsm= list and CONFIG_SECCOMP_FILTER, has all layers"
    for layer, state in room.probe().items():
        level: Level = "ok" if state == room.ON else "warn"
        yield Finding(layer, level, state, None if level == "ok" else advice)


def check_kernel(_house: House) -> Iterator[Finding]:
    """The kernel, and what is read of it."""
    release = os.uname().release
    number = _numbers(release)
    if number < LANDLOCK_KERNEL and number >= OLDEST_KERNEL:
        yield Finding("kernel", "warn", release, "5.13 and newer can lock workers in")
    else:
        yield _floor("kernel", number, OLDEST_KERNEL, "use a newer kernel", shown=release)
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError as error:
        advice = "without it less is trusted after a crash; under systemd leave ProcSubset=pid out"
        yield Finding("boot id", "fail", f"cannot be read: {error.strerror}", advice)
    else:
        yield Finding("boot id", "ok", boot)
    mask = os.umask(0o077)
    os.umask(mask)
    if mask & 0o002:
        yield Finding("umask", "ok", f"{mask:03o}")
    else:
        yield Finding("umask", "warn", f"{mask:03o}: files that you download can be changed by anybody",
                      "umask 022")  # fmt: skip


def check_staging(house: House) -> Iterator[Finding]:
    """What lies in the state directory's staging area. Areas on other mounts are the daemon's to list."""
    from .supervise.workspace import survey

    found = survey(list(map(str, (house.state / ".fetchd").glob("*"))), 0)
    if not found:
        yield Finding("staging", "ok", "empty")
        return
    text = f"{len(found)} workspaces with {sum(size for _, _, size, *_ in found) / (1 << 20):.1f} MiB"
    yield Finding("staging", "ok", text + "; fetchd workspace ls says whose")


def check_database(house: House) -> Iterator[Finding]:
    """Backups of the database, and what had to be repaired."""
    from .store import health

    for level, message, advice in health.look(house.state):
        yield Finding("database", level, message, advice)


def check_recovery(house: House) -> Iterator[Finding]:
    """What the last start that found workspaces did with them."""
    from .recovery import told

    yield Finding("recovery", *told(house.state))


CHECKS: dict[str, Callable[[House], Iterator[Finding]]] = {
    "config": check_config,
    "open files": check_limits,
    "state": check_state,
    "sockets": check_sockets,
    "tcp": check_tcp,
    "daemon": check_daemon,
    "database": check_database,
    "inotify": check_inotify,
    "files": check_files,
    "sandbox": check_sandbox,
    "kernel": check_kernel,
    "staging": check_staging,
    "recovery": check_recovery,
}


def _floor(
    check: str, found: tuple[int, ...], floor: tuple[int, ...], advice: str, *, shown: str | None = None
) -> Finding:
    text = shown or ".".join(map(str, found))
    if found >= floor:
        return Finding(check, "ok", text)
    return Finding(check, "fail", f"{text}; {'.'.join(map(str, floor))} is needed", advice)


def _numbers(text: str) -> tuple[int, ...]:
    """The leading numbers of a version: `2.8.0rc1` is (2, 8, 0)."""
    found: list[int] = []
    for part in text.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        found.append(int(digits))
        if digits != part:
            break
    return tuple(found)


def _plain(text: str) -> str:
    """On one line, and harmless to a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
