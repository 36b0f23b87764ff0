"""Cookie files in the Netscape format, as curl, wget and browsers' add-ons write them: pure parsing.

One cookie a line, seven fields separated by tabs: domain, whether subdomains get it too, path, whether it is
for https only, time of expiry, name, value. Documented in curl's HTTP-COOKIES.md.
"""

import re
from typing import NamedTuple

from .errors import Code, FetchdError

HTTP_ONLY = "#HttpOnly_"
"""Before the domain of a cookie that scripts in a browser may not see; the line is no comment."""

_FLAGS = {"TRUE": True, "FALSE": False}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Cookie(NamedTuple):
    """One cookie. `expires` is in seconds since 1970, 0 for one that ends with the session.

    `line` is its line as it was written, without the end of the line.
    """

    domain: str
    subdomains: bool
    path: str
    secure: bool
    expires: int
    name: str
    value: str
    line: str


def parse(text: str) -> list[Cookie]:
    """The cookies of a file's content. Raises FetchdError `invalid_cookies` with the number of the line."""
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        if line.strip() and (line.startswith(HTTP_ONLY) or not line.startswith("#")):
            found.append(_cookie(line, number))
    return found


def _cookie(line: str, number: int) -> Cookie:
    fields = line.removeprefix(HTTP_ONLY).split("\t")
    if len(fields) != 7:
        # what the fields hold is secret: only their number is told
        raise _refusal(number, f"{len(fields)} fields separated by tabs, not 7")
    domain, subdomains, path, secure, expires, name, value = fields
    if not domain.strip(".") or any(c in domain for c in " /@"):
        raise _refusal(number, "the first field is not a domain")
    if subdomains.upper() not in _FLAGS or secure.upper() not in _FLAGS:
        raise _refusal(number, "the second and the fourth field are TRUE or FALSE")
    if not path.startswith("/"):
        raise _refusal(number, "the third field is not a path")
    if expires and not (expires.isascii() and expires.isdigit() and len(expires) < 16):
        raise _refusal(number, "the fifth field is not a time in seconds")
    if _CONTROL.search("".join(fields)) or not (name or value) or ";" in name + value:
        raise _refusal(number, "the name and value are not those of a cookie")
    try:
        line.encode("latin-1")
    except UnicodeEncodeError:
        raise _refusal(number, "a character is not ISO-8859-1") from None
    return Cookie(
        domain, _FLAGS[subdomains.upper()], path, _FLAGS[secure.upper()], int(expires or 0), name, value, line
    )


def _refusal(number: int, why: str) -> FetchdError:
    return FetchdError(Code.INVALID_COOKIES, f"line {number}: {why}", line=number)
