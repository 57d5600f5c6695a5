"""What a decoder of swaps must not stumble over, each in one of 20 to 60 blocks.

Several swaps in one transaction, flash loans, swaps that a hook does alone, pools that claim to be
those of others, amounts beyond 128 bits. What leaves a pool at another price brings it back within
the block, so that `chain_pools` knows the price before every block nevertheless.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from crypto_assets.sandbox.chain_calls import (
    USDC,
    USDT,
    WETH,
    Call,
    Log,
    Moment,
    account,
    amount_of,
    drawn,
    event,
    transfer,
    word,
)
from crypto_assets.sandbox.chain_dex import (
    ROUTER_V2,
    ROUTER_V3,
    ROUTER_V4,
    dex_call,
    v2_swap,
    v3_call,
    v3_swap,
    v4_log,
)
from crypto_assets.sandbox.chain_pairs import Trade
from crypto_assets.sandbox.chain_pools import (
    HOOKED_V4,
    IMITATION_V2,
    IMITATION_V3,
    USDC_WETH_V3,
    WETH_USDT_V3,
    turns,
)
from crypto_assets.sandbox.chain_tokens import HUGE
from crypto_assets.sandbox.chain_v3 import Move, getting_token1, paying_token0, tick_at, to_price

_ROUTE_CENTS = 500_000
_MOST_LENT_CENTS = 10**9
_EVEN = 2**96  # the square root of one token1 for one token0


def is_due(what: str, period: int, number: int) -> bool:
    """Whether a block is the one of its `period` blocks that has it."""
    return bool(number % period == drawn("due", what, number // period) % period)


def oddities(moment: Moment) -> Iterator[Call]:
    """Whatever is due in a block."""
    for what, period, calls in _ODDITIES:
        if is_due(what, period, moment.number):
            yield from calls(moment)


def _route(moment: Moment) -> Iterator[Call]:
    """USDC to WETH to USDT in one transaction, and an arbitrage of both pools in the next.

    Only in a block in which both pools trade anyway: else their prices may be minutes old.
    """
    if not {USDC_WETH_V3, WETH_USDT_V3} <= {pool for pool, _ in turns(moment.number)}:
        return
    trader, rival = account(moment.dice), account(moment.dice)
    weth = amount_of(WETH, _ROUTE_CENTS // 2 + moment.dice.below(_ROUTE_CENTS), moment)
    pools = USDC_WETH_V3, WETH_USDT_V3
    prices = [pool.sqrt_price(pool.last_turn(moment.number), moment.timeline) for pool in pools]
    moves = [
        swap(price, weth, pool.liquidity, pool.fee)
        for swap, price, pool in zip((getting_token1, paying_token0), prices, pools, strict=True)
    ]
    backs = [
        to_price(move.sqrt_price, price, pool.liquidity, pool.fee)
        for move, price, pool in zip(moves, prices, pools, strict=True)
    ]
    for who, both in ((trader, moves), (rival, backs)):
        logs = [
            log for pool, move in zip(pools, both, strict=True) for log in v3_swap(pool, move, who)
        ]
        yield dex_call(who, ROUTER_V3, tuple(logs), moment)


def _flash(moment: Moment) -> Iterator[Call]:
    """A V3 pool lends WETH within a transaction."""
    pool, trader = USDC_WETH_V3, account(moment.dice)
    lent = amount_of(WETH, 10**6 + moment.dice.below(_MOST_LENT_CENTS), moment)
    paid = -(-lent * pool.fee // 10**6)
    signature = "Flash(address,address,uint256,uint256,uint256,uint256)"
    data = b"".join(map(word, (0, lent, 0, paid)))
    logs = (
        transfer(WETH, pool.address, trader, lent),
        transfer(WETH, trader, pool.address, lent + paid),
        Log(pool.address, (event(signature), word(trader), word(trader)), data),
    )
    yield v3_call(trader, pool, logs, moment)


def _hook_alone(moment: Moment) -> Iterator[Call]:
    """A hook does the whole swap: the pool manager's event has no amounts, and no price moves."""
    if moment.number <= HOOKED_V4.since:
        return
    trader, amount = account(moment.dice), 10**8 + moment.dice.below(10**11)
    price = HOOKED_V4.sqrt_price(HOOKED_V4.last_turn(HOOKED_V4.since), moment.timeline)
    logs = (
        v4_log(HOOKED_V4, (0, 0), (price, 0, tick_at(price))),
        transfer(USDC, trader, HOOKED_V4.hooks, amount),
        transfer(USDT, HOOKED_V4.hooks, trader, amount * 9999 // 10_000),
    )
    yield dex_call(trader, ROUTER_V4, logs, moment)


def _imitated_pair(moment: Moment) -> Iterator[Call]:
    """A pair of nobody says that a millionth of a dollar bought a thousand ether."""
    reserves = 10**6 + moment.dice.below(10**6), 10**24
    trade = Trade((1 + moment.dice.below(10), 0), (0, 10**21 + moment.dice.below(10**21)), reserves)
    trader = account(moment.dice)
    logs = v2_swap(IMITATION_V2, trade, trader)[-2:]  # it moves no tokens
    yield dex_call(trader, ROUTER_V2, logs, moment)


def _imitated_pool(moment: Moment) -> Iterator[Call]:
    """A V3 pool of nobody trades USDC for WETH, one smallest unit for one."""
    amount, trader = 10**18 + moment.dice.below(10**18), account(moment.dice)
    logs = v3_swap(IMITATION_V3, Move(amount, -amount, _EVEN), trader)[-1:]
    yield dex_call(trader, ROUTER_V3, logs, moment)


def _huge(moment: Moment) -> Iterator[Call]:
    """Transfers of a token at the border of 128 bits, beyond it, and of all 256 bits."""
    sender, receiver = account(moment.dice), account(moment.dice)
    beyond = 2**128 + moment.dice.below(2**128)
    amounts = (10**38 - 1, 10**38, 2**128 - 1, 2**128, beyond, 2**256 - 1)
    logs = tuple(transfer(HUGE, sender, receiver, amount) for amount in amounts)
    yield dex_call(sender, HUGE.address, logs, moment)


def _failure(moment: Moment) -> Iterator[Call]:
    """A swap that reverts, for the price was no longer to be had."""
    yield Call(account(moment.dice), ROUTER_V2, (), moment.dice.bytes(68), gas_used=48_312,
               has_failed=True)  # fmt: skip


_ODDITIES: tuple[tuple[str, int, Callable[[Moment], Iterator[Call]]], ...] = (
    ("route", 2, _route),
    ("flash", 40, _flash),
    ("hook alone", 25, _hook_alone),
    ("imitated pair", 20, _imitated_pair),
    ("imitated pool", 40, _imitated_pool),
    ("huge", 60, _huge),
    ("failure", 20, _failure),
)
