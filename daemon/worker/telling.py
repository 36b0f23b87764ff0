"""What a worker may say about its attempt in words: none of the job's secrets, whoever wrote them.

A server can quote what it was sent in the reason of its status, an FTP server in a reply, a library in the
text of an exception.
"""

from base64 import b64encode
from collections.abc import Iterator
from urllib.parse import parse_qsl, quote, unquote

from fetchd.protocol import urls
from fetchd.protocol.errors import FetchdError
from fetchd.protocol.mailbox import Assign

SHORTEST = 4
"""Characters of a secret that is looked for; a shorter one would be found in any text."""

LONGEST = 2000


def told(text: str, task: Assign) -> str:
    """A message that can be sent and shown."""
    for secret in sorted(set(_secrets(task)), key=len, reverse=True):
        text = text.replace(secret, "***")
    return urls.scrub(text)[:LONGEST].encode("utf-8", "replace").decode()


def _secrets(task: Assign) -> Iterator[str]:
    """All that a message may not quote, also as it is encoded on its way."""
    for secret in _plain(task):
        for form in (secret, quote(secret), quote(secret, safe="")):
            if len(form) >= SHORTEST:
                yield form


def _plain(task: Assign) -> Iterator[str]:
    for value in task.headers.values():
        yield value
        yield from value.split()
        yield from (part.partition("=")[2].strip() for part in value.split(";"))
    for line in task.cookies.splitlines():
        yield line.rpartition("\t")[2]
    if task.credentials is not None:
        yield from _pair(*task.credentials)
    for url in (task.url, *task.mirrors, task.proxy or ""):
        yield from _of_url(url)


def _of_url(url: str) -> Iterator[str]:
    try:
        parts = urls.split_url(url)
        shown = urls.split_url(urls.redact(url))
    except FetchdError:
        return
    if "@" in parts.netloc:
        raw = parts.netloc.rpartition("@")[0]
        yield from (raw, raw.partition(":")[2])
        yield from _pair(unquote(parts.username or ""), unquote(parts.password or ""))
    if parts.query != shown.query:
        yield parts.query
        known = dict(parse_qsl(shown.query))
        for name, value in parse_qsl(parts.query, separator="&"):
            if known.get(name) == "***":
                yield value


def _pair(user: str, password: str) -> Iterator[str]:
    yield from (password, f"{user}:{password}", b64encode(f"{user}:{password}".encode()).decode())
