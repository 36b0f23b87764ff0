"""Correlation IDs and request IDs: their alphabets, and fresh ones.

A correlation ID names a job everywhere: API, events, directories, logs, database. Its alphabet has no
dot, so that a subscription to `job.<id>.` can never match another job's topic.
"""

import re
import secrets

CORRELATION_ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
REQUEST_ID = re.compile(r"[0-9a-f]{32}\Z")


def is_correlation_id(text: str) -> bool:
    """Whether `text` may name a job: 1 to 64 of `A-Z a-z 0-9 _ -`."""
    return CORRELATION_ID.match(text) is not None


def new_correlation_id() -> str:
    """A fresh correlation ID: 16 lowercase hex digits."""
    return secrets.token_hex(8)


def new_request_id() -> str:
    """A fresh request ID: 128 bits as 32 lowercase hex digits. A retry of a request repeats it."""
    return secrets.token_hex(16)
