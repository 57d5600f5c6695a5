"""Swaps of the sandbox chain, against the rules of the contracts and the latent prices."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
from eth_hash.auto import keccak

from crypto_assets.sandbox.chain_v3 import tick_at
from crypto_assets.sandbox.chain_world import Branch, ChainSpec, branch
from crypto_assets.sandbox.world import World

from .chain_events import (
    FIRST,
    MANAGER,
    NOBODY,
    OF_MAINNET,
    SUSHI,
    USDC,
    USDT,
    V2_FACTORY,
    V3_FACTORY,
    WBTC,
    WETH,
    Event,
    create2,
    events,
    fee_of,
    in_first_range,
    is_genuine,
    named,
    pair,
    pool_key,
)
from .chain_truth import block_of, broken, logs_in

ASSETS = {
    USDC: ("USDC", 6),
    USDT: ("USDT", 6),
    WETH: ("ETH", 18),
    WBTC: ("BTC", 8),
    NOBODY: ("ETH", 18),
}
_WORLD = World(0)
ETH_USDC_V4 = "0x21c67e77068de97969ba93d4aab21826d33ca12bb9f565d8496e8fda8a82ca27"


def latent(token0: str, token1: str, at: int) -> Fraction | None:
    """Token1 per token0 in smallest units, if both have an asset that venues trade."""
    if token0 not in ASSETS or token1 not in ASSETS:
        return None
    (asset0, decimals0), (asset1, decimals1) = ASSETS[token0], ASSETS[token1]
    usd = _WORLD.usd
    return Fraction(usd(asset0, at), usd(asset1, at)) * Fraction(10) ** (decimals1 - decimals0)


def bps_off(price: Fraction, expected: Fraction) -> float:
    return abs(float(price / expected) - 1) * 10_000


def last_in_block(found: list[Event]) -> list[Event]:
    return list({(one.address, one.block, one.values[0] if one.name[:2] == "V4" else ""): one
                 for one in found}.values())  # fmt: skip


# --- pools ---------------------------------------------------------------------------------------


def test_pools_are_those_of_mainnet_and_follow_from_their_factories() -> None:
    pairs = {one.address for one in named("V2Swap")}
    pools = {one.address for one in named("V3Swap")}
    genuine = {pool for pool in pairs if is_genuine(pool)}
    genuine |= {pool for pool in pools if is_genuine(pool, fee_of(pool))}
    assert genuine >= OF_MAINNET
    others = (pairs | pools) - genuine
    claims = Counter(pair(pool)[2] for pool in others)
    assert (claims[V2_FACTORY], claims[V3_FACTORY], len(others)) == (1, 1, 3)
    assert SUSHI in {pair(pool)[2] for pool in genuine}


def test_v4_pools_have_the_id_of_their_key() -> None:
    keys = {one.values[0]: one.values[1:6] for one in named("V4Initialize", of=MANAGER)}
    assert keys[ETH_USDC_V4] == (NOBODY, USDC, 500, 10, NOBODY)
    assert all(one.block < FIRST + 30 for one in named("V4Initialize"))
    ids = {one.values[0] for one in named("V4Swap", of=MANAGER)}
    assert set(keys) < ids
    known = {pool_id: key for pool_id in ids if any(map(int, (key := pool_key(pool_id))[2:4]))}
    assert keys.items() <= known.items()
    assert len(ids - set(known)) == 1, "one that the position manager does not know"
    assert len(set(known) - set(keys)) == 1, "one that was initialized before the first block"
    for pool_id, (token0, token1, fee, spacing, hooks) in known.items():
        abi = f"{token0[2:]:0>64}{token1[2:]:0>64}{fee:064x}{spacing:064x}{hooks[2:]:0>64}"
        assert pool_id == f"0x{keccak(bytes.fromhex(abi)).hex()}"
    assert any(hooks != NOBODY for *_, hooks in known.values())


def test_pools_are_created_once_before_their_first_swap() -> None:
    (made,) = named("PairCreated", of=V2_FACTORY)
    (pool,) = named("PoolCreated", of=V3_FACTORY)
    assert made.values[2] == create2(V2_FACTORY, made.values[0][2:] + made.values[1][2:])
    assert is_genuine(pool.values[4], pool.values[2])
    for created, address in ((made, made.values[2]), (pool, pool.values[4])):
        assert 21_517_000 <= created.block < 21_518_000
        theirs = [one for one in events() if one.address == address]
        first_swap = next(one for one in theirs if one.name in ("V2Swap", "V3Swap"))
        assert created.block < first_swap.block
        assert all(
            (one.block, one.log_index) > (created.block, created.log_index) for one in theirs
        )
    names = [one.name for one in events() if one.address == pool.values[4]]
    assert names[:3] == ["V3Initialize", "V3Mint", "V3Swap"]
    assert [one.name for one in events() if one.address == made.values[2]][:3] == [
        "Transfer", "Sync", "V2Mint",
    ]  # fmt: skip


# --- Uniswap V2 ----------------------------------------------------------------------------------


def test_pairs_keep_their_reserves_and_the_rule_of_their_product() -> None:
    reserves: dict[str, tuple[int, int]] = {}
    seen: Counter[str] = Counter()
    waiting: dict[str, tuple[int, int]] = {}
    for one in named("V2Swap", "V2Mint", "V2Burn", "Sync"):
        if pair(one.address)[2] != V2_FACTORY or not is_genuine(one.address):
            continue
        if one.name == "Sync":
            waiting[one.address] = (one.values[0], one.values[1])
            assert max(one.values) < 2**112
            continue
        after, before = waiting.pop(one.address), reserves.get(one.address)
        reserves[one.address] = after
        if before is None:
            continue
        seen[one.name] += 1
        if one.name == "V2Swap":
            _, in0, in1, out0, out1, _ = one.values
            assert after == (before[0] + in0 - out0, before[1] + in1 - out1)
            adjusted = (after[0] * 1000 - 3 * in0) * (after[1] * 1000 - 3 * in1)
            assert adjusted >= before[0] * before[1] * 10**6
            assert adjusted <= before[0] * before[1] * 10**6 * (1 + Fraction(1, 10_000))
        else:
            sign = 1 if one.name == "V2Mint" else -1
            amounts = one.values[1:3]
            assert min(amounts) > 0
            assert after == tuple(
                was + sign * amount for was, amount in zip(before, amounts, strict=True)
            )
    assert not waiting
    assert seen["V2Swap"] > 800
    assert min(seen["V2Mint"], seen["V2Burn"]) > 50


def test_pairs_follow_the_latent_price() -> None:
    prices = [
        (bps_off(Fraction(one.values[1], one.values[0]), expected), one)
        for one in last_in_block(named("Sync"))
        if is_genuine(one.address) and (expected := latent(*pair(one.address)[:2], one.time))
    ]
    assert len(prices) > 700
    assert max(off for off, _ in prices) < 4


def test_swaps_of_pairs_are_priced_within_the_fee() -> None:
    checked = 0
    for one in named("V2Swap"):
        _, in0, in1, out0, out1, _ = one.values
        expected = latent(*pair(one.address)[:2], one.time) if is_genuine(one.address) else None
        if expected is not None and (in0 == 0 == out1 or in1 == 0 == out0):
            price = Fraction(in1, out0) if in1 else Fraction(out1, in0)
            assert bps_off(price, expected) < 45
            checked += 1
    assert checked > 700


# --- Uniswap V3 and V4 ---------------------------------------------------------------------------


def _swaps_by_pool() -> dict[str, list[tuple[Event, tuple[int, int, int, int, int], int]]]:
    """Pool deltas, price, liquidity and tick of every swap of V3 and V4, and the fee."""
    found = defaultdict(list)
    for one in named("V3Swap", "V4Swap"):
        amount0, amount1, price, liquidity, tick, *fee = one.values[2:]
        if one.name == "V3Swap":
            key, pool_fee = one.address, fee_of(one.address)
        else:
            key, pool_fee = one.values[0], fee[0]
            amount0, amount1 = -amount0, -amount1
        found[key].append((one, (amount0, amount1, price, liquidity, tick), pool_fee))
    return found


def _is_a_v3_move(before: int, deltas: tuple[int, int, int, int, int], fee: int) -> bool:
    """Whether amounts follow from the move of the price: of the whitepaper, to a unit or two."""
    amount0, amount1, after, liquidity, _ = deltas
    exact0 = Fraction(liquidity * 2**96, after) - Fraction(liquidity * 2**96, before)
    exact1 = Fraction(liquidity * (after - before), 2**96)
    with_fee = Fraction(10**6, 10**6 - fee)
    if after < before:
        return (
            abs(amount0 - exact0 * with_fee) <= 4 + exact0 / 10**11 and abs(amount1 - exact1) <= 2
        )
    return abs(amount1 - exact1 * with_fee) <= 4 and abs(amount0 - exact0) <= 2


def test_amounts_follow_from_the_move_of_the_price_and_the_fee() -> None:
    checked = 0
    for key, swaps in _swaps_by_pool().items():
        if len(key) == 42 and not is_genuine(key, swaps[0][2]):
            continue
        for (_, previous, _), (one, deltas, fee) in itertools.pairwise(swaps):
            if deltas[:2] != (0, 0):
                assert deltas[0] * deltas[1] < 0
                assert _is_a_v3_move(previous[2], deltas, fee), one
                checked += 1
    assert checked > 1000


def test_ticks_are_those_of_the_price() -> None:
    with localcontext(prec=60):
        for swaps in _swaps_by_pool().values():
            for _, (_, _, price, _, tick), _ in swaps:
                ratio = (Decimal(price) / 2**96) ** 2
                assert Decimal("1.0001") ** tick <= ratio < Decimal("1.0001") ** (tick + 1)


@pytest.mark.parametrize("tick", [-887_000, -200_123, -1, 0, 1, 77_777, 202_345, 887_000])
def test_a_tick_begins_at_its_price(tick: int) -> None:
    with localcontext(prec=80):
        at = int((Decimal("1.0001") ** tick).sqrt() * 2**96)
    assert [tick_at(at - 1), tick_at(at + 1)] == [tick - 1, tick]
    assert tick_at(2**96) == 0


def test_prices_of_v3_and_v4_follow_the_latent_price() -> None:
    worst: dict[str, float] = {}
    for key, swaps in _swaps_by_pool().items():
        is_v3 = len(key) == 42
        token0, token1 = pair(key)[:2] if is_v3 else pool_key(key)[:2]
        if (is_v3 and not is_genuine(key, swaps[0][2])) or not any(swaps[0][1][:2]):
            continue
        if token0 == token1:  # nobody knows its key
            token0, token1 = USDC, WETH
        by_block = {one.block: (one, deltas) for one, deltas, _ in swaps}
        for one, deltas in by_block.values():
            expected = latent(token0, token1, one.time)
            if expected is None:
                continue
            off = bps_off(Fraction(deltas[2], 2**96) ** 2, expected)
            worst[key] = max(worst.get(key, 0), off)
    assert len(worst) == 7
    fees = {key: swaps[0][2] for key, swaps in _swaps_by_pool().items()}
    assert all(off < min(4, fees[key] / 100) for key, off in worst.items())
    assert worst["0x3416cf6c708da44db2624d63ea0aaef7113527c6"] < 0.5


def test_v4_amounts_are_those_of_the_swapper_and_ether_is_the_value() -> None:
    for one in named("V4Swap", of=MANAGER):
        assert one.values[2] * one.values[3] <= 0
    alone = [one for one in named("V4Swap") if one.values[2:4] == (0, 0)]
    assert len(in_first_range(alone)) >= 20
    (hooked,) = {one.values[0] for one in alone}
    assert len({one.values[4:7] for one in alone}) == 1
    assert pool_key(hooked)[4] != NOBODY


def test_transfers_of_both_legs_are_those_of_the_swap() -> None:
    moved: Counter[tuple[str, str, str]] = Counter()
    claimed: Counter[tuple[str, str, str]] = Counter()
    for one in events():
        if one.name == "Transfer":
            sender, receiver, amount = one.values
            moved[one.transaction, one.address, receiver] += amount
            moved[one.transaction, one.address, sender] -= amount
        elif one.name in ("V2Swap", "V3Swap"):
            fee = fee_of(one.address) if one.name == "V3Swap" else None
            if not is_genuine(one.address, fee):
                continue
            if one.name == "V2Swap":
                _, in0, in1, out0, out1, _ = one.values
                deltas = (in0 - out0, in1 - out1)
            else:
                deltas = one.values[2:4]
            for token, delta in zip(pair(one.address)[:2], deltas, strict=True):
                claimed[one.transaction, token, one.address] += delta
    assert len(claimed) > 3000
    assert all(moved[key] == delta for key, delta in claimed.items())


# --- as a whole ---------------------------------------------------------------------------------


def test_prices_of_v3_are_the_same_on_any_branch() -> None:
    def shown(line: Branch) -> list[list[str]]:
        return [
            [one["data"] for one in logs_in(block_of(number, line)[1]) if one["topics"][:1] == swap]
            for number in range(FIRST + 300, FIRST + 330)
        ]

    swap = ["0xc42079f94a6350d7e6235f29174924f928cc2ac818eb64fed8004e115fbcca67"]
    prices, fork = shown(branch(ChainSpec())), branch(ChainSpec(), FIRST + 300)
    assert [*map(len, prices)] == [*map(len, shown(fork))]
    assert sum(a != b for a, b in zip(prices, shown(fork), strict=True)) <= 3  # routes differ
    assert sum(map(len, prices)) > 20
    for number in range(FIRST + 300, FIRST + 310):
        assert broken(*block_of(number, fork)) == set()


def test_half_of_a_thousand_blocks_have_three_transactions_of_defi() -> None:
    defi = {"V2Swap", "V2Mint", "V2Burn", "V3Swap", "V4Swap", "ReserveDataUpdated", "Issue",
            "Redeem", "Flash"}  # fmt: skip
    found = {(one.block, one.transaction) for one in in_first_range(list(events()))
             if one.name in defi}  # fmt: skip
    assert 2.5 < len(found) / 1000 < 5
    assert math.isclose(len({block for block, _ in found}), 950, abs_tol=50)
