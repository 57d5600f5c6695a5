"""Hours and days of pools against fractions, and what no amount may stop."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from chain_logs import Log, time_of
from dbt.contracts.graph.manifest import Manifest
from dbt_warehouse import Warehouse
from dex_events import V2_SYNC, V3_SWAP, padded, quotient
from dex_tables import (
    PAIR,
    POOL,
    ROOT,
    SENDER,
    TAKER,
    USDC,
    V2_FACTORY,
    V3_FACTORY,
    WETH,
    DexTables,
    v2,
    v3,
)


@pytest.fixture
def tables(warehouse: Warehouse, manifest: Manifest) -> DexTables:
    """Empty tables of a chain with Uniswap's deployments."""
    tables = DexTables(warehouse, manifest)
    tables.add_uniswap()
    return tables


def swaps_of_a_day(dice: random.Random, day: date, count: int) -> list[tuple[datetime, int, int]]:
    """When, and how much USDC (in) and WETH (out)."""
    start = datetime.combine(day, datetime.min.time())
    seconds = sorted(dice.sample(range(86400), count))
    return [
        (start + timedelta(seconds=at), dice.randrange(1, 10**12), dice.randrange(1, 10**21))
        for at in seconds
    ]


def test_hours_and_days_of_a_pool(tables: DexTables) -> None:
    """Every column of candles and days against fractions, whatever order days are built in."""
    dice = random.Random(3)
    days = [date(2024, 1, 1), date(2024, 1, 2)]
    trades = [trade for day in days for trade in swaps_of_a_day(dice, day, 60)]
    logs, rows = [], []
    for place, (at, usdc, weth) in enumerate(trades):
        given = v2(place, 0, usdc, 0, 0, weth)
        logs.append(Log(PAIR, place, 0, given.topics, given.data, at=at))
        sync = V2_SYNC.log(PAIR, place, 1, (place + 1, 10**18))
        logs.append(Log(PAIR, place, 1, sync.topics, sync.data, at=at))
        rows.append((at, Decimal(usdc).scaleb(-6), Decimal(weth).scaleb(-18)))
    # A flash swap that is paid back in kind.
    at = trades[59][0]
    flash = v2(59, 5, 10**6 + 3000, 0, 10**6, 0)
    logs.append(Log(PAIR, 59, 5, flash.topics, flash.data, at=at))
    tables.add_logs(logs)
    tables.add_pool(0, PAIR, (USDC, WETH), V2_FACTORY, deployment="uniswap_v2")
    tables.decode()
    add_prices(tables, {USDC: "1.5"}, {at for at, _, _ in trades})
    build_days(tables, days)
    hours = tables.rows(
        "opened_at, open, high, low, close, volume_base, volume_quote, volume_usd, swap_count, "
        "unpriced_swap_count, base_symbol, quote_symbol, fees_token0, fees_token1, fees_usd, "
        "reserve0_at_close, reserve1_at_close, liquidity_at_close",
        "defi.dex_ohlcv_1h",
    )
    assert hours == [
        expected_hour(rows, at, hour)
        for hour in sorted({t.replace(minute=0, second=0) for t, *_ in rows})
    ]
    found = tables.rows(
        "day, swap_count, unpriced_swap_count, fees_token0, fees_token1, fees_usd, "
        "reserve0_at_close, reserve1_at_close, liquidity_at_close",
        "defi.dex_pools_daily",
    )
    for index, day in enumerate(days):
        mine = [row for row in rows if row[0].date() == day]
        paid = sum((usdc for _, usdc, _ in mine), Decimal(0))
        # The pool takes its fee of all that came in; in USD it is of what changed hands.
        extra = Decimal("1.003") if index == 0 else Decimal(0)
        net = Decimal("0.003") if index == 0 else Decimal(0)
        assert found[index] == (
            day,
            60 + (index == 0),
            int(index == 0),
            (paid + extra) * Decimal("0.003"),
            0,
            (paid + net) * Decimal("1.5") * Decimal("0.003"),
            Decimal(60 * (index + 1)).scaleb(-6),
            1,
            None,
        )
    build_days(tables, days[1:])
    build_days(tables, days[:1])
    assert hours == tables.rows(
        "opened_at, open, high, low, close, volume_base, volume_quote, volume_usd, swap_count, "
        "unpriced_swap_count, base_symbol, quote_symbol, fees_token0, fees_token1, fees_usd, "
        "reserve0_at_close, reserve1_at_close, liquidity_at_close",
        "defi.dex_ohlcv_1h",
    )


def expected_hour(
    rows: Sequence[tuple[datetime, Decimal, Decimal]], flash_at: datetime, hour: datetime
) -> tuple[Any, ...]:
    mine = [row for row in rows if row[0].replace(minute=0, second=0) == hour]
    prices = [quotient(usdc, weth) for _, usdc, weth in mine]
    known = [price for price in prices if price is not None]
    paid = sum((usdc for _, usdc, _ in mine), Decimal(0))
    has_flash = flash_at.replace(minute=0, second=0) == hour
    net = paid + (Decimal("0.003") if has_flash else 0)
    return (
        hour,
        prices[0],
        max(known),
        min(known),
        prices[-1],
        sum((weth for _, _, weth in mine), Decimal(0)),
        net,
        net * Decimal("1.5"),
        len(mine) + has_flash,
        int(has_flash),
        "WETH",
        "USDC",
        (paid + (Decimal("1.003") if has_flash else 0)) * Decimal("0.003"),
        0,
        net * Decimal("1.5") * Decimal("0.003"),
        Decimal(rows.index(mine[-1]) + 1).scaleb(-6),
        1,
        None,
    )


def add_prices(tables: DexTables, prices: Mapping[str, str], times: Iterable[datetime]) -> None:
    """The index prices of tokens in the minutes of some times."""
    tables.add_named(
        "defi.token_prices_1m",
        [
            {
                "chain": "ethereum",
                "token_address": token,
                "opened_at": minute,
                "price_usd": Decimal(price),
                "source": "venue_index",
            }
            for minute in sorted({at.replace(second=0, microsecond=0) for at in times})
            for token, price in prices.items()
        ],
    )


def build_days(tables: DexTables, days: Sequence[date]) -> None:
    """Days are covered where blocks_daily has a row."""
    tables.warehouse.query("delete from network.blocks_daily")
    tables.add_named(
        "network.blocks_daily",
        [{"chain": "ethereum", "day": day} for day in (date(2024, 1, 1), date(2024, 1, 2))],
    )
    tables.run_days(days, "dex_ohlcv_1h", "dex_pools_daily")


def test_a_day_survives_whatever_anyone_emits(tables: DexTables) -> None:
    """Amounts that overflow, that no unit can hold and that sum past 38 digits give NULL."""
    tables.add_pool(0, PAIR, (USDC, WETH), V2_FACTORY, deployment="uniswap_v2")
    tables.add_pool(0, POOL, (USDC, WETH), V3_FACTORY, fee=500, deployment="uniswap_v3")
    logs = [v2(0, 0, 2**256 - 1, 0, 0, 1), v2(0, 1, 10**38 - 1, 0, 0, 10**18)]
    logs += [v3(0, 2 + index, 10, -(10**38 - 1)) for index in range(5)]
    tables.add_logs(logs)
    tables.decode()
    build_days(tables, [time_of(0).date()])
    assert tables.rows(
        "pool, open, volume_base, volume_quote, swap_count, unpriced_swap_count",
        "defi.dex_ohlcv_1h",
    ) == [
        (PAIR, None, Decimal("1.000000000000000001"), None, 2, 2),
        (POOL, None, None, Decimal("0.00005"), 5, 5),
    ]
    assert tables.rows(
        "is_amount_overflow, amount_overflow", "defi.dex_trades where evt_index = 0"
    ) == [(True, "0x" + "f" * 64)]


def test_two_sided_swaps_and_dust_leave_the_price_alone(tables: DexTables) -> None:
    """They are in the counts and, by what changed hands, in the volumes.

    The pool has 2,000 USDC per WETH. A price from what is left of both tokens after fees would be
    anything.
    """
    usdc, weth = 2_000 * 10**6, 10**18
    at_price = [(usdc, 0, 0, weth), (0, weth, usdc, 0)]
    # A token with a fee on transfer, both tokens lent and paid back, one paid in kind, one in part.
    two_sided = [
        (usdc, 10**15, 0, weth),
        (usdc, weth, usdc * 997 // 1000, weth * 997 // 1000),
        (usdc, weth, usdc - 7_000_000, weth + 10**13),
        (usdc + 6_018_055, 0, usdc, 0),
        (0, weth, usdc // 10, weth * 8 // 10),
    ]
    # One base unit of USDC, or 999 of them, and as much WETH as rounding makes of it.
    dust = [(1, 0, 0, 10**8), (999, 0, 0, 6 * 10**11), (0, 999, 10**6, 0), (0, 10**9, 0, 0)]
    edge = (1000, 0, 0, 5 * 10**11)
    swaps = [at_price[0], *two_sided, *dust, edge, at_price[1], *two_sided]
    tables.add_pool(0, PAIR, (USDC, WETH), V2_FACTORY, deployment="uniswap_v2")
    tables.add_pool(0, POOL, (USDC, WETH), V3_FACTORY, fee=500, deployment="uniswap_v3")
    tables.add_logs(
        [
            *(v2(0, index, *amounts) for index, amounts in enumerate(swaps)),
            v3(0, 90, usdc, -weth),
            v3(0, 91, 1, -(10**15)),
        ]
    )
    tables.decode()
    prices = {USDC: "1.5", WETH: "3000"}
    add_prices(tables, prices, [time_of(0)])
    build_days(tables, [time_of(0).date()])
    paid = [abs(amounts[0] - amounts[2]) for amounts in swaps]
    moved = [abs(amounts[1] - amounts[3]) for amounts in swaps]
    # In USD by the quote, or by the base if no quote changed hands.
    worth = [
        Decimal(quote).scaleb(-6) * Decimal("1.5") or Decimal(base).scaleb(-18) * 3000
        for quote, base in zip(paid, moved, strict=True)
    ]
    for table in ("defi.dex_ohlcv_1h", "defi.dex_pools_daily"):
        assert tables.rows(
            "pool, open, high, low, close, volume_base, volume_quote, volume_usd, fees_usd, "
            "swap_count, unpriced_swap_count, usd_swap_count",
            table,
        ) == [
            (
                PAIR,
                *(2000,) * 4,
                Decimal(sum(moved)).scaleb(-18),
                Decimal(sum(paid)).scaleb(-6),
                sum(worth),
                sum(worth) * Decimal("0.003"),
                len(swaps),
                len(swaps) - 3,
                len(swaps),
            ),
            (
                POOL,
                *(2000,) * 4,
                Decimal("1.001"),
                Decimal("2000.000001"),
                Decimal("3000.0000015"),
                Decimal("1.50000000075"),
                2,
                1,
                2,
            ),
        ]
    # As on Dune, a trade has one leg as it is in the event.
    gross = "select amount_usd from defi.dex_trades where evt_index in (0, 4) order by evt_index"
    assert tables.warehouse.query(gross) == [
        (Decimal(3000),),
        (Decimal(usdc).scaleb(-6) * Decimal("1.5"),),
    ]


def test_what_is_too_large_at_close_keeps_its_word(tables: DexTables) -> None:
    """The liquidity of V3 has 128 bits. A contract of a fork may say any reserve."""
    tables.add_pool(0, PAIR, (USDC, WETH), V2_FACTORY, deployment="uniswap_v2")
    tables.add_pool(0, POOL, (USDC, WETH), V3_FACTORY, fee=500, deployment="uniswap_v3")
    large = 2**128 - 1
    sync = V2_SYNC.log(PAIR, 0, 1, (0, 10**18))
    tables.add_logs(
        [
            v2(0, 0, 10**6, 0, 0, 10**15),
            Log(PAIR, 0, 1, sync.topics, padded([large, 10**18])),
            V3_SWAP.log(POOL, 0, 2, (SENDER, TAKER, 10**6, -(10**15), ROOT, large, -3)),
            V2_SYNC.log(PAIR, 1000, 0, (5, 6)),
        ]
    )
    tables.decode()
    word = f"0x{large:064x}"
    assert tables.rows(
        "block_number, reserve0_raw, reserve0_overflow, reserve1_raw, reserve1_overflow",
        "intermediate.int_dex_reserves",
    ) == [(0, None, word, 10**18, None), (1000, 5, None, 6, None)]
    tables.warehouse.query("delete from intermediate.int_dex_reserves where block_number = 1000")
    build_days(tables, [time_of(0).date()])
    for table in ("defi.dex_ohlcv_1h", "defi.dex_pools_daily"):
        assert tables.rows(
            "pool, liquidity_at_close, liquidity_at_close_overflow, reserve0_at_close, "
            "reserve0_at_close_overflow, reserve1_at_close, reserve1_at_close_overflow",
            table,
        ) == [
            (PAIR, None, None, None, word, 1, None),
            (POOL, None, word, None, None, None, None),
        ]


def test_unit_tests_of_these_models_pass(tables: DexTables) -> None:
    tables.decode()
    tables.run_range(
        None,
        "path:models/intermediate/dex,test_type:unit",
        "path:models/marts/defi/_dex__unit_tests.yml,test_type:unit",
        command="test",
    )
