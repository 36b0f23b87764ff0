"""Bytes to typed messages and back: bounded MessagePack, then strict validation.

Decoding raises `ProtocolError` and nothing else, whatever the bytes are.
"""

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

T = TypeVar("T")


def encode(message: object) -> bytes:
    """MessagePack of a struct or of plain data."""
    packed: bytes = msgpack.packb(msgspec.to_builtins(message), use_bin_type=True)
    return packed


def unpack(data: bytes | memoryview) -> Any:
    """Plain data from one MessagePack value of at most `MAX_MESSAGE` bytes with string keys only.

    Extension types are refused; nesting is bounded by the unpacker's own stack.
    """
    if len(data) > MAX_MESSAGE:
        raise ProtocolError(Code.TOO_LARGE, f"a frame of {len(data)} bytes exceeds {MAX_MESSAGE}")
    try:
        return msgpack.unpackb(data, raw=False, strict_map_key=True, ext_hook=_refuse_extension)
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise ProtocolError(Code.BAD_REQUEST, f"not MessagePack: {error}") from None


def convert(value: Any, kind: type[T]) -> T:
    """Plain data as a message of type `kind`, strictly."""
    try:
        return msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as error:
        text = str(error)
        code = Code.UNSUPPORTED_FIELD if "unknown field" in text else Code.BAD_REQUEST
        raise ProtocolError(code, text) from None
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ProtocolError(Code.BAD_REQUEST, str(error)) from None


def decode(data: bytes | memoryview, kind: type[T]) -> T:
    """One message of type `kind` from its bytes."""
    return convert(unpack(data), kind)


def _refuse_extension(code: int, _data: bytes) -> None:
    raise ValueError(f"extension type {code} is not part of the protocol")
