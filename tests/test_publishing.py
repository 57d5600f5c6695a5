"""Publishing: what readers see of days and block ranges, and when the database is replaced."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import pytest

from crypto_assets.catalog import BlockRange, ChainRange
from crypto_assets.errors import StorageError
from crypto_assets.lake import Lake
from crypto_assets.lake.durable import replacing, write_text
from crypto_assets.publishing import publish, published_at

FIRST, SECOND, THIRD = date(2024, 1, 1), date(2024, 1, 2), date(2024, 1, 3)
ONE, TWO = (ChainRange("ethereum", BlockRange(first, first + 9)) for first in (100, 110))
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


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
        "columns": {
            "market": {"data_type": "varchar"},
            "opened_at": {"data_type": "timestamp"},
        },
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
    # What was never published is there, and empty; a view of it comes when it is.
    assert tables(lake) == ["markets.ohlcv", "network.blocks"]
    assert rows(lake, "from markets.ohlcv") == []
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
    assert tables(lake) == ["markets.latest", "markets.new", "markets.ohlcv", "network.blocks"]
    assert rows(lake, "from markets.new") == []
    assert rows(lake, "select opened_at::date from markets.ohlcv") == [(FIRST,)]


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

    monkeypatch.setattr("crypto_assets.publishing.write_text", dies)
    with pytest.raises(KeyboardInterrupt):
        publish(warehouse, lake, BOTH, [FIRST], models={"network.blocks"})
    has_it = killed_at_write == 2
    assert rows(lake, "select count(*) from network.blocks") == [(has_it,)]
    (lake.marts / "network" / "blocks" / f"date={FIRST}.parquet").unlink()
    # As nothing of the chain is published any more, the database is what it was.
    assert publish(warehouse, lake, BOTH, [FIRST], models=VENUES).is_replaced is has_it
    assert rows(lake, "from network.blocks") == []
    publish(warehouse, lake, BOTH, [FIRST], models={"network.blocks"})
    assert rows(lake, "select count(*) from network.blocks") == [(1,)]
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


# --- block ranges --------------------------------------------------------------------------------

_OF_RANGE = {"chain": "varchar", "block_number": "bigint", "amount": "decimal(38, 0)"}


def by_range(name: str) -> dict[str, object]:
    columns = {column: {"data_type": kind} for column, kind in _OF_RANGE.items()}
    return {**model("intermediate", name, meta={"grid": "range"}), "columns": columns}


RANGES = manifest(
    by_range("swaps"),
    by_range("loans"),
    model("defi", "trades", "swaps", "prices", materialized="view"),
    model("defi", "prices"),
)
DECODED = ("intermediate.swaps", "intermediate.loans")
OF_RANGES = {*DECODED, "defi.trades"}


def decode(connection: duckdb.DuckDBPyConnection, *numbers: int, amount: int = 1) -> None:
    """Swaps and loans in some blocks of two chains, and prices that no days are published of."""
    columns = ", ".join(f"{name} {kind}" for name, kind in _OF_RANGE.items())
    connection.execute("create schema if not exists intermediate; create schema if not exists defi")
    for name in DECODED:
        connection.execute(f"create or replace table {name} ({columns})")
        for number in numbers:
            for chain in ("ethereum", "other"):
                connection.execute(f"insert into {name} values (?, ?, ?)", [chain, number, amount])
    connection.execute(
        "create table if not exists defi.prices as "
        "select 'x' as market, now()::timestamp as opened_at"
    )
    connection.execute(
        "create or replace view defi.trades as select swaps.*, prices.opened_at as priced_at "
        "from intermediate.swaps left join defi.prices on prices.market = swaps.chain"
    )


def test_ranges_are_files_of_their_own_beside_tables_that_are_empty_yet(
    lake: Lake, warehouse: duckdb.DuckDBPyConnection
) -> None:
    decode(warehouse, 100, 109, 110)
    done = publish(warehouse, lake, RANGES, [ONE], models=OF_RANGES)
    assert (done.files, done.rows, done.is_replaced) == (2, 4, True)
    assert rows(lake, "select chain, block_number from intermediate.swaps order by all") == [
        ("ethereum", 100),
        ("ethereum", 109),
    ]
    # Prices are made of days, none of which is published; what reads them is there already.
    assert rows(lake, "from defi.prices") == []
    assert rows(lake, "select count(*), count(priced_at) from defi.trades") == [(2, 0)]
    described = rows(lake, "select column_name, data_type from duckdb_columns() "
                           "where schema_name = 'defi' and table_name = 'prices'")  # fmt: skip
    assert described == [("market", "VARCHAR"), ("opened_at", "TIMESTAMP")]
    assert not publish(warehouse, lake, RANGES, [TWO], models=OF_RANGES).is_replaced
    assert rows(lake, "select count(*) from intermediate.swaps") == [(3,)]
    # One that lost its rows, as after a reorganisation, has an empty file.
    decode(warehouse, 110)
    publish(warehouse, lake, RANGES, [ONE], models=OF_RANGES)
    assert rows(lake, "select block_number from intermediate.swaps") == [(110,)]


def test_chains_stand_in_one_table(lake: Lake, warehouse: duckdb.DuckDBPyConnection) -> None:
    """Ranges of the same key, each published without the other."""
    decode(warehouse, 100)
    other = ChainRange("other", ONE.blocks)
    for part in (ONE, other):
        publish(warehouse, lake, RANGES, [part], models=OF_RANGES)
    assert rows(lake, "select chain from intermediate.loans order by all") == [
        ("ethereum",),
        ("other",),
    ]
    decode(warehouse, 101, amount=2)
    publish(warehouse, lake, RANGES, [other], models=OF_RANGES)
    assert rows(lake, "select chain, amount from intermediate.loans order by all") == [
        ("ethereum", 1),
        ("other", 2),
    ]


def test_a_range_is_published_once_all_of_its_tables_are(
    lake: Lake, warehouse: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    started_at = datetime.now(UTC)
    decode(warehouse, 100)
    assert published_at(lake, DECODED, ONE) == LONG_AGO
    files = itertools.count(1)

    def dies(target: Path) -> object:
        if next(files) == 2:
            raise KeyboardInterrupt
        return replacing(target)

    with monkeypatch.context() as patch:
        patch.setattr("crypto_assets.publishing.replacing", dies)
        with pytest.raises(KeyboardInterrupt):
            publish(warehouse, lake, RANGES, [ONE, TWO], models=OF_RANGES)
    assert len([*lake.marts.rglob("range=*.parquet")]) == 1
    assert published_at(lake, DECODED, ONE) == LONG_AGO
    publish(warehouse, lake, RANGES, [ONE], models=OF_RANGES)
    first = published_at(lake, DECODED, ONE)
    # Files have the kernel's time, which may be some milliseconds behind.
    assert first.timestamp() > started_at.timestamp() - 1
    assert published_at(lake, DECODED, TWO) == LONG_AGO
    # Published again and killed in between, it is still of the time before.
    finished_at = max(published_at(lake, [name], ONE) for name in DECODED)
    files = itertools.count(1)
    with monkeypatch.context() as patch:
        patch.setattr("crypto_assets.publishing.replacing", dies)
        with pytest.raises(KeyboardInterrupt):
            publish(warehouse, lake, RANGES, [ONE], models=OF_RANGES)
    assert first <= published_at(lake, DECODED, ONE) <= finished_at
    publish(warehouse, lake, RANGES, [ONE], models=OF_RANGES)
    assert published_at(lake, DECODED, ONE) > finished_at
