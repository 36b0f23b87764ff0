"""The closed list of error codes, and the exceptions that carry them.

A code is stable for ever; a message is for people and may change. Codes of requests come back in a
reply, codes of jobs stand in the job's `error.code`.
"""

from enum import StrEnum


class Code(StrEnum):
    """Every error code there is. `SPEC.md` has the same list with the same meanings, checked by a test."""

    # what a reply may say about a request
    BAD_REQUEST = "bad_request"
    UNKNOWN_TYPE = "unknown_type"
    UNSUPPORTED_VERSION = "unsupported_version"
    UNSUPPORTED_FIELD = "unsupported_field"
    TOO_LARGE = "too_large"
    INVALID_URL = "invalid_url"
    UNSUPPORTED_SCHEME = "unsupported_scheme"
    INVALID_CHECKSUM = "invalid_checksum"
    INVALID_DIRECTORY = "invalid_directory"
    INVALID_NAME = "invalid_name"
    INVALID_ID = "invalid_id"
    INVALID_COOKIES = "invalid_cookies"
    DESTINATION = "destination"
    PATH_RESERVED = "path_reserved"
    CONFLICT = "conflict"
    NO_SUCH_JOB = "no_such_job"
    TOO_LATE = "too_late"
    SECRETS_GONE = "secrets_gone"
    QUEUE_PAUSED = "queue_paused"
    NOT_FINISHED = "not_finished"
    INVALID_CONFIG = "invalid_config"
    HISTORY_GONE = "history_gone"
    DENIED = "denied"
    DRAINING = "draining"
    BUSY = "busy"
    STORE_FAILED = "store_failed"
    INTERNAL = "internal"
    # what a job may have failed with (DESTINATION, DENIED and INTERNAL too)
    DNS = "dns"
    CONNECT = "connect"
    TIMEOUT = "timeout"
    RESET = "reset"
    SHORT_BODY = "short_body"
    TLS = "tls"
    TLS_CERT = "tls_cert"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    GONE = "gone"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    SERVER_ERROR = "server_error"
    HTTP_ERROR = "http_error"
    BAD_RESPONSE = "bad_response"
    REDIRECT_LOOP = "redirect_loop"
    REDIRECT_REFUSED = "redirect_refused"
    TOO_SLOW = "too_slow"
    FILE_TOO_LARGE = "file_too_large"
    DEADLINE = "deadline"
    PROXY = "proxy"
    CLIENT_CERT = "client_cert"
    CHECKSUM_MISMATCH = "checksum_mismatch"
    EXISTS = "exists"
    DISK_FULL = "disk_full"
    DISK_GONE = "disk_gone"
    IO_ERROR = "io_error"
    EXHAUSTED = "exhausted"
    WORKER_DIED = "worker_died"
    WORKER_HUNG = "worker_hung"
    WORKER_KILLED = "worker_killed"
    WORKER_MEMORY = "worker_memory"
    POISONED = "poisoned"
    CANCELLED = "cancelled"
    # what a job may be warned of
    MIRROR_DIFFERS = "mirror_differs"
    DIGEST_DIFFERS = "digest_differs"
    INSECURE = "insecure"
    # what a client library says by itself
    NO_DAEMON = "no_daemon"
    WAIT_TIMEOUT = "wait_timeout"


MEANINGS: dict[Code, str] = {
    Code.BAD_REQUEST: "the message is not what SPEC.md describes",
    Code.UNKNOWN_TYPE: "no such request type",
    Code.UNSUPPORTED_VERSION: "the daemon does not speak this protocol version",
    Code.UNSUPPORTED_FIELD: "a job specification has a field that this daemon does not know",
    Code.TOO_LARGE: "the message or a list in it exceeds its limit",
    Code.INVALID_URL: "the URL cannot be parsed or has no host",
    Code.UNSUPPORTED_SCHEME: "no transfer handles this URL scheme",
    Code.INVALID_CHECKSUM: "a checksum is not ALGORITHM:HEX with a known algorithm and the right length,"
    " or its list does not have it",
    Code.INVALID_DIRECTORY: "the directory is not an absolute path",
    Code.INVALID_NAME: "the file name is not one plain name",
    Code.INVALID_ID: "a correlation ID is not 1 to 64 of A-Z a-z 0-9 _ -",
    Code.INVALID_COOKIES: "the cookies are not in the Netscape format",
    Code.DESTINATION: "the destination directory cannot be created or written",
    Code.PATH_RESERVED: "another live job will publish under this path",
    Code.CONFLICT: "the correlation ID or request ID is taken by something else",
    Code.NO_SUCH_JOB: "no job of yours has this ID",
    Code.TOO_LATE: "the job is finished or already being published",
    Code.SECRETS_GONE: "the credentials of the job have been deleted; submit it again",
    Code.QUEUE_PAUSED: "your whole queue is paused; resume all of it",
    Code.NOT_FINISHED: "the job is not finished; cancel it first",
    Code.INVALID_CONFIG: "the configuration cannot be used; the one before stays in force",
    Code.HISTORY_GONE: "events that old are not kept any more; take a snapshot and go on from its revision",
    Code.DENIED: "you may not do this",
    Code.DRAINING: "the daemon is stopping and takes no new work",
    Code.BUSY: "the daemon has too much of this in hand; try again after retry_after",
    Code.STORE_FAILED: "the database did not take the change; nothing was done",
    Code.INTERNAL: "a fault in the daemon; its log has the details",
    Code.DNS: "the host name does not resolve",
    Code.CONNECT: "the connection was refused or the host is unreachable",
    Code.TIMEOUT: "the server did not answer in time",
    Code.RESET: "the server broke the connection",
    Code.SHORT_BODY: "the server sent less than it announced",
    Code.TLS: "the TLS handshake failed",
    Code.TLS_CERT: "the server's certificate is not valid for this host",
    Code.UNAUTHORIZED: "401 or 407: credentials are missing or wrong",
    Code.FORBIDDEN: "403: the server refuses",
    Code.NOT_FOUND: "404: the server has no such file",
    Code.GONE: "410: the file is gone for good",
    Code.RATE_LIMITED: "429: the server asks for fewer requests",
    Code.UNAVAILABLE: "503: the server is overloaded or down",
    Code.SERVER_ERROR: "another 5xx, or 408 or 425: the server failed",
    Code.HTTP_ERROR: "another 4xx: the server refuses",
    Code.BAD_RESPONSE: "the response breaks the protocol's rules",
    Code.REDIRECT_LOOP: "more than 20 redirects",
    Code.REDIRECT_REFUSED: "a redirect to an unencrypted or unsupported URL",
    Code.TOO_SLOW: "the server sent less than the minimum speed for too long",
    Code.FILE_TOO_LARGE: "the file is larger than was allowed",
    Code.DEADLINE: "the time that the job was given is over",
    Code.PROXY: "the proxy cannot be reached or refuses",
    Code.CLIENT_CERT: "the client certificate or its key cannot be used",
    Code.CHECKSUM_MISMATCH: "the content does not have the checksum that was asked for",
    Code.EXISTS: "a file with this name exists",
    Code.DISK_FULL: "no space is left for the file",
    Code.DISK_GONE: "the file system is read-only, not mounted, or does not answer",
    Code.IO_ERROR: "reading or writing a file failed",
    Code.EXHAUSTED: "the daemon has run out of descriptors, processes or memory",
    Code.WORKER_DIED: "the worker process died",
    Code.WORKER_HUNG: "the worker process stopped answering and was killed",
    Code.WORKER_KILLED: "the supervisor ended the worker process",
    Code.WORKER_MEMORY: "the worker process took more memory than it may and was killed",
    Code.POISONED: "the job killed three workers and was parked",
    Code.CANCELLED: "the job was cancelled",
    Code.MIRROR_DIFFERS: "a mirror has another file and is not used any more",
    Code.DIGEST_DIFFERS: "the content has the checksum that was asked for, not the one the server announces",
    Code.INSECURE: "the server's certificate was not checked, as was asked for",
    Code.NO_DAEMON: "no daemon answers",
    Code.WAIT_TIMEOUT: "the time to wait ran out",
}


TRANSIENT = frozenset(
    {
        Code.DNS, Code.CONNECT, Code.TIMEOUT, Code.RESET, Code.SHORT_BODY, Code.TLS, Code.RATE_LIMITED,
        Code.UNAVAILABLE, Code.SERVER_ERROR, Code.TOO_SLOW, Code.PROXY, Code.WORKER_DIED, Code.WORKER_HUNG,
        Code.WORKER_KILLED, Code.WORKER_MEMORY,
    }
)  # fmt: skip
"""Faults of servers, of the way to them and of workers that may be gone another time.

The daemon retries these by itself, as it does with troubles of its own: disks, descriptors, memory.
"""


class FetchdError(Exception):
    """An error with a stable code and a message for people.

    `retry_after` is in seconds; `details` is data that a program may want (never secrets).
    """

    def __init__(
        self, code: Code, message: str = "", *, retry_after: float | None = None, **details: object
    ) -> None:
        super().__init__(message or MEANINGS[code])
        self.code = code
        self.message = message or MEANINGS[code]
        self.retry_after = retry_after
        self.details = details


class ProtocolError(FetchdError):
    """Bytes from outside that are not a message of this protocol. The only exception the codec raises."""
