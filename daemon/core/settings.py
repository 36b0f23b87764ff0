"""What the core needs of the configuration."""

from msgspec import Struct


class Settings(Struct, frozen=True, kw_only=True):
    """Times in µs, rates in bytes a second (0: no limit).

    `cleanup_failure` None: a workspace that can be resumed is kept. `max_*` are for each owner (0: no limit).
    `shared`: the daemon has users other than its own. `room`: workers that were made under another number are
    replaced, idle ones at once, others after their job.
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
    max_queued: int = 0
    max_running: int = 0
    max_in_flight: int = 0
    shared: bool = False
    room: int = 0
    default_area: str
