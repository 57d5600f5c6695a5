"""Days of chains through Dagster: what is built, what is published, and what a day lacks."""

from __future__ import annotations

import json
import re
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import duckdb
import pytest
from chain_days import (
    ETHEREUM,
    OTHER,
    Tx,
    at,
    commit,
    decode,
    every,
    expected_day,
    pass_checks,
)
from dagster_duckdb import DuckDBResource

from crypto_assets.assets.collect import Collector
from crypto_assets.assets.dbt import (
    PROJECT,
    build_dbt_assets,
    build_dbt_chain_assets,
    chain_sources,
    day_marts,
    dbt_cli,
    prepare_manifest,
)
from crypto_assets.assets.dbt_ranges import build_dbt_range_assets, range_sources
from crypto_assets.assets.published import build_published_asset
from crypto_assets.catalog import Catalog
from crypto_assets.lake import Lake
from crypto_assets.partitions import network_days
from crypto_assets.settings import Settings
from crypto_assets.sources.evm_rows import datasets
from crypto_assets.sources.venue import Venue

DAY = date(2024, 1, 1)
AFTER = DAY + timedelta(days=1)
CHAINS = (ETHEREUM, OTHER)
# From an hour before the day to five hours into the day after the next one.
BLOCKS = every(
    timedelta(minutes=66),
    at(DAY) - timedelta(hours=1),
    range(100, 150),
    transactions=(Tx(logs=1), Tx(status=0, price=9)),
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return Lake(settings.home)


@pytest.fixture
def manifest(settings: Settings) -> Path:
    return prepare_manifest(settings)


def run(
    settings: Settings, manifest: Path, lake: Lake, first: date, last: date
) -> dg.ExecuteInProcessResult:
    """What the job over days of chains does, but for its checks."""
    days = network_days()
    marts = build_dbt_chain_assets(settings, manifest, days, CHAINS)
    raw = [dataset for chain in CHAINS for dataset in datasets(chain)]
    published = build_published_asset("chains", manifest, days, sorted(marts.keys), raw)

    def no_source(venue: str) -> Venue:
        raise AssertionError(f"{venue} is asked")

    return dg.materialize(
        [*chain_sources(CHAINS), marts, published],
        resources={
            "collector": Collector(lake, Catalog(()), no_source, workers=1),
            "dbt": dbt_cli(),
            "warehouse": DuckDBResource(database=str(settings.home / "warehouse.duckdb")),
        },
        tags={
            "dagster/asset_partition_range_start": first.isoformat(),
            "dagster/asset_partition_range_end": last.isoformat(),
        },
        raise_on_error=False,
    )


def documented_queries() -> list[str]:
    """Examples of the documentation that are about chains."""
    overview = (PROJECT.project_dir / "docs" / "overview.md").read_text(encoding="utf-8")
    queries = re.findall(r"```sql\n(.*?)```", overview, re.DOTALL)
    return [query.replace("2024-12-31", str(DAY)) for query in queries if "network." in query]


def test_days_are_built_and_published_in_one_run(
    settings: Settings, manifest: Path, lake: Lake
) -> None:
    commit(lake, ETHEREUM, BLOCKS)
    commit(lake, OTHER, BLOCKS[:40])
    refused = run(settings, manifest, lake, DAY, AFTER)
    for chain in CHAINS:
        pass_checks(lake, chain)
    undecoded = run(settings, manifest, lake, DAY, AFTER)
    for chain in CHAINS:
        decode(lake, manifest, chain)
    result = run(settings, manifest, lake, DAY, AFTER)

    assert "ethereum_nodes_agree 000000100-000000109: not checked" in why(refused)
    assert "ethereum_swaps_decode 000000100-000000109: not checked" in why(undecoded)
    assert result.success
    with duckdb.connect(lake.home / "crypto.duckdb", read_only=True) as database:
        days = database.execute("select * from network.blocks_daily order by day, chain")
        assert days.fetchall() == [
            expected_day(ETHEREUM, DAY, BLOCKS),
            expected_day(OTHER, DAY, BLOCKS),
            expected_day(ETHEREUM, AFTER, BLOCKS),
        ]
        # Raw rows and what staging makes of them are of the whole lake, not of the run's days.
        for relation in ("raw.chain_logs", "staging.stg_chain__logs"):
            counts = f"select chain, count(*) from {relation} group by chain order by chain"
            assert database.execute(counts).fetchall() == [("ethereum", 50), ("other", 40)]
        # Two days; three ranges that hold the first of them, each with three files.
        found = [len(database.execute(query).fetchall()) for query in documented_queries()]
        assert found == [2, 9]
        schemas = "select distinct schema_name from duckdb_views() where not internal order by 1"
        assert database.execute(schemas).fetchall() == [
            (schema,)
            for schema in (
                "defi",
                "intermediate",
                "markets",
                "network",
                "quality",
                "raw",
                "staging",
            )
        ]
    published = result.asset_materializations_for_node("crypto_duckdb__chains")
    assert [one.partition for one in published] == [DAY.isoformat(), AFTER.isoformat()]
    of_days = 2 * len(day_marts(manifest))
    assert {one.metadata["files"].value for one in published} == {of_days}


def why(refused: dg.ExecuteInProcessResult) -> str:
    failure = refused.failure_data_for_node("dbt_chains")
    assert failure is not None
    return str(failure.error)


def test_a_day_that_no_chain_covers_is_refused_with_what_brings_it(
    settings: Settings, manifest: Path, lake: Lake
) -> None:
    commit(lake, ETHEREUM, BLOCKS[:20])
    commit(lake, ETHEREUM, BLOCKS[30:])
    result = run(settings, manifest, lake, DAY, AFTER)
    assert not result.success
    (failed,) = result.get_step_failure_events()
    assert failed.step_key == "dbt_chains"
    said = failed.step_failure_data.error.message  # type: ignore[union-attr]
    assert "no chain covers 2024-01-01, 2024-01-02: " in said
    assert (
        "ethereum has blocks 100 to 119 and blocks 130 to 149 around there: "
        "run `crypto-assets backfill ethereum --from 2024-01-01 --to 2024-01-02`; "
        "other has no block around there: "
        "run `crypto-assets backfill other --from 2024-01-01 --to 2024-01-02`"
    ) in said
    assert not (lake.home / "crypto.duckdb").exists()


def test_every_model_is_built_in_one_group(settings: Settings, manifest: Path) -> None:
    nodes = json.loads(manifest.read_text(encoding="utf-8"))["nodes"].values()
    models = {
        dg.AssetKey([node["schema"], node["name"]])
        for node in nodes
        if node["resource_type"] == "model"
    }
    venues = build_dbt_assets(settings, manifest, network_days(), CHAINS)
    chains = build_dbt_chain_assets(settings, manifest, network_days(), CHAINS)
    shares = [build_dbt_range_assets(settings, manifest, chain, CHAINS) for chain in CHAINS]
    ranges = {spec.key for spec in range_sources(shares)}
    assert venues.keys | chains.keys | ranges == models
    assert len(venues.keys) + len(chains.keys) + len(ranges) == len(models)
    assert dg.AssetKey(["network", "blocks_daily"]) in chains.keys
    # A check of dbt's is with the asset that it is about.
    checks = {(spec.asset_key.to_user_string(), spec.name) for spec in chains.check_specs}
    assert {
        ("network/blocks_daily", "blocks_begin_slots"),
        ("network/blocks_daily", "unique_combination_blocks_daily_chain__day"),
    } <= checks
    for group in (venues, chains, *shares):
        assert {spec.asset_key for spec in group.check_specs} <= group.keys
    # What dbt reads of all chains comes from the raw assets of each.
    read = {spec.key: {dep.asset_key for dep in spec.deps} for spec in chain_sources(CHAINS)}
    assert read[dg.AssetKey(["raw", "chain_logs"])] == {
        dg.AssetKey(["raw", "ethereum_logs"]),
        dg.AssetKey(["raw", "other_logs"]),
    }
    external = {key for keys in chains.asset_deps.values() for key in keys} - chains.keys
    assert {key for key in external if key.path[0] == "raw"} == read.keys()
    # Of venues days read what is published, of decoded ranges what the tables of all chains hold.
    assert external - read.keys() - ranges == {dg.AssetKey(["crypto_duckdb", "venues"])}
