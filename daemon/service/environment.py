"""The environment that the daemon's children get: what Python and the system need, and nothing of the user's.

A shell's environment often has tokens and proxies with passwords in it, and a daemon that is started from one
runs for long. What a process was started with stays readable in /proc for whoever is the same user.
"""

from collections.abc import MutableMapping

_KEPT = frozenset(
    {
        "COVERAGE_PROCESS_START", "DYLD_LIBRARY_PATH", "HOME", "LANG", "LANGUAGE", "LOGNAME", "NOTIFY_SOCKET",
        "PATH", "SSL_CERT_DIR", "SSL_CERT_FILE", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV",
    }
)  # fmt: skip
_FAMILIES = ("FETCHD_", "LC_", "LD_", "LISTEN_", "MALLOC_", "PYTHON", "WATCHDOG_", "XDG_")


def shorten(environment: MutableMapping[str, str]) -> None:
    """Take out of it what children do not need."""
    for name in [name for name in environment if name not in _KEPT and not name.startswith(_FAMILIES)]:
        if not name.endswith("_DIRECTORY"):  # of systemd
            del environment[name]
