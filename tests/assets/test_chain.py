"""A chain's raw assets in real Dagster runs: what is recorded for each range, and when."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from collecting_ranges import CHAIN, SIZE, ChainHouse, nth

from crypto_assets.assets.chain import build_chain_assets
from crypto_assets.assets.collect_ranges import RangeCollector
from crypto_assets.catalog import KINDS
from crypto_assets.partitions import range_partitions, register_ranges
from crypto_assets.sources.evm_rows import datasets

RANGES = nth(0, 1, 2)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[ChainHouse]:
    with ChainHouse(tmp_path / "home") as built:
        yield built


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as instance:
        # History that was registered after what is newer.
        register_ranges(instance, CHAIN.name, RANGES[2:])
        register_ranges(instance, CHAIN.name, RANGES[:2])
        yield instance


def run(
    collector: RangeCollector, instance: dg.DagsterInstance, *, refetch: bool = False
) -> dg.ExecuteInProcessResult:
    assets = build_chain_assets(CHAIN, datasets(CHAIN), dg.BackfillPolicy.multi_run(31))

    @dg.asset(
        deps=[*assets.keys],
        partitions_def=range_partitions(CHAIN.name),
        backfill_policy=dg.BackfillPolicy.multi_run(31),
    )
    def built_on_it() -> None: ...

    job = dg.Definitions(
        assets=[assets, built_on_it],
        jobs=[dg.define_asset_job("job")],
        resources={"ranges": collector},
        executor=dg.in_process_executor,
    ).resolve_job_def("job")
    return job.execute_in_process(
        instance=instance,
        raise_on_error=False,
        run_config={"ops": {"raw__ethereum": {"config": {"refetch": refetch}}}},
        tags={
            "dagster/asset_partition_range_start": RANGES[0].key,
            "dagster/asset_partition_range_end": RANGES[-1].key,
        },
    )


def recorded(instance: dg.DagsterInstance, kind: str) -> list[dg.AssetMaterialization]:
    key = dg.AssetKey(["raw", f"ethereum_{kind}"])
    records = instance.fetch_materializations(key, limit=100).records
    return [record.asset_materialization for record in reversed(records)]  # type: ignore[misc]


def test_each_range_is_recorded_once_for_each_dataset(
    house: ChainHouse, instance: dg.DagsterInstance
) -> None:
    assert run(house.collector(), instance).success

    for kind in KINDS:
        # Fails if Dagster starts to add its own materialization of each range to ours.
        found = recorded(instance, kind)
        assert sorted(each.partition or "" for each in found) == [each.key for each in RANGES]
        for each in found:
            assert each.metadata["status"].value == "complete"
            assert each.metadata["bytes"].value > 0
            assert len(each.metadata["digest"].value) == 64
            assert each.metadata["source"].value == "http://sandbox"
    rows = {m.partition: m.metadata["dagster/partition_row_count"].value for m in found}
    assert all(count > 0 for count in rows.values())
    first = next(m for m in recorded(instance, "blocks") if m.partition == RANGES[0].key).metadata
    assert first["dagster/partition_row_count"].value == SIZE
    assert first["first_block_at"].value == "2024-12-30 23:00:11"
    proofs = {row.data["claim"]: row.data["result"] for row in first["proofs"].records}  # type: ignore[union-attr]
    assert proofs["receipts_root"] == proofs["transactions_root"] == "passed"
    assert "transactions" in first["transactions_along_the_range"].value


def test_a_second_run_fetches_nothing_and_records_the_same_digests(
    house: ChainHouse, instance: dg.DagsterInstance
) -> None:
    collector = house.collector()
    assert run(collector, instance).success
    assert run(collector, instance).success

    first, second = recorded(instance, "logs")[:3], recorded(instance, "logs")[3:]
    digests = [{m.partition: m.metadata["digest"].value for m in some} for some in (first, second)]
    assert digests[0] == digests[1]
    assert [m.metadata["fetched_now"].value for m in second] == [False] * 3
    assert run(collector, instance, refetch=True).success
    assert [m.metadata["fetched_now"].value for m in recorded(instance, "logs")[6:]] == [True] * 3


def test_a_range_that_fails_is_named_and_the_others_are_recorded_all_the_same(
    house: ChainHouse, instance: dg.DagsterInstance
) -> None:
    bad = RANGES[1]
    result = run(house.collector(f"dropped_log@ethereum@{bad.first}-{bad.last}"), instance)

    assert not result.success
    for kind in KINDS:
        found = {m.partition for m in recorded(instance, kind)}
        assert found == {RANGES[0].key, RANGES[2].key}
    failure = result.failure_data_for_node("raw__ethereum")
    assert failure is not None
    assert failure.user_failure_data is not None
    [(part, why)] = failure.user_failure_data.metadata.items()
    assert part == f"ethereum {bad}"
    assert "Nothing was committed" in str(why.value)
    assert not result.asset_materializations_for_node("built_on_it")
