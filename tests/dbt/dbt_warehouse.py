"""A tiny warehouse with hand-made raw tables, and the real dbt project run on it in-process."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from dbt.cli.main import dbtRunner, dbtRunnerResult
from dbt.contracts.graph.manifest import Manifest

from crypto_assets.catalog import Chain
from crypto_assets.lake import Lake
from crypto_assets.raw_views import union_views
from crypto_assets.warehouse import CoveredDay, load_chains

PROJECT = Path(__file__).parents[2] / "dbt_project"

RAW_TABLES = """
create schema raw;
create table raw.binance_trades (
    market varchar, date date, id bigint, price decimal(18,8), qty decimal(28,8),
    quote_qty decimal(28,8), time timestamp, is_buyer_maker boolean, is_best_match boolean
);
create table raw.binance_klines (
    market varchar, date date, open_time timestamp, open decimal(18,8), high decimal(18,8),
    low decimal(18,8), close decimal(18,8), volume decimal(28,8), close_time timestamp,
    quote_volume decimal(28,8), count bigint, taker_buy_volume decimal(28,8),
    taker_buy_quote_volume decimal(28,8)
);
create table raw.coinbase_trades (
    market varchar, date date, trade_id bigint, side varchar, size decimal(28,10),
    price decimal(28,10), time timestamp
);
create table raw.coinbase_candles (
    market varchar, date date, open_time timestamp, low decimal(28,10), high decimal(28,10),
    open decimal(28,10), close decimal(28,10), volume decimal(38,24)
);
create table raw.kraken_trades (
    market varchar, date date, trade_id bigint, price decimal(18,10), volume decimal(28,8),
    time timestamp, time_ns bigint, side varchar, order_type varchar, misc varchar
);
create table raw.kraken_ohlc (
    market varchar, date date, open_time timestamp, open decimal(18,10), high decimal(18,10),
    low decimal(18,10), close decimal(18,10), vwap decimal(18,10), volume decimal(28,8),
    count bigint
);
create table raw.ccxt_candles (
    market varchar, date date, open_time timestamp, open decimal(38,18), high decimal(38,18),
    low decimal(38,18), close decimal(38,18), volume decimal(38,24)
);
create table raw.proofs (
    dataset varchar, partition varchar, market varchar, venue varchar, status varchar,
    row_count bigint, source_row_count bigint, first_id bigint, last_id bigint,
    first_at timestamp, last_at timestamp, id_rule varchar, gap_count bigint,
    duplicate_count bigint, content_digest varchar,
    source struct(url varchar, etag varchar, sha256 varchar, bytes bigint)[],
    checks map(varchar, varchar),
    gaps struct(started_at timestamp, ended_at timestamp, reason varchar, evidence varchar)[],
    code_version varchar, fetched_at timestamp, file varchar
);
create table raw.check_results (
    suite varchar, asset varchar, partition varchar, expectation varchar, passed boolean,
    severity varchar, blocking boolean, observed varchar, unexpected_count bigint,
    evaluated_at timestamp, run_id varchar
);
create table raw.covered_days (
    chain varchar, day date, first_block bigint, last_block bigint, slot_seconds bigint
);
create table raw.deployments (
    chain varchar, name varchar, protocol varchar, project varchar, version varchar,
    address blob, fee_pips bigint
);
create table raw.trusted_tokens (
    chain varchar, address blob, symbol varchar, decimals integer, role varchar, asset varchar
);
create table raw.published_index_prices_1m (
    asset varchar, opened_at timestamp, price_usd decimal(28,12), is_contested boolean,
    venue_count bigint
);
create table raw.derived_pools (
    chain varchar, "range" varchar, address varchar, deployment varchar
);
"""


@dataclass(frozen=True)
class Trade:
    """One row of raw.binance_trades; `quote` is what the venue says, price x qty unless given."""

    id: int
    at: datetime
    price: Decimal
    qty: Decimal
    is_buyer_maker: bool = False
    market: str = "BTC-USDT"
    quote: Decimal | None = None

    @property
    def quote_qty(self) -> Decimal:
        return self.price * self.qty if self.quote is None else self.quote


@dataclass(frozen=True)
class Gap:
    """One entry of a proof's `gaps`."""

    started_at: datetime
    ended_at: datetime
    reason: str


class Warehouse:
    """One database file; every call opens and closes it, as the pipeline does."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self._manifest = manifest
        self._has_views = False
        self._has_lake = False
        path.parent.mkdir(exist_ok=True)
        with duckdb.connect(path) as connection:
            connection.execute(RAW_TABLES)
            for name, query in union_views(()).items():
                connection.execute(f"create view {name} as {query}")

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(self.path) as connection:
            return connection.execute(sql).fetchall()

    def add_trades(self, trades: Iterable[Trade]) -> None:
        rows = [
            (t.market, t.at.date(), t.id, t.price, t.qty, t.quote_qty, t.at, t.is_buyer_maker)
            for t in trades
        ]
        with duckdb.connect(self.path) as connection:
            connection.begin()
            connection.executemany(
                "insert into raw.binance_trades values (?, ?, ?, ?, ?, ?, ?, ?, true)", rows
            )
            connection.commit()

    def add_rows(self, dataset: str, rows: Iterable[dict[str, Any]]) -> None:
        """Put rows of any dataset into its raw table; columns that are not named are NULL."""
        with duckdb.connect(self.path) as connection:
            connection.begin()
            for row in rows:
                values = ", ".join("?" * len(row))
                connection.execute(
                    f"insert into raw.{dataset} ({', '.join(row)}) values ({values})",
                    list(row.values()),
                )
            connection.commit()

    def add_proof(
        self,
        dataset: str,
        day: date,
        market: str = "BTC-USDT",
        status: str = "complete",
        gaps: Iterable[Gap] = (),
    ) -> None:
        with duckdb.connect(self.path) as connection:
            connection.execute(
                """
                insert into raw.proofs by name
                select ? as dataset, ? as partition, ? as market, ? as venue, ? as status,
                    1 as row_count, 'digest' as content_digest
                """,
                [dataset, day.isoformat(), market, dataset.partition("_")[0], status],
            )
            for gap in gaps:
                connection.execute(
                    """
                    update raw.proofs set gaps = list_append(gaps, {
                        'started_at': ?, 'ended_at': ?, 'reason': ?, 'evidence': 'no kline'
                    })
                    where dataset = ? and partition = ? and market = ?
                    """,
                    [gap.started_at, gap.ended_at, gap.reason, dataset, day.isoformat(), market],
                )

    def load_chains(self, lake: Lake, days: Sequence[date], *chains: Chain) -> list[CoveredDay]:
        """The raw tables of chains from a lake, as a run over these days has them."""
        with duckdb.connect(self.path) as connection:
            if not self._has_lake:
                # Other tests write prices into it; a lake has a view.
                connection.execute("drop table raw.published_index_prices_1m")
            self._has_lake = True
            return load_chains(connection, lake, days, chains)

    def dbt(self, *arguments: str) -> dbtRunnerResult:
        """Run a dbt command; parsing is done once for the whole session."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CRYPTO_ASSETS_WAREHOUSE", str(self.path))
            return dbtRunner(manifest=self._manifest).invoke(list(arguments))

    def build(
        self,
        first: date | None = None,
        last: date | None = None,
        *arguments: str,
        command: str = "run",
    ) -> dbtRunnerResult:
        """Rebuild the days from `first` to `last` (default: `first` alone; without: every day).

        Without a selection, what is made of venues. Views say the same on every day: making them
        once spares half the time of each build.
        """
        if first is not None:
            window = {"from_day": str(first), "to_day": str(last or first)}
            arguments = ("--vars", json.dumps(window), *arguments)
        builds_all = command == "run" and "--select" not in arguments
        if builds_all:
            views = ["config.materialized:view"] if self._has_views else []
            arguments = (*arguments, "--exclude", "tag:chain", "tag:range", *views)
        result = self.dbt(command, *arguments)
        self._has_views = self._has_views or (builds_all and result.success)
        return result

    def must_build(self, *arguments: Any) -> None:
        result = self.build(*arguments)
        assert result.success, messages(result)


def messages(result: dbtRunnerResult) -> str:
    """Why a dbt command failed."""
    if result.exception is not None:
        return str(result.exception)
    return "\n".join(f"{node.node.name}: {node.message}" for node in result.result)  # type: ignore[union-attr]
