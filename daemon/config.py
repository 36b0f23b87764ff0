"""The configuration: `fetchd.toml`, overridden by `FETCHD_*` in the environment. Unknown keys are errors.

The file is `--config`, else that of `protocol.paths.config_file`.
"""

import grp
import ssl
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from fetchd.daemon.core.settings import Settings
from fetchd.daemon.sandbox.room import Mode
from fetchd.daemon.service.log import Format
from fetchd.protocol import paths
from fetchd.protocol.codec import MAX_INT
from fetchd.protocol.job import Cleanup
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


Rule = Annotated[str, Meta(min_length=1, max_length=255)]
"""A host's name, `*.` and a name, or a network by its numbers."""

Root = Annotated[str, Meta(min_length=2, max_length=4096, pattern="^/")]
"""A directory; `{user}` in it is the owner's name."""

Octal = Annotated[str, Meta(pattern="^([0-7]{3,4})?$")]

SYSTEM_GROUP, SYSTEM_MODES = "fetchd", ("0640", "2750")
SYSTEM_PORTS = (21, 53, 80, 443)

Seconds = Annotated[float, Meta(gt=0, le=86400)]


class History(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long finished jobs are known: for `age` seconds, and the newest `count` of them; 0: any."""

    age: Annotated[float, Meta(ge=0, le=100 * 366 * 86400)] = 90 * 86400.0
    count: Annotated[int, Meta(ge=0, le=MAX_INT)] = 100_000


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is in force. Times in seconds, sizes in bytes, speeds in bytes a second; 0: no such limit.

    `min_free` stays free on every file system; where it is not given 256 MiB, or 1 % of a smaller one.
    """

    workers: Annotated[int, Meta(ge=1, le=512)] = 5
    log_level: str = "info"
    log_format: Format = "auto"
    connect_timeout: Seconds = 10.0
    read_timeout: Seconds = 30.0
    stop_grace: Seconds = 2.0
    drain_timeout: Seconds = 20.0
    idle_timeout: Seconds = 30.0
    hang_timeout: Annotated[float, Meta(ge=1, le=86400)] = 30.0
    keep_failed: Annotated[float, Meta(ge=0, le=366 * 86400)] = 86400.0
    keep_history: History = History()
    backup_interval: Annotated[float, Meta(ge=0, le=366 * 86400)] = 3600.0
    cleanup: Cleanup = Cleanup()
    ca_bundle: str = ""
    host_connections: Annotated[int, Meta(ge=1, le=512)] = 16
    limit_rate: Annotated[int, Meta(ge=0, le=MAX_INT)] = 0
    min_speed: Annotated[int, Meta(ge=0, le=MAX_INT)] = 1024
    min_speed_time: Seconds = 60.0
    max_size: Annotated[int, Meta(ge=0, le=MAX_INT)] = 0
    sandbox: Mode = "best-effort"
    worker_memory: Annotated[int, Meta(ge=0, le=MAX_INT)] = 512 << 20
    system: bool = False
    """A daemon for all users of the machine: what is not set is stricter then."""
    allow_private: bool | None = None
    allow_hosts: tuple[Rule, ...] = ()
    deny_hosts: tuple[Rule, ...] = ()
    allow_ports: tuple[Annotated[int, Meta(ge=1, le=65535)], ...] | None = None
    group: str | None = None
    admin_group: str = ""
    max_queued: Annotated[int, Meta(ge=0, le=MAX_INT)] = 0
    max_running: Annotated[int, Meta(ge=0, le=MAX_INT)] = 0
    max_in_flight: Annotated[int, Meta(ge=0, le=MAX_INT)] = 0
    roots: tuple[Root, ...] = ()
    file_mode: Octal = ""
    dir_mode: Octal = ""
    min_free: Annotated[int, Meta(ge=0, le=MAX_INT)] | None = None
    listen: str = ""


IN_FORCE: dict[str, Literal["live", "next_worker", "restart"]] = {
    "workers": "live",
    "log_level": "live",
    "log_format": "restart",
    "connect_timeout": "live",
    "read_timeout": "live",
    "stop_grace": "live",
    "drain_timeout": "live",
    "idle_timeout": "live",
    "hang_timeout": "live",
    "keep_failed": "live",
    "keep_history": "live",
    "backup_interval": "live",
    "cleanup": "live",
    "ca_bundle": "next_worker",
    "host_connections": "live",
    "limit_rate": "live",
    "min_speed": "live",
    "min_speed_time": "live",
    "max_size": "live",
    "sandbox": "next_worker",
    "worker_memory": "live",
    "system": "restart",
    "allow_private": "live",
    "allow_hosts": "live",
    "deny_hosts": "live",
    "allow_ports": "next_worker",
    "group": "live",
    "admin_group": "live",
    "max_queued": "live",
    "max_running": "live",
    "max_in_flight": "live",
    "roots": "live",
    "file_mode": "live",
    "dir_mode": "live",
    "min_free": "live",
    "listen": "restart",
}
"""When a key that a reload has changed comes into force. Fewer workers drain, none is killed."""


def core_settings(config: Config, default_area: str) -> Settings:
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
    if config.log_level not in ("debug", "info", "warning", "error"):
        raise ConfigError("log_level is one of debug, info, warning, error")
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
        if not Path(named).is_file():
            raise ConfigError(f"the CA bundle {named} is not a file")
        return named
    candidates = (ssl.get_default_verify_paths().cafile or "", *CA_BUNDLES)
    return next((path for path in candidates if path and Path(path).is_file()), "")


def _convert(values: dict[str, Any], where: str, *, strict: bool) -> Config:
    try:
        return msgspec.convert(values, Config, strict=strict)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {error}") from None


Change = Literal["live", "next_worker", "restart"]


LISTS = frozenset({"allow_hosts", "deny_hosts", "allow_ports", "roots"})
"""Keys whose environment variable is a list, by commas or spaces."""


class Setting(Struct, frozen=True):
    """A key in force. `source` is default, file or environment, `where` the file or the variable."""

    key: str
    value: object
    source: Literal["default", "file", "environment"]
    where: str | None
    change: Change


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
        change: Change = IN_FORCE.get(key, "restart")
        if key in variables:
            found.append(Setting(key, plain, "environment", variables[key], change))
        elif key in filed:
            found.append(Setting(key, plain, "file", str(chosen), change))
        else:
            found.append(Setting(key, plain, "default", None, change))
    return found
