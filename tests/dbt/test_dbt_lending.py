"""Lending: every event against eth-abi's encoding of it, and reserves by the hour, in any order."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aave_events import (
    BORROW,
    COLUMNS_OF_BORROW,
    COLUMNS_OF_SUPPLY,
    DEFICIT,
    EVENTS,
    LIQUIDATION,
    POOL,
    REPAY,
    RESERVE,
    SUPPLY,
    WITHDRAW,
    rows_of,
    stored,
)
from chain_logs import ChainTables, Event, Log, first_block_of, range_key, time_of
from dbt.contracts.graph.manifest import Manifest
from dbt_warehouse import Warehouse

USDC = "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"
WETH = "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2"
UNKNOWN = "0x00000000000000000000000000000000000000aa"
DECIMALS = {USDC: 6, WETH: 18}
OTHER_POOL = "0x7d2768de32b0b80b7a3454c06bdac94a69ddc7a9"
AMOUNTS = [0, 1, 10**6, 10**18, 10**38 - 1, 10**38, 2**128 - 1, 2**128, 2**256 - 1]
RANGE_MODELS = (
    "path:models/staging/aave",
    "int_lending_supply",
    "int_lending_borrow",
    "int_lending_reserve_updates",
)
DAY_MODELS = (
    "stg_chain__blocks",
    "stg_chain__transactions",
    "blocks_daily",
    "lending_reserves_hourly",
)
ALL_HOURS = "select * from defi.lending_reserves_hourly order by all"


@pytest.fixture
def new_tables(manifest: Manifest, tmp_path: Path) -> Callable[[str], ChainTables]:
    """Empty tables of a chain with one Aave pool and two tokens, as often as wanted."""

    def made(name: str) -> ChainTables:
        warehouse = Warehouse(tmp_path / name / "warehouse.duckdb", manifest)
        tables = ChainTables(warehouse, manifest)
        tables.add_deployment("aave_v3", "aave_v3", POOL)
        tables.add_token(USDC, "USDC", 6, "stablecoin", "USDC")
        tables.add_token(WETH, "WETH", 18, "wrapped_native", "ETH")
        return tables

    return made


@pytest.fixture
def tables(new_tables: Callable[[str], ChainTables]) -> ChainTables:
    return new_tables("one")


def arguments_of(event: Event, dice: random.Random) -> tuple[Any, ...]:
    """Any arguments that the event may have, the largest and smallest among them."""
    accounts = [f"0x{dice.randrange(1, 2**160):040x}" for _ in range(4)]
    amounts = [dice.choice([*AMOUNTS, dice.randrange(10**24)]) for _ in range(5)]
    tokens = dice.sample([USDC, WETH, UNKNOWN], 2)
    is_so = dice.random() < 0.5
    return {
        SUPPLY: (tokens[0], accounts[0], accounts[1], amounts[0], dice.randrange(2**16)),
        WITHDRAW: (tokens[0], accounts[0], accounts[1], amounts[0]),
        BORROW: (
            tokens[0],
            accounts[0],
            accounts[1],
            amounts[0],
            dice.randrange(3),
            dice.randrange(10**27),
            0,
        ),
        REPAY: (tokens[0], accounts[0], accounts[1], amounts[0], is_so),
        LIQUIDATION: (*tokens, accounts[0], amounts[0], amounts[1], accounts[1], is_so),
        DEFICIT: (accounts[0], tokens[0], amounts[0]),
        RESERVE: (tokens[0], *amounts),
    }[event]


def some_events(seed: int, numbers: range) -> Iterator[tuple[Log, tuple[Any, ...]]]:
    """Two or so logs of the pool in each of those blocks, with their arguments."""
    dice = random.Random(seed)
    for number in numbers:
        for log_index in sorted(dice.sample(range(10), dice.randrange(5))):
            event = dice.choice(EVENTS)
            arguments = arguments_of(event, dice)
            yield event.log(POOL, number, log_index, arguments), arguments


EVENTS_OF_TWO_RANGES = [
    *some_events(1, range(900, 1000)),
    *some_events(2, range(1000, 1100)),
]


def legs(is_borrow: bool, first: int = 0, last: int = 10**9) -> list[tuple[Any, ...]]:
    rows = [
        row
        for log, arguments in EVENTS_OF_TWO_RANGES
        if first <= log.number <= last
        for row in rows_of(log, arguments, DECIMALS, is_borrow=is_borrow)
    ]
    return sorted(rows, key=lambda row: (row[0], row[2], row[4]))


def found_legs(tables: ChainTables, is_borrow: bool) -> list[tuple[Any, ...]]:
    table, columns = (
        ("int_lending_borrow", COLUMNS_OF_BORROW)
        if is_borrow
        else ("int_lending_supply", COLUMNS_OF_SUPPLY)
    )
    return tables.warehouse.query(
        f"select {columns} from intermediate.{table} "
        "order by block_number, log_index, transaction_type"
    )


def test_each_event_becomes_its_legs_exactly(tables: ChainTables) -> None:
    logs = [log for log, _ in EVENTS_OF_TWO_RANGES]
    tables.add_logs(logs)
    # The same events of a contract that the catalogue does not list are not Aave's.
    tables.add_logs(
        Log(OTHER_POOL, log.number, log.log_index + 20, log.topics, log.data) for log in logs
    )
    tables.run_range(None, *RANGE_MODELS)
    assert found_legs(tables, is_borrow=False) == legs(is_borrow=False)
    assert found_legs(tables, is_borrow=True) == legs(is_borrow=True)
    updates = tables.warehouse.query(
        "select block_number, log_index, token_address, liquidity_rate_ray, "
        "stable_borrow_rate_ray, variable_borrow_rate_ray, liquidity_index_ray, "
        "variable_borrow_index_ray, overflow from intermediate.int_lending_reserve_updates "
        "order by block_number, log_index"
    )
    assert updates == [
        (
            log.number,
            log.log_index,
            token,
            *(stored(ray)[0] for ray in rays),
            ",".join(hex_ for ray in rays if (hex_ := stored(ray)[1])) or None,
        )
        for log, (token, *rays) in EVENTS_OF_TWO_RANGES
        if log.topics[0] == RESERVE.topic0
    ]
    assert len(updates) > 40
    names = tables.warehouse.query(
        "select distinct project, version, contract_address, symbol, block_range "
        "from intermediate.int_lending_supply order by all"
    )
    assert names == [
        ("aave", "3", POOL, symbol, key)
        for symbol in ("USDC", "WETH", None)
        for key in ("000000000-000000999", "000001000-000001999")
    ]


def test_ranges_give_the_same_rows_in_any_order(tables: ChainTables) -> None:
    keys = [range_key(999), range_key(1000)]
    tables.add_logs(log for log, _ in EVENTS_OF_TWO_RANGES)
    tables.run_range(keys[1], *RANGE_MODELS)
    assert found_legs(tables, is_borrow=True) == legs(is_borrow=True, first=1000)
    for key in (keys[0], keys[1], keys[0]):
        tables.run_range(key, *RANGE_MODELS)
        assert found_legs(tables, is_borrow=True) == legs(is_borrow=True)
        assert found_legs(tables, is_borrow=False) == legs(is_borrow=False)


def test_unit_tests_of_these_models_pass(tables: ChainTables) -> None:
    tables.run_range(
        None, "path:models/staging/aave", "path:models/staging/tokens", "lending_supply"
    )
    tables.run_range(
        None,
        *(
            f"path:models/{folder},test_type:unit"
            for folder in (
                "intermediate/lending",
                "intermediate/stablecoins",
                "marts/defi/_lending__unit_tests.yml",
                "marts/defi/_stablecoins__unit_tests.yml",
                "marts/defi/_token_prices__unit_tests.yml",
                "staging/tokens",
            )
        ),
        command="test",
    )


def test_value_in_usd_comes_with_the_price_and_needs_no_rebuild(tables: ChainTables) -> None:
    number = 4001
    tables.add_logs(
        [
            SUPPLY.log(POOL, number, 1, (USDC, POOL, POOL, 1_500_001, 0)),
            LIQUIDATION.log(POOL, number, 2, (WETH, USDC, POOL, 7, 3 * 10**17, USDC, True)),
        ]
    )
    tables.run_range(range_key(number), *RANGE_MODELS, "lending_supply", "lending_borrow")
    supplied = (
        "select evt_index, transaction_type, amount, amount_usd, amount_usd_source "
        "from defi.lending_supply order by evt_index, transaction_type"
    )
    assert [row[3:] for row in tables.warehouse.query(supplied)] == [(None, None)] * 3
    minute = time_of(number).replace(second=0)
    for token, price in ((USDC, "0.999999999999"), (WETH, "2001.1")):
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
            ],
        )
    assert tables.warehouse.query(supplied) == [
        (1, "deposit", Decimal("1.500001"), Decimal("1.500000999998"), "venue_index"),
        (2, "deposit_liquidation", Decimal("-0.3"), Decimal("-600.33"), "venue_index"),
        (2, "liquidation_proceeds", Decimal("0.3"), Decimal("600.33"), "venue_index"),
    ]
    assert tables.warehouse.query(
        "select blockchain, project, version, transaction_type, loan_type, symbol, block_month, "
        "amount_raw, amount_usd, project_contract_address from defi.lending_borrow"
    ) == [
        (
            "ethereum",
            "aave",
            "3",
            "borrow_liquidation",
            None,
            "USDC",
            date(2024, 1, 1),
            -7,
            Decimal("-0.000007"),
            POOL,
        )
    ]


# --- reserves by the hour -------------------------------------------------------------------------

DAYS = [date(2024, 1, 1) + timedelta(days=number) for number in range(4)]


def some_updates(seed: int) -> list[Log]:
    """Updates of two reserves, a few a day: hours without are many, and some stretches are long."""
    dice = random.Random(seed)
    blocks = sorted(dice.sample(range(4 * 7200), 24))
    return [
        RESERVE.log(
            POOL,
            number,
            log_index,
            (dice.choice([USDC, WETH]), *(dice.randrange(10**29) for _ in range(5))),
        )
        for number in blocks
        for log_index in range(dice.randrange(1, 3))
    ]


UPDATES = some_updates(3)


def expected_hours(covered: Sequence[date], logs: Sequence[Log]) -> list[tuple[Any, ...]]:
    """Straight from the definition: what was said last, if every block since then is known."""
    rows = []
    for day in covered:
        for number in range(24):
            hour = datetime.combine(day, datetime.min.time()) + timedelta(hours=number)
            for token, symbol in ((USDC, "USDC"), (WETH, "WETH")):
                known = [
                    log
                    for log in logs
                    if log.topics[1][-20:].hex() == token[2:]
                    and log.block_time < hour + timedelta(hours=1)
                    and log.block_time >= hour - timedelta(hours=24)
                    and all(
                        log.block_time.date() + timedelta(days=step) in covered
                        for step in range((day - log.block_time.date()).days + 1)
                    )
                ]
                if not known:
                    continue
                last = max(known, key=lambda log: (log.number, log.log_index))
                _, *rays = RESERVE.arguments(last.topics, last.data)
                count = sum(log.block_time >= hour for log in known)
                rows.append(
                    (
                        "ethereum",
                        "aave",
                        "3",
                        POOL,
                        token,
                        symbol,
                        hour,
                        *(Decimal(f"{ray}E-27") for ray in rays),
                        last.block_time,
                        last.number,
                        count,
                        not count,
                    )
                )
    return sorted(rows)


def with_updates(tables: ChainTables) -> ChainTables:
    tables.add_logs(UPDATES)
    tables.run_range(None, *RANGE_MODELS)
    return tables


def test_hours_are_the_same_in_whatever_order_days_are_built(
    new_tables: Callable[[str], ChainTables],
) -> None:
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]):
        tables = with_updates(new_tables(str(order)))
        built: list[date] = []
        for number in order:
            built = sorted([*built, DAYS[number]])
            tables.cover(DAYS[number])
            tables.run_days([DAYS[number]], *DAY_MODELS)
            assert tables.warehouse.query(ALL_HOURS) == expected_hours(built, UPDATES), order
        filled = tables.warehouse.query(
            "select count(*) from defi.lending_reserves_hourly "
            "where is_filled and last_updated_at::date < hour::date"
        )
        assert filled[0][0] > 10
    tables.cover(*DAYS)
    tables.run_days(DAYS, *DAY_MODELS)
    assert tables.warehouse.query(ALL_HOURS) == expected_hours(DAYS, UPDATES)


def test_a_day_that_is_not_covered_any_more_takes_what_it_lent_with_it(
    tables: ChainTables,
) -> None:
    with_updates(tables)
    tables.cover(*DAYS)
    tables.run_days(DAYS, *DAY_MODELS)
    tables.cover()
    tables.run_days([DAYS[1]], *DAY_MODELS)
    remaining = [DAYS[0], *DAYS[2:]]
    assert tables.warehouse.query(ALL_HOURS) == expected_hours(remaining, UPDATES)


def test_a_value_lasts_24_hours_and_a_reserve_that_is_not_used_vanishes(
    tables: ChainTables,
) -> None:
    tables.add_logs(
        [
            RESERVE.log(POOL, first_block_of(DAYS[0]) + 2, 0, (USDC, 10**25, 0, 0, 0, 0)),
            RESERVE.log(POOL, first_block_of(DAYS[1]) - 1, 0, (WETH, 10**25, 0, 0, 0, 0)),
        ]
    )
    tables.run_range(None, *RANGE_MODELS)
    tables.cover(*DAYS[:3])
    tables.run_days(DAYS[:3], *DAY_MODELS)
    assert tables.warehouse.query(
        "select symbol, min(hour), max(hour), count(*) from defi.lending_reserves_hourly "
        "group by all order by all"
    ) == [
        ("USDC", datetime(2024, 1, 1), datetime(2024, 1, 2), 25),
        ("WETH", datetime(2024, 1, 1, 23), datetime(2024, 1, 2, 23), 25),
    ]
