"""What lies on this machine and goes into a specification: files are sent as their contents, never as paths,
and the environment's proxy as its URL, because the daemon may run elsewhere, as another user, or for long.

Every refusal is a FetchdError `bad_request` (`invalid_cookies` for cookies) that names the file.
"""

import os
import stat
import time
from pathlib import Path
from urllib.parse import urlsplit

from fetchd.protocol import cookies
from fetchd.protocol.errors import Code, FetchdError

File = str | os.PathLike[str]

LARGEST = 1 << 20
"""Bytes of a file read at most: no message holds more."""


def text_of(file: File, what: str) -> str:
    """The content of a text file; `what` names it in errors."""
    try:
        with Path(file).expanduser().open("rb") as opened:
            data = opened.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise _refusal(file, what, f"more than {LARGEST} bytes")
        return data.decode()
    except OSError as error:
        raise _refusal(file, what, error.strerror or str(error)) from None
    except UnicodeDecodeError:
        raise _refusal(file, what, "not a text in UTF-8") from None


def cookies_of(file: File, now: float | None = None) -> str:
    """The cookies of a Netscape cookie file that have not expired at `now` (seconds since 1970)."""
    if now is None:
        now = time.time()
    try:
        found = cookies.parse(text_of(file, "cookie file"))
    except FetchdError as error:
        if error.code is not Code.INVALID_COOKIES:
            raise
        raise FetchdError(error.code, f"cookie file {file}: {error.message}") from None
    return "".join(f"{cookie.line}\n" for cookie in found if not 0 < cookie.expires <= now)


def credentials_of(netrc: bool | File, url: str) -> tuple[str, str] | None:
    """(user, password) for a URL's host from a netrc file; `True` means `$NETRC`, else `~/.netrc`.

    None where the file has neither the host nor a default. A file that others may read is refused.
    """
    import netrc as format_

    file = Path(os.environ.get("NETRC") or "~/.netrc") if isinstance(netrc, bool) else Path(netrc)
    file = file.expanduser()
    try:
        found = file.stat()
        if stat.S_ISREG(found.st_mode) and found.st_mode & 0o077:
            raise _refusal(file, "netrc file", f"others may read it; chmod 600 {file}")
        entry = format_.netrc(str(file)).authenticators(urlsplit(url).hostname or "")
    except format_.NetrcParseError as error:
        # the error's own text quotes what it stumbled over, maybe a password
        raise _refusal(file, "netrc file", f"line {error.lineno} is malformed") from None
    except OSError as error:
        raise _refusal(file, "netrc file", error.strerror or str(error)) from None
    except ValueError:
        raise _refusal(file, "netrc file", "not a text in UTF-8, or not a URL to look up") from None
    if entry is None or not entry[0]:
        return None
    return entry[0], entry[2] or ""


def proxy_of(url: str) -> str | None:
    """The proxy that the environment has for an http or https URL; None: a direct connection.

    As curl and others have it: `https_proxy`, `http_proxy` and `all_proxy`, in lower or upper case, and hosts
    in `no_proxy` excepted. A proxy without a scheme is an http one.
    """
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    from urllib.request import getproxies_environment, proxy_bypass

    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"}:
        return None
    proxies = getproxies_environment()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.netloc.rpartition("@")[2], proxies):
        return None
    return proxy_url(proxy)


def proxy_url(proxy: str) -> str:
    """A proxy as people write it, `host:port`, as a URL."""
    return proxy if "://" in proxy else f"http://{proxy}"


def _refusal(file: File, what: str, why: str) -> FetchdError:
    return FetchdError(Code.BAD_REQUEST, f"{what} {os.fspath(file)}: {why}")
