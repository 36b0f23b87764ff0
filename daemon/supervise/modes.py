"""The modes of delivered files and of the directories that are made for them.

A daemon of one user does as the submitter's umask says. Where files are for a group of users the
configuration has the modes, and a file in a setgid directory gets that one's group, as if made there.
"""

import contextlib
import os
import stat

from msgspec import Struct


class Modes(Struct, frozen=True):
    """What is configured; None: by the submitter's umask."""

    file: int | None = None
    directory: int | None = None

    def of_file(self, umask: int) -> int:
        """The mode of a delivered file."""
        return 0o666 & ~umask if self.file is None else self.file

    def of_directory(self, umask: int) -> int:
        """The mode of a directory that is made."""
        return 0o777 & ~umask if self.directory is None else self.directory

    def inherit(self, fd: int, directory: int) -> None:
        """Give a file the group of a setgid directory (both by descriptor), where we may."""
        if self.file is not None:
            found = os.fstat(directory)
            if found.st_mode & stat.S_ISGID:
                with contextlib.suppress(PermissionError):
                    os.fchown(fd, -1, found.st_gid)


BY_UMASK = Modes()
