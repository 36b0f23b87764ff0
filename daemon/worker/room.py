"""The one place where a worker's room is locked. Each layer is applied in order and reported.

Landlock and seccomp join here; the order is fixed by `security.md`: descriptors and environment, limits,
no_new_privs, then the kernel's sandboxes, and only then a ZeroMQ context.
"""

import os
import resource
from pathlib import Path

from fetchd.daemon.service import child

OPEN_FILES = 256
ADDRESS_SPACE = 4 << 30


def lock(home: Path) -> dict[str, str]:
    """Lock the room; which layers hold. `home` is the only directory that a library may look for."""
    keep = {"LANG": "C.UTF-8", "PATH": "/usr/bin:/bin", "HOME": str(home), "TMPDIR": str(home)}
    os.environ.clear()
    os.environ.update(keep)
    os.umask(0o077)
    os.chdir(home)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    child.prctl(child.PR_SET_NO_NEW_PRIVS, 1)
    return {"rlimits": "on", "no_new_privs": "on"}
