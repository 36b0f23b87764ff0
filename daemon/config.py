"""The configuration: `fetchd.toml`, overridden by `FETCHD_*` in the environment. Unknown keys are errors.

The file is `--config`, else that of `protocol.paths.config_file`. `Config` also describes the settings.
"""

import grp
import math
import os
import ssl
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from fetchd.daemon.core.settings import Settings
from fetchd.daemon.sandbox.room import Mode
from fetchd.daemon.service.log import Format
from fetchd.protocol import paths
from fetchd.protocol.codec import MAX_INT
from fetchd.protocol.job import MAX_SEGMENTS, Cleanup
from fetchd.protocol.mailbox import Network

RESERVED = frozenset({
    "state_dir", "runtime_dir", "config", "socket", "server_key", "key",
    "debug", "fuzz", "fuzz_damage", "sim",
})  # fmt: skip
"""`FETCHD_*` variables that are not keys of the file."""

CA_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


class ConfigError(Exception):
    """The configuration cannot be used; the message says where and why."""


Change = Literal["live", "next_worker", "restart"]


class Key(Struct, frozen=True):
    """What a key is, for people: whatever describes the configuration is made from this.

    `change` is when a new value comes into force after a reload. `default` says the default where the value
    alone does not. Backticks mark what is written literally.
    """

    text: str
    unit: Literal["", "seconds", "bytes", "bytes a second"] = ""
    change: Change = "live"
    default: str = ""

    def sentences(self) -> str:
        """The text, the unit, and when a change is in force if not at once."""
        return self.text + (f" In {self.unit}." if self.unit else "") + _CHANGES[self.change]


_CHANGES = {
    "live": "",
    "next_worker": " A change replaces the workers, busy ones after their job.",
    "restart": " A change takes a restart.",
}


Rule = Annotated[str, Meta(min_length=1, max_length=255)]
Root = Annotated[str, Meta(min_length=2, max_length=4096, pattern="^/")]
Octal = Annotated[str, Meta(pattern="^([0-7]{3,4})?$")]
Port = Annotated[int, Meta(ge=1, le=65535)]
Seconds = Annotated[float, Meta(gt=0, le=86400)]
Count = Annotated[int, Meta(ge=0, le=MAX_INT)]
Age = Annotated[float, Meta(ge=0, le=366 * 86400)]

SYSTEM_GROUP, SYSTEM_MODES = "fetchd", ("0640", "2750")
SYSTEM_PORTS = (21, 53, 80, 443)


class History(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long finished jobs are known: for `age` seconds, and the newest `count` of them; 0: any."""

    age: Annotated[float, Meta(ge=0, le=100 * 366 * 86400)] = 90 * 86400.0
    count: Count = 100_000


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is in force. Each key has its `Key`; their order is that of every listing."""

    # fmt: off
    workers: Annotated[int, Meta(ge=1, le=512), Key(
        "Downloads at once. Where this is lowered, those that run go on.")] = 5
    host_connections: Annotated[int, Meta(ge=1, le=512), Key(
        "Connections to one host at once, over all jobs.")] = 16
    limit_rate: Annotated[Count, Key(
        "Speed of everything together, unless `fetchd limit` has set another. 0: no limit.",
        "bytes a second")] = 0
    min_speed: Annotated[Count, Key(
        "An attempt that is slower than this for `min_speed_time` has failed; a job may ask for another. "
        "0: any speed will do.", "bytes a second")] = 1024
    min_speed_time: Annotated[Seconds, Key(
        "How long it may be slower than `min_speed`; a job may ask for another.", "seconds")] = 60.0
    max_size: Annotated[Count, Key(
        "Largest file that is fetched; a job may ask for less. 0: any.", "bytes",
        change="next_worker")] = 0
    connect_timeout: Annotated[Seconds, Key(
        "Longest wait for a connection; a job may ask for another.", "seconds")] = 10.0
    read_timeout: Annotated[Seconds, Key(
        "Longest wait for a server's next bytes; a job may ask for another.", "seconds")] = 30.0
    ca_bundle: Annotated[str, Key(
        "File (absolute) of trusted authorities (PEM).", change="next_worker",
        default="`$SSL_CERT_FILE`, or the system's")] = ""
    min_free: Annotated[Count | None, Key(
        "Stays free on every file system; while there is less, downloads to it wait.", "bytes",
        default="256 MiB, or 1 % of the file system if that is less")] = None
    roots: Annotated[tuple[Root, ...], Key(
        "Directories (absolute) below which files may be put; `{user}` is the owner's name.",
        default="anywhere")] = ()
    file_mode: Annotated[Octal, Key(
        'Mode of delivered files in octal, as in `"0640"`.',
        default="by the submitter's umask; `0640` if `system`")] = ""
    dir_mode: Annotated[Octal, Key(
        'Mode of directories that are made for them in octal, as in `"2750"`.',
        default="by the submitter's umask; `2750` if `system`")] = ""
    keep_failed: Annotated[Age, Key(
        "How long the bytes of a failed job are kept for a retry.", "seconds")] = 86400.0
    cleanup: Annotated[Cleanup, Key(
        "Whether partial data is deleted: after `success`, and after `failure`; where that is not set, it is "
        "kept for `keep_failed` if it can be resumed from. Cancelling always deletes it.",
        default="`{success = true}`")] = Cleanup()
    keep_history: Annotated[History, Key(
        "How long finished jobs are known: for `age` seconds, and the newest `count` of them. "
        "0: any.")] = History()
    backup_interval: Annotated[Age, Key(
        "Time between two backups of the database. 0: none are made.", "seconds")] = 3600.0
    stop_grace: Annotated[Seconds, Key(
        "Time for a worker to stop before it is killed.", "seconds")] = 2.0
    drain_timeout: Annotated[Seconds, Key(
        "Time for all workers to save their progress when the daemon stops.", "seconds")] = 20.0
    idle_timeout: Annotated[Seconds, Key(
        "A worker that has been idle so long ends, the last one excepted.", "seconds")] = 30.0
    hang_timeout: Annotated[float, Meta(ge=1, le=86400), Key(
        "A worker that has been silent so long is killed.", "seconds")] = 30.0
    worker_memory: Annotated[Count, Key(
        "A worker that takes more is killed, and its job tried again. 0: no limit.", "bytes")] = 512 << 20
    sandbox: Annotated[Mode, Key(
        "The room of a worker: with `required` the daemon does not start where a layer is missing, with "
        "`best-effort` it does with those that there are, with `off` without any.",
        change="next_worker")] = "best-effort"
    system: Annotated[bool, Key(
        "A daemon for all users of the machine: what is not set is stricter.", change="restart")] = False
    allow_private: Annotated[bool | None, Key(
        "Whether downloads may come from addresses that are not public.",
        default="true; false if `system`")] = None
    allow_hosts: Annotated[tuple[Rule, ...], Key(
        "The only hosts to download from: names, `*.example.org` for all below one, or networks such as "
        "`10.0.0.0/8`, which may be private then.", default="any")] = ()
    deny_hosts: Annotated[tuple[Rule, ...], Key(
        "Hosts not to download from, written in the same way. They win.", default="none")] = ()
    allow_ports: Annotated[tuple[Port, ...] | None, Key(
        "The only TCP ports of servers. An empty list: all.", change="next_worker",
        default="all; 21, 53, 80 and 443 if `system`")] = None
    group: Annotated[str | None, Key(
        "Members of this group may use the daemon, too, each for jobs of their own.",
        default="none; `fetchd` if `system`")] = None
    admin_group: Annotated[str, Key(
        "Members of this group see and steer all jobs. Where `group` is set they have to be in that, too.",
        default="none")] = ""
    max_queued: Annotated[Count, Key(
        "Jobs of one owner that wait or are paused. 0: no limit.")] = 0
    max_running: Annotated[Count, Key(
        "Jobs of one owner that run at once. 0: no limit.")] = 0
    max_in_flight: Annotated[Count, Key(
        "What one owner's running jobs may have to fetch, taken together. 0: no limit.", "bytes")] = 0
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Key(
        "The least that is logged.")] = "info"
    log_format: Annotated[Format, Key(
        "How it is logged; `auto` is the journal's fields under systemd, else text.",
        change="restart")] = "auto"
    listen: Annotated[str, Key(
        "Where clients with a key come in over TCP: `tcp://ADDRESS:PORT`; `*` is every address, port 0 any "
        "free one.", change="restart", default="nowhere")] = ""
    # fmt: on


KEYS = {
    name: note
    for name, hint in get_type_hints(Config, include_extras=True).items()
    for note in getattr(hint, "__metadata__", ())
    if isinstance(note, Key)
}
"""What each key is, in order."""

IN_FORCE = {name: key.change for name, key in KEYS.items()}
"""When a key that a reload has changed comes into force."""

LISTS = frozenset(
    name
    for name, hint in get_type_hints(Config).items()
    if any(get_origin(part) is tuple for part in (hint, *get_args(hint)))
)
"""Keys whose environment variable is a list, by commas or spaces."""


def core_settings(config: Config, default_area: str, room: int = 0) -> Settings:
    """What the core needs of it."""
    return Settings(
        workers=config.workers,
        stop_grace=int(config.stop_grace * 1e6),
        drain_timeout=int(config.drain_timeout * 1e6),
        idle_timeout=int(config.idle_timeout * 1e6),
        keep_failed=int(config.keep_failed * 1e6),
        cleanup_success=config.cleanup.success is not False,
        cleanup_failure=config.cleanup.failure,
        default_area=default_area,
        host_connections=config.host_connections,
        limit_rate=config.limit_rate,
        max_queued=config.max_queued,
        max_running=config.max_running,
        max_in_flight=config.max_in_flight,
        shared=groups(config) != (None, None) or bool(config.listen),
        room=room,
    )


def modes(config: Config) -> tuple[int | None, int | None]:
    """The modes of delivered files and of their directories; None: by the submitter's umask."""
    usual = SYSTEM_MODES if config.system else ("", "")
    file, directory = config.file_mode or usual[0], config.dir_mode or usual[1]
    return (int(file, 8) if file else None), (int(directory, 8) if directory else None)


def groups(config: Config) -> tuple[int | None, int | None]:
    """The groups of those who may use the daemon and of its admins, as numbers, or `ConfigError`.

    Where a system daemon's usual group does not exist and none is named, nobody else may use it.
    """
    default = SYSTEM_GROUP if config.system else ""
    group = _gid("group", default if config.group is None else config.group, needed=bool(config.group))
    return group, _gid("admin_group", config.admin_group)


def _gid(key: str, name: str, *, needed: bool = True) -> int | None:
    if not name:
        return None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        if needed:
            raise ConfigError(f"{key}: there is no group {name!r}") from None
        return None


def network(config: Config) -> Network:
    """Where transfers may connect to: anywhere, unless configured otherwise or for a system daemon."""
    private, ports = config.allow_private, config.allow_ports
    return Network(
        allow_private=not config.system if private is None else private,
        allow_hosts=config.allow_hosts,
        deny_hosts=config.deny_hosts,
        ports=SYSTEM_PORTS if ports is None and config.system else ports or None,
    )


DESCRIPTORS = 200
PER_WORKER = 8
"""Descriptors that the supervisor needs in any case, and for each worker."""

FEWEST_CLIENTS, MOST_CLIENTS = 20, 2000
"""Connections that clients may have in any case, and at most: each takes up to 50 KiB of memory."""


TASKS = 64
TASKS_PER_WORKER = MAX_SEGMENTS + 8
"""Threads of the supervisor and its helping processes, and of a worker."""


def most_tasks(config: Config) -> int:
    """Threads of the whole daemon at most: beside every worker its predecessor may not be gone yet."""
    return TASKS + 2 * config.workers * TASKS_PER_WORKER


def most_memory(config: Config) -> int | None:
    """Memory of the whole daemon at most, in bytes; None where a worker may take any."""
    return (config.workers + 2) * config.worker_memory or None


SETTLING = 18
"""Seconds beside the drain and the grace after it, for the supervisor's own end."""


def longest_stop(config: Config) -> int:
    """Seconds until the daemon has ended by itself, at most, once it was told to."""
    return math.ceil(config.drain_timeout + config.stop_grace) + SETTLING


def check_limits(config: Config, open_files: int) -> None:
    """Raise `ConfigError` for a value that does not fit the machine's limits."""
    most = (open_files - DESCRIPTORS) // PER_WORKER
    if config.workers > most:
        raise ConfigError(f"workers: {open_files} open files are enough for {max(0, most)} workers")


def room_for_clients(config: Config, open_files: int) -> int:
    """How many connections clients may have: a quarter of what is left, since they are counted afterwards."""
    left = open_files - DESCRIPTORS - PER_WORKER * config.workers
    return min(MOST_CLIENTS, max(FEWEST_CLIENTS, left // 4))


def load(path: Path | None, environment: Mapping[str, str]) -> Config:
    """The configuration in force, or `ConfigError`."""
    chosen = path or paths.config_file(environment)
    values: dict[str, Any] = {}
    if chosen is not None:
        try:
            values = tomllib.loads(chosen.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{chosen}: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{chosen}: {error}") from None
        _convert(values, str(chosen), strict=True)
    for key, value in environment.items():
        name = key.removeprefix("FETCHD_").lower()
        if key.startswith("FETCHD_") and name not in RESERVED:
            if name not in Config.__struct_fields__:
                raise ConfigError(f"{key}: no such setting")
            given: Any = value.replace(",", " ").split() if name in LISTS else value
            _convert({name: given}, key, strict=False)
            values[name] = given
    config = _convert(values, "the configuration", strict=False)
    if config.listen:
        from .service import tcp  # with zmq, which nothing else here needs

        try:
            tcp.parse(config.listen)
        except ValueError as error:
            raise ConfigError(f"listen: {error}") from None
    return config


def ca_bundle(config: Config, environment: Mapping[str, str]) -> str:
    """The trusted certificates: the configured file, SSL_CERT_FILE, or the system's; '' for requests' own."""
    named = config.ca_bundle or environment.get("SSL_CERT_FILE", "")
    if named:
        if not (os.path.isabs(named) and Path(named).is_file()):
            raise ConfigError(f"the CA bundle {named} is not the absolute path of a file")
        return named
    candidates = (ssl.get_default_verify_paths().cafile or "", *CA_BUNDLES)
    return next((path for path in candidates if path and Path(path).is_file()), "")


def _convert(values: dict[str, Any], where: str, *, strict: bool) -> Config:
    try:
        return msgspec.convert(values, Config, strict=strict)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {error}") from None


class Setting(Struct, frozen=True):
    """A key in force. `source` is default, file or environment, `where` the file or the variable."""

    key: str
    value: object
    source: Literal["default", "file", "environment"]
    where: str | None
    change: Change
    description: str


def in_force(path: Path | None, environment: Mapping[str, str]) -> list[Setting]:
    """Every key with its value and where that comes from, or `ConfigError`."""
    config = load(path, environment)
    chosen = path or paths.config_file(environment)
    filed = tomllib.loads(chosen.read_text(encoding="utf-8")) if chosen is not None else {}
    variables = {name.removeprefix("FETCHD_").lower(): name for name in environment if name[:7] == "FETCHD_"}
    found = []
    for key in config.__struct_fields__:
        value = getattr(config, key)
        plain = msgspec.structs.asdict(value) if isinstance(value, Struct) else value
        known = KEYS[key]
        default = f" Default: {known.default}." if known.default else ""
        about = known.change, known.sentences() + default
        if key in variables:
            found.append(Setting(key, plain, "environment", variables[key], *about))
        elif key in filed:
            found.append(Setting(key, plain, "file", str(chosen), *about))
        else:
            found.append(Setting(key, plain, "default", None, *about))
    return found
