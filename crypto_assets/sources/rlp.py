"""RLP, the serialization under every Ethereum hash: encoding only, of values and of parts.

The parts (`encode_bytes`, `encode_int`, `encode_list`) let a caller encode each field once and put
the results together; `encode` takes nested values. Nothing here knows what is encoded.

Format: https://ethereum.org/developers/docs/data-structures-and-encoding/rlp/
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TypeAlias

Value: TypeAlias = "bytes | int | Sequence[Value]"

_LONGEST_SHORT = 55
_BYTES = 0x80
_LIST = 0xC0
# First bytes of everything short, so that nothing is computed for the values seen most.
_SHORT_BYTES = tuple(bytes([_BYTES + size]) for size in range(_LONGEST_SHORT + 1))
_SHORT_LIST = tuple(bytes([_LIST + size]) for size in range(_LONGEST_SHORT + 1))
_SMALL_INT = (b"\x80", *(bytes([number]) for number in range(1, _BYTES)))


def encode(value: Value) -> bytes:
    """A byte string, an integer (ValueError or OverflowError if negative), or a nested sequence."""
    if isinstance(value, bytes):
        return encode_bytes(value)
    if isinstance(value, int):
        return encode_int(value)
    return encode_list(map(encode, value))


def encode_bytes(data: bytes) -> bytes:
    """A byte string."""
    size = len(data)
    if size == 1 and data < b"\x80":
        return data
    if size <= _LONGEST_SHORT:
        return _SHORT_BYTES[size] + data
    return _long(_BYTES, size) + data


def encode_int(number: int) -> bytes:
    """A non-negative integer: its big-endian bytes without leading zeros."""
    if 0 <= number < _BYTES:
        return _SMALL_INT[number]
    size = (number.bit_length() + 7) // 8
    data = number.to_bytes(size, "big")
    return _SHORT_BYTES[size] + data if size <= _LONGEST_SHORT else encode_bytes(data)


def encode_list(items: Iterable[bytes]) -> bytes:
    """A list of items that are encoded already."""
    payload = b"".join(items)
    size = len(payload)
    if size <= _LONGEST_SHORT:
        return _SHORT_LIST[size] + payload
    return _long(_LIST, size) + payload


@lru_cache(maxsize=4096)
def _long(kind: int, size: int) -> bytes:
    """The first bytes of something longer than 55 bytes: the length of its length, its length."""
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([kind + _LONGEST_SHORT + len(length)]) + length
