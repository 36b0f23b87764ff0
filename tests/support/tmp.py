"""Temporary directories with short names, and the list of those that still exist.

Short, because the path of a Unix socket ends at 107 bytes and pytest's own directories are long.
"""

import shutil
import tempfile
from pathlib import Path
from types import TracebackType

live: set[Path] = set()
"""Directories made here and not yet removed: empty after every test, bar those of session fixtures."""


class TempDir:
    """A new directory, removed with everything in it by `close` or at the end of a `with` block."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="fd-", dir="/tmp"))
        live.add(self.path)

    def close(self) -> None:
        """Remove it, directories without permissions included. Nothing happens the second time."""
        if self.path not in live:
            return
        for folder in [self.path, *(p for p in self.path.rglob("*") if p.is_dir() and not p.is_symlink())]:
            folder.chmod(0o700)
        shutil.rmtree(self.path)
        live.discard(self.path)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
