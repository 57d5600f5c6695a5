"""What the project promises without data: names, contracts, documentation."""

from __future__ import annotations

from typing import Any

import duckdb
import pytest
from dbt.contracts.graph.manifest import Manifest
from dbt.contracts.graph.nodes import ModelNode

from crypto_assets.raw_views import union_views

SOURCES_OF_CHAINS = {
    *("chain_blocks", "chain_transactions", "chain_logs", "chain_calls", "covered_days"),
    *("deployments", "trusted_tokens", "derived_pools"),
}

CANDLE_COLUMNS = [
    "venue",
    "market",
    "opened_at",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "quote_volume",
    "vwap",
    "trade_count",
    "taker_buy_volume",
    "taker_buy_quote_volume",
    "first_trade_id",
    "last_trade_id",
]


@pytest.fixture
def models(manifest: Manifest) -> dict[str, Any]:
    return {
        f"{node.schema}.{node.name}": node
        for node in manifest.nodes.values()
        if isinstance(node, ModelNode)
    }


def test_public_surface(models: dict[str, Any]) -> None:
    surface = {
        name: (
            node.config.materialized,
            node.config.event_time,
            node.config.meta.get("lookahead_days", 0),
        )
        for name, node in models.items()
        if not is_by_range(node) or node.schema == "defi"
    }
    assert surface == {
        "staging.stg_binance__klines": ("view", None, 0),
        "staging.stg_binance__trades": ("view", None, 0),
        "staging.stg_ccxt__candles": ("view", None, 0),
        "staging.stg_chain__blocks": ("view", None, 0),
        "staging.stg_chain__logs": ("view", None, 0),
        "staging.stg_chain__transactions": ("view", None, 0),
        "staging.stg_coinbase__candles": ("view", None, 0),
        "staging.stg_coinbase__trades": ("view", None, 0),
        "staging.stg_kraken__ohlc": ("view", None, 0),
        "staging.stg_kraken__trades": ("view", None, 0),
        "staging.stg_lake__proofs": ("view", None, 0),
        "markets.trades": ("view", "traded_at", 0),
        "markets.ohlcv_1m": ("incremental", "opened_at", 0),
        "markets.ohlcv_1m_filled": ("incremental", "opened_at", 1),
        "markets.ohlcv_5m": ("incremental", "opened_at", 0),
        "markets.ohlcv_15m": ("incremental", "opened_at", 0),
        "markets.ohlcv_1h": ("incremental", "opened_at", 0),
        "markets.ohlcv_4h": ("incremental", "opened_at", 0),
        "markets.ohlcv_1d": ("incremental", "opened_at", 0),
        "markets.venue_deviations_1m": ("incremental", "opened_at", 1),
        "markets.index_prices_1m": ("incremental", "opened_at", 1),
        "network.blocks_daily": ("incremental", "day", 0),
        "defi.dex_ohlcv_1h": ("incremental", "opened_at", 1),
        "defi.dex_pools": ("view", None, 0),
        "defi.dex_pools_daily": ("incremental", "day", 1),
        "defi.dex_trades": ("view", None, 0),
        "defi.lending_borrow": ("view", None, 0),
        "defi.lending_reserves_hourly": ("incremental", "hour", 1),
        "defi.lending_supply": ("view", None, 0),
        "defi.stablecoin_flows_daily": ("incremental", "day", 0),
        "defi.token_prices_1m": ("incremental", "opened_at", 1),
        "quality.gaps": ("incremental", "started_at", 0),
        "quality.check_results": ("view", None, 0),
    }


def is_by_range(node: ModelNode) -> bool:
    return "range" in node.config.tags


def test_every_model_is_under_contract_and_replaced_by_its_partition(
    models: dict[str, Any],
) -> None:
    assert [name for name, node in models.items() if not node.config.contract.enforced] == []
    tables = {name: node for name, node in models.items() if name not in views_of(models)}
    assert {name: node.config.incremental_strategy for name, node in tables.items()} == {
        name: "replace_ranges" if is_by_range(node) else "replace_days"
        for name, node in tables.items()
    }
    for name, node in tables.items():
        # What the publisher cuts a table by.
        by_range = {"chain", "block_range", "block_number"} <= set(node.columns)
        assert is_by_range(node) == (node.config.meta.get("grid") == "range"), name
        assert by_range if is_by_range(node) else node.config.event_time in node.columns, name


def views_of(models: dict[str, Any]) -> set[str]:
    return {name for name, node in models.items() if node.config.materialized == "view"}


def test_groups_read_what_is_built_before_them(models: dict[str, Any]) -> None:
    """Venues, ranges of chains and days of chains are built in runs of their own, in that order."""
    names = {node.unique_id: name for name, node in models.items()}

    def group(name: str) -> str:
        if name not in models:
            of_days = name in {"covered_days", "trusted_tokens", "published_index_prices_1m"}
            return "days" if of_days else "ranges" if name in SOURCES_OF_CHAINS else "venues"
        tags = models[name].config.tags
        return "ranges" if "range" in tags else "days" if "chain" in tags else "venues"

    reads = {
        (group(name), group(read), read)
        for name, node in models.items()
        for read in (names.get(key, key.split(".")[-1]) for key in node.depends_on.nodes)
        if group(name) != group(read)
    }
    # Of venues days read the index as it is published, which is no model.
    assert {(one, other) for one, other, _ in reads} == {("days", "ranges"), ("ranges", "days")}
    # Prices, in views, are all that ranges take of days.
    of_days = {
        (name, read)
        for name, node in models.items()
        for read in (names.get(key, key.split(".")[-1]) for key in node.depends_on.nodes)
        if group(name) == "ranges" and group(read) == "days"
    }
    assert {read for _, read in of_days} == {"defi.token_prices_1m", "trusted_tokens"}
    assert {name for name, read in of_days if read in models} <= views_of(models)


def test_sources_of_chains_have_the_columns_that_are_committed(manifest: Manifest) -> None:
    described = {
        source.name: {name: column.data_type for name, column in source.columns.items()}
        for source in manifest.sources.values()
    }
    with duckdb.connect() as connection:
        connection.execute("create schema raw")
        for name, query in union_views(()).items():
            connection.execute(f"create view {name} as {query}")
            columns = connection.execute(f"describe {name}").fetchall()
            assert described[name.removeprefix("raw.")] == {
                column: kind.lower() for column, kind, *_ in columns
            }, name


def test_candle_columns_are_in_the_published_order(models: dict[str, Any]) -> None:
    for interval in ("1m", "5m", "15m", "1h", "4h", "1d"):
        assert list(models[f"markets.ohlcv_{interval}"].columns) == CANDLE_COLUMNS
    assert list(models["markets.ohlcv_1m_filled"].columns) == [*CANDLE_COLUMNS, "is_filled"]


def test_every_column_is_described(manifest: Manifest, models: dict[str, Any]) -> None:
    undescribed = [
        f"{owner.name}.{column.name}"
        for owner in [*models.values(), *manifest.sources.values()]
        for column in owner.columns.values()
        if not column.description
    ]
    assert undescribed == []


def test_every_description_starts_with_the_grain(
    manifest: Manifest, models: dict[str, Any]
) -> None:
    ungrained = [
        owner.name
        for owner in [*models.values(), *manifest.sources.values()]
        if not owner.description.startswith("One row per ")
    ]
    assert ungrained == []
