"""What an error of the file system means for a job: one table for all who touch files for it, workers too.

`disk_full` and `disk_gone` hold every job that is staged there, `exhausted` is our own trouble and passes;
`destination` is the user's to mend, and what is left is `io_error`.
"""

import errno

from fetchd.protocol.errors import Code

CODES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), Code.DISK_FULL),
    **dict.fromkeys(
        (
            errno.EROFS,
            errno.ENODEV,
            errno.ENXIO,
            errno.ENOTCONN,
            errno.ESTALE,
            errno.EUCLEAN,
        ),
        Code.DISK_GONE,
    ),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN), Code.EXHAUSTED),
    **dict.fromkeys((errno.EACCES, errno.EPERM), Code.DESTINATION),
}


def code_of(error: OSError) -> Code:
    """The code for an error of a workspace or of a destination."""
    return CODES.get(error.errno or 0, Code.IO_ERROR)
