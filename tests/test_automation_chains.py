"""What fetches ranges by itself: new ones once they are final, history, and stale ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from automating import BIG, START, World
from collecting_ranges import CHAIN, FIRST, ChainHouse

from crypto_assets.catalog import BlockRange
from crypto_assets.definitions import build_definitions
from crypto_assets.lake import stale_ranges
from crypto_assets.partitions import register_ranges
from crypto_assets.settings import Settings


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
