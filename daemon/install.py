"""`fetchd daemon install | uninstall`: the units of this installation, for the system or for a user.

Only files that nobody has edited since are replaced or removed, unless that is forced; state, downloads and
the user `fetchd` stay. Part of the composition root.
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import zmq

from .config import Config, ConfigError, load, longest_stop, most_memory, most_tasks
from .service.units import UnitError, fitted, is_ours, marked, plain, shipped, write

HIDDEN = {
    "/root": "ProtectHome", "/home": "ProtectHome", "/run/user": "ProtectHome",
    "/tmp": "PrivateTmp", "/var/tmp": "PrivateTmp",  # noqa: S108
}  # fmt: skip
"""What the system's service cannot see, and by which of its settings (systemd.exec(5))."""

ROOTS = "/srv/fetchd"
WRITABLE = "/var/lib/fetchd /run/fetchd /var/log/fetchd"
SCRATCH = "-/tmp -/var/tmp -/dev/shm"
PROGRAMS = "/usr -/bin -/lib -/lib64"
"""As in the shipped unit: the root of downloads, what else can be written, and where programs are."""


@dataclass(frozen=True)
class Options:
    """What was asked for. `prefix` goes before every path, as for a package that is being built."""

    system: bool
    prefix: Path | None = None
    dry_run: bool = False
    force: bool = False
    now: bool = False

    def below(self, path: str) -> Path:
        """A path, below the prefix if there is one."""
        return Path(path) if self.prefix is None else self.prefix / path.lstrip("/")

    @property
    def targets(self) -> dict[str, Path]:
        """Where each shipped file goes."""
        if self.system:
            places = {
                "fetchd.service": "/etc/systemd/system/fetchd.service",
                "fetchd.socket": "/etc/systemd/system/fetchd.socket",
                "fetchd.sysusers.conf": "/etc/sysusers.d/fetchd.conf",
                "fetchd.tmpfiles.conf": "/etc/tmpfiles.d/fetchd.conf",
            }
        else:
            home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
            places = {"fetchd-user.service": f"{home}/systemd/user/fetchd.service"}
        return {name: self.below(path) for name, path in places.items()}

    def systemctl(self, *arguments: str) -> list[str]:
        """A command for the manager of these units."""
        return ["systemctl", *([] if self.system else ["--user"]), *arguments]

    @property
    def units(self) -> list[str]:
        """The names of the units."""
        return ["fetchd.service", "fetchd.socket"] if self.system else ["fetchd.service"]


def run(act: Callable[[Options], None], options: Options) -> int:
    """`install` or `uninstall`, with what is wrong in words. The exit status."""
    try:
        if options.now and options.prefix is not None:
            raise UnitError("--now is for this system: it does not go with --prefix")
        if options.system and options.prefix is None and not options.dry_run and os.geteuid() != 0:
            raise UnitError("only root can change the system's units: run this as root, or with --user")
        act(options)
    except (UnitError, ConfigError) as error:
        message = str(error)
    except OSError as error:
        message = f"{error.filename or 'files'}: {error.strerror}"
    else:
        return 0
    print(f"fetchd: {message}", file=sys.stderr)
    return 1


def install(options: Options) -> None:
    """Write the files, or print them; with `now` start what they describe."""
    texts = {path: marked(_text(name, options)) for name, path in options.targets.items()}
    if options.dry_run:
        for path, text in texts.items():
            print(f"# {path}\n{text}")
        return
    _check_edited(options, "replace")
    for path, text in texts.items():
        write(path, text)
        print(f"wrote {path}")
    _then(options, list(_start(options)))
    if not options.system:
        print("it ends when you log out, unless: loginctl enable-linger")


def uninstall(options: Options) -> None:
    """Remove what `install` wrote; with `now` stop it before."""
    found = [path for path in options.targets.values() if os.path.lexists(path)]
    if options.dry_run or not found:
        print("\n".join(map(str, found)) or "nothing of it is installed")
        return
    _check_edited(options, "remove")
    directory = next(iter(options.targets.values())).parent
    enabled = [unit for unit in options.units if list(directory.glob(f"*.wants/{unit}"))]
    stop = options.systemctl("disable", "--now", *options.units)
    if options.now:
        _call(stop)
    elif enabled:
        raise UnitError(
            f"{' and '.join(enabled)} would still be started: give --now, or first {shlex.join(stop)}"
        )
    for path in found:
        path.unlink()
        print(f"removed {path}")
    _then(options, [options.systemctl("daemon-reload")])


def _text(name: str, options: Options) -> str:
    text = shipped(name)
    if not name.endswith(".service"):
        return text
    if options.system:
        given = {"CONFIGURATION_DIRECTORY": str(options.below("/etc/fetchd")), "FETCHD_SYSTEM": "1"}
        config = load(None, given)
        values = _locked_in(config)
    else:
        # as the manager will start it: settings of this shell are not its own
        config = load(
            None, {key: os.environ[key] for key in ("HOME", "XDG_CONFIG_HOME") if key in os.environ}
        )
        values = {}
    memory = most_memory(config)
    values |= {
        "ExecStart": f"{plain(Path(sys.executable))} -m fetchd.daemon run",
        "TimeoutStopSec": str(longest_stop(config)),
        "TasksMax": str(most_tasks(config)),
        "MemoryMax": "infinity" if memory is None else f"{-(-memory >> 20)}M",
    }
    return fitted(text, values)


def _locked_in(config: Config) -> dict[str, str]:
    """What the service may execute and write. `UnitError` for what it could not reach."""
    ours = _installed()
    for path in ours:
        _check_visible(path, "make an environment elsewhere: python3 -m venv /opt/fetchd")
        for part in (path, *path.parents):
            if part.stat().st_mode & 0o005 != 0o005:
                raise UnitError(f"{path} is not for the user fetchd to read: chmod o+rX {part}")
    programs = [plain(path) for path in ours if not path.is_relative_to("/usr")]
    written = " ".join(f"-{plain(path)}" for path in destinations(config))
    return {
        "ExecPaths": " ".join([*programs, PROGRAMS]),
        "NoExecPaths": f"/ {WRITABLE} {written} {SCRATCH}",
        "ReadWritePaths": written,
    }


def destinations(config: Config) -> list[Path]:
    """The directories that all downloads are below. `UnitError` for what is not for the service to write."""
    found, programs = [Path(ROOTS)], [Path("/usr"), *_installed()]
    for root in config.roots:
        parts = Path(os.path.normpath(root)).parts
        path = Path(*takewhile(lambda part: "{user}" not in part, parts))
        if path == Path("/"):
            raise UnitError(
                f"roots: {root} would let the service write everywhere: choose a directory for it"
            )
        if any(one.is_relative_to(path) for one in programs):
            raise UnitError(f"roots: {root} would let the service write programs: choose another directory")
        _check_visible(path, "choose other roots in the configuration")
        found.append(path)
    return list(dict.fromkeys(found))


def _installed() -> list[Path]:
    """The directories that Python and its packages are in, none of them below another."""
    here, sockets = Path(__file__).parent, Path(zmq.__file__).parent
    places = {Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parent, here, sockets}
    places |= {place.resolve() for place in places}
    return sorted(one for one in places if not places.intersection(one.parents))


def _check_visible(path: Path, advice: str) -> None:
    for hidden, setting in HIDDEN.items():
        if path.is_relative_to(hidden) or Path(os.path.realpath(path)).is_relative_to(hidden):
            raise UnitError(f"{path} lies below {hidden}, hidden from the service ({setting}): {advice}")


def _check_edited(options: Options, verb: str) -> None:
    edited = [str(path) for path in options.targets.values() if os.path.lexists(path) and not is_ours(path)]
    if edited and not options.force:
        raise UnitError(f"{', '.join(edited)}: not as we wrote it; give --force to {verb} it all the same")


def _start(options: Options) -> Iterator[list[str]]:
    if options.system:
        yield ["systemd-sysusers", str(options.targets["fetchd.sysusers.conf"])]
        yield ["systemd-tmpfiles", "--create", str(options.targets["fetchd.tmpfiles.conf"])]
    yield options.systemctl("daemon-reload")
    yield options.systemctl("enable", *options.units)
    if options.system:
        yield options.systemctl("start", "fetchd.socket")
    yield options.systemctl("restart", "fetchd.service")


def _then(options: Options, commands: list[list[str]]) -> None:
    """Do, or say, what comes next."""
    if options.prefix is not None:
        return
    if not options.now:
        print("next:", *map(shlex.join, commands), sep="\n  ")
        return
    for command in commands:
        _call(command)


def _call(command: list[str]) -> None:
    """Run a command; what it says goes to the terminal."""
    try:
        status = subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
    except FileNotFoundError:
        raise UnitError(f"{command[0]} is missing: is this systemd's machine?") from None
    if status != 0:
        raise UnitError(f"this did not work (exit code {status}): {shlex.join(command)}")
