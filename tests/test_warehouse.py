"""Views over the lake: what dbt and readers find of it in the schema `raw`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from crypto_assets.catalog import MarketDay
from crypto_assets.lake import Gap, Lake, PartitionWriter
from crypto_assets.sources.binance import TRADES
from crypto_assets.warehouse import attach_raw_views, load_raw

FIRST, SECOND = date(2024, 1, 1), date(2024, 1, 2)


def commit(lake: Lake, day: date, rows: int = 3) -> None:
    start = datetime(day.year, day.month, day.day)
    first = (day - FIRST).days * rows
    batch = pa.RecordBatch.from_pylist(
        [
            {
                "id": first + row,
                "price": Decimal(1),
                "qty": Decimal(2),
                "quote_qty": Decimal(2),
                "time": start.replace(minute=row),
                "is_buyer_maker": True,
                "is_best_match": True,
            }
            for row in range(rows)
        ],
        schema=TRADES.schema,
    )
    part = MarketDay(TRADES.name, "BTC-USDT", day)
    with PartitionWriter(lake, TRADES, part) as writer:
        writer.write(batch)
        writer.commit(
            status="complete",
            source_row_count=rows,
            source=(),
            checks={"checksum_equals_published": "passed"},
            gaps=(
                Gap(
                    started_at=datetime(2024, 1, 1, 12, tzinfo=UTC),
                    ended_at=datetime(2024, 1, 1, 13, tzinfo=UTC),
                    reason="venue_halt",
                    evidence="it's said",
                ),
            ),
        )


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "o'clock home")


@pytest.fixture
def warehouse() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def test_an_empty_lake_has_empty_views_of_the_right_columns(
    lake: Lake, warehouse: duckdb.DuckDBPyConnection
) -> None:
    attach_raw_views(warehouse, lake)
    described = warehouse.execute("describe raw.binance_trades").fetchall()
    assert [(name, kind) for name, kind, *_ in described][:4] == [
        ("market", "VARCHAR"),
        ("date", "DATE"),
        ("id", "BIGINT"),
        ("price", "DECIMAL(18,8)"),
    ]
    for table in ("binance_trades", "binance_klines", "proofs", "check_results"):
        assert warehouse.execute(f"select count(*) from raw.{table}").fetchall() == [(0,)]


def test_an_empty_view_has_the_columns_that_a_filled_one_has(
    lake: Lake, warehouse: duckdb.DuckDBPyConnection
) -> None:
    attach_raw_views(warehouse, lake)
    empty = {t: warehouse.execute(f"describe raw.{t}").fetchall() for t in ("proofs",)}
    empty |= {t: warehouse.execute(f"describe raw.{t}").fetchall() for t in ("binance_trades",)}
    commit(lake, FIRST)
    attach_raw_views(warehouse, lake)
    for table, columns in empty.items():
        filled = warehouse.execute(f"describe raw.{table}").fetchall()
        assert [row[:2] for row in filled] == [row[:2] for row in columns], table


def test_proofs_are_read_from_the_files_whatever_the_session_s_zone(
    lake: Lake, warehouse: duckdb.DuckDBPyConnection
) -> None:
    commit(lake, FIRST)
    warehouse.execute("set timezone = 'America/New_York'")
    attach_raw_views(warehouse, lake)
    found = warehouse.execute(
        "select market, row_count, first_at, gaps[1].started_at, gaps[1].reason, "
        "checks['checksum_equals_published'], length(content_digest) from raw.proofs"
    ).fetchall()
    midnight, noon = datetime(2024, 1, 1), datetime(2024, 1, 1, 12)
    assert found == [("BTC-USDT", 3, midnight, noon, "venue_halt", "passed", 64)]


def test_the_warehouse_keeps_proofs_of_other_days_and_reads_these_again(
    lake: Lake, warehouse: duckdb.DuckDBPyConnection
) -> None:
    commit(lake, FIRST)
    load_raw(warehouse, lake, [FIRST])
    commit(lake, SECOND, rows=3)
    load_raw(warehouse, lake, [SECOND])
    load_raw(warehouse, lake, [SECOND])
    found = warehouse.execute("select partition from raw.proofs order by 1").fetchall()
    assert found == [("2024-01-01",), ("2024-01-02",)]
    lake.file(MarketDay(TRADES.name, "BTC-USDT", SECOND)).unlink()
    load_raw(warehouse, lake, [SECOND])
    assert warehouse.execute("select partition from raw.proofs").fetchall() == [("2024-01-01",)]
