"""The layout of multipart messages: control envelopes and event topics.

Control: `[header, body]`; an empty frame before them, as a REQ socket sends it, is tolerated and echoed.
Events: `[topic, header, body]`.
"""

from collections.abc import Sequence

from .errors import Code, ProtocolError
from .ids import is_correlation_id


def split_control(frames: Sequence[bytes]) -> tuple[list[bytes], bytes, bytes]:
    """(envelope to echo, header, body) of a control message without its routing ID."""
    envelope: list[bytes] = []
    if len(frames) == 3 and not frames[0]:
        envelope, frames = [b""], frames[1:]
    if len(frames) != 2:
        raise ProtocolError(Code.BAD_REQUEST, f"a request has 2 frames, not {len(frames)}")
    return envelope, frames[0], frames[1]


def job_topic(job_id: str, kind: str) -> bytes:
    """Topic of an event of one job."""
    return f"job.{job_id}.{kind}".encode()


def job_prefix(job_id: str) -> bytes:
    """Subscription that matches all events of exactly one job."""
    return f"job.{job_id}.".encode()


def sys_topic(kind: str) -> bytes:
    """Topic of an event of the daemon itself."""
    return f"sys.{kind}".encode()


def job_of_subscription(prefix: bytes) -> str | None:
    """The job a subscription names exactly (`job.<id>.`), or None if it is wider, narrower or rubbish."""
    parts = prefix.split(b".")
    if len(parts) != 3 or parts[0] != b"job" or parts[2]:
        return None
    job_id = parts[1].decode("ascii", "replace")
    return job_id if is_correlation_id(job_id) else None
