"""Checksums that others publish: header fields of a response, and lists in the format of sha256sum(1).

RFC 9530 (Repr-Digest), RFC 3230 (Digest, its predecessor). Both are of the whole content, also in a 206.
"""

import base64
import binascii
import re
from urllib.parse import unquote, urlsplit

from fetchd.protocol.errors import Code

from .api import TransferError

NAMES = {"sha-512": "sha512", "sha-256": "sha256", "sha": "sha1", "md5": "md5"}
"""Algorithms as they are called in headers, the strongest first, and by us."""

SIZES = {"sha512": 64, "sha256": 32, "sha1": 20, "md5": 16, "blake2b": 64, "blake3": 32}
"""Bytes of a digest."""

_REPR = re.compile(r"\s*([a-z0-9*_.-]+)=:([A-Za-z0-9+/=]{1,128}):\s*\Z")
_OLD = re.compile(r"\s*([A-Za-z0-9-]+)=([A-Za-z0-9+/=]{1,128})\s*\Z")
_GNU = re.compile(r"(\\?)([0-9A-Fa-f]{32,128})(?:(?: [ *]|[ \t]+)(.+))?\Z")
_BSD = re.compile(r"([A-Za-z0-9-]+) \((.+)\) = ([0-9A-Fa-f]{32,128})\Z")
_ESCAPES = {"\\\\": "\\", "\\n": "\n", "\\r": "\r"}
_ESCAPE = re.compile(r"\\[\\nr]")

LARGEST_LIST = 4 << 20
"""Bytes of a list of checksums that are read at most."""


def announced(repr_digest: str | None, digest: str | None) -> list[str]:
    """The strongest digest of each header as `algorithm:hex`; what cannot be read counts as not said."""
    found: dict[str, str] = {}
    for value, form in ((repr_digest, _REPR), (digest, _OLD)):
        said = {}
        for part in (value or "").split(",")[:16]:
            if (match := form.match(part)) is not None:
                said[match[1].lower()] = match[2]
        for name, algorithm in NAMES.items():
            if name in said and (plain := _decoded(said[name], algorithm)) is not None:
                found.setdefault(algorithm, plain)
                break
    return [f"{algorithm}:{plain}" for algorithm, plain in found.items()]


def _decoded(text: str, algorithm: str) -> str | None:
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error:
        return None
    return raw.hex() if len(raw) == SIZES[algorithm] else None


def listed(text: str, algorithm: str, names: list[str]) -> str:
    """The checksum of the first of these names in a list, as `algorithm:hex`.

    Lines are `HEX  NAME`, `HEX *NAME` or `ALGORITHM (NAME) = HEX`; a list of one needs no name, or any.
    A name that is escaped has a backslash at the start of its line.
    Raises `invalid_checksum`.
    """
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        line = line.strip()
        if (match := _GNU.match(line)) is not None:
            digest, name = match[2], match[3] or ""
            if match[1]:
                name = _ESCAPE.sub(lambda found: _ESCAPES[found[0]], name)
        elif (match := _BSD.match(line)) is not None and _same(match[1], algorithm):
            digest, name = match[3], match[2]
        else:
            continue
        if len(digest) == 2 * SIZES[algorithm]:
            found.append((name.strip().rsplit("/", 1)[-1], digest.lower()))
    for wanted in names:
        digests = {digest for name, digest in found if name == wanted}
        if len(digests) == 1:
            return f"{algorithm}:{digests.pop()}"
        if digests:
            raise TransferError(Code.INVALID_CHECKSUM, f"the list has several checksums of {wanted}")
    if len(found) == 1:
        return f"{algorithm}:{found[0][1]}"
    raise TransferError(Code.INVALID_CHECKSUM, f"the list has no {algorithm} of {' or '.join(names)}")


def _same(written: str, algorithm: str) -> bool:
    return written.lower().replace("-", "") == algorithm


def basename(url: str) -> str:
    """The last segment of a URL's path, decoded: the name that a list may have for the file."""
    try:
        return unquote(urlsplit(url).path.rsplit("/", 1)[-1])
    except ValueError:
        return ""
