"""The environment that the daemon's children get: what Python and the system need, and nothing of the user's.

A shell's environment often has tokens and proxies with passwords in it, and a daemon that is started from one
runs for long. What a process was started with stays in its memory, and readable in /proc for whoever is the
same user; the fork server is started after this, and so neither it nor a worker ever had more.
"""

from collections.abc import MutableMapping

_KEPT = frozenset(
    {
        "CONFIGURATION_DIRECTORY", "COVERAGE_PROCESS_START", "CREDENTIALS_DIRECTORY", "FETCHD_RUNTIME_DIR",
        "FETCHD_STATE_DIR", "HOME", "JOURNAL_STREAM", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE",
        "LC_MESSAGES", "LOGNAME", "PATH", "RUNTIME_DIRECTORY", "SSL_CERT_DIR", "SSL_CERT_FILE",
        "STATE_DIRECTORY", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR",
        "XDG_STATE_HOME",
    }
)  # fmt: skip
_FAMILIES = ("LD_", "MALLOC_", "PYTHON")


def shorten(environment: MutableMapping[str, str]) -> None:
    """Take out of it what neither the daemon from here on nor its children need."""
    for name in [name for name in environment if name not in _KEPT and not name.startswith(_FAMILIES)]:
        del environment[name]
