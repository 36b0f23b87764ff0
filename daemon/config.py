"""The configuration: `fetchd.toml`, overridden by `FETCHD_*` in the environment. Unknown keys are errors.

The file is `--config`, else `$FETCHD_CONFIG`, else `$XDG_CONFIG_HOME/fetchd/fetchd.toml` if it exists (for
root `/etc/fetchd/fetchd.toml` first).
"""

import os
import ssl
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

RESERVED = frozenset({"state_dir", "runtime_dir", "config", "socket", "debug", "fuzz", "sim"})
"""`FETCHD_*` variables that are not keys of the file."""

CA_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


class ConfigError(Exception):
    """The configuration cannot be used; the message says where and why."""


Seconds = Annotated[float, Meta(gt=0, le=86400)]


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is in force. Times in seconds."""

    workers: Annotated[int, Meta(ge=1, le=512)] = 5
    log_level: str = "info"
    connect_timeout: Seconds = 10.0
    read_timeout: Seconds = 30.0
    stop_grace: Seconds = 2.0
    drain_timeout: Seconds = 20.0
    idle_timeout: Seconds = 30.0
    ca_bundle: str = ""


def load(path: Path | None, environment: Mapping[str, str]) -> Config:
    """The configuration in force, or `ConfigError`."""
    chosen = path or _default_path(environment)
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
            _convert({name: value}, key, strict=False)
            values[name] = value
    config = _convert(values, "the configuration", strict=False)
    if config.log_level not in ("debug", "info", "warning", "error"):
        raise ConfigError("log_level is one of debug, info, warning, error")
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


def _default_path(environment: Mapping[str, str]) -> Path | None:
    if named := environment.get("FETCHD_CONFIG"):
        return Path(named)
    home = environment.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    places = [Path(home) / "fetchd" / "fetchd.toml"]
    if os.geteuid() == 0:
        places.insert(0, Path("/etc/fetchd/fetchd.toml"))
    return next((place for place in places if place.is_file()), None)


def _convert(values: dict[str, Any], where: str, *, strict: bool) -> Config:
    try:
        return msgspec.convert(values, Config, strict=strict)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {error}") from None
