"""What happens to a Uniswap V2 pair of the sandbox chain, in exact integers.

The trades of a pair come in rounds of `ROUND`. Before each its reserves are a function of the
price; within a round every trade follows from the one before by the contract's own rule
(https://github.com/Uniswap/v2-core, UniswapV2Pair.sol), and the last is followed by a burn and a
mint that lead to the reserves before the next round.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

from crypto_assets.sandbox.chain_calls import Timeline, drawn
from crypto_assets.sandbox.chain_pools import TITHE_WETH_V2, USDC_WETH_V2, Pool
from crypto_assets.sandbox.chain_tokens import TITHE

ROUND = 8
TITHE_PARTS = 100  # one of so many is taken of every transfer of TITHE
_FLASH, _TWO_SIDED = 3, 6  # which trades of a round of USDC/WETH are out of the ordinary

Pairwise = tuple[int, int]


class Trade(NamedTuple):
    """One swap: what went into the pair and out of it of each token, and the reserves after it."""

    paid: Pairwise
    got: Pairwise
    reserves: Pairwise


class Turn(NamedTuple):
    """What happens in one block of a pair: swaps, then perhaps a burn and a mint, each with the
    amounts of both tokens and the reserves after it."""

    trades: tuple[Trade, ...]
    burned: tuple[Pairwise, Pairwise] | None = None
    minted: tuple[Pairwise, Pairwise] | None = None


def turn_of(pool: Pool, turn: int, timeline: Timeline) -> Turn:
    """One turn of a pair."""
    return _round(pool, turn // ROUND, timeline)[turn]


def opening_reserves(pool: Pool, turn: int, timeline: Timeline) -> Pairwise:
    """The reserves with which a round begins after a turn, or a pair when it is made."""
    sqrt_price = pool.sqrt_price(turn, timeline)
    parts = 1000 + drawn("liquidity", pool.address.hex(), turn) % 20
    liquidity = pool.liquidity * parts // 1000
    return (liquidity << 96) // sqrt_price, liquidity * sqrt_price >> 96


@lru_cache(maxsize=256)
def _round(pool: Pool, number: int, timeline: Timeline) -> dict[int, Turn]:
    first, last = ROUND * number, ROUND * number + ROUND - 1
    turns: dict[int, Turn] = {}
    reserves: Pairwise | None = None
    for turn in range(first, last + 1):
        if pool.block_of(turn) <= pool.since:
            continue
        if reserves is None:
            reserves = opening_reserves(pool, turn - 1, timeline)
        trades = _trades(pool, turn, reserves, timeline)
        reserves = trades[-1].reserves
        turns[turn] = Turn(trades)
    if reserves is not None:
        turns[last] = _renewed(turns[last], opening_reserves(pool, last, timeline))
    return turns


def _trades(pool: Pool, turn: int, reserves: Pairwise, timeline: Timeline) -> tuple[Trade, ...]:
    price = pool.sqrt_price(turn, timeline)
    kind = turn % ROUND if pool is USDC_WETH_V2 else None
    if kind == _FLASH:
        lent = reserves[1] // 50
        flash = _after(reserves, (0, _repaid(lent)), (0, lent))
        return flash, _to_price(flash.reserves, price)
    trade = _to_price(reserves, price)
    if kind == _TWO_SIDED:
        lent0, lent1 = (reserve // 1000 for reserve in reserves)
        paid = trade.paid[0] + _repaid(lent0), trade.paid[1] + _repaid(lent1)
        trade = _after(reserves, paid, (trade.got[0] + lent0, trade.got[1] + lent1))
    if pool is TITHE_WETH_V2:  # what the token takes of a transfer out flows back into the pair
        back = [
            amount // TITHE_PARTS if token is TITHE else 0
            for token, amount in zip((pool.token0, pool.token1), trade.got, strict=True)
        ]
        paid = trade.paid[0] + back[0], trade.paid[1] + back[1]
        trade = _after(reserves, paid, trade.got)
    return (trade,)


def _to_price(reserves: Pairwise, sqrt_price: int) -> Trade:
    """The swap after which the reserves are as the price has it, but for the fee left in them."""
    reserve0, reserve1 = reserves
    root = math.isqrt(reserve0 * reserve1)
    more0 = (root << 96) // sqrt_price - reserve0
    if more0 > 0:
        return _after(reserves, (more0, 0), (0, _got(more0, reserve0, reserve1)))
    more1 = max((root * sqrt_price >> 96) - reserve1, reserve1 // 10**7)
    return _after(reserves, (0, more1), (_got(more1, reserve1, reserve0), 0))


def _after(reserves: Pairwise, paid: Pairwise, got: Pairwise) -> Trade:
    left = reserves[0] + paid[0] - got[0], reserves[1] + paid[1] - got[1]
    return Trade(paid, got, left)


def _got(paid: int, reserve_in: int, reserve_out: int) -> int:
    """The most that the contract lets out for what was paid in."""
    return paid * 997 * reserve_out // (reserve_in * 1000 + paid * 997)


def _repaid(lent: int) -> int:
    """What must come back of what was lent."""
    return lent * 1000 // 997 + 1


def _renewed(turn: Turn, wanted: Pairwise) -> Turn:
    """The turn with a burn of a tenth and a mint after it that leads to these reserves."""
    reserves = turn.trades[-1].reserves
    burned = reserves[0] // 10, reserves[1] // 10
    left = reserves[0] - burned[0], reserves[1] - burned[1]
    minted = wanted[0] - left[0], wanted[1] - left[1]
    return Turn(turn.trades, (burned, left), (minted, wanted))
