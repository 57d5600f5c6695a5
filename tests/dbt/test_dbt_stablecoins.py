"""Stablecoins: what was minted, burnt and transferred in a day, and the supply at its end."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from chain_logs import ChainTables, Event, Log, first_block_of, range_key
from dbt.contracts.graph.manifest import Manifest
from dbt_warehouse import Warehouse

USDT = "0xdac17f958d2ee523a2206206994597c13d831ec7"
DAI = "0x6b175474e89094c44da98b954eedeac495271d0f"
WETH = "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2"
ZERO = "0x" + "00" * 20
DECIMALS = {USDT: 6, DAI: 18}
SYMBOLS = {USDT: "USDT", DAI: "DAI"}

TRANSFER = Event("Transfer", ("address", "address", "uint256"), (0, 1))
ISSUE = Event("Issue", ("uint256",))
REDEEM = Event("Redeem", ("uint256",))
DESTROYED = Event("DestroyedBlackFunds", ("address", "uint256"))

DAYS = [date(2024, 1, 1) + timedelta(days=number) for number in range(3)]
LAST_RANGE = 3 * 7200 // 1000
RANGE_MODELS = (
    "path:models/staging/tokens",
    "int_stablecoin_changes",
    "int_stablecoin_supplies",
)
DAY_MODELS = (
    "stg_chain__blocks",
    "stg_chain__transactions",
    "blocks_daily",
    "stablecoin_flows_daily",
)
ALL_DAYS = "select * from defi.stablecoin_flows_daily order by day, token_address"


@pytest.fixture
def new_tables(manifest: Manifest, tmp_path: Path) -> Callable[[str], ChainTables]:
    def made(name: str) -> ChainTables:
        tables = ChainTables(Warehouse(tmp_path / name / "warehouse.duckdb", manifest), manifest)
        tables.add_token(USDT, "USDT", 6, "stablecoin", "USDT")
        tables.add_token(DAI, "DAI", 18, "stablecoin")
        tables.add_token(WETH, "WETH", 18, "wrapped_native", "ETH")
        return tables

    return made


def some_logs(seed: int) -> Iterator[Log]:
    """Events of two stablecoins, and the same ones of another token, on three days and after."""
    dice = random.Random(seed)
    for number in sorted(dice.sample(range(3 * 7200 + 300), 300)):
        someone, another = (f"0x{dice.randrange(1, 2**160):040x}" for _ in range(2))
        amount = dice.choice([0, *(dice.randrange(1, 10**24) for _ in range(9))])
        token = dice.choice([USDT, DAI, WETH])
        event, arguments = dice.choice(
            [
                (TRANSFER, (someone, another, amount)),
                (TRANSFER, (ZERO, another, amount)),
                (TRANSFER, (someone, ZERO, amount)),
                (ISSUE, (amount,)),
                (REDEEM, (amount,)),
                (DESTROYED, (someone, amount)),
            ]
        )
        yield event.log(token, number, dice.randrange(10), arguments)


LOGS = [*some_logs(5)]


def change_of(log: Log) -> tuple[str, int] | None:
    """Its kind and amount, if it is an event of a stablecoin that counts."""
    if log.address not in DECIMALS:
        return None
    if log.topics[0] == TRANSFER.topic0:
        sender, recipient, amount = TRANSFER.arguments(log.topics, log.data)
        if amount == 0:
            return "transfer", amount
        kind = "mint" if sender == ZERO else "burn" if recipient == ZERO else "transfer"
        return kind, amount
    amount = int.from_bytes(log.data[-32:])
    if log.address != USDT:
        return None
    return ("mint" if log.topics[0] == ISSUE.topic0 else "burn"), amount


def supply(token: str, before_block: int) -> int:
    """What totalSupply() answers: it follows from the events, from a large number on."""
    changes = [
        change
        for log in LOGS
        if log.address == token and log.number < before_block and (change := change_of(log))
    ]
    signs = {"mint": 1, "burn": -1, "transfer": 0}
    return 10**28 + sum(signs[kind] * amount for kind, amount in changes)


def calls() -> Iterator[tuple[Any, ...]]:
    """raw.chain_calls of every range."""
    for first in range(0, (LAST_RANGE + 1) * 1000, 1000):
        for token in DECIMALS:
            for as_of, number in (("before", first), ("last", first + 1000)):
                answer = supply(token, number).to_bytes(32)
                address = bytes.fromhex(token[2:])
                yield (
                    "ethereum",
                    range_key(first),
                    address,
                    "totalSupply()",
                    b"",
                    as_of,
                    "returned",
                    answer,
                )


def expected(days: Sequence[date]) -> list[tuple[Any, ...]]:
    rows = []
    for day in days:
        for token in sorted(DECIMALS):
            changes = [
                change
                for log in LOGS
                if log.address == token
                and log.block_time.date() == day
                and (change := change_of(log))
            ]
            amounts = {
                kind: [amount for of, amount in changes if of == kind]
                for kind in ("mint", "burn", "transfer")
            }
            minted, burned, transferred = (sum(of_kind) for of_kind in amounts.values())
            at_open = supply(token, first_block_of(day))
            at_close = supply(token, first_block_of(day + timedelta(days=1)))
            assert at_close - at_open == minted - burned
            flows = (minted, burned, transferred, minted - burned)
            supplies = (at_close, at_close - at_open)
            scale = DECIMALS[token]
            rows.append(
                (
                    "ethereum",
                    token,
                    SYMBOLS[token],
                    day,
                    *(Decimal(raw) for raw in flows),
                    *(exact(raw, scale) for raw in flows),
                    *(len(of_kind) for of_kind in amounts.values()),
                    *(Decimal(raw) for raw in supplies),
                    *(exact(raw, scale) for raw in supplies),
                )
            )
    return rows


def exact(raw: int, decimals: int) -> Decimal | None:
    value = Decimal(f"{raw}E-{decimals}")
    return value if abs(value) < 10**20 else None


def test_days_are_the_sums_of_their_events_in_any_order(
    new_tables: Callable[[str], ChainTables],
) -> None:
    """Eight ranges at a time and days, forwards and backwards; one of each again."""
    for order in (1, -1):
        tables = new_tables(str(order))
        tables.add_logs(LOGS)
        tables.add("raw.chain_calls", calls())
        for first in range(0, (LAST_RANGE + 1) * 1000, 8000)[::order]:
            tables.run_range(f"{first}-{first + 7999}", *RANGE_MODELS)
        built: list[date] = []
        for day in DAYS[::order]:
            built = sorted([*built, day])
            tables.cover(day)
            tables.run_days([day], *DAY_MODELS)
            assert tables.warehouse.query(ALL_DAYS) == expected(built)
        tables.run_range(range_key(7000), *RANGE_MODELS)
        tables.cover(DAYS[1])
        tables.run_days([DAYS[1]], *DAY_MODELS)
        assert tables.warehouse.query(ALL_DAYS) == expected(DAYS)


def test_supply_is_unknown_where_the_node_has_no_old_state(
    new_tables: Callable[[str], ChainTables],
) -> None:
    tables = new_tables("one")
    tables.add_logs(LOGS)
    tables.add(
        "raw.chain_calls",
        (
            (*call[:6], "unavailable", None) if call[1] == range_key(7000) else call
            for call in calls()
        ),
    )
    tables.run_range(None, *RANGE_MODELS)
    tables.cover(*DAYS)
    tables.run_days(DAYS, *DAY_MODELS)
    known = tables.warehouse.query(
        "select day, count(supply_raw), count(supply_change_raw), count(net_issuance_raw) "
        "from defi.stablecoin_flows_daily group by day order by day"
    )
    # The first midnight is inside of the range that has no answers.
    assert known == [(DAYS[0], 0, 0, 2), (DAYS[1], 2, 0, 2), (DAYS[2], 2, 2, 2)]
    statuses = tables.warehouse.query(
        "select distinct status_before, supply_before_raw is null "
        "from intermediate.int_stablecoin_supplies order by all"
    )
    assert statuses == [("returned", False), ("unavailable", True)]
