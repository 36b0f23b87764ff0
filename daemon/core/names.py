"""The final file name: from the response's header, the URL, or the correlation ID; always sanitised.

`sanitise` is the only way from a server's string to a name on disk: one plain component, NFC, at most 255
bytes of UTF-8, no separators, control characters, leading dot or reserved name.
"""

import contextlib
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

# Every piece is matched possessively, at a place that only moves forward: linear whatever comes.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]++")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_LOOSE = re.compile(r"[!#-+\--:<-~]++")
"""A token for an extended value, with what JavaScript's encodeURIComponent leaves as it is, such as `(`."""
_SPACE = re.compile(r"[ \t]*+")
_EXTENDED = re.compile(r"([^'%]++)'[^']*+'((?:%[0-9A-Fa-f]{2}|[^%])++)")
_ISO_8859_1 = frozenset(range(0x80, 0xA0))
"""Octets that ISO-8859-1 has no characters for: who sends them means another encoding."""


def choose(disposition: str | None, url: str, job_id: str) -> str:
    """The name for a response: from Content-Disposition (RFC 6266), the URL's last segment, or the ID."""
    for candidate in (from_disposition(disposition or ""), from_url(url)):
        if candidate and (name := sanitise(candidate)):
            return name
    return job_id


def from_disposition(value: str) -> str | None:
    """The name in a Content-Disposition value (RFC 6266; octets as ISO-8859-1), unsanitised.

    `filename*` (RFC 8187) goes before `filename`, and that before the continuations of RFC 2231, which
    RFC 6266 left out. A value that breaks its grammar, or names a parameter twice, says nothing.
    """
    found = _parameters(value)
    if found is None:
        return None
    extended = _decoded(found.get("filename*"))
    if extended is not None:
        return extended
    plain = found.get("filename")
    return _text(plain[1]) if plain is not None else _continued(found)


Value = tuple[bool, str]
"""Whether the value of a parameter was a quoted string, and its text."""


def _parameters(value: str) -> dict[str, Value] | None:
    """The parameters by name in lower case, or None where the value breaks the grammar of RFC 6266."""
    kind = _TOKEN.match(value, _skip(value, 0))
    if kind is None:
        return None
    found: dict[str, Value] = {}
    at = _skip(value, kind.end())
    while at < len(value):
        begin = _skip(value, at + 1)
        if value[at] == ";" and begin == len(value):
            # nothing behind the last semicolon: against the grammar, and so common that it means nothing
            break
        name = _TOKEN.match(value, begin)
        if value[at] != ";" or name is None:
            return None
        at = _skip(value, name.end())
        if value[at : at + 1] != "=" or name[0].lower() in found:
            return None
        at = _skip(value, at + 1)
        quoted = _QUOTED.match(value, at)
        token = quoted or (_LOOSE if name[0].endswith("*") else _TOKEN).match(value, at)
        if token is None:
            return None
        text = re.sub(r"\\(.)", r"\1", quoted[1], flags=re.DOTALL) if quoted else token[0]
        found[name[0].lower()] = (quoted is not None, text)
        at = _skip(value, token.end())
    return found


def _skip(value: str, at: int) -> int:
    space = _SPACE.match(value, at)
    return space.end() if space else at


def _decoded(value: Value | None) -> str | None:
    """An extended value (RFC 8187 section 3.2), or None where it is none that we understand."""
    match = None if value is None or value[0] else _EXTENDED.fullmatch(value[1])
    if match is None:
        return None
    charset, octets = match[1].lower(), unquote_to_bytes(match[2])
    if charset == "iso-8859-1" and not _ISO_8859_1.intersection(octets):
        return octets.decode("latin-1")
    if charset == "utf-8":
        with contextlib.suppress(UnicodeDecodeError):
            return octets.decode()
    return None


def _continued(found: dict[str, Value]) -> str | None:
    """The name from `filename*0`, `filename*1` and so on (RFC 2231 section 3), as far as they follow."""
    first = found.get("filename*0*")
    charset = first[1].partition("'")[0] + "''" if first else ""
    parts: list[str] = []
    while True:
        plain, encoded = found.get(f"filename*{len(parts)}"), found.get(f"filename*{len(parts)}*")
        text = _text(plain[1]) if plain else None
        if encoded is not None:
            prefix = charset if parts else ""
            text = _decoded((encoded[0], prefix + encoded[1]))
        if text is None:
            return "".join(parts) or None
        parts.append(text)


def _text(octets: str) -> str:
    """http.client decodes headers as ISO-8859-1; servers that send raw bytes mean UTF-8."""
    try:
        return octets.encode("latin-1").decode("utf-8")
    except (UnicodeEncodeError, UnicodeDecodeError):
        return octets


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
    start, end = 0, len(text)
    while start < end and (text[start] == "." or text[start].isspace()):
        start += 1
    while end > start and (text[end - 1] == "." or text[end - 1].isspace()):
        end -= 1
    return text[start:end]


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
