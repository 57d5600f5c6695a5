"""Our RLP encoder against the library `rlp`."""

from __future__ import annotations

import pytest
import rlp as library
from hypothesis import example, given
from hypothesis import strategies as st

from crypto_assets.sources import rlp

VALUES = st.recursive(
    st.binary(max_size=80) | st.integers(0, 2**256), lambda inner: st.lists(inner, max_size=8)
)


@given(VALUES)
@example([[], [[]], [[], [[]]]])
@example([b"a" * 53, b"b"])
def test_nested_values_encode_as_in_the_library(value: rlp.Value) -> None:
    assert rlp.encode(value) == library.encode(value)


@pytest.mark.parametrize("size", [0, 1, 55, 56, 255, 256, 65_535, 65_536, 2**24])
def test_bytes_and_lists_of_every_length_of_length(size: int) -> None:
    data = bytes(size)
    assert rlp.encode_bytes(data) == library.encode(data)
    assert rlp.encode_list([rlp.encode_bytes(data)]) == library.encode([data])


@given(st.integers(0, 2**2000))
@example(0)
@example(127)
@example(128)
@example(2**440 - 1)
@example(2**440)
def test_integers_of_any_size(number: int) -> None:
    assert rlp.encode_int(number) == library.encode(number)


def test_negative_integers_have_no_encoding() -> None:
    with pytest.raises(OverflowError):
        rlp.encode_int(-1)
