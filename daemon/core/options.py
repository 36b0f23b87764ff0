"""How a job wants to be fetched: what of a specification may be kept and shown, and what is secret.

Pure checks; every refusal is a `FetchdError`. What is shown has no secrets in it, so no message quotes them.
"""

import re
from urllib.parse import unquote

from fetchd.protocol import cookies, urls
from fetchd.protocol.errors import Code, FetchdError
from fetchd.protocol.job import JobSpec
from fetchd.protocol.mailbox import Options, Secrets

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*\Z")
PROXY_SCHEMES = frozenset({"http", "https", "socks4", "socks4a", "socks5", "socks5h"})

MAX_MIRRORS = 65536
"""Most characters of all mirrors together: a snapshot has them, and has to fit into one frame."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\s([^-]+)-----END \1-----")
_CERTIFICATES = frozenset({"CERTIFICATE", "TRUSTED CERTIFICATE", "X509 CERTIFICATE"})
_KEYS = frozenset({"PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "DSA PRIVATE KEY"})


def split_off(
    spec: JobSpec, schemes: frozenset[str], headers: dict[str, str]
) -> tuple[str, Options, Secrets]:
    """(URL as it may be shown, options, secrets) of a specification; `headers` have been checked."""
    url, shown = check_url(spec.url, schemes)
    mirrors, shown_mirrors = _mirrors(spec, url, schemes)
    proxy, shown_proxy = (None, None) if spec.proxy is None else _proxy(spec.proxy)
    _user_agent(spec.user_agent)
    _credentials(spec.credentials, headers)
    cookies.parse(spec.cookies)
    _certificates(spec)
    if spec.if_newer and spec.if_exists not in ("fail", "overwrite"):
        raise _bad(f"if_newer replaces the file; that cannot be joined with if_exists {spec.if_exists}")
    options = Options(
        mirrors=shown_mirrors,
        segments=spec.segments,
        min_speed=spec.min_speed,
        min_speed_time=spec.min_speed_time,
        max_size=spec.max_size,
        connect_timeout=spec.connect_timeout,
        read_timeout=spec.read_timeout,
        user_agent=spec.user_agent,
        proxy=shown_proxy,
        insecure=spec.insecure,
        downgrade=spec.downgrade,
        if_newer=spec.if_newer,
        keep_time=spec.keep_time,
    )
    secrets = Secrets(
        url=None if url == shown else url,
        mirrors=() if mirrors == shown_mirrors else mirrors,
        headers=headers,
        credentials=spec.credentials,
        cookies=spec.cookies,
        proxy=None if proxy == shown_proxy else proxy,
        client_certificate=spec.client_certificate,
        ca=spec.ca,
    )
    return shown, options, secrets


def check_url(url: str, schemes: frozenset[str]) -> tuple[str, str]:
    """(without its fragment, as it may be shown), or `invalid_url` or `unsupported_scheme`."""
    scheme, colon, _ = url.partition(":")
    if colon and SCHEME.match(scheme) and scheme.lower() not in schemes:
        raise FetchdError(Code.UNSUPPORTED_SCHEME, f"no transfer handles {scheme}: URLs")
    return url.partition("#")[0], urls.redacted(urls.split_url(url))


def _mirror(url: str, schemes: frozenset[str]) -> tuple[str, str]:
    try:
        return check_url(url, schemes)
    except FetchdError as error:
        raise FetchdError(error.code, f"a mirror: {error.message}") from None


def _mirrors(spec: JobSpec, url: str, schemes: frozenset[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if sum(map(len, spec.mirrors)) > MAX_MIRRORS:
        raise _bad(f"the mirrors have more than {MAX_MIRRORS} characters together")
    pairs = [_mirror(mirror, schemes) for mirror in spec.mirrors]
    seen = {url}
    for mirror, shown in pairs:
        if mirror in seen:
            raise _bad(f"{shown} is given twice; mirrors are other URLs")
        seen.add(mirror)
    return tuple(mirror for mirror, _ in pairs), tuple(shown for _, shown in pairs)


def _proxy(proxy: str) -> tuple[str, str]:
    """(as it is used, as it may be shown), the latter without anything but scheme, host and port."""
    try:
        parts = urls.split_url(proxy)
    except FetchdError as error:
        raise _bad(f"the proxy: {error.message}") from None
    scheme = parts.scheme.lower()
    if scheme not in PROXY_SCHEMES:
        raise _bad(f"a proxy is a URL with one of {', '.join(sorted(PROXY_SCHEMES))}, not {scheme}")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise _bad("a proxy is scheme://[user:password@]host[:port], with nothing after it")
    if _CONTROL.search(unquote(parts.netloc)):
        raise _bad("the proxy's user or password has control characters")
    host = parts.netloc.rpartition("@")[2]
    return f"{scheme}://{parts.netloc}", f"{scheme}://{host}"


def _user_agent(text: str | None) -> None:
    if text is not None and not (text.isprintable() and text.strip() and _latin(text)):
        raise _bad("a user agent is printable ISO-8859-1")


def _latin(text: str) -> bool:
    return all(ord(c) < 256 for c in text)


def _credentials(pair: tuple[str, str] | None, headers: dict[str, str]) -> None:
    if pair is None:
        return
    if ":" in pair[0]:
        raise _bad("the user of credentials has no colon (RFC 7617)")
    if any(map(_CONTROL.search, pair)):
        raise _bad("credentials have no control characters")
    if any(name.lower() == "authorization" for name in headers):
        raise _bad("give credentials or the header Authorization, not both")


def _certificates(spec: JobSpec) -> None:
    if spec.insecure and spec.ca is not None:
        raise _bad("insecure leaves certificates unchecked: ca means nothing beside it")
    if spec.ca is not None and not _blocks(spec.ca) & _CERTIFICATES:
        raise _bad("ca has no certificate in it (PEM, BEGIN CERTIFICATE)")
    if spec.client_certificate is None:
        return
    found = _blocks(spec.client_certificate)
    if "ENCRYPTED PRIVATE KEY" in found or "Proc-Type: 4,ENCRYPTED" in spec.client_certificate:
        raise _bad("the key of the client certificate is encrypted; nobody is there to give its password")
    if not found & _CERTIFICATES or not found & _KEYS:
        raise _bad("a client certificate is the certificate and its private key, both PEM")


def _blocks(pem: str) -> set[str]:
    """The labels of the PEM blocks in a text (RFC 7468), base64 unseen."""
    return {label for label, _ in _PEM.findall(pem)}


def _bad(message: str) -> FetchdError:
    return FetchdError(Code.BAD_REQUEST, message)
