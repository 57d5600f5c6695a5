"""What runs for chains by itself: ranges once they are final, stale ones, and the days of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from collecting_ranges import CHAIN, FIRST, ChainHouse

from crypto_assets.assets.collect_ranges import RangeCollector
from crypto_assets.automation_chains import covered_days
from crypto_assets.catalog import BlockRange, Chain
from crypto_assets.definitions import build_definitions
from crypto_assets.lake import stale_ranges
from crypto_assets.partitions import register_ranges
from crypto_assets.runs import run_range
from crypto_assets.settings import Settings

# A day of the sandbox chain is 1,440 blocks.
BIG = Chain(name="ethereum", chain_id=1, range_size=500, slot_seconds=12)
START = BIG.range_of(FIRST)


class World:
    """Definitions over a sandbox chain, and an instance to run them on."""

    def __init__(self, house: ChainHouse, instance: dg.DagsterInstance, faults: str = "") -> None:
        self.house, self.instance = house, instance
        self.connect(faults)

    def connect(self, faults: str = "") -> None:
        self.ranges: RangeCollector = self.house.collector(faults, chain=BIG)
        settings = Settings(data_dir=self.house.lake.home.parent)
        self.definitions = build_definitions(settings, ranges=self.ranges)

    def collect(self, first: BlockRange, last: BlockRange) -> None:
        ranges = BIG.ranges(first.first, last.last)
        register_ranges(self.instance, BIG.name, ranges)
        job = self.definitions.resolve_job_def("ethereum")
        assert run_range(self.instance, job, ranges).is_proven

    def tick(self, sensor: str, cursor: str | None = None) -> Any:
        context = dg.build_sensor_context(
            instance=self.instance, cursor=cursor, resources={"ranges": self.ranges}
        )
        return self.definitions.resolve_sensor_def(sensor)(context)

    def run(self, job: str, **config: Any) -> dg.ExecuteInProcessResult:
        ops = {f"{job}_ranges": {"config": config}}
        return self.definitions.resolve_job_def(job).execute_in_process(
            instance=self.instance, run_config={"ops": ops}
        )

    def collect_now(self, faults: str) -> None:
        """The first range, from a chain with other faults that is as high."""
        height = self.house.app.state.nodes["ethereum"].head
        self.connect(faults)
        self.house.app.state.nodes["ethereum"].head = height
        self.collect(START, START)

    @property
    def listed(self) -> list[str]:
        return list(self.instance.get_dynamic_partitions("ethereum_ranges"))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with dg.instance_for_test() as instance, ChainHouse(tmp_path / "sandbox") as house:
        yield World(house, instance)


def test_a_new_range_waits_for_its_last_block_to_be_final(world: World) -> None:
    node = world.house.app.state.nodes["ethereum"]
    source = world.ranges.source(BIG)
    behind = node.head - source.finalized()

    node.head = START.last + behind - 1
    register_ranges(world.instance, BIG.name, [START.beside(-1)])
    waits = world.tick("ethereum_ranges")
    node.head += 1
    ticked = world.tick("ethereum_ranges", waits.cursor)

    assert waits.run_requests == []
    assert str(START.last - 1) in waits.skip_reason.skip_message
    assert [request.partition_key for request in ticked.run_requests] == [START.key]
    [added] = ticked.dynamic_partitions_requests
    assert (added.partitions_def_name, list(added.partition_keys)) == (
        "ethereum_ranges",
        [START.key],
    )


def test_a_range_whose_run_failed_is_asked_for_again(world: World) -> None:
    world.connect(f"garbage_receipts@*@{START.first}-{START.last}")
    node = world.house.app.state.nodes["ethereum"]
    node.head = START.last + node.head - world.ranges.source(BIG).finalized()
    register_ranges(world.instance, BIG.name, [START.beside(-1)])
    first = world.tick("ethereum_ranges")
    [asked] = first.run_requests

    register_ranges(world.instance, BIG.name, [START])
    job = world.definitions.resolve_job_def("ethereum")
    failed = job.execute_in_process(
        instance=world.instance, partition_key=START.key, raise_on_error=False
    )
    again = world.tick("ethereum_ranges", first.cursor)
    history = world.tick("ethereum_ranges")
    world.collect_now("")
    healed = world.tick("ethereum_ranges", again.cursor)

    assert not failed.success
    assert [request.partition_key for request in again.run_requests] == [START.key]
    assert again.run_requests[0].run_key != asked.run_key
    assert again.dynamic_partitions_requests == []
    # What a person registered and this sensor did not is theirs to fetch.
    assert history.run_requests == []
    assert healed.run_requests == []
    # What is there is not looked at again, however long the history grows.
    assert (again.cursor, healed.cursor) == (START.key, START.beside(1).key)


def test_a_new_chain_begins_with_its_newest_whole_range(world: World) -> None:
    finalized = world.ranges.source(BIG).finalized()

    ticked = world.tick("ethereum_ranges")

    [request] = ticked.run_requests
    newest = BlockRange.parse(request.partition_key)
    assert newest.last <= finalized < newest.beside(1).last


def test_history_is_registered_in_block_order_below_what_is_newer(world: World) -> None:
    newest = START.beside(6)
    register_ranges(world.instance, BIG.name, [newest])

    assert world.run("register_ethereum", first_block=FIRST, last_block=FIRST + 1600).success

    expected = [START.beside(step).key for step in (0, 1, 2, 3, 6)]
    assert world.listed == expected
    assert world.run("register_ethereum", first_block=FIRST, last_block=FIRST + 1600).success
    assert world.listed == expected


def test_days_are_asked_for_once_they_are_whole_and_again_when_a_range_changed(
    world: World,
) -> None:
    # From an hour before 2024-12-31 to just before its end.
    world.collect(START, START.beside(1))
    nothing = world.tick("network_days")
    world.collect(START.beside(2), START.beside(3))
    whole = world.tick("network_days", nothing.cursor)
    again = world.tick("network_days", whole.cursor)

    assert nothing.run_requests == []
    assert span(whole) == [("2024-12-31", "2024-12-31")]
    assert again.run_requests == []
    assert list(covered_days(world.ranges.lake, BIG, date(2024, 12, 30), date(2025, 1, 1))) == [
        date(2024, 12, 31)
    ]


def test_days_in_a_row_are_one_run_and_built_ones_are_left_alone(world: World) -> None:
    world.collect(START, START.beside(6))
    asked = world.tick("network_days")
    folder = world.ranges.lake.marts / "network" / "blocks_daily"
    folder.mkdir(parents=True)
    (folder / "date=2024-12-31.parquet").touch()

    left = world.tick("network_days")

    assert span(asked) == [("2024-12-31", "2025-01-01")]
    assert span(left) == [("2025-01-01", "2025-01-01")]


def test_a_range_that_is_not_checked_yet_makes_no_day(world: World) -> None:
    world.collect(START, START.beside(3))
    [kept] = world.ranges.lake.check_results.glob(
        f"ethereum_nodes_agree/range={START.beside(1).key}.parquet"
    )
    content = kept.read_bytes()
    kept.unlink()

    waits = world.tick("network_days")
    kept.write_bytes(content)
    ready = world.tick("network_days", waits.cursor)

    assert waits.run_requests == []
    assert json.loads(waits.cursor)["ethereum"]["unchecked"] == [START.beside(1).key]
    assert json.loads(ready.cursor)["ethereum"]["unchecked"] == []
    assert span(ready) == [("2024-12-31", "2024-12-31")]


def span(ticked: Any) -> list[tuple[str, str]]:
    """First and last day of each run asked for."""
    return [
        (
            request.tags["dagster/asset_partition_range_start"],
            request.tags["dagster/asset_partition_range_end"],
        )
        for request in ticked.run_requests
    ]


def test_a_reorganised_range_is_marked_fetched_again_and_its_day_rebuilt(world: World) -> None:
    world.collect(START, START.beside(3))
    before = world.tick("network_days")
    fork = START.beside(2).first + 10
    world.connect(f"reorg@*@{fork}-")

    assert world.run("recheck_ethereum", newest=4).success
    stale = stale_ranges(world.ranges.lake, BIG.name)
    observed = world.instance.fetch_observations(
        dg.AssetKey(["raw", "ethereum_blocks"]), limit=10
    ).records
    asked = world.tick("ethereum_stale")
    meanwhile = world.tick("network_days", before.cursor)

    assert [each.part.blocks for each in stale] == [START.beside(2), START.beside(3)]
    assert sorted(str(record.partition_key) for record in observed) == [
        each.part.partition for each in stale
    ]
    assert [r.partition_key for r in asked.run_requests] == [e.part.partition for e in stale]
    assert meanwhile.run_requests == []
    # As the daemon would run them, one by one.
    for request in asked.run_requests:
        job = world.definitions.resolve_job_def("ethereum")
        blocks = BlockRange.parse(request.partition_key)
        assert run_range(world.instance, job, [blocks]).is_proven
    assert isinstance(world.tick("ethereum_stale"), dg.SkipReason)
    after = world.tick("network_days", before.cursor)
    assert span(after) == [("2024-12-31", "2024-12-31")]
    assert after.run_requests[-1].run_key != before.run_requests[0].run_key


def test_a_recheck_that_finds_nothing_marks_nothing(world: World) -> None:
    world.collect(START, START)

    assert world.run("recheck_ethereum").success

    assert stale_ranges(world.ranges.lake, BIG.name) == []
    assert isinstance(world.tick("ethereum_stale"), dg.SkipReason)


def test_a_tick_asks_for_a_bounded_number_of_runs(world: World) -> None:
    small = world.house.collector(chain=CHAIN)
    settings = Settings(data_dir=world.house.lake.home.parent)
    definitions = build_definitions(settings, ranges=small)
    register_ranges(world.instance, CHAIN.name, [CHAIN.range_of(FIRST)])
    context = dg.build_sensor_context(instance=world.instance, resources={"ranges": small})

    ticked: Any = definitions.resolve_sensor_def("ethereum_ranges")(context)

    keys = [request.partition_key for request in ticked.run_requests]
    assert keys == [each.key for each in CHAIN.ranges(FIRST + 10, FIRST + 209)]
