"""Facts about URLs that both sides of the mailbox agree on: origin, redaction.

Parsing follows RFC 3986 by the standard library; anything that it cannot take apart is `invalid_url`.
"""

import re
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from .errors import Code, FetchdError

DEFAULT_PORTS = {"http": 80, "https": 443, "ftp": 21, "ftps": 990}

_UNSAFE = re.compile(r"[\x00-\x20\x7f]")

_GRANTS = (
    r"[\w.\[\]-]{0,64}(?:token|signature|secret|passw(?:or)?d|passphrase|credential|hmac|session|_sig\b|accesskey"
    r"|(?:api|access|auth|private|secret|account|pair|client)[_-]?key|keyid|googleaccessid)[\w.\[\]-]{0,64}"
    r"|auth|authorization|code|hdne[ast]|hdntl|jwt|key(?:-pair-id)?|md5|pass|policy|pwd|q-ak|sas|sid|sig|ticket"
)
"""Names of query parameters whose value grants access, in lower case: those of the large stores and CDNs, and
whatever is called alike. Too many rather than too few: what is hidden is kept as a secret, and still sent."""

_GRANTING = re.compile(_GRANTS)
_IN_TEXT = re.compile(rf"([?&;](?:{_GRANTS})=)[^&;#\s'\"<>)]+", re.IGNORECASE)
_USERINFO = re.compile(r"(?<=//)[^/?#\s@]*(?:@[^/?#\s@]*)*@")


def split_url(url: str) -> SplitResult:
    """The parts of an absolute URL with a host, or `invalid_url`."""
    if _UNSAFE.search(url):
        raise FetchdError(Code.INVALID_URL, "a URL has no spaces or control characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        # the library's words quote what it takes for a port or a host: it may be a part of a password
        raise FetchdError(Code.INVALID_URL, "malformed URL") from None
    if not parts.scheme:
        raise FetchdError(Code.INVALID_URL, "the URL has no scheme, such as https://")
    if not parts.hostname or port == 0 or "\\" in parts.netloc:
        # a backslash ends the host for some parsers and not for others
        raise FetchdError(Code.INVALID_URL, "the URL has no usable host")
    return parts


def scheme(url: str) -> str:
    """The scheme of a URL in lower case, empty where there is none."""
    return url.partition(":")[0].lower() if ":" in url else ""


def host_key(parts: SplitResult) -> str:
    """`host` or `host:port` in lower case, the default port of the scheme left out; IPv6 in brackets."""
    host = (parts.hostname or "").lower().rstrip(".")
    if ":" in host:
        host = f"[{host}]"
    port = parts.port
    return host if port is None or port == DEFAULT_PORTS.get(parts.scheme) else f"{host}:{port}"


def origin(url: str) -> str:
    """The origin of a URL as `scheme://host[:port]` (RFC 6454), default port left out."""
    parts = split_url(url)
    return f"{parts.scheme.lower()}://{host_key(parts)}"


def redact(url: str) -> str:
    """The URL as it may be shown: without userinfo, signature parameters as `***`, without a fragment."""
    return redacted(split_url(url))


def redacted(parts: SplitResult) -> str:
    """`redact` for a URL that has been taken apart already."""
    netloc = parts.netloc.rpartition("@")[2]
    query = "".join(map(_redact_parameter, re.split("([&;])", parts.query))) if parts.query else ""
    return urlunsplit((parts.scheme, netloc, parts.path, query, ""))


def _redact_parameter(pair: str) -> str:
    name, equals, value = pair.partition("=")
    if not equals or not value:
        return pair
    plain = unquote(value)
    # a parameter may be a whole URL with a signature of its own
    return f"{name}=***" if _GRANTING.fullmatch(unquote(name).lower()) or scrub(plain) != plain else pair


def scrub(text: str) -> str:
    """A text of others as it may be shown: URLs in it lose their userinfo and their signatures."""
    return _IN_TEXT.sub(r"\1***", _USERINFO.sub("", text)) if "=" in text or "@" in text else text


def userinfo(url: str) -> tuple[str, str] | None:
    """(user, password) in a URL, decoded, or None."""
    parts = split_url(url)
    if "@" not in parts.netloc:
        return None
    return unquote(parts.username or ""), unquote(parts.password or "")
