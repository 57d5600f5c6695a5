"""What decentralized exchanges emit on the sandbox chain: swaps of Uniswap V2, V3 and V4.

`swaps` gives the trade of every pool that has its turn; `creations` the pools that are made after
the first block. The state before a trade is derived in `chain_pools` and `chain_pairs`; here it
becomes logs, in the order and encoding of the contracts. What is out of the ordinary is in
`chain_oddities`.
"""

from __future__ import annotations

from collections.abc import Iterator

from crypto_assets.sandbox.chain_calls import (
    Call,
    Log,
    Moment,
    Token,
    account,
    address,
    event,
    selector,
    transfer,
    word,
)
from crypto_assets.sandbox.chain_pairs import (
    TITHE_PARTS,
    Pairwise,
    Trade,
    opening_reserves,
    turn_of,
)
from crypto_assets.sandbox.chain_pools import (
    PAIRS,
    POOL_MANAGER,
    SPARK_USDC_V3,
    SPARK_WETH_V2,
    UNISWAP_V2,
    UNISWAP_V3,
    V4_POOLS,
    Pool,
    turns,
)
from crypto_assets.sandbox.chain_tokens import ETHER, NOBODY, SPARK, SPARK_SINCE, TITHE
from crypto_assets.sandbox.chain_v3 import Move, amount0_between, tick_at, to_price

ROUTER_V2 = bytes.fromhex("7a250d5630b4cf539739df2c5dacb4c659f2488d")
ROUTER_V3 = bytes.fromhex("e592427a0aece92de3edee1f18e0157c05861564")
ROUTER_V4 = bytes.fromhex("66a9893cc07d91d95644aedd05d03f95e1dba8af")
_SWAP_GAS = 110_000
_LOWEST_TICK = -887_220  # the widest range of a pool whose ticks are 60 apart
_CREATED = {SPARK_SINCE, *(one.since for one in (SPARK_WETH_V2, SPARK_USDC_V3, *V4_POOLS))}


def swaps(moment: Moment) -> Iterator[Call]:
    """The trade of every pool whose turn it is, each in a transaction of its own."""
    timeline = moment.timeline
    for pool, turn in turns(moment.number):
        if pool in PAIRS:
            yield from _pair_calls(pool, turn, moment)
        else:
            before, after = (pool.sqrt_price(at, timeline) for at in (turn - 1, turn))
            move = to_price(before, after, pool.liquidity, pool.fee)
            trader = account(moment.dice)
            yield v3_call(trader, pool, v3_swap(pool, move, trader), moment, move)


def creations(moment: Moment) -> Iterator[Call]:
    """A token, a V2 pair and a V3 pool of it, and the first price of V4 pools."""
    if moment.number not in _CREATED:
        return
    trader = account(moment.dice)
    if moment.number == SPARK_SINCE:
        supply = transfer(SPARK, NOBODY, trader, 10**6 * 10**SPARK.decimals)
        yield dex_call(trader, address("token maker"), (supply,), moment)
    if moment.number == SPARK_WETH_V2.since:
        yield dex_call(trader, ROUTER_V2, _made_pair(SPARK_WETH_V2, trader, moment), moment)
    if moment.number == SPARK_USDC_V3.since:
        yield dex_call(trader, ROUTER_V3, _made_v3_pool(SPARK_USDC_V3, trader, moment), moment)
    for pool in V4_POOLS:
        if pool.since == moment.number:
            signature = "Initialize(bytes32,address,address,uint24,int24,address,uint160,int24)"
            currencies = word(pool.token0.address), word(pool.token1.address)
            price = _first_price(pool, moment)
            words = (pool.fee, pool.spacing, pool.hooks, price, tick_at(price))
            topics = (event(signature), pool.address, *currencies)
            log = Log(POOL_MANAGER.address, topics, b"".join([word(one) for one in words]))
            yield dex_call(trader, POOL_MANAGER.address, (log,), moment)


# --- Uniswap V2 ----------------------------------------------------------------------------------


def v2_swap(pool: Pool, trade: Trade, trader: bytes) -> tuple[Log, ...]:
    """The logs of a swap of a pair: what is paid and got, the reserves after it, the swap."""
    paid, got = trade.paid, trade.got
    legs = tuple(zip((pool.token0, pool.token1), paid, got, strict=True))
    logs: list[Log] = []
    is_lent = any(one and other for one, other in zip(paid, got, strict=True))
    taken = [log for token, _, out in legs for log in _pulled(token, pool.address, trader, out)]
    brought = [log for token, into, out in legs for log in _pushed(token, trader, pool, into, out)]
    logs = [*taken, *brought] if is_lent else [*brought, *taken]
    signature = "Swap(address,uint256,uint256,uint256,uint256,address)"
    topics = (event(signature), word(ROUTER_V2), word(trader))
    data = b"".join(map(word, (*paid, *got)))
    return (*logs, _sync(pool, trade.reserves), Log(pool.address, topics, data))


def _pulled(token: Token, pool: bytes, trader: bytes, amount: int) -> Iterator[Log]:
    """A pair's transfer to a trader; of TITHE a part goes to the token and from there back."""
    if not amount:
        return
    tithe = amount // TITHE_PARTS if token is TITHE else 0
    yield transfer(token, pool, trader, amount - tithe)
    if tithe:
        yield transfer(token, pool, token.address, tithe)
        yield transfer(token, token.address, pool, tithe)


def _pushed(token: Token, trader: bytes, pool: Pool, amount: int, got: int) -> Iterator[Log]:
    """A trader's transfer to a pair, of which TITHE takes a part."""
    if not amount or (token is TITHE and got):
        return
    if token is TITHE:
        yield transfer(token, trader, token.address, amount // (TITHE_PARTS - 1))
    yield transfer(token, trader, pool.address, amount)


def _sync(pool: Pool, reserves: Pairwise) -> Log:
    data = word(reserves[0]) + word(reserves[1])
    return Log(pool.address, (event("Sync(uint112,uint112)"),), data)


def _pair_calls(pool: Pool, turn: int, moment: Moment) -> Iterator[Call]:
    done = turn_of(pool, turn, moment.timeline)
    for trade in done.trades:
        trader = account(moment.dice)
        yield dex_call(trader, ROUTER_V2, v2_swap(pool, trade, trader), moment)
    if done.burned:
        owner = account(moment.dice)
        yield dex_call(owner, ROUTER_V2, _burned(pool, *done.burned, owner), moment)
    if done.minted:
        owner = account(moment.dice)
        yield dex_call(owner, ROUTER_V2, _minted(pool, *done.minted, owner), moment)


def _minted(pool: Pool, amounts: Pairwise, left: Pairwise, owner: bytes) -> tuple[Log, ...]:
    share = Token(pool.address, "", 18)
    topics = (event("Mint(address,uint256,uint256)"), word(ROUTER_V2))
    return (
        transfer(pool.token0, owner, pool.address, amounts[0]),
        transfer(pool.token1, owner, pool.address, amounts[1]),
        transfer(share, NOBODY, owner, pool.liquidity // 10),
        _sync(pool, left),
        Log(pool.address, topics, word(amounts[0]) + word(amounts[1])),
    )


def _burned(pool: Pool, amounts: Pairwise, left: Pairwise, owner: bytes) -> tuple[Log, ...]:
    share = Token(pool.address, "", 18)
    signature = "Burn(address,uint256,uint256,address)"
    topics = (event(signature), word(ROUTER_V2), word(owner))
    return (
        transfer(share, owner, pool.address, pool.liquidity // 10),
        transfer(share, pool.address, NOBODY, pool.liquidity // 10),
        transfer(pool.token0, pool.address, owner, amounts[0]),
        transfer(pool.token1, pool.address, owner, amounts[1]),
        _sync(pool, left),
        Log(pool.address, topics, word(amounts[0]) + word(amounts[1])),
    )


def _made_pair(pool: Pool, owner: bytes, moment: Moment) -> tuple[Log, ...]:
    reserves = opening_reserves(pool, pool.last_turn(pool.since), moment.timeline)
    signature = "PairCreated(address,address,address,uint256)"
    topics = (event(signature), word(pool.token0.address), word(pool.token1.address))
    created = Log(UNISWAP_V2.address, topics, word(pool.address) + word(394_117))
    return (created, *_minted(pool, reserves, reserves, owner))


# --- Uniswap V3 and V4 ---------------------------------------------------------------------------


def v3_swap(pool: Pool, move: Move, trader: bytes) -> tuple[Log, ...]:
    """The logs of a swap of a V3 pool, or of a V4 pool: those of the legs, and the swap."""
    is_v4 = pool in V4_POOLS
    holder = POOL_MANAGER.address if is_v4 else pool.address
    legs = ((pool.token0, move.amount0), (pool.token1, move.amount1))
    taken = tuple(
        transfer(token, holder, trader, -amount)
        for token, amount in legs
        if amount < 0 and token is not ETHER
    )
    brought = tuple(
        transfer(token, trader, holder, amount)
        for token, amount in legs
        if amount > 0 and token is not ETHER
    )
    state = (move.sqrt_price, pool.liquidity, tick_at(move.sqrt_price))
    if is_v4:
        # The amounts are those of the swapper: negative is what he pays.
        return (v4_log(pool, (-move.amount0, -move.amount1), state), *brought, *taken)
    signature = "Swap(address,address,int256,int256,uint160,uint128,int24)"
    topics = (event(signature), word(ROUTER_V3), word(trader))
    data = b"".join(map(word, (move.amount0, move.amount1, *state)))
    return (*taken, *brought, Log(pool.address, topics, data))


def v4_log(pool: Pool, amounts: Pairwise, state: tuple[int, int, int]) -> Log:
    """Swap of a V4 pool; `state` is its price, liquidity and tick after it."""
    signature = "Swap(bytes32,address,int128,int128,uint160,uint128,int24,uint24)"
    topics = (event(signature), pool.address, word(ROUTER_V4))
    return Log(POOL_MANAGER.address, topics, b"".join(map(word, (*amounts, *state, pool.fee))))


def v3_call(
    trader: bytes, pool: Pool, logs: tuple[Log, ...], moment: Moment, move: Move | None = None
) -> Call:
    """A transaction with swaps of V3 or V4, which brings the ether that is paid."""
    router = ROUTER_V4 if pool in V4_POOLS else ROUTER_V3
    ether = move.amount0 if move and pool.token0 is ETHER else 0
    return dex_call(trader, router, logs, moment, value=max(ether, 0))


def _made_v3_pool(pool: Pool, owner: bytes, moment: Moment) -> tuple[Log, ...]:
    token0, token1, price = pool.token0, pool.token1, _first_price(pool, moment)
    signature = "PoolCreated(address,address,uint24,int24,address)"
    topics = (event(signature), word(token0.address), word(token1.address), word(pool.fee))
    created = Log(UNISWAP_V3.address, topics, word(pool.spacing) + word(pool.address))
    state = word(price) + word(tick_at(price))
    started = Log(pool.address, (event("Initialize(uint160,int24)"),), state)
    amounts = (
        amount0_between(price, 2**96 << 64, pool.liquidity, round_up=True),
        -(-pool.liquidity * price >> 96),
    )
    signature = "Mint(address,address,int24,int24,uint128,uint256,uint256)"
    ticks = word(_LOWEST_TICK), word(-_LOWEST_TICK)
    minted = Log(
        pool.address,
        (event(signature), word(ROUTER_V3), *ticks),
        word(owner) + b"".join(map(word, (pool.liquidity, *amounts))),
    )
    legs = zip((token0, token1), amounts, strict=True)
    paid = tuple(transfer(token, owner, pool.address, amount) for token, amount in legs)
    return (created, started, *paid, minted)


def _first_price(pool: Pool, moment: Moment) -> int:
    return pool.sqrt_price(pool.last_turn(pool.since), moment.timeline)


def dex_call(
    trader: bytes, to: bytes, logs: tuple[Log, ...], moment: Moment, *, value: int = 0
) -> Call:
    """A transaction to a router with these logs."""
    data = selector("execute(bytes,bytes[])") + moment.dice.bytes(32)
    return Call(trader, to, logs, data, value, 2, _SWAP_GAS + 20_000 * len(logs))
