"""Which contract or id a pool must have, by how its factory makes it. Pure.

A pool's own word on who made it proves nothing; that its address follows from the factory, its
tokens and its code does.

Formulas: EIP-1014 (CREATE2), UniswapV2Factory, UniswapV3PoolDeployer, and PoolIdLibrary of V4.
"""

from __future__ import annotations

from crypto_assets.catalog import Factory
from crypto_assets.sources.trie import keccak256

_WORD = 32


def create2_pool(
    deployment: Factory, token0: bytes, token1: bytes, fee: int | None = None
) -> bytes:
    """The address of a factory's pool of two tokens; of V3, whose pools differ by `fee`, of one.

    The tokens in the order of the pool, 20 bytes each; the fee in millionths.
    """
    if deployment.like == "uniswap_v2":
        packed = token0 + token1
    elif fee is None:
        raise ValueError("a pool of V3 has a fee")
    else:
        packed = b"".join((word(token0), word(token1), fee.to_bytes(_WORD, "big")))
    deployer = bytes.fromhex((deployment.deployer or deployment.factory)[2:])
    code = bytes.fromhex(deployment.init_code_hash[2:])
    return keccak256(b"\xff" + deployer + keccak256(packed) + code)[12:]


def pool_id(currency0: bytes, currency1: bytes, fee: int, tick_spacing: int, hooks: bytes) -> bytes:
    """The id, 32 bytes, of the V4 pool of a key; `tick_spacing` may be negative."""
    return keccak256(
        b"".join(
            (
                word(currency0),
                word(currency1),
                fee.to_bytes(_WORD, "big"),
                tick_spacing.to_bytes(_WORD, "big", signed=True),
                word(hooks),
            )
        )
    )


def word(address: bytes) -> bytes:
    """An address as the ABI encodes it."""
    return address.rjust(_WORD, b"\0")


def address_in(encoded: bytes | None, place: int = 0) -> bytes | None:
    """The address in one word of what a call returned; None if there is none."""
    content = _word_of(encoded, place)
    return content[12:] if content is not None and not any(content[:12]) else None


def number_in(
    encoded: bytes | None, place: int = 0, *, bits: int, signed: bool = False
) -> int | None:
    """The integer of so many bits in one word of what a call returned; None if there is none."""
    content = _word_of(encoded, place)
    if content is None:
        return None
    number = int.from_bytes(content, "big", signed=signed)
    is_of_size = -(1 << bits - 1) <= number < 1 << bits - 1 if signed else number < 1 << bits
    return number if is_of_size else None


def _word_of(encoded: bytes | None, place: int) -> bytes | None:
    content = (encoded or b"")[place * _WORD : (place + 1) * _WORD]
    return content if len(content) == _WORD else None
