"""Block ranges through dbt: what is decoded in one run, of which chain, and what may not be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

import dagster as dg
import duckdb
import pyarrow as pa
import pytest
from chain_days import ETHEREUM, OTHER, SLOT, Tx, at, commit, every, pass_checks
from chain_days import decode as publish_empty
from dagster_duckdb import DuckDBResource

from crypto_assets.assets.collect import Collector
from crypto_assets.assets.collect_ranges import RangeCollector
from crypto_assets.assets.dbt import dbt_cli, prepare_manifest, range_marts, undecoded
from crypto_assets.assets.dbt_ranges import blocks_window, build_dbt_range_assets, range_sources
from crypto_assets.assets.published import build_published_asset
from crypto_assets.catalog import BlockRange, Catalog, Chain, ChainRange, Chains, TrustedToken
from crypto_assets.checks.asset_checks import mart_guards_of
from crypto_assets.lake import Lake, commit_calls, committed_logs, find_range
from crypto_assets.partitions import range_partitions, register_ranges
from crypto_assets.settings import Settings
from crypto_assets.sources.evm import Evm
from crypto_assets.sources.evm_calls import CALLS_SCHEMA, all_datasets, calls_dataset
from crypto_assets.sources.venue import Venue

WETH = TrustedToken(
    address="0x" + "aa" * 20, symbol="WETH", decimals=18, role="wrapped_native", asset="ETH"
)
# What tells of a range that it was decoded: the listed tokens are in it whatever happened there.
CHAINS = tuple(chain.model_copy(update={"tokens": (WETH,)}) for chain in (ETHEREUM, OTHER))
MAIN, SECOND = CHAINS
BLOCKS = every(SLOT, at(date(2024, 1, 1)), range(100, 140), transactions=(Tx(logs=1),))
KEYS = [f"{first:09}-{first + 9:09}" for first in range(100, 140, 10)]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return Lake(settings.home)


@pytest.fixture
def manifest(settings: Settings) -> Path:
    return prepare_manifest(settings)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as instance:
        yield instance


def ask(lake: Lake, chain: Chain) -> None:
    """The calls of every range, of which there are none."""
    for part in lake.ranges(chain.name):
        commit_calls(
            lake,
            calls_dataset(chain),
            part,
            pa.RecordBatch.from_pylist([], schema=CALLS_SCHEMA),
            logs_digest=committed_logs(lake, part).content_digest,
            asked_count=0,
            source=(),
            checks={},
            asked="[]",
        )


def decode(
    settings: Settings,
    manifest: Path,
    instance: dg.DagsterInstance,
    chain: Chain,
    ranges: Sequence[BlockRange],
) -> dg.ExecuteInProcessResult:
    """What the job over decoded ranges does, but for calls and checks."""
    register_ranges(instance, chain.name, ranges)
    marts = build_dbt_range_assets(settings, manifest, chain, CHAINS)
    published = build_published_asset(
        chain.name,
        manifest,
        range_partitions(chain.name),
        sorted(marts.keys),
        [dataset for one in CHAINS for dataset in all_datasets(one)],
        chain=chain,
    )
    lake = Lake(settings.home)

    def no_venue(venue: str) -> Venue:
        raise AssertionError(f"{venue} is asked")

    def no_node(one: Chain) -> Evm:
        raise AssertionError(f"{one.name} is asked")

    return dg.materialize(
        [marts, published],
        instance=instance,
        resources={
            "collector": Collector(lake, Catalog(()), no_venue, workers=1),
            "ranges": RangeCollector(lake, Chains(CHAINS), no_node, workers=1),
            "dbt": dbt_cli(),
            "warehouse": DuckDBResource(database=str(settings.home / "warehouse.duckdb")),
        },
        tags={
            "dagster/asset_partition_range_start": ranges[0].key,
            "dagster/asset_partition_range_end": ranges[-1].key,
        },
        raise_on_error=False,
    )


def tokens(lake: Lake) -> list[tuple[str, str]]:
    """Chain and range of what is published."""
    with duckdb.connect(lake.home / "crypto.duckdb", read_only=True) as database:
        found = database.execute(
            "select chain, block_range from intermediate.int_tokens order by all"
        )
        return found.fetchall()


def why(refused: dg.ExecuteInProcessResult, chain: Chain) -> str:
    failure = refused.failure_data_for_node(f"dbt_{chain.name}")
    assert failure is not None
    return str(failure.error)


def test_stretches_of_one_run_are_one_window() -> None:
    ranges = [BlockRange.parse(key) for key in KEYS]
    assert blocks_window(MAIN, ranges) == {"chain": "ethereum", "blocks": [[100, 139]]}
    assert blocks_window(MAIN, [ranges[0], *ranges[2:]]) == {
        "chain": "ethereum",
        "blocks": [[100, 109], [120, 139]],
    }


def test_two_stretches_are_decoded_in_one_run_and_another_chain_into_the_same_tables(
    settings: Settings, manifest: Path, lake: Lake, instance: dg.DagsterInstance
) -> None:
    for chain in CHAINS:
        commit(lake, chain, BLOCKS)
        pass_checks(lake, chain)
        ask(lake, chain)
    first, between, *rest = (BlockRange.parse(key) for key in KEYS)

    apart = decode(settings, manifest, instance, MAIN, [first, *rest])
    assert apart.success
    assert tokens(lake) == [("ethereum", key) for key in (KEYS[0], *KEYS[2:])]
    other = decode(settings, manifest, instance, SECOND, [between])
    assert other.success
    assert tokens(lake) == [
        *(("ethereum", key) for key in (KEYS[0], *KEYS[2:])),
        ("other", KEYS[1]),
    ]
    # Each range is recorded for itself, in the assets of its chain alone.
    for name in ("intermediate__int_tokens", "crypto_duckdb"):
        of_chain = [
            event.partition
            for event in apart.get_asset_materialization_events()
            if event.asset_key is not None and "__".join(event.asset_key.path).startswith(name)
        ]
        assert sorted(set(map(str, of_chain))) == [KEYS[0], *KEYS[2:]]


def test_a_range_that_is_not_proven_is_not_decoded(
    settings: Settings, manifest: Path, lake: Lake, instance: dg.DagsterInstance
) -> None:
    commit(lake, MAIN, BLOCKS[:20])
    ranges = [BlockRange.parse(key) for key in KEYS[:3]]
    missing = why(decode(settings, manifest, instance, MAIN, ranges), MAIN)
    unchecked = why(decode(settings, manifest, instance, MAIN, ranges[:1]), MAIN)
    pass_checks(lake, MAIN)
    unasked = why(decode(settings, manifest, instance, MAIN, ranges[:2]), MAIN)

    assert f"ethereum {KEYS[2]}: not committed" in missing
    assert f"ethereum_blocks_are_complete {KEYS[0]}: not checked" in unchecked
    assert "Run the job ethereum over them and then all of ethereum_marts, or" in unchecked
    assert f"ethereum {KEYS[0]}: its contracts were not asked" in unasked
    assert not (lake.home / "crypto.duckdb").exists()


def test_days_wait_for_what_is_decoded_of_a_range_since_it_was_committed(
    manifest: Path, lake: Lake
) -> None:
    marts = range_marts(manifest)
    part = ChainRange(MAIN.name, BlockRange.parse(KEYS[0]))
    [proof] = commit(lake, MAIN, BLOCKS[:10])
    of_suites = [f"{suite} {KEYS[0]}: not checked" for suite in mart_guards_of(MAIN)]
    of_range = [f"ethereum {KEYS[0]}: not decoded since it was committed"]
    assert undecoded(lake, MAIN, [proof], marts) == of_suites + of_range
    publish_empty(lake, manifest, MAIN)
    assert undecoded(lake, MAIN, [proof], marts) == []
    # Another fork of the range: all that was made of it is of the one before.
    commit(lake, MAIN, BLOCKS[:10], fork=1)
    proofs = find_range(lake, part)
    assert proofs is not None
    assert undecoded(lake, MAIN, [proofs["blocks"]], marts) == of_suites + of_range


def test_a_table_of_all_chains_stands_for_the_shares_of_each(
    settings: Settings, manifest: Path
) -> None:
    shares = [build_dbt_range_assets(settings, manifest, chain, CHAINS) for chain in CHAINS]
    for chain, share in zip(CHAINS, shares, strict=True):
        assert {key.path[-1] for key in share.keys} == {chain.name}
        raw = {key for keys in share.asset_deps.values() for key in keys} - share.keys
        assert {key.to_user_string() for key in raw} == {
            f"raw/{chain.name}_{kind}" for kind in ("calls", "logs", "transactions")
        }
    specs = {spec.key.to_user_string(): spec for spec in range_sources(shares)}
    assert set(range_marts(manifest)) <= {name.replace("/", ".") for name in specs}
    assert {dep.asset_key.to_user_string() for dep in specs["defi/dex_trades"].deps} == {
        "defi/dex_trades/ethereum",
        "defi/dex_trades/other",
    }
