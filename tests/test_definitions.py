"""The public surface: names that users, schedules and dashboards rely on."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.asset_graph_view.asset_graph_view import AssetGraphView
from dagster._core.definitions.events import AssetKeyPartitionKey

from crypto_assets.catalog import load_catalog
from crypto_assets.definitions import build_definitions
from crypto_assets.errors import CatalogError
from crypto_assets.settings import Settings

CHAINS = {
    "crypto_duckdb/chains",
    "defi/dex_ohlcv_1h",
    "defi/dex_pools_daily",
    "defi/lending_reserves_hourly",
    "defi/stablecoin_flows_daily",
    "defi/token_prices_1m",
    "network/blocks_daily",
    "staging/stg_chain__blocks",
    "staging/stg_chain__logs",
    "staging/stg_chain__transactions",
}
# What is made of each range, in an asset for every chain: `defi/dex_trades/ethereum`.
DECODED = {
    "defi/dex_pools",
    "defi/dex_trades",
    "defi/lending_borrow",
    "defi/lending_supply",
    "intermediate/int_dex_pools",
    "intermediate/int_dex_reserves",
    "intermediate/int_dex_swaps",
    "intermediate/int_lending_borrow",
    "intermediate/int_lending_reserve_updates",
    "intermediate/int_lending_supply",
    "intermediate/int_stablecoin_changes",
    "intermediate/int_stablecoin_supplies",
    "intermediate/int_tokens",
    "staging/stg_aave__borrows",
    "staging/stg_aave__deficits",
    "staging/stg_aave__liquidations",
    "staging/stg_aave__repayments",
    "staging/stg_aave__reserve_updates",
    "staging/stg_aave__supplies",
    "staging/stg_aave__withdrawals",
    "staging/stg_calls__pool_keys",
    "staging/stg_calls__pools",
    "staging/stg_calls__tokens",
    "staging/stg_tether__supply_changes",
    "staging/stg_tokens__transfers",
    "staging/stg_uniswap__v2_pairs",
    "staging/stg_uniswap__v2_swaps",
    "staging/stg_uniswap__v2_syncs",
    "staging/stg_uniswap__v3_pools",
    "staging/stg_uniswap__v3_swaps",
    "staging/stg_uniswap__v4_pools",
    "staging/stg_uniswap__v4_swaps",
}
OF_ALL_CHAINS = {
    "raw/chain_blocks",
    "raw/chain_logs",
    "raw/chain_transactions",
    "raw/covered_days",
    "raw/trusted_tokens",
}


def of_chain(chain: str) -> set[str]:
    """Assets of a chain alone."""
    raw = {f"raw/{chain}_{kind}" for kind in ("blocks", "calls", "logs", "transactions")}
    return {f"crypto_duckdb/{chain}", *raw, *(f"{name}/{chain}" for name in DECODED)}


RANGES = of_chain("ethereum")
VENUES = {
    "crypto_duckdb/venues",
    "markets/index_prices_1m",
    "markets/ohlcv_15m",
    "markets/ohlcv_1d",
    "markets/ohlcv_1h",
    "markets/ohlcv_1m",
    "markets/ohlcv_1m_filled",
    "markets/ohlcv_4h",
    "markets/ohlcv_5m",
    "markets/trades",
    "markets/venue_deviations_1m",
    "quality/check_results",
    "quality/gaps",
    "raw/binance_klines",
    "raw/binance_rest_klines",
    "raw/binance_trades",
    "raw/ccxt_candles",
    "raw/check_results",
    "raw/coinbase_candles",
    "raw/coinbase_trades",
    "raw/kraken_ohlc",
    "raw/kraken_trades",
    "raw/proofs",
    "staging/stg_binance__klines",
    "staging/stg_binance__trades",
    "staging/stg_ccxt__candles",
    "staging/stg_coinbase__candles",
    "staging/stg_coinbase__trades",
    "staging/stg_kraken__ohlc",
    "staging/stg_kraken__trades",
    "staging/stg_lake__proofs",
}


@pytest.fixture(scope="module")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> dg.Definitions:
    return build_definitions(Settings(data_dir=tmp_path_factory.mktemp("data")))


def test_assets_have_the_names_of_the_contract(definitions: dg.Definitions) -> None:
    keys = definitions.resolve_asset_graph().get_all_asset_keys()
    assert {key.to_user_string() for key in keys} == (
        VENUES | CHAINS | RANGES | DECODED | OF_ALL_CHAINS
    )


def test_every_materializable_asset_is_partitioned_and_described(
    definitions: dg.Definitions,
) -> None:
    graph = definitions.resolve_asset_graph()
    first_listing = min(listing.since for listing in load_catalog().listings)
    for key in graph.materializable_asset_keys:
        node = graph.get(key)
        assert node.description, key
        assert node.backfill_policy is not None, key
        partitions = node.partitions_def
        if key.to_user_string() in RANGES:
            assert isinstance(partitions, dg.DynamicPartitionsDefinition), key
            assert partitions.name == "ethereum_ranges"
        else:
            assert isinstance(partitions, dg.DailyPartitionsDefinition), key
            assert partitions.timezone == "UTC"
            # Ethereum's first block after the genesis, or the first listing of a venue.
            since = date(2015, 7, 30) if key.to_user_string() in CHAINS else first_listing
            assert partitions.start.date() == since


def test_a_backfill_of_days_begins_with_raw_assets_and_reaches_every_other(
    definitions: dg.Definitions,
) -> None:
    """What has no parent in it would be built first, and what is behind a stranger never."""
    graph = definitions.resolve_asset_graph()
    days = {dg.AssetKey(name.split("/")) for name in VENUES} & graph.materializable_asset_keys
    assert {key for key in days if not days & graph.get(key).parent_keys} == {
        key for key in days if key.path[0] == "raw"
    }
    for key in graph.get_all_asset_keys() - graph.materializable_asset_keys:
        assert not days & graph.get(key).parent_keys, key


def test_days_of_chains_before_the_first_market_can_be_backfilled(tmp_path: Path) -> None:
    """A day that needs one of venues which does not exist would end the whole backfill."""
    (tmp_path / "markets.yaml").write_text(
        "binance:\n  - {market: BTC-USDT, symbol: BTCUSDT, since: 2024-12-30}\n"
    )
    definitions = build_definitions(Settings(data_dir=tmp_path, catalog=tmp_path))
    prices, index = table("defi/token_prices_1m"), table("crypto_duckdb/venues")
    with dg.instance_for_test() as instance:
        view = AssetGraphView.for_test(definitions, instance)
        for day, has_index in (("2020-01-01", False), ("2024-12-31", True)):
            of_day = view.get_asset_subset_from_asset_partitions(
                prices, {AssetKeyPartitionKey(prices, day)}
            )
            parents, missing = view.compute_parent_subset_and_required_but_nonexistent_subset(
                index, of_day
            )
            assert missing.is_empty
            assert parents.is_empty is not has_index


def test_raw_days_come_in_bounded_runs_and_marts_in_one(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    raw = graph.get(dg.AssetKey(["raw", "binance_trades"])).backfill_policy
    marts = graph.get(dg.AssetKey(["markets", "ohlcv_1m"])).backfill_policy
    assert raw == dg.BackfillPolicy.multi_run(31)
    assert marts == dg.BackfillPolicy.single_run()


def test_the_daily_schedule_says_its_hour_and_zone(definitions: dg.Definitions) -> None:
    schedule = definitions.resolve_schedule_def("binance_daily")
    assert schedule.cron_schedule == "0 6 * * *"
    assert schedule.execution_timezone == "UTC"
    assert "06:00 UTC" in (schedule.description or "")


def test_what_writes_the_warehouse_waits_in_one_pool(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    pools = {key.to_user_string(): graph.get(key).pools for key in graph.materializable_asset_keys}
    assert pools["markets/ohlcv_1m"] == {"warehouse"}
    assert pools["crypto_duckdb/venues"] == {"warehouse"}
    assert pools["crypto_duckdb/chains"] == {"warehouse"}
    assert pools["crypto_duckdb/ethereum"] == {"warehouse"}
    assert pools["defi/dex_trades/ethereum"] == {"warehouse"}
    assert pools["network/blocks_daily"] == {"warehouse"}
    assert pools["raw/ethereum_calls"] == set()
    assert pools["raw/binance_trades"] == set()


def test_suites_block_what_follows(definitions: dg.Definitions) -> None:
    checks = {
        spec.name: spec
        for check in definitions.asset_checks or ()
        for spec in check.check_specs  # type: ignore[union-attr]
    }
    assert set(checks) == {
        "trades_are_complete",
        "coinbase_trades_are_complete",
        "kraken_trades_are_complete",
        "candles_are_valid",
        "candles_agree_with_coinbase",
        "candles_equal_klines",
        "candles_equal_kraken",
        "candles_equal_rest",
        "days_are_covered",
        "days_are_plausible",
        "dex_agrees_with_the_index",
        "ethereum_blocks_are_complete",
        "ethereum_lending_decodes",
        "ethereum_logs_are_complete",
        "ethereum_nodes_agree",
        "ethereum_stablecoin_supplies_agree",
        "ethereum_swaps_decode",
        "ethereum_transactions_are_complete",
        "index_is_plausible",
        "lending_reserves_are_sound",
        "stablecoin_flows_add_up",
        "token_prices_are_known",
        "trades_count_the_swap_logs",
        "usd_amounts_are_plausible",
        "usual_trade_goes_on",
        "venues_agree",
    }
    assert all(spec.blocking for spec in checks.values())


def test_every_chain_has_its_jobs_sensors_and_recheck(definitions: dg.Definitions) -> None:
    jobs = {job.name for job in definitions.resolve_all_job_defs()}
    of_ethereum = {"ethereum", "ethereum_marts", "register_ethereum", "recheck_ethereum"}
    assert of_ethereum | {"network"} <= jobs
    assert {sensor.name for sensor in definitions.sensors or ()} == {
        "ethereum_marts",
        "ethereum_ranges",
        "ethereum_stale",
        "network_days",
    }
    recheck = definitions.resolve_schedule_def("ethereum_recheck_hourly")
    assert (recheck.cron_schedule, recheck.execution_timezone) == ("17 * * * *", "UTC")


def test_a_chain_is_an_entry_of_the_catalogue_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "chains.yaml").write_text(
        "ethereum: {chain_id: 1, slot_seconds: 12}\nbase: {chain_id: 8453, range_size: 5000}\n"
    )
    definitions = build_definitions(Settings(data_dir=tmp_path, catalog=tmp_path))

    graph = definitions.resolve_asset_graph()
    keys = {key.to_user_string() for key in graph.get_all_asset_keys()}
    assert keys == VENUES | CHAINS | RANGES | of_chain("base") | DECODED | OF_ALL_CHAINS
    # Each decodes its own, and one table is read for both.
    for name in DECODED:
        parents = {key.to_user_string() for key in graph.get(table(name)).parent_keys}
        assert parents == {f"{name}/base", f"{name}/ethereum"}
        own = {key.to_user_string() for key in graph.get(table(f"{name}/base")).parent_keys}
        assert own <= of_chain("base"), name
    assert definitions.resolve_job_def("base")
    assert definitions.resolve_job_def("base_marts")
    for sensor in ("base_ranges", "base_marts"):
        assert definitions.resolve_sensor_def(sensor)


def table(name: str) -> dg.AssetKey:
    return dg.AssetKey(name.split("/"))


def test_what_is_decoded_of_a_chain_rests_on_its_raw_data_alone(
    definitions: dg.Definitions,
) -> None:
    """Prices, which views join, come later and from elsewhere: no range waits for them."""
    graph = definitions.resolve_asset_graph()
    above = {key for name in RANGES for key in graph.get(table(name)).parent_keys}
    assert {key.to_user_string() for key in above} <= RANGES
    assert not {key for key in above if key.path[0] == "defi" and len(key.path) == 2}
    read = {key.to_user_string() for key in above if key.path[0] == "raw"}
    assert read == {"raw/ethereum_calls", "raw/ethereum_logs", "raw/ethereum_transactions"}


@pytest.mark.parametrize("name", ["binance", "network"])
def test_a_chain_cannot_be_called_like_something_else(name: str, tmp_path: Path) -> None:
    (tmp_path / "chains.yaml").write_text(f"{name}: {{chain_id: 1}}\n")
    with pytest.raises(CatalogError, match=name):
        build_definitions(Settings(data_dir=tmp_path, catalog=tmp_path))


def test_a_venue_without_a_source_is_named(tmp_path: Path) -> None:
    (tmp_path / "markets.yaml").write_text(
        "bitfenix:\n  - {market: BTC-USD, symbol: BTCUSD, since: 2020-01-01}\n"
    )
    with pytest.raises(CatalogError, match="bitfenix"):
        build_definitions(Settings(data_dir=tmp_path, catalog=tmp_path))
