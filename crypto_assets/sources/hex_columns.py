"""Exact columns from the hex strings of JSON-RPC: data to bytes, quantities to numbers.

Each function takes all values of a column at once, because decoding hex value by value costs ten
times as much. A value that is not what it should be is a ValueError with the value in it, or an
OverflowError; nothing is rounded, cut or padded unless it says so.
"""

from __future__ import annotations

from binascii import unhexlify
from collections.abc import Sequence
from contextlib import suppress
from itertools import repeat
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Hexes: TypeAlias = Sequence[str | None]

WEI = pa.decimal128(38, 0)
_NO_PREFIX = "a value does not begin with 0x"
_WORD_WIDTH = 2 + 2 * 32
_LOW = (1 << 64) - 1
_LAST_SECOND = ((1 << 63) - 1) // 10**6
# 10^38 as two words of 64 bits: the first number that has too many digits.
_TOO_HIGH, _TOO_LOW = 10**38 >> 64, 10**38 & _LOW


def integers(values: Sequence[str]) -> npt.NDArray[np.int64]:
    """Quantities below 2^63."""
    _check_prefixes(values)
    numbers = np.fromiter(map(int, values, repeat(16)), np.int64, len(values))
    if numbers.size and numbers.min() < 0:
        raise ValueError(f"{values[int(numbers.argmin())]!r} is below zero")
    return numbers


def seconds(values: Sequence[str]) -> npt.NDArray[np.int64]:
    """Unix seconds that have an instant in microseconds."""
    numbers = integers(values)
    if numbers.size and numbers.max() > _LAST_SECOND:
        raise OverflowError(f"{values[int(numbers.argmax())]!r} is no time of this era")
    return numbers


def optional_integers(values: Hexes, data_type: pa.DataType) -> pa.Array:
    """Quantities that fit an integer type, or null."""
    if all(values):
        with suppress(OverflowError):
            return pa.array(integers(cast("Sequence[str]", values))).cast(data_type)
    _check_prefixes(_filled(values, "0x"))
    return pa.array([None if value is None else int(value, 16) for value in values], data_type)


def words(values: Hexes, size: int) -> npt.NDArray[np.uint8]:
    """Data of `size` bytes each, as rows; null becomes zeros."""
    return _words(_filled(values, "0x" + "00" * size), size)


def _words(values: Sequence[str], size: int) -> npt.NDArray[np.uint8]:
    if not values:
        return np.empty((0, size), np.uint8)
    width = 2 + 2 * size
    text = "".join(values)
    if len(text) != len(values) * width:
        wrong = next(value for value in values if len(value) != width)
        raise ValueError(f"{wrong[:80]!r} is not {size} bytes of hex")
    letters = text.encode()
    codes = np.frombuffer(letters, np.uint8)
    if (codes[::width] != ord("0")).any() or (codes[1::width] != ord("x")).any():
        raise ValueError(_NO_PREFIX)
    # All but the prefixes, as items that lie two bytes apart: the quickest way to copy them.
    digits = np.ndarray((len(values),), f"V{2 * size}", letters, 2, (width,)).tobytes()
    return np.frombuffer(unhexlify(digits), np.uint8).reshape(-1, size)


def fixed_array(rows: npt.NDArray[np.uint8], validity: Any = None) -> pa.Array:
    """A column of data of one size from its rows, and the bitmap of those that are there."""
    count, size = rows.shape
    data = pa.py_buffer(np.ascontiguousarray(rows))
    return pa.Array.from_buffers(pa.binary(size), count, [validity, data])


def fixed(values: Hexes, size: int) -> pa.Array:
    """Data of `size` bytes each, or null."""
    if all(values):
        return fixed_array(_words(cast("Sequence[str]", values), size))
    return fixed_array(words(values, size), _validity(values))


def words_of_numbers(values: Hexes) -> pa.Array:
    """Quantities below 2^256 as 32 bytes, big-endian, or null."""
    _check_prefixes(_filled(values, "0x"))
    # Most need no padding: they are as long as a word unless they begin with a zero.
    padded = [
        value if value is None or len(value) == _WORD_WIDTH else f"0x{int(value, 16):064x}"
        for value in values
    ]
    return fixed(padded, 32)


def binary(values: Hexes) -> pa.Array:
    """Data of any size, or null."""
    filled = _filled(values, "0x")
    if not {value[:2] for value in filled} <= {"0x"}:
        raise ValueError(_NO_PREFIX)
    digits = [value[2:] for value in filled]
    offsets = np.zeros(len(digits) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, digits), np.int64, len(digits)), out=offsets[1:])
    if (offsets % 2).any():
        raise ValueError("a value has half a byte")
    data = [pa.py_buffer((offsets // 2).astype(np.int32)), pa.py_buffer(unhexlify("".join(digits)))]
    validity = None if filled is values else _validity(values)
    return pa.Array.from_buffers(pa.binary(), len(digits), [validity, *data])


def binary_numbers(values: Hexes) -> pa.Array:
    """Quantities of any size as big-endian bytes, as few as there need be, or null.

    For columns of few different values.
    """
    _check_prefixes(_filled(values, "0x"))
    table = {value: _bytes(value) for value in set(values)}
    return pa.array([table[value] for value in values], pa.binary())


def wei(values: Hexes) -> tuple[pa.Array, pa.Array]:
    """Quantities as decimals of 38 digits, null where they have more; and there, as bytes."""
    filled = _filled(values, "0x0")
    _check_prefixes(filled)
    try:
        low = np.fromiter(map(int, filled, repeat(16)), np.uint64, len(values))
    except OverflowError:
        numbers = [int(value, 16) for value in filled]
        if min(numbers) < 0:
            raise
        low = np.array([number & _LOW for number in numbers], np.uint64)
        high = np.array([min(number >> 64, _LOW) for number in numbers], np.uint64)
    else:
        high = np.zeros_like(low)
    fits = (high < _TOO_HIGH) | ((high == _TOO_HIGH) & (low < _TOO_LOW))
    data = pa.py_buffer(np.stack((low, high), axis=1).astype("<u8"))
    if fits.all():
        validity = None if filled is values else _validity(values)
        decimals = pa.Array.from_buffers(WEI, len(values), [validity, data])
        return decimals, pa.nulls(len(values), pa.binary())
    within = [value if fit else None for value, fit in zip(values, fits, strict=True)]
    beyond = [None if fit else value for value, fit in zip(values, fits, strict=True)]
    decimals = pa.Array.from_buffers(WEI, len(values), [_validity(within), data])
    return decimals, binary_numbers(beyond)


def small_wei(values: Hexes) -> pa.Array:
    """Quantities of at most 38 digits, or null."""
    decimals, beyond = wei(values)
    if beyond.null_count < len(beyond):
        wrong = values[beyond.is_valid().index(True).as_py()]
        raise OverflowError(f"{wrong!r} has more than 38 decimal digits")
    return decimals


def timestamps(seconds: npt.NDArray[np.int64]) -> pa.Array:
    """Unix seconds as instants, UTC."""
    return pa.array(seconds * 1_000_000).view(pa.timestamp("us"))


def _filled(values: Hexes, nothing: str) -> Sequence[str]:
    if all(values):  # by far the quickest way to see that there is no null
        return cast("Sequence[str]", values)
    return [nothing if value is None else value for value in values]


def _check_prefixes(values: Sequence[str]) -> None:
    """Python reads hex without its prefix too; nothing else in hex has an x."""
    if "".join(values).count("x") != len(values):
        raise ValueError(_NO_PREFIX)


def _bytes(value: str | None) -> bytes | None:
    if value is None:
        return None
    number = int(value, 16)
    return number.to_bytes(max(1, (number.bit_length() + 7) // 8), "big")


def _validity(values: Hexes) -> Any:
    """The bitmap of the values that are there; None if all are."""
    if all(values):
        return None
    return _bitmap(np.fromiter((value is not None for value in values), np.bool_, len(values)))


def _bitmap(valid: npt.NDArray[np.bool_]) -> Any:
    return pa.py_buffer(np.packbits(valid, bitorder="little"))
