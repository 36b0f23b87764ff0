"""Headers that say how long, when again and which content: as numbers, dates and validators, or nothing."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetchd.daemon.transfer import plan
from fetchd.daemon.transfer.api import TransferError
from fetchd.protocol.codec import MAX_INT
from fetchd.protocol.errors import Code
from fetchd.protocol.mailbox import Validator

NONE = Validator()
V1 = Validator(etag='"v1"')
OLD = Validator(last_modified="Mon, 01 Jan 2024 00:00:00 GMT")


@pytest.mark.parametrize(
    ("values", "length"),
    [
        ([], None),
        (["0"], 0),
        (["12"], 12),
        (["12", "12"], 12),
        ([str(MAX_INT)], MAX_INT),
        (["12", "13"], Code.BAD_RESPONSE),
        (["12, 12"], Code.BAD_RESPONSE),
        (["-1"], Code.BAD_RESPONSE),
        (["+1"], Code.BAD_RESPONSE),
        (["0x10"], Code.BAD_RESPONSE),
        ([""], Code.BAD_RESPONSE),
        (["1 2"], Code.BAD_RESPONSE),
        (["1\n"], Code.BAD_RESPONSE),
        ([str(MAX_INT + 1)], Code.BAD_RESPONSE),
        (["9" * 400], Code.BAD_RESPONSE),
    ],
)
def test_content_length(values: list[str], length: int | Code | None) -> None:
    if not isinstance(length, Code):
        assert plan.content_length(values) == length
        return
    with pytest.raises(TransferError) as caught:
        plan.content_length(values)
    assert caught.value.code is length


DATE = "Mon, 01 Jan 2024 00:00:00 GMT"


@pytest.mark.parametrize(
    ("value", "date", "seconds"),
    [
        (None, DATE, None),
        ("0", None, 0.0),
        (" 120 ", None, 120.0),
        ("999999999", None, 999999999.0),
        ("9999999999", None, None),
        ("-1", None, None),
        ("1.5", None, None),
        ("soon", DATE, None),
        ("Mon, 01 Jan 2024 00:02:00 GMT", DATE, 120.0),
        ("Mon, 01 Jan 2024 00:02:00 GMT", None, None),
        ("Mon, 01 Jan 2024 00:02:00 GMT", "rubbish", None),
        ("Sun, 31 Dec 2023 00:00:00 GMT", DATE, 0.0),
    ],
)
def test_retry_after(value: str | None, date: str | None, seconds: float | None) -> None:
    assert plan.retry_after(value, date) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Sun, 06 Nov 1994 08:49:37",
    ],
    ids=["IMF-fixdate", "RFC 850", "asctime", "no zone"],
)
def test_http_dates(text: str) -> None:
    assert plan.http_date(text) == datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)


@settings(max_examples=500, deadline=None)
@given(st.text(max_size=80) | st.text("0123456789 :,+-GMTSunNov", max_size=40))
def test_dates_never_raise(text: str) -> None:
    found = plan.http_date(text)
    assert found is None or found.tzinfo is not None
    plan.retry_after(text, DATE)
    plan.strong_validator(None, text, DATE)


@pytest.mark.parametrize(
    ("etag", "modified", "date", "validator"),
    [
        (None, None, None, NONE),
        ('"v1"', None, None, V1),
        ('W/"v1"', None, None, NONE),
        ("v1", None, None, NONE),
        ("", None, None, NONE),
        ('"' + "x" * 1023, None, None, Validator(etag='"' + "x" * 1023)),
        ('"' + "x" * 1024, None, None, NONE),
        (None, OLD.last_modified, None, NONE),
        (None, OLD.last_modified, "Mon, 01 Jan 2024 00:00:59 GMT", NONE),
        (None, OLD.last_modified, "Mon, 01 Jan 2024 00:01:00 GMT", OLD),
        (None, "rubbish", DATE, NONE),
        (None, f"{OLD.last_modified} ({'x' * 2000})", "Tue, 02 Jan 2024 00:00:00 GMT", NONE),
    ],
    ids=[
        "none", "strong", "weak", "unquoted", "empty", "longest", "too long", "no date", "fresh", "a minute",
        "rubbish", "a comment of any length",
    ],
)  # fmt: skip
def test_strong_validators(
    etag: str | None, modified: str | None, date: str | None, validator: Validator
) -> None:
    assert plan.strong_validator(etag, modified, date) == validator
