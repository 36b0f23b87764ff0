"""Whatever the bytes are, decoding ends in a message or in `ProtocolError`, quickly and in little memory.

The fuzz tests try a thousand inputs each. A campaign sets `FETCHD_FUZZ` to another number of examples:
`FETCHD_FUZZ=1000000 pytest tests/protocol/test_codec.py`. `test_mutations.py` has
quicker ones, with a seed.
"""

import math
import os
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fetchd.protocol import codec, control, events, job, mailbox
from fetchd.protocol.errors import Code, ProtocolError

from . import hostile, sample_jobs, samples

EXAMPLES = int(os.environ.get("FETCHD_FUZZ", "1000"))
fuzz = settings(
    max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)  # fmt: skip

KINDS: list[Any] = [
    control.RequestHeader,
    control.ReplyHeader,
    control.ErrorBody,
    *control.REQUESTS.values(),
    *{id(kind): kind for kind in control.REPLIES.values()}.values(),
    events.EventHeader,
    events.Progress,
    events.Heartbeat,
    job.JobSnapshot,
    mailbox.ToWorker,
    mailbox.FromWorker,
]

MESSAGES = [
    *samples.HEADERS, *samples.REQUEST_BODIES, *samples.REPLY_BODIES, *samples.ERROR_BODIES, *samples.EVENTS
]  # fmt: skip
SEEDS = [codec.encode(message) for _, message in MESSAGES] + [
    codec.encode(message)
    for message in (
        mailbox.Beat(),
        mailbox.Synced(job="a", attempt=1, generation=0, ranges=[(0, 65536), (131072, 196608)]),
        mailbox.Progressed(job="a", attempt=1, bytes=5, total=None, speed=1.5),
        mailbox.Failed(job="a", attempt=1, code="dns", message="", bytes=0, retry_after=3.0),
        mailbox.Arrived(secret="s"),
        mailbox.Locked(layers={"landlock": "on"}),
    )
]

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=80)
    | st.binary(max_size=20)
    | st.sampled_from([2**53 - 1, 2**53, -(2**53), math.nan, math.inf, -math.inf, "0" * 32, "queued"])
    | st.datetimes(timezones=st.just(UTC)).map(msgpack.Timestamp.from_datetime)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=9))
)
fields = st.sampled_from(
    sorted(
        {f for _, message in MESSAGES for f in getattr(message, "__struct_fields__", ())}
        | {"spec", "url", "t"}
    )
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.dictionaries(
            fields | st.text(max_size=5) | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=3),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
)


def refusal(attempt: Callable[[], object]) -> ProtocolError | None:
    """The `ProtocolError` that `attempt` ends in. Anything else escapes and fails the test."""
    try:
        attempt()
    except ProtocolError as error:
        return error
    return None


def decode_as_every_kind(data: bytes) -> None:
    """A message that was understood can be sent on and is understood again; the rest is refused properly."""
    plain: list[Any] = []
    errors = [refusal(lambda: plain.append(codec.unpack(data)))]
    for kind in KINDS if plain else ():
        message: list[Any] = []
        errors.append(
            refusal(lambda kind=kind, message=message: message.append(codec.convert(plain[0], kind)))
        )
        if message:
            assert codec.decode(codec.encode(message[0]), kind) == message[0]
    for error in filter(None, errors):
        assert error.code in (Code.BAD_REQUEST, Code.UNSUPPORTED_FIELD)
        assert 0 < len(error.message) <= codec.MAX_ERROR_TEXT


@fuzz
@given(st.binary(max_size=300))
def test_arbitrary_bytes(data: bytes) -> None:
    decode_as_every_kind(data)


@fuzz
@given(values)
def test_arbitrary_values(value: object) -> None:
    decode_as_every_kind(msgpack.packb(value, use_bin_type=True))


@fuzz
@given(st.data())
def test_valid_messages_with_bytes_changed(data: st.DataObject) -> None:
    mutated = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(0, len(mutated) - 1)) if mutated else 0
        match data.draw(st.sampled_from(["replace", "insert", "delete", "cut"])):
            case "replace" if mutated:
                mutated[where] = data.draw(st.integers(0, 255))
            case "insert":
                mutated[where:where] = data.draw(st.binary(min_size=1, max_size=9))
            case "delete":
                del mutated[where : where + data.draw(st.integers(1, 9))]
            case _:
                del mutated[where:]
    decode_as_every_kind(bytes(mutated))


@fuzz
@given(st.sampled_from(MESSAGES), st.data())
def test_valid_messages_with_a_value_changed(entry: tuple[str, object], data: st.DataObject) -> None:
    plain = msgspec.to_builtins(entry[1])
    where: Any = plain
    while children := [key for key, value in _items(where) if isinstance(value, dict | list) and value]:
        if data.draw(st.booleans()):
            break
        where = where[data.draw(st.sampled_from(children))]
    if keys := [key for key, _ in _items(where)]:
        where[data.draw(st.sampled_from(keys))] = data.draw(values)
    decode_as_every_kind(msgpack.packb(plain, use_bin_type=True))


def _items(container: Any) -> list[tuple[Any, Any]]:
    return list(container.items() if isinstance(container, dict) else enumerate(container))


@pytest.mark.parametrize(("name", "data"), hostile.BOMBS, ids=[name for name, _ in hostile.BOMBS])
def test_bombs_cost_little(name: str, data: bytes) -> None:
    assert len(data) <= codec.MAX_MESSAGE
    started = time.process_time()
    decode_as_every_kind(data)
    assert time.process_time() - started < 1.0
    tracemalloc.start()
    try:
        decode_as_every_kind(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 32 << 20


@pytest.mark.parametrize(("name", "data"), hostile.BOMBS[:5], ids=[name for name, _ in hostile.BOMBS[:5]])
def test_deep_nesting_is_harmless_in_a_deep_stack(name: str, data: bytes) -> None:
    def deeper(levels: int) -> None:
        if levels:
            deeper(levels - 1)
        else:
            decode_as_every_kind(data)

    deeper(500)


def test_a_frame_over_the_limit_is_too_large() -> None:
    with pytest.raises(ProtocolError) as caught:
        codec.unpack(bytes(codec.MAX_MESSAGE + 1))
    assert caught.value.code == Code.TOO_LARGE


def test_a_frame_at_the_limit_is_read() -> None:
    text = "x" * (codec.MAX_MESSAGE - 5)
    data = codec.encode(text)
    assert len(data) == codec.MAX_MESSAGE
    assert codec.unpack(memoryview(data)) == text


def test_full_messages_stay_below_the_container_limit() -> None:
    jobs = [control.NewJob(id=f"j{n}", spec=sample_jobs.FULL_SPEC) for n in range(codec.MAX_ITEMS)]
    assert len(codec.decode(codec.encode(control.Submit(jobs=jobs)), control.Submit).jobs) == codec.MAX_ITEMS
    page = control.Page(jobs=[sample_jobs.WAITING] * codec.MAX_ITEMS, cursor=None)
    assert len(codec.decode(codec.encode(page), control.Page).jobs) == codec.MAX_ITEMS
    event = control.PastEvent(revision=1, time=0, type="waiting", job="j", data=sample_jobs.WAITING_THEN)
    history = control.History(events=[event] * codec.MAX_ITEMS, revision=1, more=True)
    assert len(codec.decode(codec.encode(history), control.History).events) == codec.MAX_ITEMS


@pytest.mark.parametrize("more", [0, 1])
def test_containers_are_counted(more: int) -> None:
    full = codec.MAX_CONTAINERS - 1  # the outer one counts
    value = [[{}] * 1023] * (full // 1024) + [{}] * (full % 1024 + more)
    error = refusal(lambda: codec.unpack(codec.encode(value)))
    assert (error is not None) == bool(more)


@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize("kind", [list, dict.fromkeys])
def test_long_containers_are_refused(kind: Callable[[list[str]], object], more: int) -> None:
    data = codec.encode(kind([f"{n}" for n in range(codec.MAX_LENGTH + more)]))
    error = refusal(lambda: codec.unpack(data))
    assert (error is not None) == bool(more)


def test_an_error_never_quotes_at_length() -> None:
    spec = hostile.SPEC | {"if_exists": "x" * 1_000_000}
    with pytest.raises(ProtocolError) as caught:
        codec.decode(hostile.pack({"jobs": [{"spec": spec}]}), control.Submit)
    assert len(caught.value.message) <= codec.MAX_ERROR_TEXT


@pytest.mark.parametrize("value", ["\udcff", {"\ud800": 1}, 2**64, -(2**63) - 1])
def test_what_cannot_be_sent_is_a_protocol_error(value: object) -> None:
    with pytest.raises(ProtocolError):
        codec.encode(value)
