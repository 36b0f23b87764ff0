"""From a specification to what the core may take in: everything that can be checked without the outside.

The order of a submit: this check, then the destination's directory (helper pool), then what the store knows,
then the core. Secrets are split off here and never reach the core's records.
"""

import hashlib
import string

from msgspec import Struct, to_builtins

from fetchd.protocol import urls
from fetchd.protocol.codec import encode
from fetchd.protocol.errors import Code, FetchdError
from fetchd.protocol.ids import is_correlation_id
from fetchd.protocol.job import JobSpec
from fetchd.protocol.mailbox import Options, Secrets

from . import names
from .options import check_url, split_off

SCHEMES = frozenset({"http", "https"})

ALGORITHMS = {"sha256": 64, "sha512": 128, "sha1": 40, "md5": 32, "blake2b": 128, "blake3": 64}
"""Checksum algorithms and the length of their digest in hex digits."""


class Intake(Struct, frozen=True, kw_only=True):
    """One checked job of a submit. `secrets` goes to the secrets database, or is None.

    `directory` and `area` are filled in by the supervisor after it has looked at the destination.
    """

    id: str
    spec: JobSpec
    url: str
    host: str
    checksum: str | None
    spec_hash: bytes
    secrets: bytes | None
    directory: str
    area: str = ""
    options: Options = Options()


def check(
    job_id: str, spec: JobSpec, hash_key: bytes, schemes: frozenset[str] = SCHEMES, *, relative: bool = False
) -> Intake:
    """A checked job, or `FetchdError` with the code of what is wrong.

    `schemes` are those that the installed transfers handle, in lower case. `relative`: the directory may be
    below the root of the owner.
    """
    if not is_correlation_id(job_id):
        raise FetchdError(Code.INVALID_ID, f"{job_id!r} is not a correlation ID")
    shown, options, hidden = split_off(spec, schemes, check_headers(spec.headers))
    if not (relative or spec.directory.startswith("/")) or "\0" in spec.directory:
        raise FetchdError(Code.INVALID_DIRECTORY, f"{spec.directory!r} is not an absolute path")
    if spec.name is not None and not names.is_plain(spec.name):
        raise FetchdError(Code.INVALID_NAME, f"{spec.name!r} is not one plain file name")
    fragment = spec.url.partition("#")[2]
    checksum = parse_checksum(spec.checksum) if spec.checksum else _fragment_checksum(fragment)
    return Intake(
        id=job_id,
        spec=spec,
        url=shown,
        host=urls.host_key(urls.split_url(spec.url)),
        checksum=checksum,
        spec_hash=hash_spec(spec, hash_key),
        secrets=None if hidden == Secrets() else encode(hidden),
        directory=spec.directory,
        options=options,
    )


def parse_checksum(text: str) -> str:
    """`algorithm:hex` in lower case or `algorithm:@URL`, or `invalid_checksum`."""
    algorithm, colon, digest = text.strip().partition(":")
    algorithm = algorithm.lower()
    if not colon or algorithm not in ALGORITHMS:
        known = ", ".join(ALGORITHMS)
        raise FetchdError(Code.INVALID_CHECKSUM, f"a checksum is ALGORITHM:HEX with one of {known}")
    if digest.startswith("@"):
        return f"{algorithm}:@{_checksum_list(digest[1:])}"
    return _checksum(algorithm, digest.lower())


def _checksum(algorithm: str, digest: str) -> str:
    if len(digest) != ALGORITHMS[algorithm] or set(digest) - set(string.hexdigits):
        raise FetchdError(Code.INVALID_CHECKSUM, f"{algorithm} has {ALGORITHMS[algorithm]} hex digits")
    return f"{algorithm}:{digest}"


def _checksum_list(url: str) -> str:
    try:
        _, shown = check_url(url, SCHEMES)
    except FetchdError as error:
        scheme = error.code is Code.UNSUPPORTED_SCHEME
        why = "its URL must be http or https" if scheme else error.message
        raise FetchdError(Code.INVALID_CHECKSUM, f"the list of checksums: {why}") from None
    if urls.userinfo(url) is not None or "=***" in shown:
        text = "the URL of a list of checksums is shown: no user, password or signature may be in it"
        raise FetchdError(Code.INVALID_CHECKSUM, text)
    return shown


def _fragment_checksum(fragment: str) -> str | None:
    """A checksum in a URL fragment, as `#sha256=…`; another fragment means nothing to us."""
    algorithm, equals, digest = fragment.partition("=")
    if not equals or algorithm.lower() not in ALGORITHMS:
        return None
    return _checksum(algorithm.lower(), digest.partition("&")[0].lower())


def check_headers(headers: dict[str, str]) -> dict[str, str]:
    """Request headers that can be sent as they are (RFC 9110 section 5), or `bad_request`."""
    token = set(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~")
    for name, value in headers.items():
        if not name or set(name) - token:
            raise FetchdError(Code.BAD_REQUEST, f"{name!r} is not a header name")
        if any(c in value for c in "\r\n\0"):
            raise FetchdError(Code.BAD_REQUEST, f"the value of header {name} has a line break or NUL")
        if name.lower() in FORBIDDEN_HEADERS:
            raise FetchdError(Code.BAD_REQUEST, f"header {name} is set by the transfer itself")
        try:
            value.encode("latin-1")
        except UnicodeEncodeError:
            raise FetchdError(Code.BAD_REQUEST, f"header {name} is not ISO-8859-1") from None
    return headers


FORBIDDEN_HEADERS = frozenset(
    {
        "accept-encoding", "connection", "content-length", "expect", "host", "if-range", "keep-alive",
        "range", "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip


def hash_spec(spec: JobSpec, key: bytes) -> bytes:
    """A keyed hash that tells equal specifications without keeping their secrets."""
    plain = to_builtins(spec)
    # what may be there with its default, and what has no order
    plain["headers"] = sorted(plain.get("headers", {}).items())
    plain["labels"] = sorted(plain.get("labels", {}).items())
    plain["cleanup"] = sorted(plain.get("cleanup", {}).items())
    return hashlib.blake2b(encode(sorted(plain.items())), key=key, digest_size=16).digest()
