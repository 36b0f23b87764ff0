"""What may be done with a response, as tables: the rules of RFC 9110 and of our own caution."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetchd.daemon.transfer import plan
from fetchd.daemon.transfer.api import TransferError
from fetchd.daemon.transfer.plan import Again, Append, Complete, Decision, Kept, Response, Whole
from fetchd.protocol.codec import MAX_INT
from fetchd.protocol.errors import Code
from fetchd.protocol.mailbox import Validator

NONE = Validator()
V1, V2 = Validator(etag='"v1"'), Validator(etag='"v2"')
OLD = Validator(last_modified="Mon, 01 Jan 2024 00:00:00 GMT")
NEW = Validator(last_modified="Tue, 02 Jan 2024 00:00:00 GMT")


def kept(
    size: int = 40, validator: Validator = V1, total: int | None = 100, verifiable: bool = False
) -> Kept:
    return Kept(size=size, validator=validator, total=total, verifiable=verifiable)


def part(content_range: str | None = "bytes 40-99/100", **fields: object) -> Response:
    values: dict[str, object] = {"length": 60, "validator": V1, "said": V1}
    return Response(status=206, content_range=content_range, **{**values, **fields})  # type: ignore[arg-type]


def refused(content_range: str | None, validator: Validator = NONE) -> Response:
    return Response(status=416, content_range=content_range, said=validator)


# what is asked


@pytest.mark.parametrize(
    ("state", "headers"),
    [
        (kept(0, NONE, None), {}),
        (kept(0, V1, 100), {}),
        (kept(), {"Range": "bytes=40-", "If-Range": '"v1"'}),
        (kept(validator=OLD), {"Range": "bytes=40-", "If-Range": OLD.last_modified}),
        (
            kept(validator=Validator(etag='"v1"', last_modified=OLD.last_modified)),
            {"Range": "bytes=40-", "If-Range": '"v1"'},
        ),
        (kept(validator=NONE), None),
        (kept(validator=NONE, verifiable=True), {"Range": "bytes=40-"}),
        (kept(100), {"Range": "bytes=100-", "If-Range": '"v1"'}),
    ],
    ids=["nothing", "only a validator", "etag", "date", "both", "unproven", "checksum", "complete"],
)
def test_request_headers(state: Kept, headers: dict[str, str] | None) -> None:
    assert plan.range_headers(state) == headers


# what follows

TABLE: list[tuple[str, Kept, Response, type[Decision]]] = [
    ("the rest", kept(), part(), Append),
    ("an earlier start", kept(), part("bytes 10-99/100", length=90), Append),
    ("from the beginning", kept(), part("bytes 0-99/100", length=100), Append),
    ("no length", kept(), part(length=None), Append),
    ("size not known before", kept(total=None), part(), Append),
    ("no validators in the answer", kept(), part(validator=NONE, said=NONE), Append),
    ("another kind of validator", kept(), part(validator=OLD, said=OLD), Append),
    ("a gap", kept(), part("bytes 41-99/100", length=59), Again),
    ("not to the end", kept(), part("bytes 40-98/100", length=59), Again),
    ("beyond the end", kept(), part("bytes 40-100/100", length=61), Again),
    ("unknown total", kept(), part("bytes 40-99/*"), Again),
    ("backwards", kept(), part("bytes 99-40/100"), Again),
    ("no Content-Range", kept(), part(None), Again),
    ("rubbish", kept(), part("bytes abc"), Again),
    ("another unit", kept(), part("items 40-99/100"), Again),
    ("signs", kept(), part("bytes +40-99/100"), Again),
    ("spaces", kept(), part("bytes  40-99/100"), Again),
    ("two ranges", kept(), part("bytes 40-99/100, 0-1/100"), Again),
    ("a lying length", kept(), part(length=59), Again),
    ("larger now", kept(), part("bytes 40-109/110", length=70), Again),
    ("smaller than what is kept", kept(total=None), part("bytes 10-29/30", length=20), Again),
    ("beyond all bounds", kept(total=None), part(f"bytes 40-{10**16 - 2}/{10**16 - 1}", length=None), Again),
    ("another etag", kept(), part(validator=V2, said=V2), Again),
    ("another date", kept(validator=OLD), part(validator=NEW, said=NEW), Again),
    ("another weak etag", kept(), part(validator=NONE, said=Validator(etag='W/"v2"')), Again),
    ("changed a second ago", kept(validator=OLD), part(validator=NONE, said=NEW), Again),
    ("compressed", kept(), part(encoded=True), Again),
    ("checksum alone", kept(validator=NONE, verifiable=True), part(), Append),
    ("whole", kept(), Response(status=200, length=100, validator=V1), Whole),
    ("whole, chunked", kept(), Response(status=200, validator=V1), Whole),
    ("whole, changed", kept(), Response(status=200, length=9, validator=V2), Whole),
    ("complete", kept(100), refused("bytes */100"), Complete),
    ("complete, size not known", kept(100, total=None), refused("bytes */100"), Complete),
    ("complete, of another content", kept(100), refused("bytes */100", V2), Again),
    ("refused, another size", kept(100), refused("bytes */99"), Again),
    ("refused in the middle", kept(), refused("bytes */100"), Again),
    ("refused, other total known", kept(100, total=120), refused("bytes */100"), Again),
    ("refused without a size", kept(100), refused(None), Again),
    ("refused with rubbish", kept(100), refused("bytes */*"), Again),
]


@pytest.mark.parametrize(
    ("state", "response", "wanted"), [row[1:] for row in TABLE], ids=[r[0] for r in TABLE]
)
def test_decisions(state: Kept, response: Response, wanted: type[Decision]) -> None:
    decision = plan.decide(state, True, response)
    assert type(decision) is wanted
    match decision:
        case Append(offset, total):
            start = int((response.content_range or "").split(" ")[1].split("-")[0])
            assert (offset, total) == (start, 100)
        case Whole(total):
            assert total == response.length
        case Complete(total):
            assert total == state.size
        case Again(why):
            assert why


@pytest.mark.parametrize("response", [part(), refused("bytes */0")], ids=["206", "416"])
def test_a_range_that_was_not_asked_for(response: Response) -> None:
    with pytest.raises(TransferError) as caught:
        plan.decide(kept(0, NONE, None), False, response)
    assert caught.value.code is Code.BAD_RESPONSE


PIP: list[tuple[str, Kept, Response, type[Decision]]] = [
    # the cases of pip's tests for resumed downloads (network/download), in our words
    ("200 instead of a part starts over", kept(24), Response(status=200, length=36, validator=V1), Whole),
    ("200 with another etag starts over", kept(24), Response(status=200, length=36, validator=V2), Whole),
    ("206 goes on", kept(24, total=36), part("bytes 24-35/36", length=12), Append),
    ("206 without an etag goes on", kept(24, total=36), part("bytes 24-35/36", length=12, said=NONE), Append),
    ("206 of less than asked", kept(24, total=36), part("bytes 24-29/36", length=6), Again),
    ("416 with nothing left", kept(36, total=36), refused("bytes */36"), Complete),
    ("416 after a change", kept(36, total=36), refused("bytes */12"), Again),
    ("the size has changed on the way", kept(24, total=36), part("bytes 24-49/50", length=26), Again),
]


@pytest.mark.parametrize(("state", "response", "wanted"), [row[1:] for row in PIP], ids=[r[0] for r in PIP])
def test_what_pip_has_learnt(state: Kept, response: Response, wanted: type[Decision]) -> None:
    assert type(plan.decide(state, True, response)) is wanted


validators = st.sampled_from([NONE, V1, V2, OLD, NEW, Validator(etag='W/"v1"')])
numbers = st.integers(0, 12) | st.sampled_from([MAX_INT, MAX_INT + 1, 10**16 - 1])
ranges = (
    st.none()
    | st.text("bytes 0123456789-/*", max_size=12)
    | st.tuples(numbers, numbers, numbers | st.just("*")).map(lambda x: f"bytes {x[0]}-{x[1]}/{x[2]}")
    | numbers.map(lambda total: f"bytes */{total}")
)


@settings(max_examples=2000, deadline=None)
@given(
    st.builds(Kept, size=numbers, validator=validators, total=st.none() | numbers, verifiable=st.booleans()),
    st.builds(
        Response,
        status=st.sampled_from([200, 206, 416]),
        length=st.none() | numbers,
        content_range=ranges,
        validator=validators,
        said=validators,
        encoded=st.booleans(),
    ),
    st.booleans(),
)
def test_bytes_never_mix(state: Kept, response: Response, asked: bool) -> None:
    """Whatever a server answers: what is appended belongs where it is put, as far as anybody can tell."""
    try:
        decision = plan.decide(state, asked, response)
    except TransferError:
        assert not asked
        return
    match decision:
        case Append(offset, total):
            assert asked
            assert response.status == 206
            assert offset <= state.size <= (total or 0) <= MAX_INT
            assert response.content_range == f"bytes {offset}-{(total or 0) - 1}/{total}"
            assert state.total in (None, total)
            assert response.length in (None, (total or 0) - offset)
        case Complete(total):
            assert asked
            assert response.status == 416
            assert total == state.size
    if not isinstance(decision, Append | Complete):
        return
    for now in (response.validator, response.said):
        assert state.validator.etag is None or now.etag in (None, state.validator.etag)
        assert state.validator.last_modified is None or now.last_modified in (
            None, state.validator.last_modified,
        )  # fmt: skip


# headers


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
