"""Our root of an ordered list against the tries of the library `trie`."""

from __future__ import annotations

import random

import pytest
import rlp
from eth_hash.auto import keccak
from hypothesis import given
from hypothesis import strategies as st
from trie import HexaryTrie

from crypto_assets.sources.trie import EMPTY_ROOT, keccak256, ordered_root


def root_of_library(values: list[bytes]) -> bytes:
    tree = HexaryTrie({})
    for position, value in enumerate(values):
        tree[rlp.encode(position)] = value
    return bytes(tree.root_hash)


@pytest.mark.parametrize(
    "count", [0, 1, 2, 15, 16, 17, 126, 127, 128, 129, 255, 256, 257, 300, 900]
)
@pytest.mark.parametrize("longest", [1, 40, 200])
def test_root_of_lists_of_many_lengths(count: int, longest: int) -> None:
    # Nodes shorter than 32 bytes stand in their parent instead of their hash.
    dice = random.Random(count)
    values = [dice.randbytes(dice.randint(1, longest)) for _ in range(count)]
    assert ordered_root(values) == root_of_library(values)


@given(st.lists(st.binary(min_size=1, max_size=60), max_size=140))
def test_root_of_any_list(values: list[bytes]) -> None:
    assert ordered_root(values) == root_of_library(values)


def test_position_counts() -> None:
    assert ordered_root([b"a" * 40, b"b" * 40]) != ordered_root([b"b" * 40, b"a" * 40])


def test_nothing_has_the_root_that_headers_have_for_it() -> None:
    # https://ethereum.github.io/yellowpaper/paper.pdf, as in every block without transactions.
    known = "56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"
    assert EMPTY_ROOT.hex() == known == ordered_root([]).hex()


@given(st.binary(max_size=500))
def test_keccak_is_that_of_ethereum(data: bytes) -> None:
    assert keccak256(data) == keccak(data)
