"""Bytes to typed messages and back: bounded MessagePack, then strict validation.

Decoding raises `ProtocolError` and nothing else, whatever the bytes are. What comes through is plain data
that JSON can hold as well: null, booleans, integers up to `MAX_INT`, finite floats, strings, lists, maps
with distinct string keys.
"""

from math import isfinite
from typing import Any, TypeVar

import msgpack
import msgspec

from .errors import Code, ProtocolError

MAX_MESSAGE = 1 << 20
"""Largest frame either side accepts, in bytes (decision: 1 MiB)."""

MAX_ITEMS = 1000
"""Most jobs or IDs in one request."""

MAX_INT = 2**53 - 1
"""Largest integer on the wire: what every language's double can hold."""

MAX_LENGTH = 2048
"""Most items of one array and pairs of one map. The unpacker allocates what an array announces: with many
in each other that each announce the whole frame, one frame would cost hundreds of megabytes."""

MAX_CONTAINERS = 32_768
"""Most maps and arrays in one frame. A byte on the wire is an empty map of 64 bytes in memory, so the frame's
size alone would allow 64 MiB; a full `submit` or `list` needs about 5,000."""

MAX_ERROR_TEXT = 500
"""Longest message of a `ProtocolError` made here, in characters: it may quote what the peer sent."""

T = TypeVar("T")

_encoder = msgspec.msgpack.Encoder()


def encode(message: object) -> bytes:
    """MessagePack of a struct or of plain data.

    Raises `ProtocolError` for text that is not Unicode (a file name with undecodable bytes) and for integers
    beyond 64 bits.
    """
    try:
        # the same bytes as msgpack's own packer makes of the same data, in a tenth of the time
        return _encoder.encode(message)
    except (UnicodeEncodeError, OverflowError) as error:
        raise ProtocolError(Code.BAD_REQUEST, f"cannot be sent: {error}"[:MAX_ERROR_TEXT]) from None


def unpack(data: bytes | memoryview) -> Any:
    """Plain data from one MessagePack value of at most `MAX_MESSAGE` bytes and `MAX_CONTAINERS` containers.

    Longer containers than `MAX_LENGTH`, extension types (timestamps too), binary, keys that are not strings
    or occur twice, integers beyond `MAX_INT` and floats that are not finite are refused; nesting is bounded
    by the unpacker's own stack.
    """
    if len(data) > MAX_MESSAGE:
        raise ProtocolError(Code.TOO_LARGE, f"a frame of {len(data)} bytes exceeds {MAX_MESSAGE}")
    builder = _Builder()
    try:
        value = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            max_array_len=MAX_LENGTH,
            max_map_len=MAX_LENGTH,
            ext_hook=_refuse_extension,
            list_hook=builder.array,
            object_pairs_hook=builder.map,
        )
        _check(value)
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise _refusal("not a message", error) from None
    return value


def convert(value: Any, kind: type[T]) -> T:
    """Plain data as a message of type `kind`, strictly."""
    try:
        return msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as error:
        text = str(error)
        # only at the start: further on the text may quote the peer
        unknown = text.startswith("Object contains unknown field")
        code = Code.UNSUPPORTED_FIELD if unknown else Code.BAD_REQUEST
        raise ProtocolError(code, text[:MAX_ERROR_TEXT]) from None
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise _refusal("not a message", error) from None


def decode(data: bytes | memoryview, kind: type[T]) -> T:
    """One message of type `kind` from its bytes."""
    return convert(unpack(data), kind)


class _Builder:
    """Makes the containers of one frame while it is unpacked, counts them and checks what is in them.

    This runs for every map of every message: written for speed.
    """

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = MAX_CONTAINERS

    def array(self, items: list[Any]) -> list[Any]:
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"more than {MAX_CONTAINERS} maps and arrays")
        for value in items:
            if type(value) not in _PLAIN:
                _check(value)
        return items

    def map(self, pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"more than {MAX_CONTAINERS} maps and arrays")
        result = dict(pairs)
        if len(result) != len(pairs):
            raise ValueError("a key occurs twice in a map")
        for key, value in pairs:
            if type(key) is not str:
                raise ValueError("a key is not a string")
            if type(value) not in _PLAIN:
                _check(value)
        return result


_PLAIN = frozenset({str, bool, type(None), list, dict})


def _check(value: object) -> None:
    """Refuse what is not plain data. msgpack hands out timestamps and binary without asking."""
    if isinstance(value, int):
        if not -MAX_INT <= value <= MAX_INT:
            raise ValueError("an integer is beyond 2^53 - 1")
    elif isinstance(value, float):
        if not isfinite(value):
            raise ValueError("a float is not finite")
    elif type(value) not in _PLAIN:
        raise ValueError(f"{type(value).__name__} is not part of the protocol")


def _refuse_extension(code: int, _data: bytes) -> None:
    raise ValueError(f"extension type {code} is not part of the protocol")


def _refusal(what: str, error: Exception) -> ProtocolError:
    """msgpack's own errors may have no text; their names say what is wrong."""
    return ProtocolError(Code.BAD_REQUEST, f"{what}: {str(error) or type(error).__name__}"[:MAX_ERROR_TEXT])
