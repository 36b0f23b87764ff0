"""Messages that are almost right: samples and golden vectors, changed in ways that hurt decoders most.

A function of its seed alone. Half of the changes are made to bytes, half to the values that they stand for:
what comes out of those is well-formed and wrong somewhere deep.
"""

import random
from collections.abc import Callable
from typing import Any

import msgspec

from fetchd.protocol import codec, mailbox

from . import hostile, samples

WORKER: list[object] = [
    mailbox.Arrived(secret="s"),
    mailbox.Locked(layers={"landlock": "on", "seccomp": "on"}),
    mailbox.Beat(),
    mailbox.Responded(
        job="job", attempt=1, generation=0, status=200, url="http://host/f", total=9, kept=4,
        validator=mailbox.Validator(etag='"e"', last_modified="Thu, 01 Jan 2026 00:00:00 GMT"),
        disposition='attachment; filename="f"', origins=["http://host:80"], have=[(0, 4)], modified=1,
    ),
    mailbox.Restart(job="job", attempt=1, generation=0, why="the content is another one"),
    mailbox.Progressed(job="job", attempt=1, bytes=5, total=None, speed=1.5),
    mailbox.Synced(job="job", attempt=1, generation=0, ranges=[(0, 65536), (131072, 196608)]),
    mailbox.Warned(job="job", attempt=1, code="mirror", message="a mirror was dropped"),
    mailbox.Finished(job="job", attempt=1, size=9, digests={"sha256": "0" * 64}, origins=["http://host:80"]),
    mailbox.NotModified(job="job", attempt=1, origins=["http://host:80"]),
    mailbox.Failed(job="job", attempt=1, code="dns", message="no such host", bytes=0, retry_after=3.0),
    mailbox.Stopped(job="job", attempt=1, bytes=4),
]  # fmt: skip
"""One of everything that a worker can say."""

CONTROL = [
    *(codec.encode(message) for group in (
        samples.HEADERS, samples.REQUEST_BODIES, samples.REPLY_BODIES, samples.ERROR_BODIES, samples.EVENTS
    ) for _, message in group),
    *(data for _, _, data, _ in hostile.TOLERATED),
    *(data for _, _, data, _ in hostile.REFUSED if len(data) < 5000),
]  # fmt: skip
MAILBOX = [codec.encode(message) for message in WORKER]

NUMBERS = [0, -1, 1, 2**31, 2**53 - 1, 2**53, -(2**53), 2**63, 2**64 - 1, -(2**63), 0.5, -0.0, 1e308]
TEXTS = [
    "",
    "\0",
    "../x",
    "/",
    "\u202e",
    "\U0001f600",
    "a" * 1025,
    "a" * 70_000,
    "0" * 32,
    "queued",
    "submit",
]
PLAIN: list[Any] = [*NUMBERS, *TEXTS, None, True, False, [], {}, [[]], {"": None}, ["x"] * 1025]
RAW = [
    b"\xcb\x7f\xf8" + bytes(6), b"\xcb\x7f\xf0" + bytes(6), b"\xca\xff\x80\0\0",  # NaN, infinities
    b"\xa2\xc3\x28", b"\xa3\xed\xa0\x80", b"\xa1\xff", b"\xd9\x04\xf4\x90\x80\x80",  # not UTF-8
    b"\x82\xa1a\1\xa1a\2", b"\x81\1\1", b"\x81\xc0\xc0", b"\x81\x90\xc0",  # twice a key; keys that are none
    b"\x91" * 600 + b"\xc0", b"\x81\xa1a" * 600 + b"\xc0", b"\x91" * 70_000 + b"\xc0",
    b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff",
    b"\xc4\1x", b"\xd6\xff\0\0\0\1", b"\xc7\0\5", b"\xc1", b"",
]  # fmt: skip
"""What no packer would make: spliced in where a value was."""

_MARK = "\x01here\x01"
_MARKED = msgspec.msgpack.encode(_MARK)


class Mutator:
    """An endless supply: `next` is a changed message from `corpus`."""

    def __init__(self, seed: int, corpus: list[bytes]) -> None:
        self.random = random.Random(seed)
        self.corpus = corpus
        self._bytes: list[Callable[[bytearray], None]] = [
            self._flip, self._replace, self._insert, self._delete, self._cut, self._splice, self._double
        ]  # fmt: skip

    def next(self) -> bytes:
        """One message: changed once to four times, and one in fifty left as it is."""
        return self.change(self.random.choice(self.corpus))

    def change(self, data: bytes) -> bytes:
        """Another one of this message."""
        chance = self.random.random()
        if chance < 0.02:
            return data
        if chance < 0.5:
            data = self._value(data)
            if chance < 0.4:
                return data
        changed = bytearray(data)
        for _ in range(self.random.randint(1, 4)):
            if changed:
                self.random.choice(self._bytes)(changed)
        return bytes(changed)

    # bytes

    def _at(self, data: bytearray) -> int:
        return self.random.randrange(len(data))

    def _flip(self, data: bytearray) -> None:
        data[self._at(data)] ^= 1 << self.random.randrange(8)

    def _replace(self, data: bytearray) -> None:
        data[self._at(data)] = self.random.randrange(256)

    def _insert(self, data: bytearray) -> None:
        at = self._at(data)
        data[at:at] = self.random.choice([*RAW, self.random.randbytes(self.random.randint(1, 9))])

    def _delete(self, data: bytearray) -> None:
        at = self._at(data)
        del data[at : at + self.random.randint(1, 9)]

    def _cut(self, data: bytearray) -> None:
        del data[self._at(data) :]

    def _splice(self, data: bytearray) -> None:
        other = self.random.choice(self.corpus)
        data[self._at(data) :] = other[self.random.randrange(len(other) + 1) :]

    def _double(self, data: bytearray) -> None:
        at = self._at(data)
        piece = data[at : at + self.random.randint(1, 40)]
        data[at:at] = piece * self.random.choice([1, 1, 2, 50])

    # values

    def _value(self, data: bytes) -> bytes:
        """The message with a value somewhere in it made another, or a field added, dropped or renamed."""
        try:
            plain = msgspec.msgpack.decode(data)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return data
        where = plain
        while inner := [v for v in _children(where) if isinstance(v, dict | list) and v]:
            if self.random.random() < 0.4:
                break
            where = self.random.choice(inner)
        new = _MARK if self.random.random() < 0.4 else self.random.choice(PLAIN)
        if isinstance(where, list) and where:
            where[self.random.randrange(len(where))] = new
        elif isinstance(where, dict) and where:
            key = self.random.choice(list(where))
            match self.random.randrange(8):
                case 0:
                    del where[key]
                case 1:
                    where[self.random.choice([t for t in TEXTS if len(t) < 2000])] = where.pop(key)
                case 2:
                    where[f"{key}x"] = new
                case _:
                    where[key] = new
        else:
            plain = new
        packed = msgspec.msgpack.encode(plain)
        return packed.replace(_MARKED, self.random.choice(RAW))


def _children(value: object) -> list[Any]:
    return list(value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())
