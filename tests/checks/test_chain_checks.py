"""Suites over block ranges as asset checks: every range is recorded, and failures block."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import httpx
import pytest
from chain_days import ETHEREUM as HOURLY
from chain_days import at, every
from chain_days import commit as commit_days
from dagster_duckdb import DuckDBResource
from sources.chain_node import CHAIN, OTHER_URL, URL, ChainNode, Network, changed, source

from crypto_assets.assets.collect_ranges import RangeCollector
from crypto_assets.catalog import KINDS, BlockRange, Chains
from crypto_assets.checks.asset_checks import build_chain_checks, build_network_checks
from crypto_assets.checks.chain import chain_suites
from crypto_assets.checks.nodes import nodes_agree
from crypto_assets.lake import Lake
from crypto_assets.partitions import range_partitions, register_ranges
from crypto_assets.sources.evm import Evm
from crypto_assets.warehouse import attach_raw_views, load_chains

from .chain_world import BLOCKS, BROKEN, RANGES, commit, lake_of

PARTITIONS = range_partitions(CHAIN.name)
SUITES = (*chain_suites(CHAIN), nodes_agree(CHAIN))
KEYS = [blocks.key for blocks in RANGES]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return lake_of(tmp_path, CHAIN)


@pytest.fixture
def network() -> Network:
    """Two sound nodes, which a test may break."""
    return Network(node_a=ChainNode(BLOCKS), node_b=ChainNode(BLOCKS))


@pytest.fixture
def evm(network: Network, monkeypatch: pytest.MonkeyPatch) -> Iterator[Evm]:
    monkeypatch.setattr("crypto_assets.sources.http.pause_before_retry", lambda _: 0.01)
    with source(network, URL, OTHER_URL) as built:
        yield built


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        register_ranges(instance, CHAIN.name, RANGES)
        yield instance


def _run(
    lake: Lake,
    evm: Evm,
    instance: dg.DagsterInstance,
    first: BlockRange = RANGES[0],
    last: BlockRange = RANGES[-1],
) -> dg.ExecuteInProcessResult:
    """Runs the raw assets of the chain, their checks, and an asset that is built on each."""

    def asset(*key: str, deps: list[dg.AssetKey]) -> dg.AssetsDefinition:
        @dg.asset(key=key, deps=deps, partitions_def=PARTITIONS)
        def built() -> None: ...

        return built

    raw = [dg.AssetKey(["raw", CHAIN.dataset(kind)]) for kind in KINDS]
    ranges = RangeCollector(lake, Chains((CHAIN,)), lambda _: evm, workers=1)
    definitions = dg.Definitions(
        assets=[
            *(asset(*key.path, deps=[]) for key in raw),
            *(asset(f"on_{kind}", deps=[key]) for kind, key in zip(KINDS, raw, strict=True)),
        ],
        asset_checks=build_chain_checks(lake, CHAIN, PARTITIONS, partial(ranges.node_facts, CHAIN)),
    )
    return definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        raise_on_error=False,
        tags={
            "dagster/asset_partition_range_start": first.key,
            "dagster/asset_partition_range_end": last.key,
        },
    )


def _verdicts(result: dg.ExecuteInProcessResult) -> dict[tuple[str, str | None], bool]:
    return {(e.check_name, e.partition): e.passed for e in result.get_asset_check_evaluations()}


def _built(result: dg.ExecuteInProcessResult) -> set[str]:
    return {kind for kind in KINDS if result.asset_materializations_for_node(f"on_{kind}")}


def test_every_suite_is_a_partitioned_check_of_its_asset(lake: Lake) -> None:
    checks = build_chain_checks(lake, CHAIN, PARTITIONS, lambda _: [])
    specs = {spec.name: spec for check in checks for spec in check.check_specs}

    assert set(specs) == {
        "ethereum_blocks_are_complete",
        "ethereum_transactions_are_complete",
        "ethereum_logs_are_complete",
        "ethereum_nodes_agree",
    }
    for suite in SUITES:
        spec = specs[suite.name]
        assert spec.asset_key.to_user_string() == suite.asset
        assert (spec.blocking, spec.partitions_def) == (True, PARTITIONS)


def test_every_range_is_recorded_by_itself(
    lake: Lake, evm: Evm, instance: dg.DagsterInstance
) -> None:
    result = _run(lake, evm, instance)

    assert result.success
    assert _verdicts(result) == {(s.name, key): True for s in SUITES for key in KEYS}
    assert _built(result) == set(KINDS)
    for evaluation in result.get_asset_check_evaluations():
        target = evaluation.target_materialization_data
        assert target is not None
        assert target.run_id == result.run_id
        assert evaluation.metadata["ranges_in_this_run"].value == 3
    (seen,) = (
        claims
        for evaluation in result.get_asset_check_evaluations()
        if (evaluation.check_name, evaluation.partition) == ("ethereum_nodes_agree", BROKEN.key)
        for claims in [evaluation.metadata["claims"].value.records]  # type: ignore[union-attr]
    )
    assert [claim.data["observed"] for claim in seen] == [
        "ethereum: blocks_that_all_told_of 5, blocks_compared 5",
        "ethereum: nodes_with_the_hashes 2, nodes_compared 2",
        "ethereum: nodes_with_the_logs 2, nodes_compared 2",
    ]


def test_results_and_pages_of_ranges_are_kept(
    lake: Lake, evm: Evm, instance: dg.DagsterInstance
) -> None:
    run = _run(lake, evm, instance, RANGES[0], RANGES[1])

    pages = {
        path.relative_to(lake.home / "gx").as_posix() for path in lake.home.glob("gx/*/*.html")
    }
    assert pages == {f"{suite.name}/{KEYS[0]}_{KEYS[1]}.html" for suite in SUITES}
    html = (lake.home / "gx/ethereum_logs_are_complete" / f"{KEYS[0]}_{KEYS[1]}.html").read_text()
    assert "<h2>Ranges</h2>" in html
    assert f'<span class="badge passed">{KEYS[1]}</span>' in html
    assert "ranges that failed or warned" in (lake.home / "gx/index.html").read_text()
    with duckdb.connect() as connection:
        attach_raw_views(connection, lake)
        kept = connection.execute(
            "select suite, asset, partition from raw.check_results where passed and run_id = ? "
            "group by all",
            [run.run_id],
        ).fetchall()
    assert sorted(kept) == sorted((s.name, s.asset, key) for s in SUITES for key in KEYS[:2])


def test_a_failing_range_is_the_one_that_fails_and_blocks_what_is_built_on_it(
    lake: Lake, evm: Evm, instance: dg.DagsterInstance
) -> None:
    commit(lake, evm, BROKEN, logs_dropped=1)

    result = _run(lake, evm, instance)

    assert not result.success
    # The sample of the nodes has the last block, in which the log is missing.
    failed = {("ethereum_logs_are_complete", BROKEN.key), ("ethereum_nodes_agree", BROKEN.key)}
    assert {which for which, passed in _verdicts(result).items() if not passed} == failed
    assert len(_verdicts(result)) == len(SUITES) * 3
    assert _built(result) == {"blocks", "transactions"}


def test_a_node_that_is_on_another_fork_blocks_the_range(
    lake: Lake, evm: Evm, network: Network, instance: dg.DagsterInstance
) -> None:
    block, receipts = BLOCKS[BROKEN.last]
    other_hash = "0x" + "12" * 32
    forked = (changed(block, hash=other_hash), receipts)
    network.nodes["node-b.test"] = ChainNode({**BLOCKS, BROKEN.last: forked})

    result = _run(lake, evm, instance)

    failed = {which for which, passed in _verdicts(result).items() if not passed}
    assert failed == {("ethereum_nodes_agree", BROKEN.key)}
    (row,) = _offending(result)
    assert row["place"] == f"block {BROKEN.last} at https://node-b.test (2)"
    assert row["found"] == other_hash
    with duckdb.connect() as connection:
        attach_raw_views(connection, lake, [], chains=evm.datasets, ranges=[BROKEN])
        (committed,) = connection.execute(
            "select '0x' || lower(hex(hash)) from raw.ethereum_blocks where number = ?",
            [BROKEN.last],
        ).fetchall()
    assert row["expected"] == committed[0]
    assert _built(result) == {"blocks", "transactions"}


def test_a_node_that_does_not_answer_is_an_error_and_no_agreement(
    lake: Lake, evm: Evm, network: Network, instance: dg.DagsterInstance
) -> None:
    network.nodes["node-b.test"] = httpx.ConnectError("nobody is there")

    result = _run(lake, evm, instance)

    assert not result.success
    assert "ethereum_nodes_agree" not in {name for name, _ in _verdicts(result)}
    assert _built(result) == {"blocks", "transactions"}


def test_days_of_all_chains_are_checked_in_the_warehouse(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    days = dg.DailyPartitionsDefinition("2024-03-01", timezone="UTC")
    path, lake = tmp_path / "warehouse.duckdb", Lake(tmp_path)
    first = date(2024, 3, 1)
    # From an hour before the first day to the middle of the third.
    commit_days(lake, HOURLY, every(timedelta(hours=1), at(first) - timedelta(hours=1), range(60)))
    with duckdb.connect(path) as connection:
        load_chains(connection, lake, [first + timedelta(days=step) for step in range(3)], [HOURLY])
        connection.execute("""
            create schema network;
            create table network.blocks_daily as
            select chain, timestamp::date as day, count(*) as block_count,
                min(number) as first_block, max(number) as last_block,
            from raw.chain_blocks
            where timestamp >= date '2024-03-01'
            group by all
        """)

    @dg.asset(key=["network", "blocks_daily"], partitions_def=days)
    def blocks_daily() -> None: ...

    of_blocks = [
        check
        for check in build_network_checks(lake, [HOURLY], days)
        if {key.name for key in check.check_keys} == {"days_are_covered"}
    ]
    result = (
        dg.Definitions(
            assets=[blocks_daily],
            asset_checks=of_blocks,
            resources={"warehouse": DuckDBResource(database=str(path))},
        )
        .resolve_implicit_global_asset_job_def()
        .execute_in_process(
            instance=instance,
            raise_on_error=False,
            tags={
                "dagster/asset_partition_range_start": "2024-03-01",
                "dagster/asset_partition_range_end": "2024-03-03",
            },
        )
    )

    # The third day has a row although nothing says that it is covered.
    assert _verdicts(result) == {
        ("days_are_covered", f"2024-03-0{day}"): day < 3 for day in (1, 2, 3)
    }
    assert not result.success
    duckdb.connect(path, config={"threads": 1}).close()


def _offending(result: dg.ExecuteInProcessResult) -> list[dict[str, Any]]:
    return [
        dict(record.data)
        for evaluation in result.get_asset_check_evaluations()
        if "offending_rows" in evaluation.metadata
        for record in evaluation.metadata["offending_rows"].value.records  # type: ignore[union-attr]
    ]
