"""What may be done with a response, as tables: the rules of RFC 9110 and of our own caution."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetchd.daemon.transfer import plan
from fetchd.daemon.transfer.api import TransferError
from fetchd.daemon.transfer.plan import (
    Again,
    Append,
    Changed,
    Complete,
    Decision,
    Kept,
    NoParts,
    Part,
    Ranges,
    Response,
    Whole,
)
from fetchd.protocol.codec import MAX_INT
from fetchd.protocol.errors import Code
from fetchd.protocol.mailbox import Validator

NONE = Validator()
V1, V2 = Validator(etag='"v1"'), Validator(etag='"v2"')
OLD = Validator(last_modified="Mon, 01 Jan 2024 00:00:00 GMT")
NEW = Validator(last_modified="Tue, 02 Jan 2024 00:00:00 GMT")


def kept(
    size: int = 40,
    validator: Validator = V1,
    total: int | None = 100,
    verifiable: bool = False,
    beyond: Ranges = (),
) -> Kept:
    return Kept(size=size, validator=validator, total=total, verifiable=verifiable, beyond=beyond)


HOLED = kept(beyond=((60, 70), (80, 90)))
"""40 bytes, a hole of 20, and more behind it."""


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
        (HOLED, {"Range": "bytes=40-59", "If-Range": '"v1"'}),
        (kept(0, beyond=((60, 100),)), {"Range": "bytes=0-59", "If-Range": '"v1"'}),
        (kept(0, NONE, beyond=((60, 100),)), None),
        (kept(0, NONE, verifiable=True, beyond=((1, 100),)), {"Range": "bytes=0-0"}),
    ],
    ids=[
        "nothing", "only a validator", "etag", "date", "both", "unproven", "checksum", "complete", "a hole",
        "a hole in front", "unproven hole", "hole and checksum",
    ],
)  # fmt: skip
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
    ("the first hole", HOLED, part("bytes 40-59/100", length=20), Append),
    ("the hole and all behind it", HOLED, part(), Append),
    ("an earlier start of the hole", HOLED, part("bytes 10-59/100", length=50), Append),
    ("not to the end of the hole", HOLED, part("bytes 40-58/100", length=19), Again),
    ("into what is behind the hole", HOLED, part("bytes 40-64/100", length=25), Again),
    ("to the end of another hole", HOLED, part("bytes 40-79/100", length=40), Again),
    ("behind the hole", HOLED, part("bytes 60-99/100", length=40), Again),
    ("smaller than what is behind the hole", kept(total=None, beyond=((60, 101),)), part(), Again),
    ("a hole in another content", HOLED, part("bytes 40-59/100", length=20, said=V2), Again),
    ("whole, with holes", HOLED, Response(status=200, length=100, validator=V1), Whole),
    ("refused, with holes", HOLED, refused("bytes */100"), Again),
    ("refused, with a hole at what is said to be the end", HOLED, refused("bytes */40"), Again),
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
numbers = st.integers(0, 20) | st.sampled_from([MAX_INT, MAX_INT + 1, 10**16 - 1])
ranges = (
    st.none()
    | st.text("bytes 0123456789-/*", max_size=12)
    | st.tuples(numbers, numbers, numbers | st.just("*")).map(lambda x: f"bytes {x[0]}-{x[1]}/{x[2]}")
    | numbers.map(lambda total: f"bytes */{total}")
)


beyond = st.tuples(st.integers(1, 4), st.integers(1, 4)).map(lambda x: ((12 + x[0], 12 + sum(x)),))
answers = st.builds(
    Response,
    status=st.sampled_from([200, 206, 416]),
    length=st.none() | numbers,
    content_range=ranges,
    validator=validators,
    said=validators,
    encoded=st.booleans(),
)


def agree(pinned: Validator, response: Response) -> bool:
    """Nothing that both sides say differs."""
    pairs = [
        (getattr(pinned, name), getattr(now, name))
        for now in (response.validator, response.said)
        for name in ("etag", "last_modified")
    ]
    return all(None in pair or pair[0] == pair[1] for pair in pairs)


@settings(max_examples=2000, deadline=None)
@given(
    st.builds(kept, numbers, validators, st.none() | numbers, st.booleans())
    | st.builds(kept, st.integers(0, 12), validators, st.none() | numbers, st.booleans(), beyond),
    answers,
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
            ends = {state.hole_end or total, total}
            (end,) = (
                end for end in ends if response.content_range == f"bytes {offset}-{(end or 0) - 1}/{total}"
            )
            assert state.total in (None, total)
            assert not state.beyond or state.beyond[-1][1] <= (total or 0)
            assert response.length in (None, (end or 0) - offset)
        case Complete(total):
            assert asked
            assert response.status == 416
            assert total == state.size
            assert not state.beyond
    assert not isinstance(decision, Append | Complete) or agree(state.validator, response)


# parts


PARTS: list[tuple[str, Response, type[Part | NoParts | Changed]]] = [
    ("what was asked", part(), Part),
    ("less than asked", part("bytes 40-49/100", length=10), Part),
    ("more than asked", part("bytes 40-99/100"), Part),
    ("no length", part(length=None), Part),
    ("unknown total", part("bytes 40-99/*"), Part),
    ("no validators in the answer", part(validator=NONE, said=NONE), Part),
    ("only a date", part(validator=OLD, said=OLD), Part),
    ("a later start", part("bytes 41-99/100", length=59), NoParts),
    ("an earlier start", part("bytes 39-99/100", length=61), NoParts),
    ("beyond the end", part("bytes 40-100/100", length=61), NoParts),
    ("backwards", part("bytes 40-39/100", length=0), NoParts),
    ("a lying length", part(length=59), NoParts),
    ("no Content-Range", part(None), NoParts),
    ("rubbish", part("bytes abc"), NoParts),
    ("another unit", part("items 40-99/100"), NoParts),
    ("compressed", part(encoded=True), NoParts),
    ("larger now", part("bytes 40-99/110"), Changed),
    ("smaller now", part("bytes 40-49/50", length=10), Changed),
    ("another etag", part(validator=V2, said=V2), Changed),
    ("another weak etag", part(validator=NONE, said=Validator(etag='W/"v2"')), Changed),
    ("whole", Response(status=200, length=100, validator=V1, said=V1), NoParts),
    ("whole, chunked", Response(status=200, validator=V1, said=V1), NoParts),
    ("whole, of another size", Response(status=200, length=99, validator=V1, said=V1), Changed),
    ("whole, changed", Response(status=200, length=100, validator=V2, said=V2), Changed),
    ("refused", refused("bytes */100"), NoParts),
    ("refused without a size", refused(None), NoParts),
    ("refused, of another size", refused("bytes */99"), Changed),
    ("refused, changed", refused("bytes */100", V2), Changed),
    ("not modified", Response(status=304), NoParts),
]


@pytest.mark.parametrize(("response", "wanted"), [row[1:] for row in PARTS], ids=[row[0] for row in PARTS])
def test_answers_for_a_part(response: Response, wanted: type[object]) -> None:
    verdict = plan.judge_part(V1, 100, 40, response)
    assert type(verdict) is wanted
    assert isinstance(verdict, Part) or verdict.why


def test_a_part_of_a_mirror_that_has_not_answered_before() -> None:
    assert plan.judge_part(NONE, 100, 40, part(validator=V2, said=V2)) == Part()


@pytest.mark.parametrize(
    ("start", "end", "validator", "headers"),
    [
        (0, None, V1, {"Range": "bytes=0-", "If-Range": '"v1"'}),
        (5, 6, V1, {"Range": "bytes=5-5", "If-Range": '"v1"'}),
        (5, 10, OLD, {"Range": "bytes=5-9", "If-Range": OLD.last_modified}),
        (5, 10, NONE, {"Range": "bytes=5-9"}),
    ],
)
def test_how_a_part_is_asked_for(
    start: int, end: int | None, validator: Validator, headers: dict[str, str]
) -> None:
    assert plan.part_headers(start, end, validator) == headers


@settings(max_examples=1000, deadline=None)
@given(validators, numbers, numbers, answers)
def test_parts_never_mix(pinned: Validator, total: int, start: int, response: Response) -> None:
    if plan.judge_part(pinned, total, start, response) != Part():
        return
    assert (response.status, response.encoded) == (206, False)
    first, _, rest = (response.content_range or "").removeprefix("bytes ").partition("-")
    end, _, size = rest.partition("/")
    assert int(first) == start <= int(end) < total
    assert size in ("*", str(total))
    assert response.length in (None, int(end) + 1 - start)
    assert agree(pinned, response)
