"""Views over the lake, and publishing: what readers see, and when the database is replaced."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from crypto_assets.catalog import MarketDay
from crypto_assets.errors import StorageError
from crypto_assets.lake import Gap, Lake, PartitionWriter
from crypto_assets.lake.durable import write_text
from crypto_assets.sources.binance import TRADES
from crypto_assets.warehouse import attach_raw_views, load_raw, publish

FIRST, SECOND, THIRD = date(2024, 1, 1), date(2024, 1, 2), date(2024, 1, 3)


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


def model(schema: str, name: str, *reads: str, **config: object) -> dict[str, object]:
    return {
        "resource_type": "model",
        "schema": schema,
        "name": name,
        "columns": {"market": {}, "opened_at": {}},
        "depends_on": {"nodes": [f"model.crypto_assets.{read}" for read in reads]},
        "config": {"materialized": "incremental", "event_time": "opened_at", "meta": {}, **config},
    }


def manifest(*models: dict[str, object]) -> dict[str, object]:
    return {"nodes": {f"model.crypto_assets.{node['name']}": node for node in models}}


CANDLES = manifest(
    # A view that is named before what it reads.
    model("markets", "latest", "ohlcv", materialized="view"),
    model("markets", "ohlcv", meta={"lookahead_days": 1}),
)
BOTH = manifest(*CANDLES["nodes"].values(), model("network", "blocks"))  # type: ignore[attr-defined]
VENUES = {"markets.ohlcv", "markets.latest"}


def fill(connection: duckdb.DuckDBPyConnection, *days: date) -> None:
    connection.execute("create schema if not exists markets")
    connection.execute(
        "create table if not exists markets.ohlcv (market varchar, opened_at timestamp)"
    )
    for day in days:
        connection.execute("insert into markets.ohlcv values ('BTC-USDT', ?)", [day])
    connection.execute(
        "create or replace view markets.latest as "
        "select market, max(opened_at) as opened_at from markets.ohlcv group by market"
    )


def rows(lake: Lake, sql: str) -> list[tuple[object, ...]]:
    with duckdb.connect(lake.home / "crypto.duckdb", read_only=True) as connection:
        return connection.execute(sql).fetchall()


def tables(lake: Lake) -> list[str]:
    """What is published beside `raw`."""
    found = rows(
        lake,
        "select table_schema || '.' || table_name from information_schema.tables "
        "where table_schema != 'raw' order by 1",
    )
    return [str(name) for (name,) in found]


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


def test_published_marts_are_files_by_day_and_views_over_them(
    lake: Lake, warehouse: duckdb.DuckDBPyConnection
) -> None:
    fill(warehouse, FIRST, SECOND)
    done = publish(warehouse, lake, CANDLES, [FIRST, SECOND])
    assert (done.files, done.rows, done.is_replaced) == (2, 2, True)
    assert rows(lake, "select count(*) from markets.ohlcv") == [(2,)]
    assert rows(lake, "select opened_at::date from markets.latest") == [(SECOND,)]


def test_the_database_is_replaced_only_when_its_views_change(
    lake: Lake, warehouse: duckdb.DuckDBPyConnection
) -> None:
    fill(warehouse, FIRST)
    assert publish(warehouse, lake, CANDLES, [FIRST]).is_replaced
    inode = (lake.home / "crypto.duckdb").stat().st_ino
    fill(warehouse, SECOND)
    assert not publish(warehouse, lake, CANDLES, [SECOND]).is_replaced
    assert (lake.home / "crypto.duckdb").stat().st_ino == inode
    assert rows(lake, "select count(*) from markets.ohlcv") == [(2,)], "an open view is stale"
    more = manifest(*CANDLES["nodes"].values(), model("markets", "other", "ohlcv"))  # type: ignore[attr-defined]
    warehouse.execute("create table markets.other as from markets.ohlcv")
    assert publish(warehouse, lake, more, [FIRST]).is_replaced


def test_a_day_that_lost_its_rows_is_published_empty(
    lake: Lake, warehouse: duckdb.DuckDBPyConnection
) -> None:
    fill(warehouse, FIRST, SECOND)
    publish(warehouse, lake, CANDLES, [FIRST, SECOND])
    warehouse.execute("delete from markets.ohlcv where opened_at < '2024-01-02'")
    publish(warehouse, lake, CANDLES, [FIRST])
    assert rows(lake, "select opened_at::date from markets.ohlcv") == [(SECOND,)]


def test_the_day_after_is_published_again_where_it_depends_on_the_day(
    lake: Lake, warehouse: duckdb.DuckDBPyConnection
) -> None:
    fill(warehouse, FIRST, SECOND)
    publish(warehouse, lake, CANDLES, [SECOND])
    fill(warehouse, SECOND)
    publish(warehouse, lake, CANDLES, [FIRST])
    assert rows(lake, "select count(*) from markets.ohlcv where opened_at >= '2024-01-02'") == [
        (2,)
    ]
    assert not (lake.marts / "markets" / "ohlcv" / f"date={THIRD}.parquet").exists()


def test_only_the_models_asked_for_are_published_and_the_others_stay(
    lake: Lake, warehouse: duckdb.DuckDBPyConnection
) -> None:
    of_chains = {"network.blocks"}
    fill(warehouse, FIRST)
    warehouse.execute("create schema network")
    warehouse.execute("create table network.blocks as from markets.ohlcv")
    done = publish(warehouse, lake, BOTH, [FIRST], models=of_chains)
    assert (done.files, done.is_replaced) == (1, True)
    assert tables(lake) == ["network.blocks"]
    publish(warehouse, lake, BOTH, [FIRST], models=VENUES)
    assert tables(lake) == ["markets.latest", "markets.ohlcv", "network.blocks"]
    # What the warehouse has of the others may have been refused by a check, or be of another code.
    fill(warehouse, FIRST, SECOND)
    warehouse.execute("create or replace view markets.latest as select 1 as market, 2 as opened_at")
    done = publish(warehouse, lake, BOTH, [FIRST, SECOND], models=of_chains)
    assert (done.files, done.is_replaced) == (2, False)
    assert rows(lake, "select opened_at::date from markets.ohlcv") == [(FIRST,)]
    assert rows(lake, "select opened_at::date from markets.latest") == [(FIRST,)]
    # Neither are they there any less when the warehouse is made anew.
    warehouse.execute("drop schema markets cascade")
    assert not publish(warehouse, lake, BOTH, [FIRST], models=of_chains).is_replaced
    # A model that the project no longer has goes.
    gone = manifest(model("markets", "ohlcv"), model("network", "blocks"))
    assert publish(warehouse, lake, gone, [FIRST], models=of_chains).is_replaced
    assert tables(lake) == ["markets.ohlcv", "network.blocks"]


def test_without_a_record_of_what_was_published_the_files_tell(
    lake: Lake, warehouse: duckdb.DuckDBPyConnection
) -> None:
    more = manifest(*BOTH["nodes"].values(), model("markets", "new"))  # type: ignore[attr-defined]
    fill(warehouse, FIRST)
    publish(warehouse, lake, more, [FIRST])
    (lake.marts / "views.json").unlink()
    warehouse.execute("create table markets.new as from markets.ohlcv")
    publish(warehouse, lake, more, [SECOND], models={"network.blocks"})
    assert tables(lake) == ["markets.latest", "markets.ohlcv"]


@pytest.mark.parametrize("killed_at_write", [1, 2])
def test_a_publishing_that_died_is_made_good_by_the_next_one(
    lake: Lake,
    warehouse: duckdb.DuckDBPyConnection,
    monkeypatch: pytest.MonkeyPatch,
    killed_at_write: int,
) -> None:
    """It dies before or after it replaced the database; either way what was there before stays."""
    fill(warehouse, FIRST)
    publish(warehouse, lake, BOTH, [FIRST])
    warehouse.execute("create schema network")
    warehouse.execute("create table network.blocks as from markets.ohlcv")
    writes = itertools.count(1)

    def dies(path: Path, text: str) -> None:
        if next(writes) == killed_at_write:
            raise KeyboardInterrupt
        write_text(path, text)

    monkeypatch.setattr("crypto_assets.warehouse.write_text", dies)
    with pytest.raises(KeyboardInterrupt):
        publish(warehouse, lake, BOTH, [FIRST], models={"network.blocks"})
    has_it = killed_at_write == 2
    assert ("network.blocks" in tables(lake)) is has_it
    (lake.marts / "network" / "blocks" / f"date={FIRST}.parquet").unlink()
    # As nothing of the chain is published any more, the database is what it was.
    assert publish(warehouse, lake, BOTH, [FIRST], models=VENUES).is_replaced is has_it
    assert tables(lake) == ["markets.latest", "markets.ohlcv"]
    publish(warehouse, lake, BOTH, [FIRST], models={"network.blocks"})
    assert tables(lake) == ["markets.latest", "markets.ohlcv", "network.blocks"]


def test_a_reader_never_sees_a_half_written_day(
    lake: Lake, warehouse: duckdb.DuckDBPyConnection
) -> None:
    fill(warehouse, *[FIRST] * 5000)
    publish(warehouse, lake, CANDLES, [FIRST])
    seen: set[object] = set()
    stop = threading.Event()

    def read() -> None:
        with duckdb.connect(lake.home / "crypto.duckdb", read_only=True) as connection:
            while not stop.is_set():
                seen.update(connection.execute("select count(*) from markets.ohlcv").fetchall())

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(30):
        publish(warehouse, lake, CANDLES, [FIRST])
    stop.set()
    reader.join()
    assert seen == {(5000,)}


def test_a_folder_that_cannot_be_written_is_named(
    lake: Lake, warehouse: duckdb.DuckDBPyConnection
) -> None:
    fill(warehouse, FIRST)
    lake.home.mkdir(parents=True)
    lake.marts.write_text("a file where a folder is needed")
    with pytest.raises(StorageError, match="ohlcv"):
        publish(warehouse, lake, CANDLES, [FIRST])
    assert not (lake.home / "crypto.duckdb").exists()
