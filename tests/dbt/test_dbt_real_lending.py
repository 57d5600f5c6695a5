"""Recorded Aave events of mainnet, each against eth-abi's decoding; real rates hour by hour.

Of Aave V3 there are deposits, withdrawals, loans, repayments, a flash loan and a liquidation, no
deficit and no repayment with aTokens. More liquidations are those of V2, whose LiquidationCall has
the same arguments: for these tests its pools are listed as if they were of V3.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from aave_events import (
    BY_TOPIC,
    COLUMNS_OF_BORROW,
    COLUMNS_OF_SUPPLY,
    POOL,
    RESERVE,
    rows_of,
    stored,
)
from chain_logs import ChainTables, Log, range_key
from dbt.contracts.graph.manifest import Manifest
from dbt_warehouse import Warehouse

PRIME_POOL = "0x4e033931ad43597d96d6bcc25c280717730b58b1"
# The main market of V2 and the one for liquidity tokens.
V2_POOLS = (
    "0x7d2768de32b0b80b7a3454c06bdac94a69ddc7a9",
    "0x7937d4799803fbbe595ed57278bc4ca21f3bffcb",
)
WETH = "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2"
TOKENS = {
    WETH: ("WETH", 18),
    "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48": ("USDC", 6),
    "0xdac17f958d2ee523a2206206994597c13d831ec7": ("USDT", 6),
    "0x6b175474e89094c44da98b954eedeac495271d0f": ("DAI", 18),
    "0x514910771af9ca656af840dff83e8264ecf986ca": ("LINK", 18),
}
DECIMALS = {address: decimals for address, (_, decimals) in TOKENS.items()}
RANGE_MODELS = (
    "path:models/staging/aave",
    "int_lending_supply",
    "int_lending_borrow",
    "int_lending_reserve_updates",
)
# When a block was does not matter to its events, and not every recording says it.
SOME_TIME = datetime(2023, 10, 25)


def recorded_logs(realdata: Path) -> list[Log]:
    """Every log of the folder of Ethereum, each once, in the order of the chain."""
    folder = realdata / "ethereum"
    logs: dict[tuple[int, int], Log] = {}
    with duckdb.connect() as connection:
        rows = connection.execute(
            "select '0x' || lower(hex(address)), block_number, log_index, "
            "[topic0, topic1, topic2, topic3], data, transaction_hash "
            f"from read_parquet('{folder}/cryo_logs/*.parquet')"
        ).fetchall()
    for address, number, log_index, topics, data, transaction_hash in rows:
        present = tuple(topic for topic in topics if topic is not None)
        logs[number, log_index] = Log(
            address,
            number,
            log_index,
            present,
            data,
            at=SOME_TIME,
            transaction_hash=transaction_hash,
        )
    files = [
        *sorted(folder.glob("rpc_receipts/*.json")),
        *sorted(folder.glob("full_blocks_mev_inspect/*.json.gz")),
    ]
    for file in files:
        text = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        for log in _logs_in(json.loads(text)):
            logs[log.number, log.log_index] = log
    return [logs[key] for key in sorted(logs)]


def _logs_in(value: Any) -> Iterator[Log]:
    """Logs as JSON-RPC writes them, wherever they are in a recording."""
    if isinstance(value, dict) and isinstance(value.get("logIndex"), str):
        yield Log(
            value["address"].lower(),
            int(value["blockNumber"], 16),
            int(value["logIndex"], 16),
            tuple(bytes.fromhex(topic[2:]) for topic in value["topics"]),
            bytes.fromhex(value["data"][2:]),
            at=SOME_TIME,
            transaction_hash=bytes.fromhex(value["transactionHash"][2:]),
        )
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _logs_in(part)


@pytest.fixture(scope="module")
def logs(realdata: Path) -> list[Log]:
    return recorded_logs(realdata)


@pytest.fixture
def tables(manifest: Manifest, tmp_path: Path) -> ChainTables:
    tables = ChainTables(Warehouse(tmp_path / "warehouse.duckdb", manifest), manifest)
    for address, (symbol, decimals) in TOKENS.items():
        tables.add_token(address, symbol, decimals, "major")
    return tables


def of_pools(logs: list[Log], *pools: str) -> list[tuple[Log, tuple[Any, ...]]]:
    return [
        (log, BY_TOPIC[log.topics[0]].arguments(log.topics, log.data))
        for log in logs
        if log.address in pools and log.topics and log.topics[0] in BY_TOPIC
    ]


def assert_decoded(tables: ChainTables, events: list[tuple[Log, tuple[Any, ...]]]) -> None:
    for table, columns, is_borrow in (
        ("int_lending_supply", COLUMNS_OF_SUPPLY, False),
        ("int_lending_borrow", COLUMNS_OF_BORROW, True),
    ):
        expected = [
            row
            for log, arguments in events
            for row in rows_of(log, arguments, DECIMALS, is_borrow=is_borrow)
        ]
        assert tables.warehouse.query(
            f"select {columns} from intermediate.{table} "
            "order by block_number, log_index, transaction_type"
        ) == sorted(expected, key=lambda row: (row[0], row[2], row[4]))
    updates = tables.warehouse.query(
        "select block_number, log_index, token_address, liquidity_rate_ray, "
        "stable_borrow_rate_ray, variable_borrow_rate_ray, liquidity_index_ray, "
        "variable_borrow_index_ray from intermediate.int_lending_reserve_updates "
        "order by block_number, log_index"
    )
    assert updates == [
        (log.number, log.log_index, token, *(stored(ray)[0] for ray in rays))
        for log, (token, *rays) in events
        if log.topics[0] == RESERVE.topic0
    ]


def test_every_event_of_the_listed_pool_and_no_other_decodes(
    tables: ChainTables, logs: list[Log]
) -> None:
    tables.add_deployment("aave_v3", "aave_v3", POOL)
    tables.add_logs(logs)
    tables.run_range(None, *RANGE_MODELS)
    events = of_pools(logs, POOL)
    assert_decoded(tables, events)
    assert Counter(BY_TOPIC[log.topics[0]].name for log, _ in events) == {
        "Supply": 4,
        "Withdraw": 4,
        "Borrow": 2,
        "Repay": 4,
        "LiquidationCall": 1,
        "ReserveDataUpdated": 17,
    }


def test_other_markets_decode_by_an_entry_of_their_own(
    tables: ChainTables, logs: list[Log]
) -> None:
    tables.add_deployment("aave_prime_v3", "aave_v3", PRIME_POOL)
    for number, pool in enumerate(V2_POOLS):
        tables.add_deployment(f"aave{number}_v2", "aave_v3", pool)
    pools = (PRIME_POOL, *V2_POOLS)
    tables.add_logs(logs)
    tables.run_range(None, *RANGE_MODELS)
    events = of_pools(logs, *pools)
    assert_decoded(tables, events)
    counts = Counter(BY_TOPIC[log.topics[0]].name for log, _ in events)
    assert (counts["LiquidationCall"], counts["Borrow"]) == (4, 1)
    assert tables.warehouse.query(
        "select project, version, transaction_type, count(*) "
        "from intermediate.int_lending_borrow group by all order by all"
    ) == [
        ("aave0", "2", "borrow_liquidation", 2),
        ("aave1", "2", "borrow_liquidation", 2),
        ("aave_prime", "3", "borrow", 1),
    ]


KNOWN_EVENTS = {
    ("supply", 18426254, 23): ("deposit", "USDT", 39238779571, "0xa537de6c"),
    ("supply", 18426254, 37): ("withdraw", "LINK", -3629711538295066486610, "0xa537de6c"),
    ("borrow", 18426273, 158): ("repay", "USDT", -508824577799, "0x1cbad175"),
    ("borrow", 18426273, 168): ("repay", "USDC", -60000000, "0x4bab4007"),
    ("borrow", 17938283, 255): ("borrow_liquidation", "USDC", -30660134, "0xc1a03e87"),
    ("supply", 17938283, 255): ("deposit_liquidation", "WETH", -18891825379519208, "0xc1a03e87"),
}


def test_known_events_are_these_rows(tables: ChainTables, logs: list[Log]) -> None:
    """Each with the beginning of its transaction's hash, of two ranges built one by one."""
    tables.add_deployment("aave_v3", "aave_v3", POOL)
    tables.add_logs(logs)
    for block in (18426254, 17938283):
        tables.run_range(range_key(block), *RANGE_MODELS)
    for (table, block, log_index), expected in KNOWN_EVENTS.items():
        assert tables.warehouse.query(
            "select transaction_type, symbol, amount_raw, transaction_hash[:10] "
            f"from intermediate.int_lending_{table} "
            f"where block_number = {block} and log_index = {log_index}"
        ) == [expected]


def test_rates_and_indices_of_an_hour_have_every_digit_that_was_recorded(
    tables: ChainTables, realdata: Path
) -> None:
    """WETH on Polygon, minute by minute: 27 digits go in as rays and must come out again."""
    tables.add_deployment("aave_v3", "aave_v3", POOL)
    days = [date(2023, 8, 14), date(2023, 8, 15)]
    rows = [
        row
        for day in days
        for file in (realdata / "defi" / "aave_v3_minute").glob(f"*{day}.minute.csv")
        for row in csv.DictReader(file.read_text().splitlines())
    ]
    names = (
        "liquidity_rate",
        "stable_borrow_rate",
        "variable_borrow_rate",
        "liquidity_index",
        "variable_borrow_index",
    )
    logs: list[Log] = []
    last_data = b""
    for number, row in enumerate(rows):
        rays = [int(Decimal(f"{row[name]}E+27").to_integral_exact()) for name in names]
        log = RESERVE.log(POOL, number, 0, (WETH, *rays))
        at = datetime.fromisoformat(row["block_timestamp"])
        if log.data != last_data:
            logs.append(Log(POOL, number, 0, log.topics, log.data, at=at))
        last_data = log.data
    assert len(logs) > 100
    tables.add_logs(logs)
    tables.run_range(None, *RANGE_MODELS)
    tables.cover(*days)
    tables.run_days(
        days,
        "stg_chain__blocks",
        "stg_chain__transactions",
        "blocks_daily",
        "lending_reserves_hourly",
    )
    by_time = {row["block_timestamp"]: row for row in rows}
    hours = [datetime(2023, 8, 14) + timedelta(hours=number) for number in range(48)]
    expected = [
        (hour, *(Decimal(by_time[str(hour + timedelta(minutes=59))][name]) for name in names))
        for hour in hours
    ]
    found = tables.warehouse.query(
        f"select hour, {', '.join(names)} from defi.lending_reserves_hourly order by hour"
    )
    assert found == expected
    indices = [row[4:] for row in found]
    assert indices == sorted(indices)
