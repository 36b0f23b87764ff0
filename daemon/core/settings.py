"""What the core needs of the configuration."""

from msgspec import Struct


class Settings(Struct, frozen=True, kw_only=True):
    """Times in µs, rates in bytes a second (0: no limit).

    `cleanup_failure` None: a workspace that can be resumed is kept.
    """

    workers: int = 5
    stop_grace: int = 2_000_000
    drain_timeout: int = 20_000_000
    keep_failed: int = 86_400_000_000
    cleanup_success: bool = True
    cleanup_failure: bool | None = None
    idle_timeout: int = 30_000_000
    start_timeout: int = 30_000_000
    host_connections: int = 16
    limit_rate: int = 0
    default_area: str
