"""Where children begin: by the name of their main function, so that the supervisor need not import them.

In the fork server the module is imported already; importing it here finds it there.
"""

from importlib import import_module
from typing import Any

WORKER = "fetchd.daemon.worker.main"
READER = "fetchd.daemon.store.reader"
BACKUP = "fetchd.daemon.store.backup"


def call(module: str, *arguments: Any) -> None:
    """Run `main` of a module."""
    import_module(module).main(*arguments)
