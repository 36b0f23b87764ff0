"""Alphabets of IDs, and that fresh ones are of them."""

import pytest

from fetchd.protocol import codec, control, ids
from fetchd.protocol.errors import ProtocolError


@pytest.mark.parametrize("text", ["a", "Z", "0", "_", "-", "import-2026_11", "x" * 64])
def test_correlation_ids(text: str) -> None:
    assert ids.is_correlation_id(text)


@pytest.mark.parametrize(
    "text", ["", "x" * 65, "a.b", "a/b", "..", "a b", "a\n", "\n", "ä", "٣", "a\0", "*", "a:b", "ａ"]
)
def test_not_correlation_ids(text: str) -> None:
    assert not ids.is_correlation_id(text)


def test_fresh_ids_are_valid_and_differ() -> None:
    fresh = {ids.new_correlation_id() for _ in range(1000)}
    assert len(fresh) == 1000
    assert all(ids.is_correlation_id(text) and len(text) == 16 for text in fresh)


def test_fresh_request_ids_are_valid_and_differ() -> None:
    fresh = {ids.new_request_id() for _ in range(1000)}
    assert len(fresh) == 1000
    for text in fresh:
        assert ids.REQUEST_ID.match(text)
        assert codec.convert({"v": 1, "type": "hello", "req": text}, control.RequestHeader).req == text


@pytest.mark.parametrize("text", ["", "0" * 31, "0" * 33, "0" * 32 + "\n", "A" * 32, "g" * 32, "٣" * 32])
def test_the_header_and_the_pattern_agree_on_request_ids(text: str) -> None:
    assert not ids.REQUEST_ID.match(text)
    with pytest.raises(ProtocolError):
        codec.convert({"v": 1, "type": "hello", "req": text}, control.RequestHeader)
