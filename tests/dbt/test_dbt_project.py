"""What the project promises without data: names, contracts, documentation."""

from __future__ import annotations

from typing import Any

import duckdb
import pytest
from dbt.contracts.graph.manifest import Manifest
from dbt.contracts.graph.nodes import ModelNode

from crypto_assets.raw_views import union_views

SOURCES_OF_CHAINS = {"chain_blocks", "chain_transactions", "chain_logs", "covered_days"}

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
        "quality.gaps": ("incremental", "started_at", 0),
        "quality.check_results": ("view", None, 0),
    }


def test_every_model_is_under_contract_and_replaced_by_day(models: dict[str, Any]) -> None:
    assert [name for name, node in models.items() if not node.config.contract.enforced] == []
    strategies = {
        node.config.incremental_strategy
        for node in models.values()
        if node.config.materialized == "incremental"
    }
    assert strategies == {"replace_days"}


def test_models_of_chains_are_those_that_read_chains(models: dict[str, Any]) -> None:
    """The two groups are built in runs of their own: none may read what the other one builds."""
    of_chains = {name for name, node in models.items() if "chain" in node.config.tags}
    assert of_chains == {
        "staging.stg_chain__blocks",
        "staging.stg_chain__logs",
        "staging.stg_chain__transactions",
        "network.blocks_daily",
    }
    names = {node.unique_id: name for name, node in models.items()}
    for name, node in models.items():
        reads = [names.get(key, key.split(".")[-1]) for key in node.depends_on.nodes]
        groups = {read in of_chains | SOURCES_OF_CHAINS for read in reads}
        assert groups == {name in of_chains}, name


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
