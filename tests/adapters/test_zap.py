"""What is said of peers that are refused: who they were, but for the many."""

from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from fetchd.daemon.router import zap
from fetchd.daemon.router.access import Access
from fetchd.daemon.router.zap import Authorizer

KEY = "k" * 40


@pytest.fixture
def authorizer() -> Iterator[Authorizer]:
    context: zmq.Context[Any] = zmq.Context()
    made = Authorizer(context, Access(lambda _pid: False))
    yield made
    made.close()
    context.destroy(0)


def test_refusals_are_counted(authorizer: Authorizer, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(zap.MOST + 3):
        authorizer._refused(f"192.0.2.{number}", KEY if number else None)
    assert caplog.messages[0] == "refused: 192.0.2.0"
    assert caplog.messages[1:] == [
        f"refused: 192.0.2.{number} with the key {KEY}" for number in range(1, zap.MOST)
    ]
    authorizer._since -= zap.PERIOD  # as if it were later
    authorizer._refused("192.0.2.99", None)
    assert caplog.messages[zap.MOST :] == ["3 more peers were refused", "refused: 192.0.2.99"]


@pytest.mark.parametrize(
    ("mechanism", "credential"),
    [(b"CURVE", b""), (b"CURVE", bytes(31)), (b"CURVE", bytes(33)), (b"PLAIN", bytes(32)), (b"", b""),
     (b"GSSAPI", b"root"), (b"NULL\0", b""), (b"curve", bytes(32))],
)  # fmt: skip
def test_mechanisms_that_prove_nothing(mechanism: bytes, credential: bytes) -> None:
    assert zap._key(mechanism, credential) is None
