"""Keccak-256, and the root of the Merkle-Patricia trie that a header keeps of an ordered list.

Transactions, receipts and withdrawals of a block each hang in a trie whose keys are the RLP of
their position. Only the root is wanted, so no trie is kept: nodes are encoded on the way up.

Format: https://ethereum.org/developers/docs/data-structures-and-encoding/patricia-merkle-trie/
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import sha3  # type: ignore[import-untyped]

from crypto_assets.sources.rlp import encode_bytes, encode_int, encode_list

_HASH_SIZE = 32
_EMPTY = encode_bytes(b"")


def keccak256(data: bytes) -> bytes:
    """The hash of Ethereum, which is not the SHA3-256 of `hashlib`: it pads otherwise."""
    digest: bytes = sha3.keccak_256(data).digest()
    return digest


EMPTY_ROOT = keccak256(_EMPTY)
"""Root of an empty list."""


def ordered_root(values: Sequence[bytes]) -> bytes:
    """Root of the trie in which each value, itself already encoded, hangs at its position."""
    if not values:
        return EMPTY_ROOT
    keys = _keys(len(values))
    return keccak256(_node([(key, values[position]) for key, position in keys], 0))


@lru_cache(maxsize=1024)
def _keys(count: int) -> tuple[tuple[str, int], ...]:
    """Nibbles (as hex digits) of each position's key, in order of the keys."""
    return tuple(sorted((encode_int(position).hex(), position) for position in range(count)))


def _node(entries: list[tuple[str, bytes]], depth: int) -> bytes:
    """The encoded node over `entries`, sorted by key and equal in the first `depth` nibbles.

    A branch never holds a value of its own: RLP says its length first, so no key begins another.
    """
    first, value = entries[0]
    if len(entries) == 1:
        return encode_list((_path(first[depth:], is_leaf=True), encode_bytes(value)))
    last, _ = entries[-1]
    shared = next(at for at in range(depth, len(first)) if first[at] != last[at])
    if shared > depth:
        return encode_list((_path(first[depth:shared], is_leaf=False), _child(entries, shared)))
    children: dict[str, list[tuple[str, bytes]]] = {}
    for entry in entries:
        children.setdefault(entry[0][depth], []).append(entry)
    return encode_list(
        [
            _child(children[nibble], depth + 1) if nibble in children else _EMPTY
            for nibble in "0123456789abcdef"
        ]
        + [_EMPTY]
    )


def _child(entries: list[tuple[str, bytes]], depth: int) -> bytes:
    """How a parent refers to a node: by hash, or by the node itself if that is shorter."""
    node = _node(entries, depth)
    return node if len(node) < _HASH_SIZE else encode_bytes(keccak256(node))


@lru_cache(maxsize=1024)
def _path(nibbles: str, *, is_leaf: bool) -> bytes:
    """Hex-prefix encoding of a partial key: a flag nibble, padded to whole bytes."""
    flag = 2 * is_leaf + len(nibbles) % 2
    return encode_bytes(bytes.fromhex(f"{flag}{'' if len(nibbles) % 2 else '0'}{nibbles}"))
