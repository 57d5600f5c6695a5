"""What a run over days of chains loads: the days each covers, and blocks of these days alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from chain_days import ETHEREUM, OTHER, SLOT, Block, Tx, at, block_hash, commit, every
from lake.days import PART as DAY_PART
from lake.days import commit as commit_day
from lake.days import trades

from crypto_assets.catalog import KINDS, BlockRange, Chain, ChainRange
from crypto_assets.checks.results import write_results
from crypto_assets.lake import Lake, mark_stale
from crypto_assets.publishing import publish, publish_views
from crypto_assets.sources.evm_calls import all_datasets
from crypto_assets.sources.evm_rows import datasets
from crypto_assets.warehouse import CoveredDay, attach_raw_views, load_chains, load_raw

DAY = date(2024, 1, 1)
BEFORE, AFTER = DAY - timedelta(days=1), DAY + timedelta(days=1)
HOUR = timedelta(hours=1)
# 40 blocks an hour apart: ten on the day before, 24 on the day, six on the day after.
HOURLY = every(HOUR, at(BEFORE, "14:00:00"), range(100, 140), transactions=(Tx(logs=2),))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "o'clock home")


@pytest.fixture
def warehouse() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def table(connection: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[Any, ...]]:
    return connection.execute(sql).fetchall()


def covered(connection: duckdb.DuckDBPyConnection) -> list[tuple[Any, ...]]:
    return table(connection, "select * from raw.covered_days order by all")


def in_ranges(connection: duckdb.DuckDBPyConnection, relation: str) -> list[tuple[Any, ...]]:
    return table(
        connection,
        f'select chain, "range", count(*) from raw.{relation} group by all order by all',
    )


def test_an_empty_lake_has_empty_views_and_covers_nothing(
    lake: Lake, warehouse: duckdb.DuckDBPyConnection
) -> None:
    assert load_chains(warehouse, lake, [DAY], [ETHEREUM, OTHER]) == []
    for kind in KINDS:
        assert in_ranges(warehouse, f"chain_{kind}") == []
        columns = [name for name, *_ in table(warehouse, f"describe raw.chain_{kind}")]
        own = [name for name, *_ in table(warehouse, f"describe raw.{ETHEREUM.dataset(kind)}")]
        assert columns == ["chain", *own]
        assert own[0] == "range"
    assert covered(warehouse) == []


def test_the_unions_have_the_same_columns_whatever_there_is(
    lake: Lake, warehouse: duckdb.DuckDBPyConnection
) -> None:
    """No chain in the catalogue, chains without a file, one with files."""
    both = [*datasets(ETHEREUM), *datasets(OTHER)]
    described = []
    for chains, blocks in (((), []), (both, []), (both, HOURLY)):
        commit(lake, ETHEREUM, blocks)
        attach_raw_views(warehouse, lake, chains=chains)
        described.append([table(warehouse, f"describe raw.chain_{kind}") for kind in KINDS])
    assert described[0] == described[1] == described[2]
    assert in_ranges(warehouse, "chain_logs") == [
        ("ethereum", f"{first:09}-{first + 9:09}", 20) for first in range(100, 140, 10)
    ]


def test_a_day_is_loaded_with_the_ranges_that_hold_it_and_those_beside(
    lake: Lake, warehouse: duckdb.DuckDBPyConnection
) -> None:
    later = every(HOUR, HOURLY[-1].at + HOUR, range(140, 200), transactions=(Tx(logs=2),))
    commit(lake, ETHEREUM, [*HOURLY, *later])
    found = load_chains(warehouse, lake, [DAY], [ETHEREUM])
    assert found == [CoveredDay("ethereum", DAY, 110, 139, 12)]
    assert covered(warehouse) == [("ethereum", DAY, 110, 139, 12)]
    ranges = ["000000100-000000109", "000000110-000000119", "000000120-000000129",
              "000000130-000000139", "000000140-000000149"]  # fmt: skip
    for kind, rows in zip(KINDS, (10, 10, 20), strict=True):
        assert in_ranges(warehouse, f"chain_{kind}") == [("ethereum", key, rows) for key in ranges]
    load_chains(warehouse, lake, [DAY, AFTER], [ETHEREUM])
    assert covered(warehouse) == [
        ("ethereum", DAY, 110, 139, 12),
        ("ethereum", AFTER, 130, 159, 12),
    ]
    # The days of this run only.
    load_chains(warehouse, lake, [AFTER], [ETHEREUM])
    assert covered(warehouse) == [("ethereum", AFTER, 130, 159, 12)]


@pytest.mark.parametrize(
    ("first_at", "last_at", "is_covered"),
    [
        # Ten blocks; the range must hold one before the day and one after it.
        (at(BEFORE, "23:59:59"), at(AFTER), True),
        (at(DAY), at(AFTER), False),
        (at(BEFORE, "23:59:59"), at(DAY, "23:59:59"), False),
    ],
)
def test_a_day_is_covered_by_a_block_before_it_and_one_after(
    lake: Lake,
    warehouse: duckdb.DuckDBPyConnection,
    first_at: datetime,
    last_at: datetime,
    is_covered: bool,
) -> None:
    blocks = every(HOUR, first_at, range(100, 109))
    commit(lake, ETHEREUM, [*blocks, Block(109, last_at)])
    expected = [CoveredDay("ethereum", DAY, 100, 109, 12)] if is_covered else []
    assert load_chains(warehouse, lake, [DAY], [ETHEREUM]) == expected
    assert len(in_ranges(warehouse, "chain_blocks")) == 1


def test_one_chain_covers_a_day_and_another_does_not(
    lake: Lake, warehouse: duckdb.DuckDBPyConnection
) -> None:
    """Both have ranges of the same keys, and blocks of the day."""
    commit(lake, ETHEREUM, HOURLY)
    commit(lake, OTHER, HOURLY[:20])
    commit(lake, OTHER, HOURLY[30:])
    assert load_chains(warehouse, lake, [DAY], [ETHEREUM, OTHER]) == [
        CoveredDay("ethereum", DAY, 110, 139, 12)
    ]
    assert in_ranges(warehouse, "chain_blocks") == [
        *(("ethereum", f"{first:09}-{first + 9:09}", 10) for first in range(100, 140, 10)),
        *(("other", f"{first:09}-{first + 9:09}", 10) for first in (100, 110, 130)),
    ]
    # Each keeps the proofs of its own.
    assert proofs(warehouse) == proofs_of(ETHEREUM, 100, 110, 120, 130) + proofs_of(
        OTHER, 100, 110, 130
    )
    commit(lake, OTHER, HOURLY[20:30])
    assert load_chains(warehouse, lake, [DAY], [ETHEREUM, OTHER]) == [
        CoveredDay("ethereum", DAY, 110, 139, 12),
        CoveredDay("other", DAY, 110, 139, None),
    ]


def test_a_stale_range_is_not_there(lake: Lake, warehouse: duckdb.DuckDBPyConnection) -> None:
    of_blocks = commit(lake, ETHEREUM, HOURLY)
    mark_stale(lake, of_blocks[2], "reorganised out")
    assert load_chains(warehouse, lake, [DAY], [ETHEREUM]) == []
    assert [key for _, key, _ in in_ranges(warehouse, "chain_transactions")] == [
        of_blocks[at].partition for at in (0, 1, 3)
    ]
    commit(lake, ETHEREUM, HOURLY[20:30])
    assert [found.day for found in load_chains(warehouse, lake, [DAY], [ETHEREUM])] == [DAY]


def test_a_day_on_which_the_chain_stood_still_is_covered_without_a_block(
    lake: Lake, warehouse: duckdb.DuckDBPyConnection
) -> None:
    commit(lake, ETHEREUM, every(HOUR, at(BEFORE), range(100, 110)))
    commit(lake, ETHEREUM, every(HOUR, at(AFTER), range(110, 120)))
    assert load_chains(warehouse, lake, [DAY], [ETHEREUM]) == [
        CoveredDay("ethereum", DAY, None, None, 12)
    ]


def proofs(connection: duckdb.DuckDBPyConnection) -> list[tuple[Any, ...]]:
    return table(
        connection, "select dataset, partition from raw.proofs order by dataset, partition"
    )


def proofs_of(chain: Chain, *firsts: int) -> list[tuple[str, str]]:
    return sorted(
        (chain.dataset(kind), chain.range_of(first).key) for kind in KINDS for first in firsts
    )


def test_proofs_of_the_run_s_ranges_are_read_again_and_others_kept(
    lake: Lake, warehouse: duckdb.DuckDBPyConnection
) -> None:
    commit_day(lake, trades())
    commit(lake, ETHEREUM, HOURLY[:20])
    of_day = ("binance_trades", DAY_PART.partition)
    # Whichever run is the first one makes the table of all there is.
    load_raw(warehouse, lake, [DAY_PART.day], chains=datasets(ETHEREUM))
    assert proofs(warehouse) == [of_day, *proofs_of(ETHEREUM, 100, 110)]
    commit(lake, ETHEREUM, HOURLY[20:])
    load_raw(warehouse, lake, [DAY_PART.day], chains=datasets(ETHEREUM))
    assert proofs(warehouse) == [of_day, *proofs_of(ETHEREUM, 100, 110)]
    for _ in range(2):
        load_chains(warehouse, lake, [DAY], [ETHEREUM])
        assert proofs(warehouse) == [of_day, *proofs_of(ETHEREUM, 100, 110, 120, 130)]
    for kind in KINDS:
        lake.file(ChainRange("ethereum", BlockRange(120, 129)).of(kind)).unlink()
    (refetched,) = commit(lake, ETHEREUM, HOURLY[30:], fork=1)
    load_chains(warehouse, lake, [DAY], [ETHEREUM])
    assert proofs(warehouse) == [of_day, *proofs_of(ETHEREUM, 100, 110, 130)]
    assert table(
        warehouse,
        "select content_digest from raw.proofs "
        f"where dataset = 'ethereum_blocks' and partition = '{refetched.partition}'",
    ) == [(refetched.content_digest,)]


def test_a_chains_run_that_comes_first_makes_the_table_of_all_proofs(
    lake: Lake, warehouse: duckdb.DuckDBPyConnection
) -> None:
    commit_day(lake, trades())
    commit(lake, ETHEREUM, HOURLY)
    load_chains(warehouse, lake, [BEFORE], [ETHEREUM])
    of_day = ("binance_trades", DAY_PART.partition)
    assert proofs(warehouse) == [of_day, *proofs_of(ETHEREUM, 100, 110, 120, 130)]


def test_ranges_of_other_days_are_not_looked_at(
    lake: Lake, warehouse: duckdb.DuckDBPyConnection
) -> None:
    later = every(SLOT, HOURLY[-1].at + HOUR, range(140, 160))
    commit(lake, ETHEREUM, [*HOURLY, *later])
    load_chains(warehouse, lake, [BEFORE], [ETHEREUM])
    for kind in KINDS:
        lake.file(ChainRange("ethereum", BlockRange(150, 159)).of(kind)).write_text("no Parquet")
    found = load_chains(warehouse, lake, [DAY], [ETHEREUM])
    assert [one.day for one in found] == [DAY]
    assert len(in_ranges(warehouse, "chain_blocks")) == 5
    hashes = table(warehouse, "select distinct hash from raw.chain_blocks where number = 120")
    assert hashes == [(block_hash(120),)]


# --- what crypto.duckdb shows of ranges that cover no day yet ------------------------------------


def published(lake: Lake, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(lake.home / "crypto.duckdb", read_only=True) as connection:
        return table(connection, sql)


def test_ranges_are_shown_once_collected_beside_marts_that_stay(
    lake: Lake, warehouse: duckdb.DuckDBPyConnection
) -> None:
    """A venue is published before the chain has its first range, and a reader keeps that open."""
    prices = {
        "resource_type": "model",
        "schema": "markets",
        "name": "prices",
        "columns": {"opened_at": {"data_type": "timestamp"}},
        "depends_on": {"nodes": []},
        "config": {"materialized": "incremental", "event_time": "opened_at", "meta": {}},
    }
    trades_of = {**prices, "name": "trades", "config": {"materialized": "view"}}
    manifest = {"nodes": {"prices": prices, "trades": trades_of}}
    commit_day(lake, trades())
    load_raw(warehouse, lake, [DAY])
    warehouse.execute("create schema markets")
    warehouse.execute(f"create table markets.prices as select timestamp '{DAY}' as opened_at")
    warehouse.execute("create view markets.trades as select id from raw.binance_trades")
    of_all = [*all_datasets(ETHEREUM), *all_datasets(OTHER)]
    publish(warehouse, lake, manifest, [DAY], chains=of_all)
    marts = published(
        lake, "select (select count(*) from markets.trades), opened_at from markets.prices"
    )

    with duckdb.connect(lake.home / "crypto.duckdb") as reader:
        assert table(reader, "select count(*) from raw.ethereum_blocks") == [(0,)]
        commit(lake, ETHEREUM, HOURLY)
        assert publish_views(lake, [ETHEREUM, OTHER])
        assert table(reader, "select opened_at from markets.prices") == [(at(DAY),)]

    assert published(lake, "select count(*) from raw.ethereum_blocks") == [(40,)]
    assert published(lake, "select count(*) from raw.chain_logs") == [(80,)]
    assert published(lake, "select count(*) from raw.proofs where venue = 'ethereum'") == [(12,)]
    assert marts == published(
        lake, "select (select count(*) from markets.trades), opened_at from markets.prices"
    )
    assert not publish_views(lake, [ETHEREUM, OTHER])
    # The next publishing finds nothing to change either.
    assert not publish(warehouse, lake, manifest, [DAY], chains=of_all).is_replaced


def test_a_fresh_lake_is_shown_with_the_results_of_checks_that_are_made_later(lake: Lake) -> None:
    commit(lake, ETHEREUM, HOURLY)
    assert publish_views(lake, [ETHEREUM])
    assert published(lake, "select count(*) from raw.ethereum_transactions") == [(40,)]
    assert published(lake, "from raw.check_results") == []
    result = {
        "suite": "ranges",
        "asset": "raw/ethereum_blocks",
        "partition": "000000100-000000109",
        "expectation": "none is missing",
        "passed": True,
        "severity": "ERROR",
        "blocking": True,
        "observed": "{}",
        "unexpected_count": 0,
        "evaluated_at": at(DAY),
        "run_id": "run",
    }
    write_results(lake, "ranges", "range", "000000100-000000109", [result])
    assert not publish_views(lake, [ETHEREUM])
    assert published(lake, "select expectation from raw.check_results") == [("none is missing",)]


def test_what_an_earlier_version_published_is_left_to_the_next_publishing(
    lake: Lake, warehouse: duckdb.DuckDBPyConnection
) -> None:
    publish(warehouse, lake, {"nodes": {}}, [])
    (lake.marts / "views.json").unlink()
    before = (lake.home / "crypto.duckdb").read_bytes()
    commit(lake, ETHEREUM, HOURLY)
    assert not publish_views(lake, [ETHEREUM])
    assert (lake.home / "crypto.duckdb").read_bytes() == before
    publish(warehouse, lake, {"nodes": {}}, [], chains=datasets(ETHEREUM))
    assert published(lake, "select count(*) from raw.ethereum_blocks") == [(40,)]


def test_runs_that_publish_at_once_lose_nothing_of_each_other(lake: Lake) -> None:
    """Datasets that get their first file one after the other, each made visible by its own run."""
    chains = [ETHEREUM.model_copy(update={"name": f"chain_{number}"}) for number in range(8)]

    def collect(chain: Chain) -> None:
        commit(lake, chain, HOURLY[:10])
        publish_views(lake, chains)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(collect, chains))
    counted = published(lake, "select chain, count(*) from raw.chain_blocks group by all")
    assert sorted(counted) == [(chain.name, 10) for chain in chains]


def test_figures_for_nothing_new_among_3_000_ranges(
    lake: Lake, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prints what each run of a chain pays to find that nothing has to be published."""
    commit(lake, ETHEREUM, HOURLY)
    for kind in KINDS:
        for first in range(1000, 31_000, 10):
            part = ChainRange(ETHEREUM.name, ETHEREUM.range_of(first)).of(kind)
            lake.file(part).parent.mkdir()
            of_first = ChainRange(ETHEREUM.name, ETHEREUM.range_of(100)).of(kind)
            lake.file(part).hardlink_to(lake.file(of_first))
    told = []
    for expected in (True, False):
        started = time.perf_counter()
        assert publish_views(lake, [ETHEREUM]) is expected
        told.append(f"{time.perf_counter() - started:.2f} s")
    with capsys.disabled():
        print(f"\n3,000 ranges: published in {told[0]}, nothing new in {told[1]}")
