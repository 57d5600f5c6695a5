"""The pools of the sandbox chain: where they are, what they trade, when, and at which price.

A pool trades in one block of every `period`, and after it has a price that follows the latent ones,
off by a part of its fee. Both are functions of the block's number, so that the state before any
block is known without those before it. Addresses follow from the factories by CREATE2, ids of V4
from their keys: https://eips.ethereum.org/EIPS/eip-1014, v4-core's PoolId.sol.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from crypto_assets.sandbox.chain_calls import (
    USDC,
    USDT,
    WETH,
    Timeline,
    Token,
    address,
    drawn,
    word,
)
from crypto_assets.sandbox.chain_tokens import (
    ABSURD,
    DAI,
    ETHER,
    HUGE,
    MKR,
    MUTE,
    NOBODY,
    SPARK,
    TITHE,
    WBTC,
)
from crypto_assets.sandbox.chain_v3 import sqrt_price_of
from crypto_assets.sandbox.world import reference_usd
from crypto_assets.sources.trie import keccak256

_MILLION = 10**6
_WIDEST_NOISE = 300
_SPACINGS = {100: 1, 500: 10, 3000: 60, 10_000: 200}  # of ticks, by fee


class Factory(NamedTuple):
    """What pools are made by; `code` is the hash of their init code."""

    address: bytes
    code: bytes = b""


UNISWAP_V2 = Factory(
    bytes.fromhex("5c69bee701ef814a2b6a3edd4b1652cb9cc5aa6f"),
    bytes.fromhex("96e8ac4277198ff8b6f785478aa9a39f403cb768dd02cbee326c3e7da348845f"),
)
SUSHISWAP_V2 = Factory(
    bytes.fromhex("c0aee478e3658e2610c5f7a4a2e1777ce9e4f2ac"),
    bytes.fromhex("e18a34eb0e04b04f7a0ac29a6e80748dca96319b42c54d679cb821dca90c6303"),
)
UNISWAP_V3 = Factory(
    bytes.fromhex("1f98431c8ad98523631ae4a59f267346ea31f984"),
    bytes.fromhex("e34f199b19b2b4f47f68442619d555527d244f78a3297ea89325f843f87b8b54"),
)
POOL_MANAGER = Factory(bytes.fromhex("000000000004444c5dc75cb358380d2e3de08a90"))
POSITION_MANAGER = bytes.fromhex("bd216513d74c8cf14cf4747e6aaa6420ff64ee9e")
UNLISTED_FACTORY = Factory(address("unlisted factory"))


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """A pool: equal to itself alone. Of V4 `address` is its id and `spacing` counts.

    `depth` is what each side is worth in USD at the reference prices, as if liquidity were spread
    over all prices; `since` the block of its creation, 0 if that is before the first.
    """

    address: bytes
    factory: Factory
    token0: Token
    token1: Token
    fee: int
    period: int
    depth: int
    since: int = 0
    spacing: int = 0
    hooks: bytes = NOBODY

    def block_of(self, turn: int) -> int:
        """The block of a trade; before the pool's first trade that of its creation."""
        return max(self.since, _block_of(self.address, self.period, turn))

    def last_turn(self, number: int) -> int:
        """The newest trade in or before a block."""
        window = number // self.period
        return window if self.block_of(window) <= number else window - 1

    @property
    def liquidity(self) -> int:
        """The square root of the product of both reserves."""
        return _liquidity(self)

    def sqrt_price(self, turn: int, timeline: Timeline) -> int:
        """The price after a trade."""
        return _sqrt_price(self, self.block_of(turn), timeline)


@lru_cache(maxsize=64)
def _liquidity(pool: Pool) -> int:
    reserve0, reserve1 = (
        int(pool.depth * 10**one.decimals / reference_usd(one.asset))
        for one in (pool.token0, pool.token1)
    )
    return math.isqrt(reserve0 * reserve1)


@lru_cache(maxsize=16384)
def _block_of(pool: bytes, period: int, turn: int) -> int:
    return turn * period + drawn("turn", pool.hex(), turn) % period


@lru_cache(maxsize=4096)
def _sqrt_price(pool: Pool, number: int, timeline: Timeline) -> int:
    width = min(pool.fee // 3, _WIDEST_NOISE)
    noise = drawn("noise", pool.address.hex(), number) % (2 * width + 1) - width
    worth0, worth1 = (
        timeline.usd(one.asset, number) * 10 ** (36 - one.decimals)
        for one in (pool.token0, pool.token1)
    )
    return sqrt_price_of(worth0 * (_MILLION + noise), worth1 * _MILLION)


def create2(factory: Factory, salt: bytes) -> bytes:
    """Where a factory's contract is."""
    return keccak256(b"\xff" + factory.address + keccak256(salt) + factory.code)[12:]


def _pair(a: Token, b: Token, *, factory: Factory = UNISWAP_V2, **of: int) -> Pool:
    token0, token1 = sorted((a, b))
    where = create2(factory, token0.address + token1.address)
    return Pool(where, factory, token0, token1, 3000, hooks=NOBODY, **of)


def _pool(a: Token, b: Token, fee: int, **of: int) -> Pool:
    token0, token1 = sorted((a, b))
    where = create2(UNISWAP_V3, word(token0.address) + word(token1.address) + word(fee))
    spacing = _SPACINGS[fee]
    return Pool(where, UNISWAP_V3, token0, token1, fee, spacing=spacing, hooks=NOBODY, **of)


def _v4(a: Token, b: Token, fee: int, *, hooks: bytes = NOBODY, **of: int) -> Pool:
    token0, token1 = sorted((a, b))
    key = (token0.address, token1.address, fee, _SPACINGS[fee], hooks)
    pool_id = keccak256(b"".join([word(part) for part in key]))
    return Pool(
        pool_id, POOL_MANAGER, token0, token1, fee, spacing=_SPACINGS[fee], hooks=hooks, **of
    )


USDC_WETH_V2 = _pair(USDC, WETH, period=4, depth=30_000_000)
WETH_USDT_V2 = _pair(WETH, USDT, period=5, depth=25_000_000)
USDC_WETH_SUSHI = _pair(USDC, WETH, period=8, depth=8_000_000, factory=SUSHISWAP_V2)
# MKR answers a symbol of type bytes32, MUTE no decimals, ABSURD 255; TITHE takes a part of every
# transfer.
MKR_WETH_V2 = _pair(MKR, WETH, period=30, depth=2_000_000)
MUTE_WETH_V2 = _pair(MUTE, WETH, period=30, depth=1_000_000)
ABSURD_WETH_V2 = _pair(ABSURD, WETH, period=40, depth=1_000_000)
TITHE_WETH_V2 = _pair(TITHE, WETH, period=25, depth=1_000_000)
SPARK_WETH_V2 = _pair(SPARK, WETH, period=5, depth=3_000_000, since=21_517_091)
UNLISTED = Pool(address("unlisted pair"), UNLISTED_FACTORY, USDC, WETH, 3000, 30, 500_000)

USDC_WETH_V3 = _pool(USDC, WETH, 500, period=3, depth=150_000_000)
WETH_USDT_V3 = _pool(WETH, USDT, 500, period=4, depth=100_000_000)
WBTC_WETH_V3 = _pool(WBTC, WETH, 3000, period=5, depth=80_000_000)
USDC_USDT_V3 = _pool(USDC, USDT, 100, period=6, depth=2_000_000_000)
DAI_USDC_V3 = _pool(DAI, USDC, 100, period=8, depth=1_500_000_000)
# Its amounts are beyond 38 digits, and some beyond 128 bits.
HUGE_WETH_V3 = _pool(HUGE, WETH, 10_000, period=25, depth=1_000_000)
SPARK_USDC_V3 = _pool(SPARK, USDC, 3000, period=5, depth=6_000_000, since=21_517_119)

ETH_USDC_V4 = _v4(ETHER, USDC, 500, period=5, depth=60_000_000, since=21_516_012)
HOOKED_V4 = _v4(USDC, USDT, 100, period=25, depth=0, since=21_516_017, hooks=address("hook"))
# Made before the first block: of the first the position manager knows the key, of the second not.
ETH_USDT_V4 = _v4(ETHER, USDT, 3000, period=10, depth=20_000_000)
NAMELESS_V4 = _v4(USDC, WETH, 3000, period=50, depth=5_000_000)

# They claim the factories of others: their addresses do not follow from them.
IMITATION_V2 = Pool(address("imitation pair"), UNISWAP_V2, USDC, WETH, 3000, 20, 0)
IMITATION_V3 = Pool(address("imitation pool"), UNISWAP_V3, USDC, WETH, 500, 40, 0, spacing=10)

PAIRS = (
    USDC_WETH_V2, WETH_USDT_V2, USDC_WETH_SUSHI, MKR_WETH_V2, MUTE_WETH_V2, ABSURD_WETH_V2,
    TITHE_WETH_V2, SPARK_WETH_V2, UNLISTED,
)  # fmt: skip
V3_POOLS = (
    USDC_WETH_V3, WETH_USDT_V3, WBTC_WETH_V3, USDC_USDT_V3, DAI_USDC_V3, HUGE_WETH_V3,
    SPARK_USDC_V3,
)  # fmt: skip
V4_POOLS = (ETH_USDC_V4, ETH_USDT_V4, HOOKED_V4, NAMELESS_V4)
IMITATIONS = (IMITATION_V2, IMITATION_V3)

_TRADED = (*PAIRS, *V3_POOLS, *(one for one in V4_POOLS if one is not HOOKED_V4))
_SPAN = 64


def turns(number: int) -> tuple[tuple[Pool, int], ...]:
    """Which pools trade in a block, and which trade of theirs that is.

    The pool of a hook and imitations are not among them: they have no price to follow.
    """
    return _turns(number // _SPAN).get(number, ())


@lru_cache(maxsize=64)
def _turns(span: int) -> dict[int, tuple[tuple[Pool, int], ...]]:
    first, end = span * _SPAN, (span + 1) * _SPAN
    found: dict[int, tuple[tuple[Pool, int], ...]] = {}
    for pool in _TRADED:
        for turn in range(first // pool.period, end // pool.period + 1):
            number = pool.block_of(turn)
            if first <= number < end and number > pool.since:
                found[number] = (*found.get(number, ()), (pool, turn))
    return found
