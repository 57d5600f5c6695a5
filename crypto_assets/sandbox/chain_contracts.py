"""What contracts of the sandbox chain answer to a call, as their ABI encodes it.

A pure function of address, call and block: `answers`. An address without code answers nothing, a
contract reverts at what it does not know. A contract that is made on the chain exists from its
block on.
"""

from __future__ import annotations

from crypto_assets.sandbox.chain_calls import WETH, address, selector, word
from crypto_assets.sandbox.chain_dex import ROUTER_V2, ROUTER_V3, ROUTER_V4
from crypto_assets.sandbox.chain_lending import AAVE_POOL, RESERVES
from crypto_assets.sandbox.chain_pools import (
    IMITATIONS,
    NAMELESS_V4,
    PAIRS,
    POOL_MANAGER,
    POSITION_MANAGER,
    SUSHISWAP_V2,
    UNISWAP_V2,
    UNISWAP_V3,
    UNLISTED_FACTORY,
    V3_POOLS,
    V4_POOLS,
    Pool,
)
from crypto_assets.sandbox.chain_tokens import METADATA, total_supply

_POOLS = {one.address: one for one in (*PAIRS, *V3_POOLS, *IMITATIONS)}
_KEYS = {one.address[:25]: one for one in V4_POOLS if one is not NAMELESS_V4}
_OTHERS = {
    ROUTER_V2, ROUTER_V3, ROUTER_V4, AAVE_POOL, POOL_MANAGER.address, UNLISTED_FACTORY.address,
    SUSHISWAP_V2.address, UNISWAP_V2.address, UNISWAP_V3.address,
    *(one.hooks for one in V4_POOLS if any(one.hooks)), *(one.receipt for one in RESERVES),
    *map(address, ("registry", "nft", "rollup", "oracle", "token maker")),
}  # fmt: skip
_TOKEN0, _TOKEN1, _FACTORY, _FEE, _SYMBOL, _DECIMALS, _TOTAL_SUPPLY, _POOL_KEYS = map(
    selector,
    (
        "token0()", "token1()", "factory()", "fee()", "symbol()", "decimals()", "totalSupply()",
        "poolKeys(bytes25)",
    ),
)  # fmt: skip


def answers(to: bytes, data: bytes, number: int) -> bytes | None:
    """What a call of a contract returns after a block; None if it reverts."""
    called, argument = data[:4], data[4:]
    if to in METADATA:
        return _of_token(to, called, number)
    if to in _POOLS:
        return _of_pool(_POOLS[to], called, number)
    if to == POSITION_MANAGER:
        known = called == _POOL_KEYS and len(argument) >= 32
        return _pool_key(argument[:25], number) if known else None
    return None if to in _OTHERS else b""


def _of_token(token: bytes, called: bytes, number: int) -> bytes | None:
    _, symbol, decimals, since = METADATA[token]
    if number < since:
        return b""
    if called == _TOTAL_SUPPLY:
        return word(total_supply(token, number))
    if called == _DECIMALS and decimals is not None:
        return word(decimals)
    if called == _SYMBOL:
        return _text(symbol) if isinstance(symbol, str) else symbol.ljust(32, b"\0")
    return b"" if token == WETH.address else None  # WETH takes any other call for a deposit


def _of_pool(pool: Pool, called: bytes, number: int) -> bytes | None:
    if number < pool.since:
        return b""
    found = {_TOKEN0: pool.token0.address, _TOKEN1: pool.token1.address}
    found[_FACTORY] = pool.factory.address
    if pool.spacing:
        return word(pool.fee) if called == _FEE else _word_or_none(found.get(called))
    if called == _SYMBOL:
        return _text("UNI-V2")
    return word(18) if called == _DECIMALS else _word_or_none(found.get(called))


def _pool_key(shortened: bytes, number: int) -> bytes:
    """The key of a pool that the position manager knows; of any other five words of nothing."""
    pool = _KEYS.get(shortened)
    if pool is None or number < pool.since:
        return bytes(5 * 32)
    key = (pool.token0.address, pool.token1.address, pool.fee, pool.spacing, pool.hooks)
    return b"".join([word(part) for part in key])


def _word_or_none(value: bytes | None) -> bytes | None:
    return None if value is None else word(value)


def _text(text: str) -> bytes:
    data = text.encode()
    padded = data.ljust(-(-len(data) // 32) * 32, b"\0")
    return word(32) + word(len(data)) + padded
