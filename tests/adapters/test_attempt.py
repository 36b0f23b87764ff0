"""What an attempt watches over while a transfer runs: checksums, sizes, speeds, and what it may use."""

import base64
import hashlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support.content import first_difference, pattern, sha256_of
from support.origin import Origin, Resource, Step

from fetchd.daemon.worker import attempt as attempts
from fetchd.protocol.errors import Code
from fetchd.protocol.mailbox import Failed, Finished, Options, Responded, Restart, Stopped, Warned

from .attempts import Room, code
from .attempts import room as rooms

MIB = 1 << 20
SIZE = 300_000
CONTENT = pattern(SIZE, 1)
FILE = Resource(size=SIZE, seed=1)
RIGHT, WRONG = sha256_of(SIZE, 1), "0" * 64
SHA1 = hashlib.sha1(CONTENT).hexdigest()
OK = "Finished"


@pytest.fixture
def room() -> Iterator[Room]:
    with rooms() as made:
        yield made


def announcing(sha256: str | None = None, sha: str | None = None, **fields: Any) -> Resource:
    """The file, with a Repr-Digest."""
    said = {"sha-256": sha256, "sha": sha}
    parts = [
        f"{name}=:{base64.b64encode(bytes.fromhex(value)).decode()}:" for name, value in said.items() if value
    ]
    return Resource(**{"size": SIZE, "seed": 1, "headers": [("Repr-Digest", ", ".join(parts))], **fields})


# lists of checksums


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (f"{WRONG}  other\n{RIGHT}  f.iso\n", OK),
        (f"SHA256 (f.iso) = {RIGHT}\n", OK),
        (RIGHT, OK),
        (f"{WRONG}  f.iso\n", "checksum_mismatch"),
        (f"{WRONG}  other\n{WRONG}  another\n", "invalid_checksum"),
        ("", "invalid_checksum"),
        ("x" * (5 << 20), "invalid_checksum"),
    ],
    ids=["named", "BSD", "bare", "wrong", "not in it", "empty", "too large"],
)
def test_a_checksum_out_of_a_list(origin: Origin, room: Room, text: str, wanted: str) -> None:
    listed = origin.add("/SHA256SUMS", Resource(body=text.encode()))
    last = room.run(origin.add("/x/f.iso", FILE), checksum=f"sha256:@{listed}")
    assert code(last) == wanted
    if isinstance(last, Finished):
        assert last.digests == {"sha256": RIGHT}
    if wanted == "invalid_checksum":
        assert origin.requests_for("/x/f.iso") == []


def test_a_list_may_have_the_name_of_a_mirror(origin: Origin, room: Room) -> None:
    listed = origin.add("/SHA256SUMS", Resource(body=f"{WRONG}  other\n{RIGHT}  f.iso\n".encode()))
    mirror = origin.url("/pub/f.iso")
    last = room.run(origin.add("/download", FILE), checksum=f"sha256:@{listed}", mirrors=[mirror])
    assert code(last) == OK


@pytest.mark.parametrize(
    ("behaviour", "options", "wanted"),
    [
        ("status", {"code": 404}, "not_found"),
        ("status", {"code": 503, "retry_after": 5}, "unavailable"),
        ("drop", {}, "reset"),
        ("redirect_loop", {}, "redirect_loop"),
    ],
)
def test_a_list_that_cannot_be_had(
    origin: Origin, room: Room, behaviour: str, options: dict[str, Any], wanted: str
) -> None:
    listed = origin.add("/SHA256SUMS", FILE, behaviour, **options)
    last = room.run(origin.add("/f", FILE), checksum=f"sha256:@{listed}")
    assert isinstance(last, Failed)
    assert last.code == wanted
    assert last.message.startswith("the list of checksums: ")
    assert last.retry_after == options.get("retry_after")


def test_a_list_of_no_known_scheme(origin: Origin, room: Room) -> None:
    last = room.run(origin.add("/f", FILE), checksum="sha256:@gopher://a.test/SUMS")
    assert code(last) == "unsupported_scheme"


# digests of the server


@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("size", [SIZE, 8 * MIB])
def test_what_the_server_announces_is_checked(origin: Origin, room: Room, parts: int, size: int) -> None:
    options: dict[str, Any] = {"options": Options(segments=parts), "connections": parts}
    right = announcing(sha256_of(size, 1), size=size)
    last = room.run(origin.add("/f", right), **options)
    assert isinstance(last, Finished)
    assert last.digests == {"sha256": sha256_of(size, 1)}
    last = room.run(origin.add("/f", announcing(WRONG, size=size)), **options)
    assert isinstance(last, Failed)
    assert last.code == "checksum_mismatch"
    assert room.of(Warned) == []


@pytest.mark.parametrize(
    ("checksum", "said", "digests", "warned"),
    [
        (f"sha256:{RIGHT}", announcing(RIGHT), {"sha256": RIGHT}, 0),
        (f"sha256:{RIGHT}", announcing(sha=SHA1), {"sha256": RIGHT, "sha1": SHA1}, 0),
        (f"sha256:{RIGHT}", announcing(sha="0" * 40), {"sha256": RIGHT}, 1),
        # the user's own, which is right, is not to be forgotten for that
        (f"sha256:{RIGHT}", announcing(WRONG), {"sha256": RIGHT}, 1),
    ],
    ids=["right", "right, another algorithm", "wrong, another algorithm", "wrong"],
)
def test_the_user_knows_better_than_the_server(
    origin: Origin, room: Room, checksum: str, said: Resource, digests: dict[str, str], warned: int
) -> None:
    last = room.run(origin.add("/f", said), checksum=checksum)
    assert isinstance(last, Finished)
    assert last.digests == digests
    assert [warning.code for warning in room.of(Warned)] == [Code.DIGEST_DIFFERS] * warned


def test_a_wrong_checksum_of_the_user_counts_whatever_the_server_says(origin: Origin, room: Room) -> None:
    assert (
        code(room.run(origin.add("/f", announcing(RIGHT)), checksum=f"sha256:{WRONG}")) == "checksum_mismatch"
    )


def test_kept_bytes_are_hashed_too(origin: Origin, room: Room) -> None:
    url = origin.add("/f", announcing(RIGHT))
    room.keep(CONTENT[:200_000])
    assert code(room.run(url, have=200_000, etag='"v1"', total=SIZE)) == OK
    room.keep(b"x" * 200_000)
    assert code(room.run(url, have=200_000, etag='"v1"', total=SIZE)) == "checksum_mismatch"


def test_a_restart_ends_the_thread_that_hashes(origin: Origin, room: Room) -> None:
    """The old content is hashed by a thread already when a second connection finds that it has changed."""
    first, second = origin.gate(), origin.gate()
    old, new = Resource(size=32 * MIB, seed=2), Resource(size=32 * MIB, seed=3, etag='"v2"')
    url = origin.script(
        "/f", Step(old, "hold", after=14 * MIB, gate=first), Step(new, "stall", gate=second), Step(new)
    )
    room.begin(url, checksum=f"sha256:{sha256_of(32 * MIB, 3)}", options=Options(segments=2), connections=2)
    # what is on its way in the kernel is less than the difference to where the thread begins
    origin.wait_for(lambda: len(origin.requests) == 2 and origin.requests[0].sent >= 14 * MIB)
    second.open()
    assert code(room.end()) == OK
    assert len(room.of(Restart)) == 1
    assert first_difference(room.data, new.content) is None
    first.open()


@pytest.mark.parametrize("parts", [1, 4])
def test_after_a_restart_everything_is_hashed_anew(origin: Origin, room: Room, parts: int) -> None:
    """More than what is hashed without a thread, so that the old content has been begun with."""
    size = 16 * MIB
    old, new = Resource(size=size, seed=2), Resource(size=size, seed=3, etag='"v2"')
    steps = [Step(old, "cut", after=12 * MIB), Step(new)] if parts == 1 else [Step(old), Step(new)]
    url = origin.script("/f", *steps)
    fields: dict[str, Any] = {"options": Options(segments=parts), "connections": parts}
    checksum = f"sha256:{sha256_of(size, 3)}"
    last = room.run(url, checksum=checksum, **fields)
    if parts == 1:
        assert code(last) == "short_body"
        last = room.run(url, checksum=checksum, have=12 * MIB, etag='"v1"', total=size, **fields)
    assert code(last) == OK
    assert len(room.of(Restart)) == 1
    assert first_difference(room.data, new.content) is None


# how large


@pytest.mark.parametrize("parts", [1, 4])
def test_a_known_size_that_is_too_large(origin: Origin, room: Room, parts: int) -> None:
    url = origin.add("/f", FILE)
    fields: dict[str, Any] = {"options": Options(segments=parts), "connections": parts}
    last = room.run(url, max_size=SIZE - 1, **fields)
    assert isinstance(last, Failed)
    assert (last.code, last.bytes, room.of(Responded)) == ("file_too_large", 0, [])
    assert code(room.run(url, max_size=SIZE, **fields)) == OK


@pytest.mark.parametrize("behaviour", ["chunked", "until_close"])
def test_an_unknown_size_that_becomes_too_large(origin: Origin, room: Room, behaviour: str) -> None:
    url = origin.add("/f", FILE, behaviour)
    assert code(room.run(url, max_size=SIZE - 1)) == "file_too_large"
    assert code(room.run(url, max_size=SIZE)) == OK
    assert code(room.run(origin.add("/g", FILE, "endless_body"), max_size=10 * SIZE)) == "file_too_large"
    assert room.data.stat().st_size < 20 * SIZE + MIB


# how fast


@pytest.mark.parametrize("parts", [1, 4])
def test_too_slow(origin: Origin, room: Room, parts: int) -> None:
    url = origin.add("/f", Resource(size=8 * MIB), "paced", rate=50_000)
    fields: dict[str, Any] = {"options": Options(segments=parts), "connections": parts}
    assert code(room.run(url, min_speed=10_000_000, min_speed_time=0.2, **fields)) == "too_slow"


@pytest.mark.parametrize("parts", [1, 3])
def test_not_faster_than_its_rate(origin: Origin, room: Room, parts: int) -> None:
    """All connections together."""
    size, rate = 4 * MIB, 4_000_000
    began = time.monotonic()
    url = origin.add("/f", Resource(size=size, seed=1))
    last = room.run(url, rate=rate, options=Options(segments=parts), connections=parts)
    assert code(last) == OK
    assert time.monotonic() - began > size / rate * 0.8
    assert first_difference(room.data, Resource(size=size, seed=1).content) is None


def test_another_rate_in_the_middle(origin: Origin, room: Room) -> None:
    room.begin(origin.add("/f", FILE), rate=100)
    assert room.wait(Responded).total == SIZE
    assert room.attempt is not None
    room.attempt.allow(1, None)
    assert code(room.end()) == OK
    assert room.data.read_bytes() == CONTENT


def test_what_is_allowed_and_what_is_found_out_do_not_undo_each_other(
    origin: Origin, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker's loop changes the rate while the transfer says that nothing is kept any more.

    Else the bytes of an earlier content would be taken for those of the new one.
    """
    gate = origin.gate()
    room.begin(origin.add("/f", FILE, "stall", gate=gate), have=1000, etag='"v1"')
    gate.wait_arrived()
    made = room.attempt
    assert made is not None
    other = threading.Thread(target=made.keep)
    replace = attempts.replace

    def slow(task: Any, **fields: Any) -> Any:
        if "rate" in fields:
            other.start()
            other.join(0.3)
        return replace(task, **fields)

    made._validator = made._validator.__class__(etag='"new"')
    monkeypatch.setattr(attempts, "replace", slow)
    made.allow(1, 5)
    other.join()
    assert (made.task.rate, made.task.validator.etag) == (5, '"new"')
    made.stop(keep=False)
    assert isinstance(room.end(), Stopped)
