"""How values look, and that nothing printed can act on a terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchd.client.cli import text

from .peer import snapshot

NOW = 1_795_190_400_000_000


@given(st.text())
def test_clean_text_is_printable_and_on_one_line(value: str) -> None:
    assert text.clean(value).isprintable()
    assert value if not value.isprintable() else text.clean(value) == value


@pytest.mark.parametrize("evil", ["\x1b[2J", "a\nb", "\x9b0m", "\u202egpj.exe", "\x07", "\r", "\u2028"])
def test_escapes_are_shown(evil: str) -> None:
    assert "\\" in text.clean(evil)


def test_names_come_from_path_then_url_and_are_clean() -> None:
    assert text.name_of(snapshot("j", path="/d/a\x1b.iso")) == "a\\x1b.iso"
    assert text.name_of(snapshot("j", url="http://h/x/b%20c.iso?k=1")) == "b c.iso"
    assert text.name_of(snapshot("j", url="http://h/")) == "http://h/"
    assert text.name_of(snapshot("j", url="http://h/%1b")) == "\\x1b"


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (None, "?"), (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"),
        (1024**2 - 1, "1.0 MiB"), (5 * 1024**3, "5.0 GiB"), (2**53, "8.0 PiB"),
    ],
)  # fmt: skip
def test_sizes(count: int | None, shown: str) -> None:
    assert text.size(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(None, "?"), (0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3661, "1:01:01")]
)
def test_durations(seconds: float | None, shown: str) -> None:
    assert text.duration(seconds) == shown


def test_times_are_rfc3339() -> None:
    assert text.rfc3339(NOW + 42) == "2026-11-20T16:00:00.000042Z"
    assert text.rfc3339(None) is None


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("90", 90), ("1.5", 1.5), ("30s", 30), ("2h", 7200), ("1h30m", 5400), ("7d", 604800)],
)
def test_durations_are_read(written: str, seconds: float) -> None:
    assert text.parse_duration(written) == seconds


@pytest.mark.parametrize("written", ["", "h", "-1", "nan", "inf", "2x", "2026-11-20"])
def test_bad_durations(written: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        text.parse_duration(written)


@pytest.mark.parametrize(
    ("written", "count"),
    [
        ("0", 0), ("4096", 4096), ("500K", 512_000), ("500k", 512_000), ("1.5G", 3 << 29), ("2GiB", 2 << 30),
        ("20M", 20 << 20), ("1T", 1 << 40), ("7B", 7), ("0.5K", 512),
    ],
)  # fmt: skip
def test_sizes_and_rates_are_read(written: str, count: int) -> None:
    assert text.parse_size(written) == count
    assert text.parse_rate(written) == text.parse_rate(f"{written}/s") == count


BAD_AMOUNTS = ["", "K", "-1", "1,5M", "500KB", "5 M", "1e6", "inf", "nan", "fast", "500iB", "9000T", "٣"]


@pytest.mark.parametrize("written", [*BAD_AMOUNTS, "500K/s"])
def test_bad_sizes(written: str) -> None:
    with pytest.raises(ValueError, match=r"is not a size such as 4096, 500K"):
        text.parse_size(written)


@pytest.mark.parametrize("written", [*BAD_AMOUNTS, "500K/h", "500K/s/s", "/s"])
def test_bad_rates(written: str) -> None:
    with pytest.raises(ValueError, match=r"is not a rate such as 500K, 2M/s") as caught:
        text.parse_rate(written)
    assert repr(written) in str(caught.value)


@pytest.mark.parametrize(
    ("written", "time"),
    [
        ("2026-11-20T16:00:00Z", NOW),
        ("2026-11-20T17:00:00+01:00", NOW),
        ("2h", NOW - 7200 * 10**6),
        ("99999d", 0),
    ],
)
def test_since(written: str, time: int) -> None:
    assert text.parse_since(written, NOW) == time


def test_bad_since() -> None:
    with pytest.raises(ValueError, match="neither"):
        text.parse_since("yesterday", NOW)


@pytest.mark.parametrize(
    ("done", "total", "shown"), [(5, None, None), (999, 1000, 99), (10, 10, 100), (0, 0, 100)]
)
def test_percent(done: int, total: int | None, shown: int | None) -> None:
    assert text.percent(done, total) == shown
