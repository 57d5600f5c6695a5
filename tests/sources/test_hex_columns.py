"""Columns from hex, held against Python's own integers and bytes."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_assets.sources.hex_columns import (
    WEI,
    binary,
    binary_numbers,
    fixed,
    fixed_array,
    integers,
    optional_integers,
    seconds,
    small_wei,
    timestamps,
    wei,
    words,
    words_of_numbers,
)

MOST = 10**38 - 1
datas = st.lists(st.none() | st.binary(max_size=40))
numbers = st.lists(
    st.none()
    | st.integers(0, 2**256 - 1)
    | st.integers(0, 2**64 + 9)
    | st.sampled_from([0, 2**63 - 1, 2**63, 2**64 - 1, 2**64, MOST, MOST + 1, 2**127, 2**128])
)


def hexed(values: list[Any]) -> list[str | None]:
    return [
        None if value is None else hex(value) if isinstance(value, int) else f"0x{value.hex()}"
        for value in values
    ]


def big_endian(value: int, size: int = 1) -> bytes:
    return value.to_bytes(max(size, (value.bit_length() + 7) // 8), "big")


def read(column: pa.Array) -> list[Any]:
    column.validate(full=True)
    values: list[Any] = column.to_pylist()
    return values


@given(datas)
def test_data_of_any_size_is_its_bytes(values: list[bytes | None]) -> None:
    assert read(binary(hexed(values))) == values


@given(st.lists(st.none() | st.binary(min_size=20, max_size=20)))
def test_data_of_one_size_is_its_bytes(values: list[bytes | None]) -> None:
    column = fixed(hexed(values), 20)
    assert read(column) == values
    assert column.type == pa.binary(20)


@given(numbers)
def test_amounts_keep_every_digit(values: list[int | None]) -> None:
    decimals, beyond = wei(hexed(values))
    assert decimals.type == WEI
    fits = [value is None or value <= MOST for value in values]
    assert read(decimals) == [
        Decimal(value) if value is not None and fit else None
        for value, fit in zip(values, fits, strict=True)
    ]
    assert read(beyond) == [
        None if fit or value is None else big_endian(value)
        for value, fit in zip(values, fits, strict=True)
    ]


@given(st.lists(st.none() | st.integers(0, 2**256 - 1)))
def test_words_and_bytes_of_numbers_are_big_endian(values: list[int | None]) -> None:
    padded = [None if value is None else big_endian(value, 32) for value in values]
    assert read(words_of_numbers(hexed(values))) == padded
    assert read(binary_numbers(hexed(values))) == [
        None if value is None else big_endian(value) for value in values
    ]


@given(st.lists(st.integers(0, 2**63 - 1)))
def test_integers_are_exact(values: list[int]) -> None:
    assert integers(hexed(values)).tolist() == values  # type: ignore[arg-type]
    assert read(optional_integers(hexed([*values, None]), pa.int64())) == [*values, None]
    assert read(optional_integers(hexed([*values, 2**64 - 1]), pa.uint64())) == [
        *values,
        2**64 - 1,
    ]


def test_case_does_not_matter_and_zeros_in_front_neither() -> None:
    assert read(binary(["0xAb", "0x"])) == [b"\xab", b""]
    assert read(wei(["0x000" + "f" * 31])[0]) == [Decimal(int("f" * 31, 16))]
    assert read(words_of_numbers(["0x01"])) == [big_endian(1, 32)]


@pytest.mark.parametrize(
    ("make", "value"),
    [
        (binary, "0xabc"),
        (binary, "abcd"),
        (binary, "0xzz"),
        (binary, "0x0x"),
        (binary, "0x ab cd"),
        (binary, ""),
        (lambda values: fixed(values, 2), "0xabcdef"),
        (lambda values: fixed(values, 2), "0xab"),
        (lambda values: fixed(values, 2), "ababab"),
        (lambda values: fixed(values, 2), "0xab d"),
        (lambda values: fixed(values, 2), ""),
        (lambda values: words(values, 2), "0xgggg"),
        (lambda values: words(values, 2), "0x0xab"),
        (lambda values: words(values, 3), "0xab0xcd"),
        (binary, "0xab0xcd"),
        (binary, "ab0x"),
        (binary, "0"),
        (binary, "0x\u00e9\u00e9"),
        (words_of_numbers, "0x1" + "0" * 64),
        (words_of_numbers, "12x"),
        (words_of_numbers, "0x"),
        (integers, "0x8000000000000000"),
        (integers, "-0x1"),
        (integers, "0x"),
        (seconds, hex(2**63 // 10**6 + 1)),
        (integers, "1234"),
        (wei, "1e18"),
        (binary_numbers, "12"),
        (words_of_numbers, "12"),
        (lambda values: optional_integers(values, pa.uint64()), "12"),
        (lambda values: optional_integers([*values, None], pa.int64()), "0x8000000000000000"),
        (lambda values: optional_integers(values, pa.uint64()), "0x10000000000000000"),
        (lambda values: optional_integers(values, pa.int64()), ""),
        (wei, "-0x1"),
        (wei, "0x"),
        (wei, ""),
        (wei, "1.5"),
        (small_wei, hex(10**38)),
        (binary_numbers, "-0x1"),
        (binary_numbers, ""),
    ],
)
def test_value_that_does_not_fit_is_an_error(make: Callable[[Any], Any], value: str) -> None:
    with pytest.raises((ValueError, OverflowError)):
        make([value])


def test_columns_without_a_value_keep_their_type() -> None:
    assert binary([]).type == binary([None, None]).type == pa.binary()
    assert fixed([], 32).type == fixed([None], 32).type == pa.binary(32)
    assert read(fixed([None], 32)) == read(small_wei([None])) == [None]
    assert read(wei([])[0]) == []


def test_rows_become_a_column() -> None:
    assert read(fixed_array(np.arange(6, dtype=np.uint8).reshape(3, 2)[::-1])) == [
        b"\4\5",
        b"\2\3",
        b"\0\1",
    ]


def test_seconds_are_instants() -> None:
    (instant,) = read(timestamps(seconds([hex(1_735_599_611)])))
    assert instant.isoformat() == "2024-12-30T23:00:11"
