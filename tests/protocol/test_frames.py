"""Envelopes of control messages, topics and subscriptions."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetchd.protocol import frames
from fetchd.protocol.errors import Code, ProtocolError

ids = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)


def test_dealer() -> None:
    assert frames.split_control([b"h", b"b"]) == ([], b"h", b"b")


def test_req_envelope_is_kept_for_the_echo() -> None:
    assert frames.split_control([b"", b"h", b"b"]) == ([b""], b"h", b"b")


def test_an_empty_header_is_not_an_envelope() -> None:
    assert frames.split_control([b"", b"b"]) == ([], b"", b"b")


@pytest.mark.parametrize(
    "parts", [[], [b""], [b"h"], [b"", b"", b"h", b"b"], [b"x", b"h", b"b"], [b"h", b"b", b""], [b""] * 1000]
)
def test_other_counts_of_frames_are_refused(parts: list[bytes]) -> None:
    with pytest.raises(ProtocolError) as caught:
        frames.split_control(parts)
    assert caught.value.code == Code.BAD_REQUEST


def test_topics() -> None:
    assert frames.job_topic("import-1", "running") == b"job.import-1.running"
    assert frames.job_prefix("import-1") == b"job.import-1."
    assert frames.sys_topic("heartbeat") == b"sys.heartbeat"


@settings(database=None)
@given(ids, ids)
def test_a_subscription_matches_one_job_only(one: str, other: str) -> None:
    prefix = frames.job_prefix(one)
    assert frames.job_topic(other, "progress").startswith(prefix) == (one == other)
    assert frames.job_of_subscription(prefix) == one


@pytest.mark.parametrize(
    "prefix",
    [
        b"", b"job", b"job.", b"job..", b"job.a", b"job.a.p", b"job.a.progress", b"job.a..", b"group.a.",
        b"sys.", b"job.a b.", b"job.\xff.", b"job.\0.", b"job.a\n.", b"job." + b"x" * 65 + b".", b"." * 1000,
    ],
)  # fmt: skip
def test_other_subscriptions_name_no_job(prefix: bytes) -> None:
    assert frames.job_of_subscription(prefix) is None


@settings(database=None)
@given(st.binary(max_size=40))
def test_rubbish_subscriptions_are_harmless(prefix: bytes) -> None:
    job_id = frames.job_of_subscription(prefix)
    assert job_id is None or frames.job_prefix(job_id) == prefix
