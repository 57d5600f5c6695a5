"""The asset of a chain's calls in real Dagster runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from asking import Contracts
from collecting_ranges import CHAIN, ONE, nth

from crypto_assets.assets.calls import build_calls_asset
from crypto_assets.assets.collect_ranges import RangeCollector
from crypto_assets.catalog import Catalog, Chains
from crypto_assets.lake import Lake
from crypto_assets.partitions import register_ranges
from crypto_assets.sandbox import create_app
from crypto_assets.sources.evm import Evm

RANGES = nth(0, 1)
KEY = dg.AssetKey(["raw", "ethereum_calls"])


@pytest.fixture
def ranges(tmp_path: Path) -> Iterator[RangeCollector]:
    source = Evm(CHAIN, urls=ONE, transport=Contracts(create_app(Catalog(()))))
    yield RangeCollector(Lake(tmp_path / "home"), Chains((CHAIN,)), lambda _: source, workers=2)
    source.close()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as instance:
        register_ranges(instance, CHAIN.name, RANGES)
        yield instance


def run(ranges: RangeCollector, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    job = dg.Definitions(
        assets=[build_calls_asset(CHAIN, dg.BackfillPolicy.multi_run(31))],
        jobs=[dg.define_asset_job("job")],
        resources={"ranges": ranges},
        executor=dg.in_process_executor,
    ).resolve_job_def("job")
    return job.execute_in_process(
        instance=instance,
        raise_on_error=False,
        tags={
            "dagster/asset_partition_range_start": RANGES[0].key,
            "dagster/asset_partition_range_end": RANGES[-1].key,
        },
    )


def recorded(instance: dg.DagsterInstance) -> list[dg.AssetMaterialization]:
    records = instance.fetch_materializations(KEY, limit=100).records
    return [record.asset_materialization for record in reversed(records)]  # type: ignore[misc]


def test_each_range_is_recorded_once_and_a_second_run_asks_nothing(
    ranges: RangeCollector, instance: dg.DagsterInstance
) -> None:
    for done in ranges.collect(CHAIN, RANGES):
        assert done.error is None
    for _ in range(2):
        assert run(ranges, instance).success
    found = recorded(instance)
    assert len(found) == 4
    for some in (found[:2], found[2:]):
        assert sorted(each.partition or "" for each in some) == [one.key for one in RANGES]
    for each in found:
        assert each.metadata["status"].value == "complete"
        assert each.metadata["dagster/partition_row_count"].value > 0
        assert len(each.metadata["digest"].value) == len(each.metadata["logs_digest"].value) == 64
        claims = {row.data["claim"] for row in each.metadata["proofs"].records}  # type: ignore[union-attr]
        assert {"calls_are_answered", "nodes_agree"} <= claims
    assert [each.metadata["asked_now"].value > 0 for each in found] == [True, True, False, False]
    digests = [
        {e.partition: e.metadata["digest"].value for e in some} for some in (found[:2], found[2:])
    ]
    assert digests[0] == digests[1]


def test_a_range_without_logs_is_named_and_the_others_are_recorded(
    ranges: RangeCollector, instance: dg.DagsterInstance
) -> None:
    for done in ranges.collect(CHAIN, RANGES[:1]):
        assert done.error is None
    result = run(ranges, instance)
    assert not result.success
    assert [each.partition for each in recorded(instance)] == [RANGES[0].key]
    failure = result.failure_data_for_node("raw__ethereum_calls")
    assert failure is not None
    assert "calls of block ranges of ethereum are not proven" in str(failure.error)


def test_it_depends_on_the_logs(ranges: RangeCollector) -> None:
    asset = build_calls_asset(ranges.chains.chains[0], dg.BackfillPolicy.single_run())
    assert asset.key == KEY
    assert asset.asset_deps[KEY] == {dg.AssetKey(["raw", "ethereum_logs"])}
    assert asset.partitions_def is not None
    assert asset.partitions_def.name == "ethereum_ranges"  # type: ignore[attr-defined]
