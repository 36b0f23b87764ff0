"""Exit codes: the one place that maps outcomes to numbers. Causes are string codes, never more numbers."""

from collections.abc import Iterable

from fetchd.protocol.errors import Code
from fetchd.protocol.job import JobSnapshot, State

OK, FAILED, USAGE, NO_DAEMON, NO_SUCH_JOB, TIMED_OUT, CANCELLED, DENIED, INTERRUPTED = (
    0, 1, 2, 3, 4, 5, 6, 7, 130,
)  # fmt: skip

MEANINGS = {
    OK: "all is well",
    FAILED: "a job failed, the daemon could not do it, or doctor found a fault",
    USAGE: "the command line, or what it asks for, is wrong",
    NO_DAEMON: "no daemon answers",
    NO_SUCH_JOB: "no such job, or no such key",
    TIMED_OUT: "the time to wait ran out",
    CANCELLED: "a job was cancelled",
    DENIED: "you may not do this, or not reach this daemon",
    INTERRUPTED: "interrupted by Ctrl-C",
}

REFUSALS = {
    Code.BAD_REQUEST: USAGE,
    Code.UNSUPPORTED_FIELD: USAGE,
    Code.TOO_LARGE: USAGE,
    Code.INVALID_URL: USAGE,
    Code.UNSUPPORTED_SCHEME: USAGE,
    Code.INVALID_CHECKSUM: USAGE,
    Code.INVALID_DIRECTORY: USAGE,
    Code.INVALID_NAME: USAGE,
    Code.INVALID_ID: USAGE,
    Code.INVALID_COOKIES: USAGE,
    Code.CONFLICT: USAGE,
    Code.NO_DAEMON: NO_DAEMON,
    Code.NO_SUCH_JOB: NO_SUCH_JOB,
    Code.WAIT_TIMEOUT: TIMED_OUT,
    Code.CANCELLED: CANCELLED,
    Code.DENIED: DENIED,
}
"""Exit codes of refused requests; every other code is FAILED."""

HINTS = {
    Code.EXISTS: "keep both with --if-exists rename, or use skip or overwrite",
    Code.PATH_RESERVED: "choose another name with -o, or --if-exists rename",
    Code.CONFLICT: "the ID is taken by a different download; choose another with --id",
    Code.NO_DAEMON: "start it with: fetchd daemon start",
    Code.INVALID_DIRECTORY: "choose an absolute one with -d, over TCP one of the daemon's machine",
    Code.DRAINING: "try again when it has stopped; a new one is then started",
    Code.DESTINATION: "check that the directory can be written, or choose one with -d",
    Code.INVALID_URL: "a URL begins with https://, http://, ftps:// or ftp://",
    Code.UNSUPPORTED_SCHEME: "a URL begins with https://, http://, ftps:// or ftp://",
    Code.CHECKSUM_MISMATCH: "the file was not kept; check the checksum with its publisher",
    Code.UNAUTHORIZED: "log in with --user, --bearer or --netrc, or check what was given there",
    Code.INVALID_COOKIES: "a cookie file is in the Netscape format, as curl -c and browser add-ons write it",
    Code.PROXY: "choose another with --proxy URL, or none with --proxy none",
    Code.TLS_CERT: "a private authority is trusted with --ca FILE",
    Code.CLIENT_CERT: "--cert FILE has the certificate and its key, both PEM and not encrypted",
    Code.TOO_SLOW: "a lower --min-speed, or another --mirror, may help",
    Code.FILE_TOO_LARGE: "allow more with --max-size",
    Code.DEADLINE: "submit it again with a longer --deadline",
    Code.WAIT_TIMEOUT: "the job goes on; wait longer with --timeout",
    Code.NO_SUCH_JOB: "fetchd ls shows the jobs there are",
    Code.SECRETS_GONE: "submit it again with its credentials",
    Code.HISTORY_GONE: "fetchd ls shows how things are; fetchd events without --since goes on from now",
    Code.STORE_FAILED: "fetchd daemon logs and fetchd doctor may say why",
    Code.INTERNAL: "fetchd daemon logs has the details",
}
"""What to do next, where that helps."""


def of_refusal(code: Code) -> int:
    """The exit code of a request that was refused, or of waiting that failed."""
    return REFUSALS.get(code, FAILED)


def of_jobs(jobs: Iterable[JobSnapshot]) -> int:
    """The exit code of jobs that are over: failures before cancellations."""
    states = {job.state for job in jobs}
    if State.FAILED in states:
        return FAILED
    return CANCELLED if State.CANCELLED in states else OK
