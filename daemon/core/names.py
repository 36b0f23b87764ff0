"""The final file name: from the response's header, the URL, or the correlation ID; always sanitised.

`sanitise` is the only way from a server's string to a name on disk: one plain component, NFC, at most 255
bytes of UTF-8, no separators, control characters, leading dot or reserved name.
"""

import re
import unicodedata
from urllib.parse import unquote, unquote_to_bytes, urlsplit

MAX_BYTES = 255
RESERVED = frozenset(
    {"con", "prn", "aux", "nul"} | {f"com{n}" for n in range(1, 10)} | {f"lpt{n}" for n in range(1, 10)}
)
INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0")
"""Characters that show nothing although their category says otherwise (Unicode's Default_Ignorable)."""

_PARAMETER = re.compile(r';\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;\s]*)', re.DOTALL)


def choose(disposition: str | None, url: str, job_id: str) -> str:
    """The name for a response: from Content-Disposition (RFC 6266), the URL's last segment, or the ID."""
    for candidate in (from_disposition(disposition or ""), from_url(url)):
        if candidate and (name := sanitise(candidate)):
            return name
    return job_id


def from_disposition(value: str) -> str | None:
    """The `filename*` (RFC 8187) or else `filename` parameter of a Content-Disposition value, unsanitised."""
    found = {name.lower(): raw for name, raw in reversed(_PARAMETER.findall(";" + value.partition(";")[2]))}
    extended = found.get("filename*", "")
    charset, _, rest = extended.partition("'")
    encoded = rest.partition("'")[2]
    if encoded and charset.lower() in ("utf-8", "iso-8859-1"):
        try:
            return unquote_to_bytes(encoded).decode(charset)
        except UnicodeDecodeError:
            pass
    plain = found.get("filename")
    if plain is None:
        return None
    if len(plain) > 1 and plain[0] == plain[-1] == '"':
        plain = re.sub(r"\\(.)", r"\1", plain[1:-1])
    try:
        # http.client decodes headers as ISO-8859-1; servers that send raw bytes mean UTF-8
        return plain.encode("latin-1").decode("utf-8")
    except (UnicodeEncodeError, UnicodeDecodeError):
        return plain


def from_url(url: str) -> str | None:
    """The last non-empty segment of the URL's path, decoded."""
    try:
        path = urlsplit(url).path
    except ValueError:
        return None
    segment = path.rsplit("/", 1)[-1]
    return unquote(segment, errors="replace") if segment else None


def sanitise(text: str) -> str | None:
    """One safe file name from any string, or None where nothing is left."""
    text = text.replace("\\", "/").rsplit("/", 1)[-1]
    text = "".join(c for c in text if unicodedata.category(c) not in INVISIBLE and c not in BLANK)
    text = _trim(unicodedata.normalize("NFC", text))
    if text.partition(".")[0].rstrip().lower() in RESERVED:
        text = "_" + text
    return _trim(shorten(text, "")) or None


def _trim(text: str) -> str:
    """Without dots and blanks at the ends; a dot at the front would hide the file."""
    while (bare := text.strip().strip(".")) != text:
        text = bare
    return text


def is_plain(name: str) -> bool:
    """Whether a user's name can stand as it is: one component of at most 255 bytes without NUL."""
    if name in (".", "..") or "/" in name or "\0" in name:
        return False
    try:
        return 0 < len(name.encode()) <= MAX_BYTES
    except UnicodeEncodeError:
        return False


def numbered(name: str, number: int) -> str:
    """`name (n).ext`, for `--if-exists rename`."""
    return shorten(name, f" ({number})")


def shorten(name: str, suffix: str) -> str:
    """`name` with `suffix` before its extension, cut to 255 bytes without breaking a character."""
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension.encode()) > 32:
        stem, dot, extension = name, "", ""
    tail = f"{suffix}{dot}{extension}"
    room = MAX_BYTES - len(tail.encode())
    return stem.encode()[:room].decode(errors="ignore") + tail
