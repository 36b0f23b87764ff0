"""How things look in text: names made harmless, sizes, speeds, durations, times. Pure; no output here."""

import re
from datetime import UTC, datetime
from pathlib import PurePath
from urllib.parse import unquote, urlsplit

from fetchd.protocol.job import JobSnapshot
from fetchd.protocol.status import Held

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_FACTORS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)(?:B|([KMGT])(?:iB)?)?", re.IGNORECASE | re.ASCII)
_SPANS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SPAN = re.compile(r"(?:\d+(?:\.\d+)?[smhdw])+")


def clean(text: str) -> str:
    """Text that may come from a server or another user, safe to print on a terminal and on one line.

    Control characters, escapes, line ends, invisible and direction-changing characters are shown as Python
    escapes.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def size(count: float | None) -> str:
    """Bytes in units of 1024; "?" if unknown."""
    if count is None:
        return "?"
    amount, unit = float(count), 0
    while amount >= 1023.95 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{count:.0f} B" if unit == 0 else f"{amount:.1f} {_UNITS[unit]}"


def speed(rate: float | None) -> str:
    """Bytes a second; "?" if unknown."""
    return "?" if rate is None else f"{size(rate)}/s"


def share(part: float | None) -> str:
    """A share in whole percents; "?" if unknown."""
    return "?" if part is None else f"{part * 100:.0f} %"


def duration(seconds: float | None) -> str:
    """Hours, minutes and seconds as `1:02:03` or `0:05`; "?" if unknown."""
    if seconds is None:
        return "?"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def held(what: Held) -> str:
    """What holds jobs together, why and since when."""
    name = "everything" if what.kind == "daemon" else f"{what.kind} {what.name}"
    why = f": {what.detail}" if what.detail else ""
    return clean(f"{name}, {what.reason}, since {local_time(what.since)}{why}")


def host_of(job: JobSnapshot) -> str:
    """The host that a job's URL names, with the port if it names one; "-" if it names none."""
    try:
        parts = urlsplit(job.url)
        return clean(parts.netloc.rpartition("@")[2]) or "-"
    except ValueError:
        return "-"


def rfc3339(time: int | None) -> str | None:
    """Integer microseconds UTC as RFC 3339 with microseconds and Z; None stays None."""
    if time is None:
        return None
    seconds, micros = divmod(time, 1_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{micros:06}Z"


def local_time(time: int | None) -> str:
    """Integer microseconds UTC in the user's time zone; "-" if unknown."""
    return "-" if time is None else f"{datetime.fromtimestamp(time / 1e6).astimezone():%Y-%m-%d %H:%M:%S}"


def parse_duration(text: str) -> float:
    """Seconds from `90`, `2h`, `1h30m`, `7d`. Raises ValueError."""
    if _SPAN.fullmatch(text):
        return sum(float(n) * _SPANS[unit] for n, unit in re.findall(r"([\d.]+)([smhdw])", text))
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{text!r} is not a duration such as 90, 30s, 2h or 1h30m")
    return seconds


def parse_size(text: str) -> int:
    """Bytes from `1048576`, `500K`, `1.5G` or `2GiB`; K, M, G and T are powers of 1024. Raises ValueError."""
    found = _AMOUNT.fullmatch(text)
    count = -1 if found is None else round(float(found[1]) * _FACTORS.get((found[2] or "").upper(), 1))
    if not 0 <= count < 2**53:
        raise ValueError(f"{text!r} is not a size such as 4096, 500K, 20M or 1.5G")
    return count


def parse_rate(text: str) -> int:
    """Bytes a second from `500K` or `500K/s`, as `parse_size`. Raises ValueError."""
    try:
        return parse_size(text.removesuffix("/s"))
    except ValueError:
        raise ValueError(f"{text!r} is not a rate such as 500K, 2M/s or 1.5G (bytes a second)") from None


def parse_since(text: str, now: int) -> int:
    """Integer microseconds UTC from RFC 3339 (local time without an offset) or a duration before `now`.

    Raises ValueError.
    """
    try:
        return max(0, now - round(parse_duration(text) * 1e6))
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither a time such as 2026-11-20T12:00:00Z nor a duration") from None
    return max(0, round(moment.astimezone(UTC).timestamp() * 1e6))


def name_of(job: JobSnapshot) -> str:
    """What to call a job's file on one line: its name, else the URL's last part, else the URL."""
    if job.path:
        return clean(PurePath(job.path).name)
    return clean(PurePath(unquote(urlsplit(job.url).path)).name or job.url)


def percent(done: int, total: int | None) -> int | None:
    """Whole percents, 100 only when all is there; None if unknown."""
    if total is None:
        return None
    return 100 if done >= total else done * 100 // total
