"""Candles of many days in one run: the dbt model of one minute beside bare SQL on the same Parquet.

The lake is a real one, written and proven by `PartitionWriter`; dbt is called as its asset does.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa

from benchmarks.alone import alone
from benchmarks.report import Line, Scale, note, ratio
from benchmarks.trades import FIRST_ID, trades_query
from crypto_assets.assets.dbt import (
    DBT_BUILD,
    OF_CHAINS,
    OF_RANGES,
    days_window,
    dbt_cli,
    rebuilding,
)
from crypto_assets.catalog import MarketDay
from crypto_assets.lake import Lake, PartitionWriter
from crypto_assets.settings import Profile, Settings, export_to_dbt
from crypto_assets.sources.binance import TRADES
from crypto_assets.warehouse import load_raw

# The contract's order, and one that is enough for a venue whose ids grow with time.
BY_TIME, BY_ID = "(time, id)", "id"
_FIRST_DAY = date(2024, 1, 1)
_MODEL = "model.crypto_assets.ohlcv_1m"

# What an analyst would write for the same columns: trades in order of time and id, exact sums. A
# quotient of DuckDB is a DOUBLE, so only its vwap is cheaper than the model's.
_BARE = """
    create table candles as
    select
        'binance' as venue,
        market,
        time_bucket(interval '1 minute', time) as opened_at,
        arg_min(price, {order}) as open,
        max(price) as high,
        min(price) as low,
        arg_max(price, {order}) as close,
        sum(qty) as volume,
        sum(quote_qty) as quote_volume,
        sum(quote_qty) / sum(qty) as vwap,
        count(*) as trade_count,
        coalesce(sum(qty) filter (where not is_buyer_maker), 0) as taker_buy_volume,
        coalesce(sum(quote_qty) filter (where not is_buyer_maker), 0) as taker_buy_quote_volume,
        min(id) as first_trade_id,
        max(id) as last_trade_id,
    from read_parquet('{files}', hive_partitioning = true)
    group by all
    order by opened_at, venue, market
"""


def measure(scale: Scale, folder: Path) -> Iterator[Line]:
    """The model's time, and what the dbt command around it takes."""
    log = folder / "log"
    days = [_FIRST_DAY + timedelta(days=nth) for nth in range(scale.candle_days)]
    alone(log, fill_lake, folder, days, scale.trades_per_day)
    models, commands, rebuilds, bare, by_id = [], [], [], [], []
    for nth in range(scale.repeats):
        (model, command), _ = alone(log, run_dbt, folder, days)
        bare.append(alone(log, run_bare, folder, f"bare-{nth}.duckdb", BY_TIME)[0])
        by_id.append(alone(log, run_bare, folder, f"by-id-{nth}.duckdb", BY_ID)[0])
        alone(log, compare, folder, f"bare-{nth}.duckdb")
        (rebuild, _), _ = alone(log, run_dbt, folder, days)
        models.append(model)
        commands.append(command)
        rebuilds.append(rebuild)
        _settings(folder).home.joinpath("warehouse.duckdb").unlink()
    count = scale.trades_per_day * len(days)
    name = f"1-minute candles of {len(days)} days ({count:,} trades), one run"
    yield ratio(name, min(models), min(bare), "bare SQL", at_most=1.5)
    yield note(
        "the same beside bare SQL that orders by id alone",
        f"{min(models):.2f} s",
        f"bare SQL {min(by_id):.2f} s ({min(models) / min(by_id):.2f} x)",
    )
    yield note("the same days built again", f"{min(rebuilds):.2f} s")
    yield note("the whole dbt command, all models and tests", f"{min(commands):.2f} s")


def fill_lake(folder: Path, days: list[date], count: int) -> None:
    """Write and prove days of trades of one market."""
    lake = Lake(_settings(folder).home)
    first_id = FIRST_ID
    for day in days:
        rows = duckdb.sql(
            f"select * exclude (time_ms), make_timestamp(time_ms * 1000) as time "
            f"from ({trades_query(day, count, first_id)})"
        ).to_arrow_table()
        table = pa.table([rows[name] for name in TRADES.schema.names], schema=TRADES.schema)
        with PartitionWriter(lake, TRADES, MarketDay(TRADES.name, "BTC-USDT", day)) as writer:
            for batch in table.combine_chunks().to_batches():
                writer.write(batch)
            writer.commit(status="complete", source_row_count=count, source=(), checks={})
        first_id += count


def run_dbt(folder: Path, days: list[date]) -> tuple[float, float]:
    """Seconds of the model, as dbt reports them, and of the whole command."""
    settings = _settings(folder)
    with duckdb.connect(settings.home / "warehouse.duckdb") as connection:
        load_raw(connection, Lake(settings.home), days)
    export_to_dbt(settings)
    target = settings.home / "dbt" / "run"
    started = time.perf_counter()
    of_venues = [*DBT_BUILD, "--exclude", f"{OF_CHAINS} {OF_RANGES}"]
    with rebuilding(days_window(days)):
        command = dbt_cli().cli(of_venues, target_path=target)
    command.wait()
    seconds = time.perf_counter() - started
    results = json.loads((target / "run_results.json").read_text(encoding="utf-8"))["results"]
    (model,) = (result for result in results if result["unique_id"] == _MODEL)
    return float(model["execution_time"]), seconds


def run_bare(folder: Path, database: str, order: str) -> float:
    """Seconds of one statement that builds the same candles into a new database file."""
    files = f"{Lake(_settings(folder).home).raw}/{TRADES.name}/*/*/*.parquet"
    with duckdb.connect(folder / database) as connection:
        started = time.perf_counter()
        connection.execute(_BARE.format(files=files, order=order))
        return time.perf_counter() - started


def compare(folder: Path, database: str) -> None:
    """Both sides built the same candles."""
    exact = "* exclude (vwap)"
    with duckdb.connect(_settings(folder).home / "warehouse.duckdb") as connection:
        connection.execute(f"attach '{folder / database}' as bare (read_only)")
        found = connection.execute(
            f"""
            select count(*), count(*) filter (where ours is distinct from bare)
            from (select {exact} from markets.ohlcv_1m) as ours
            full join (select {exact} from bare.candles) as bare using (venue, market, opened_at)
            """
        ).fetchall()
    if found[0][0] == 0 or found[0][1]:
        raise AssertionError(f"{found[0][1]} of {found[0][0]} candles differ")


def _settings(folder: Path) -> Settings:
    return Settings(profile=Profile.SANDBOX, data_dir=folder / "data", catalog=None)
