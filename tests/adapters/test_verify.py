"""Checksums that follow the bytes: whatever the order, what hashlib says of the whole file."""

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.content import pattern

from fetchd.daemon.transfer import verify
from fetchd.daemon.transfer.api import TransferError
from fetchd.daemon.transfer.verify import Verifier, matches
from fetchd.protocol.errors import Code
from fetchd.protocol.journal import blank
from fetchd.protocol.mailbox import Validator

from .single import Single

VALIDATOR = Validator(etag='"v1"')


@pytest.fixture
def workspace(downloads: Path) -> Path:
    directory = downloads / "w"
    directory.mkdir()
    (directory / "data").touch()
    (directory / "frontier").write_bytes(blank())
    return directory


def idle() -> None:
    """Nobody wants it to stop."""


def digest(path: Path, algorithm: str, advances: list[int], size: int) -> str:
    fd = os.open(path, os.O_RDONLY)
    verifier = Verifier(fd, [algorithm])
    try:
        for frontier_now in advances:
            verifier.advance(frontier_now)
        return verifier.finish(size, idle)[algorithm]
    finally:
        verifier.stop()
        os.close(fd)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512", "sha1", "md5", "blake2b"])
def test_it_is_what_hashlib_says(downloads: Path, algorithm: str) -> None:
    content = pattern(3_000_000, 3)
    (downloads / "f").write_bytes(content)
    assert digest(downloads / "f", algorithm, [], len(content)) == hashlib.new(algorithm, content).hexdigest()


def test_it_follows_any_frontier(downloads: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resumed and plain downloads, with a thread and without: always the whole file."""
    monkeypatch.setattr(verify, "INLINE", 1 << 16)
    monkeypatch.setattr(verify, "CHUNK", 5000)
    content = pattern(200_000, 4)
    path = downloads / "f"
    path.write_bytes(content)

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.integers(0, 200_000), max_size=6).map(sorted), st.integers(0, 200_000))
    def check(advances: list[int], size: int) -> None:
        advances = [one for one in advances if one <= size]
        assert digest(path, "sha256", advances, size) == hashlib.sha256(content[:size]).hexdigest()

    check()


def test_a_restarted_content_is_hashed_from_its_beginning(workspace: Path) -> None:
    sink = Single(workspace, 0, lambda *_: None)
    try:
        sink.start(VALIDATOR, None, 0, 0)
        sink.write(pattern(100_000, 1))
        sink.start(VALIDATOR, None, 1, 0)
        content = pattern(50_000, 2)
        for at in range(0, len(content), 7000):
            sink.write(content[at : at + 7000])
        verifier = Verifier(sink.fd, ["sha256"])
        verifier.advance(sink.position)
        assert verifier.finish(sink.position, idle)["sha256"] == hashlib.sha256(content).hexdigest()
    finally:
        sink.close()


class AbortedError(Exception):
    """Somebody wants it to stop."""


@pytest.mark.parametrize("stop", ["thread", "end"])
def test_a_stop_does_not_wait_for_the_hash_of_a_large_file(
    downloads: Path, monkeypatch: pytest.MonkeyPatch, stop: str
) -> None:
    monkeypatch.setattr(verify, "INLINE", 0)
    path = downloads / "f"
    with path.open("wb") as file:
        file.truncate(64 << 30)  # minutes of hashing
    fd = os.open(path, os.O_RDONLY)
    verifier = Verifier(fd, ["sha256"])
    verifier.advance(64 << 30)
    checks: list[int] = []

    def check() -> None:
        checks.append(1)
        if len(checks) > 3:
            raise AbortedError

    if stop == "thread":
        verifier.stop()
    else:
        with pytest.raises(AbortedError):
            verifier.finish(64 << 30, check)
    os.close(fd)


def test_a_file_that_is_too_short_is_an_error(downloads: Path) -> None:
    (downloads / "f").write_bytes(b"123")
    with pytest.raises((OSError, TransferError)):
        digest(downloads / "f", "sha256", [], 4)


def test_a_wrong_checksum_is_told() -> None:
    matches("sha1:ab", "ab")
    with pytest.raises(TransferError) as caught:
        matches("sha1:ab", "cd")
    assert caught.value.code is Code.CHECKSUM_MISMATCH
