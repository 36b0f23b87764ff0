"""Cookies of one attempt: those of the user's file, bound to their domains, and those that servers set.

Browsers share cookies between the ports of a host; here what a server sets never leaves the origin that set
it.
"""

import http.client
import urllib.request
from http.cookiejar import Cookie, CookieJar, DefaultCookiePolicy
from typing import Any

from fetchd.protocol import cookies, urls

LARGEST, MOST = 4096, 50
"""Characters of a server's cookie, and cookies of a server: what every browser takes (RFC 6265, 6.1)."""


class Cookies:
    """`text` is a Netscape cookie file, checked at submit."""

    def __init__(self, text: str) -> None:
        # a cookie that is not for subdomains goes to its host alone
        policy = DefaultCookiePolicy(strict_ns_domain=DefaultCookiePolicy.DomainStrictNonDomain)
        self._own = CookieJar(policy) if text else None
        self._set: dict[str, CookieJar] = {}
        if self._own is not None:
            for cookie in cookies.parse(text):
                self._own.set_cookie(_taken(cookie))

    def header(self, url: str) -> str | None:
        """The value of the Cookie header for a URL, or None."""
        jars = [jar for jar in (self._own, self._set.get(urls.origin(url))) if jar is not None]
        found: list[str] = []
        for jar in jars:
            request = _request(url)
            jar.add_cookie_header(request)
            if value := request.get_header("Cookie"):
                found.append(value)
        return "; ".join(found) or None

    def learn(self, url: str, response: http.client.HTTPResponse) -> None:
        """Take in what the server sets."""
        if "set-cookie" in response.headers:
            jar = self._set.setdefault(urls.origin(url), CookieJar())
            answer: Any = response
            jar.extract_cookies(answer, _request(url))
            kept = 0
            for cookie in list(jar):
                large = len(cookie.name) + len(cookie.value or "") > LARGEST
                if large or kept == MOST:
                    jar.clear(cookie.domain, cookie.path, cookie.name)
                else:
                    kept += 1


def _request(url: str) -> urllib.request.Request:
    """What the jar looks at; nothing is opened by it."""
    return urllib.request.Request(url)  # noqa: S310


def _taken(cookie: cookies.Cookie) -> Cookie:
    """A cookie of the file as the jar has it."""
    domain = cookie.domain.lower()
    if "." not in domain:
        # what the jar takes such a host's name for
        domain += ".local"
    if cookie.subdomains and not domain.startswith("."):
        domain = f".{domain}"
    return Cookie(
        version=0, name=cookie.name, value=cookie.value, port=None, port_specified=False, domain=domain,
        domain_specified=cookie.subdomains, domain_initial_dot=domain.startswith("."), path=cookie.path,
        path_specified=True, secure=cookie.secure, expires=cookie.expires or None,
        discard=not cookie.expires, comment=None, comment_url=None, rest={},
    )  # fmt: skip
