"""Views over block ranges: whole ones only, whatever a killed run left, and cheap for many."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import pytest
from lake.chain import CHAIN, DATASETS, PART, child_killed_at_move, commit, part_of, rows_of
from lake.days import PART as DAY_PART
from lake.days import commit as commit_day
from lake.days import trades
from processes import JOIN_SECONDS, PROCESSES

from crypto_assets.catalog import KINDS, ChainRange
from crypto_assets.lake import Lake, find_range
from crypto_assets.publishing import publish
from crypto_assets.warehouse import attach_raw_views, load_raw

# Not a neighbour of PART, which may so be replaced by another fork.
OTHER = PART.beside(2)
TABLES = [f"raw.{CHAIN.dataset(kind)}" for kind in KINDS]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "o'clock range=home")


@pytest.fixture
def warehouse() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def counts(connection: duckdb.DuckDBPyConnection, where: str = "true") -> list[int]:
    return [
        connection.execute(f"select count(*) from {table} where {where}").fetchall()[0][0]
        for table in TABLES
    ]


def proofs(connection: duckdb.DuckDBPyConnection) -> list[tuple[Any, ...]]:
    return connection.execute("select dataset, partition from raw.proofs order by all").fetchall()


def proofs_of(*parts: ChainRange) -> list[tuple[str, str]]:
    return sorted((CHAIN.dataset(kind), part.partition) for kind in KINDS for part in parts)


def test_an_empty_lake_has_the_columns_that_a_filled_one_has(
    lake: Lake, warehouse: duckdb.DuckDBPyConnection
) -> None:
    attach_raw_views(warehouse, lake, chains=DATASETS)
    tables = [*TABLES, "raw.proofs"]
    empty = [warehouse.execute(f"describe {table}").fetchall() for table in tables]
    assert counts(warehouse) == [0, 0, 0]
    assert [row[:2] for row in empty[0]] == [
        ("range", "VARCHAR"),
        ("number", "BIGINT"),
        ("timestamp", "TIMESTAMP"),
        ("hash", "BLOB"),
        ("parent_hash", "BLOB"),
    ]
    commit(lake)
    attach_raw_views(warehouse, lake, chains=DATASETS)
    filled = [warehouse.execute(f"describe {table}").fetchall() for table in tables]
    assert filled == empty
    assert counts(warehouse) == [10, 16, 24]


def test_proofs_of_days_and_ranges_stand_in_one_table(
    lake: Lake, warehouse: duckdb.DuckDBPyConnection
) -> None:
    commit_day(lake, trades())
    blocks = commit(lake, asked='[1,"full"]')["blocks"]
    attach_raw_views(warehouse, lake, chains=DATASETS)
    assert proofs(warehouse) == [("binance_trades", DAY_PART.partition), *proofs_of(PART)]
    found = warehouse.execute(
        'select market, venue, row_count, first_id, last_id, parent_hash, last_hash, "group", '
        "checks['roots'], asked from raw.proofs where dataset = 'ethereum_logs'"
    ).fetchall()
    hashes = blocks.parent_hash, blocks.last_hash
    assert found == [("", "ethereum", 24, 100, 109, *hashes, blocks.group, "passed", '[1,"full"]')]
    days = warehouse.execute(
        "select parent_hash, \"group\", asked from raw.proofs where market != ''"
    )
    assert days.fetchall() == [(None, {}, None)]


@pytest.mark.parametrize("present", [KINDS[1:], KINDS[1:2], KINDS[2:]])
def test_what_has_no_commit_record_is_not_shown(
    lake: Lake, warehouse: duckdb.DuckDBPyConnection, present: tuple[Any, ...]
) -> None:
    commit(lake)
    commit(lake, part=OTHER)
    for kind in set(KINDS) - set(present):
        lake.file(OTHER.of(kind)).unlink()
    for ranges in (None, [PART.blocks, OTHER.blocks]):
        attach_raw_views(warehouse, lake, chains=DATASETS, ranges=ranges)
        assert counts(warehouse) == [10, 16, 24]
        assert proofs(warehouse) == proofs_of(PART)
    lake.file(PART.of("blocks")).unlink()
    # Not even where no range at all is committed.
    attach_raw_views(warehouse, lake, chains=DATASETS)
    assert counts(warehouse) == [0, 0, 0]
    assert proofs(warehouse) == []


@pytest.mark.parametrize("move", range(5))
def test_a_view_that_is_open_shows_no_half_of_a_commit_that_was_killed(
    lake: Lake, warehouse: duckdb.DuckDBPyConnection, move: int
) -> None:
    commit(lake)
    commit(lake, part=OTHER)
    attach_raw_views(warehouse, lake, chains=DATASETS)
    child = PROCESSES.Process(target=child_killed_at_move, args=(lake.home, 1, move))
    child.start()
    child.join(JOIN_SECONDS)
    is_there = find_range(lake, PART) is not None
    assert is_there is (move in {0, 4})
    assert counts(warehouse) == ([20, 32, 48] if is_there else [10, 16, 24])
    # A log's first topic is the hash of its block, so rows of two commits would not match.
    torn = warehouse.execute(
        "select count(*) from raw.ethereum_logs as logs anti join raw.ethereum_blocks as blocks "
        "on logs.block_number = blocks.number and coalesce(logs.topic0, blocks.hash) = blocks.hash"
    ).fetchall()
    assert torn == [(0,)]
    commit(lake, rows_of(fork=1))
    assert counts(warehouse) == [20, 32, 48]


def test_only_the_ranges_asked_for_are_read(
    lake: Lake, warehouse: duckdb.DuckDBPyConnection
) -> None:
    commit(lake)
    commit(lake, part=OTHER)
    for kind in KINDS:
        lake.file(OTHER.of(kind)).write_text("not Parquet")
    attach_raw_views(warehouse, lake, [], chains=DATASETS, ranges=[PART.blocks])
    assert counts(warehouse) == [10, 16, 24]
    assert proofs(warehouse) == proofs_of(PART)
    attach_raw_views(warehouse, lake, [], chains=DATASETS, ranges=[])
    assert counts(warehouse) == [0, 0, 0]
    assert proofs(warehouse) == []


def test_a_table_of_an_earlier_version_is_built_anew(
    lake: Lake, warehouse: duckdb.DuckDBPyConnection
) -> None:
    commit(lake)
    warehouse.execute("create schema raw")
    warehouse.execute("create table raw.proofs (dataset varchar, partition varchar)")
    load_raw(warehouse, lake, [], chains=DATASETS)
    assert proofs(warehouse) == proofs_of(PART)


def test_readers_see_whole_ranges_while_one_is_replaced(
    lake: Lake, warehouse: duckdb.DuckDBPyConnection
) -> None:
    commit(lake)
    commit(lake, part=OTHER)
    publish(warehouse, lake, {"nodes": {}}, [], chains=DATASETS)
    seen: set[Any] = set()
    stop = threading.Event()

    def read() -> None:
        query = "select count(*), count(distinct block_number) from raw.ethereum_logs"
        with duckdb.connect(lake.home / "crypto.duckdb", read_only=True) as connection:
            while not stop.is_set():
                seen.update(connection.execute(query).fetchall())

    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(read)
        for _ in range(20):
            commit(lake)
        stop.set()
        reader.result()
    assert seen <= {(48, 16), (24, 8)}
    assert (48, 16) in seen


def test_figures_for_25_000_ranges(
    lake: Lake, warehouse: duckdb.DuckDBPyConnection, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every range of mainnet. Prints what a query waits for; asserts no time."""
    commit(lake)
    for kind in ("blocks", "logs"):
        for number in range(25_000):
            path = lake.file(part_of(number * 10).of(kind))
            path.parent.mkdir(exist_ok=True)
            if not path.exists():
                path.hardlink_to(lake.file(PART.of(kind)))
    told = []

    def measure(what: str, call: Callable[[], object]) -> None:
        started = time.perf_counter()
        call()
        told.append(f"{what} {time.perf_counter() - started:.1f} s")

    def query(sql: str) -> Callable[[], object]:
        return lambda: warehouse.execute(sql).fetchall()

    measure("views", lambda: attach_raw_views(warehouse, lake, [], chains=DATASETS))
    logs, one = TABLES[2], f"\"range\" = '{PART.partition}'"
    measure("logs of one range", query(f"select count(data) from {logs} where {one}"))
    files = f"{lake.raw}/ethereum_logs/range=*/*.parquet".replace("'", "''")
    plain = f"read_parquet('{files}', hive_types={{'range': VARCHAR}})"
    measure("without the view", query(f"select count(data) from {plain} where {one}"))
    some = [part_of(number * 10).blocks for number in range(8)]
    measure(
        "views of 8 ranges",
        lambda: attach_raw_views(warehouse, lake, [], chains=DATASETS, ranges=some),
    )
    measure("their logs", query(f"select count(data) from {logs}"))
    with capsys.disabled():
        print(f"\n25,000 ranges in views: {', '.join(told)}")
