"""The arithmetic of a Uniswap V3 or V4 pool within one range of liquidity, in exact integers.

Prices are `sqrtPriceX96`: the square root of token1 per token0, both in smallest units, times 2^96.
Rounding is that of the contracts, always in favour of the pool:
https://github.com/Uniswap/v3-core/blob/main/contracts/libraries/SqrtPriceMath.sol
"""

from __future__ import annotations

import math
from decimal import Context, Decimal
from typing import NamedTuple

_Q96 = 2**96
_MILLION = 10**6
_LOG_BASE = math.log(1.0001)
_EXACT = Context(prec=60)


class Move(NamedTuple):
    """One swap: what flows into the pool (out of it if negative), and the price after it."""

    amount0: int
    amount1: int
    sqrt_price: int


def to_price(sqrt_price: int, target: int, liquidity: int, fee: int) -> Move:
    """The swap that moves the price to a target; the fee, in 1e-6, is on what flows in."""
    if target <= sqrt_price:
        paid = amount0_between(target, sqrt_price, liquidity, round_up=True)
        got = liquidity * (sqrt_price - target) // _Q96
        return Move(_with_fee(paid, fee), -got, target)
    paid = _ceil(liquidity * (target - sqrt_price), _Q96)
    got = amount0_between(sqrt_price, target, liquidity, round_up=False)
    return Move(-got, _with_fee(paid, fee), target)


def paying_token0(sqrt_price: int, amount: int, liquidity: int, fee: int) -> Move:
    """The swap of exactly so much token0 into the pool."""
    after_fee = amount * (_MILLION - fee) // _MILLION
    scaled = liquidity << 96
    target = _ceil(scaled * sqrt_price, scaled + after_fee * sqrt_price)
    return Move(amount, -(liquidity * (sqrt_price - target) // _Q96), target)


def getting_token1(sqrt_price: int, amount: int, liquidity: int, fee: int) -> Move:
    """The swap of as much token0 into the pool as buys exactly so much token1."""
    target = sqrt_price - _ceil(amount << 96, liquidity)
    paid = amount0_between(target, sqrt_price, liquidity, round_up=True)
    return Move(_with_fee(paid, fee), -amount, target)


def amount0_between(low: int, high: int, liquidity: int, *, round_up: bool) -> int:
    """How much token0 lies between two prices."""
    scaled = (liquidity << 96) * (high - low)
    if round_up:
        return _ceil(_ceil(scaled, high), low)
    return scaled // high // low


def sqrt_price_of(amount1: int, amount0: int) -> int:
    """The price of so much token1 for so much token0."""
    return math.isqrt((amount1 << 192) // amount0)


def tick_at(sqrt_price: int) -> int:
    """The greatest tick whose price, 1.0001^tick, is not above a price."""
    near = 2 * (math.log(sqrt_price) - 96 * math.log(2)) / _LOG_BASE
    tick = math.floor(near)
    if min(near - tick, tick + 1 - near) > 1e-6:  # its error is below 1e-8
        return tick
    border = round(near)
    ratio = _EXACT.divide(Decimal(sqrt_price), Decimal(_Q96))
    squared = _EXACT.multiply(ratio, ratio)
    return border if squared >= _EXACT.power(Decimal("1.0001"), border) else border - 1


def _with_fee(amount: int, fee: int) -> int:
    return amount + _ceil(amount * fee, _MILLION - fee)


def _ceil(number: int, divisor: int) -> int:
    return -(-number // divisor)
