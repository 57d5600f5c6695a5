"""What is made of chains by itself: ranges are decoded, and days built once these cover them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from automating import BIG, START, World, span
from chain_days import keep_result
from collecting_ranges import ChainHouse

from crypto_assets.assets.dbt import day_marts
from crypto_assets.automation_marts import covered_days
from crypto_assets.catalog import BlockRange, ChainRange
from crypto_assets.checks.asset_checks import mart_guards_of
from crypto_assets.lake import stale_ranges
from crypto_assets.runs import run_range

# They cover a day, from an hour before it to an hour after it.
OF_DAY = [START, *(START.beside(step) for step in (1, 2, 3))]
DAY = ("2024-12-31", "2024-12-31")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with dg.instance_for_test() as instance, ChainHouse(tmp_path / "sandbox") as house:
        yield World(house, instance)


# --- ranges --------------------------------------------------------------------------------------


def test_ranges_are_decoded_once_checked_and_once_in_each_state(world: World) -> None:
    world.collect(START, START.beside(1))
    world.collect(START.beside(3), START.beside(3))
    asked = world.tick("ethereum_marts")
    again = world.tick("ethereum_marts", asked.cursor)
    anew = world.tick("ethereum_marts")
    world.decode([START, START.beside(1)])
    left = world.tick("ethereum_marts")

    # A run takes ranges in a row: what lies between was not collected.
    last = (START.beside(3).key, START.beside(3).key)
    assert span(asked) == [(START.key, START.beside(1).key), last]
    assert again.run_requests == []
    assert keys(anew) == keys(asked), "Dagster drops a request whose key it has seen"
    assert span(left) == [last]


def test_a_range_that_is_not_checked_yet_is_not_decoded(world: World) -> None:
    world.collect(START, START)
    [kept] = world.ranges.lake.check_results.glob(f"ethereum_nodes_agree/range={START.key}.parquet")
    content = kept.read_bytes()
    kept.unlink()

    waits = world.tick("ethereum_marts")
    kept.write_bytes(content)
    ready = world.tick("ethereum_marts", waits.cursor)

    assert waits.run_requests == []
    assert json.loads(waits.cursor)["unchecked"] == [START.key]
    assert span(ready) == [(START.key, START.key)]
    assert json.loads(ready.cursor)["unchecked"] == []


def test_a_range_that_failed_its_checks_is_never_decoded(world: World) -> None:
    world.collect(START, START)
    keep_result(world.ranges.lake, "ethereum_nodes_agree", _part(START), passed=False)

    refused = world.tick("ethereum_marts")

    assert refused.run_requests == []
    assert json.loads(refused.cursor)["unchecked"] == []


def test_what_a_run_did_not_make_is_asked_for_again_alone_and_at_last_given_up(
    world: World,
) -> None:
    world.collect(START, START.beside(1))
    asked = world.tick("ethereum_marts")
    runs_on = world.tick("ethereum_marts", asked.cursor)
    world.end_run(asked.run_requests[0].run_key, seconds_ago=599)
    pauses = world.tick("ethereum_marts", runs_on.cursor)
    world.end_run(asked.run_requests[0].run_key, seconds_ago=601)
    again = world.tick("ethereum_marts", pauses.cursor)
    for request in again.run_requests:
        world.end_run(request.run_key, seconds_ago=1201)
    third = world.tick("ethereum_marts", again.cursor)
    state = json.loads(third.cursor)
    state["asked"] = {key: [state, 8, run] for key, (state, _, run) in state["asked"].items()}
    for request in third.run_requests:
        world.end_run(request.run_key, seconds_ago=10**6)
    given_up = world.tick("ethereum_marts", json.dumps(state))

    assert span(asked) == [(START.key, START.beside(1).key)]
    assert runs_on.run_requests == pauses.run_requests == []
    assert span(again) == [(key, key) for key in (START.key, START.beside(1).key)]
    assert span(third) == span(again)
    assert len({request.run_key for ticked in (asked, again, third)
                for request in ticked.run_requests}) == 5  # fmt: skip
    assert given_up.run_requests == []


# --- days ----------------------------------------------------------------------------------------


def test_days_are_asked_for_once_they_are_whole_and_again_when_a_range_changed(
    world: World,
) -> None:
    # From an hour before 2024-12-31 to just before its end.
    world.collect(START, START.beside(1))
    world.decode(OF_DAY[:2])
    nothing = world.tick("network_days")
    world.collect(START.beside(2), START.beside(3))
    undecoded = world.tick("network_days", nothing.cursor)
    world.decode(OF_DAY[2:3])
    whole = world.tick("network_days", undecoded.cursor)
    again = world.tick("network_days", whole.cursor)
    # It only shows that the day is over: what is decoded of it belongs to the next one.
    world.decode(OF_DAY[3:])
    beside = world.tick("network_days", again.cursor)
    world.decode(OF_DAY[1:2])
    decoded_again = world.tick("network_days", beside.cursor)

    assert nothing.run_requests == []
    assert undecoded.run_requests == []
    assert span(whole) == [DAY]
    assert again.run_requests == []
    assert beside.run_requests == [], "the day is asked for in the state that it is in"
    assert span(decoded_again) == [DAY]
    assert decoded_again.run_requests[0].run_key != whole.run_requests[0].run_key
    assert list(covered_days(world.ranges.lake, BIG, date(2024, 12, 30), date(2025, 1, 1))) == [
        date(2024, 12, 31)
    ]


def test_days_in_a_row_are_one_run_and_built_ones_are_left_alone(world: World) -> None:
    world.collect(START, START.beside(6))
    world.decode([START, *(START.beside(step) for step in range(1, 7))])
    asked = world.tick("network_days")
    for name in day_marts(world.manifest):
        folder = world.ranges.lake.marts.joinpath(*name.split("."))
        folder.mkdir(parents=True)
        (folder / "date=2024-12-31.parquet").touch()

    left = world.tick("network_days")

    assert span(asked) == [("2024-12-31", "2025-01-01")]
    assert span(left) == [("2025-01-01", "2025-01-01")]


def test_a_failed_check_of_what_was_decoded_stops_the_day(world: World) -> None:
    world.collect(START, START.beside(3))
    world.decode(OF_DAY)
    suite, *_ = mart_guards_of(BIG)
    keep_result(world.ranges.lake, suite, _part(START.beside(1)), passed=False)
    stopped = world.tick("network_days")
    world.decode(OF_DAY[1:2])
    mended = world.tick("network_days", stopped.cursor)

    assert stopped.run_requests == []
    assert span(mended) == [DAY]


def test_a_reorganised_range_is_marked_fetched_again_and_all_of_it_made_anew(
    world: World,
) -> None:
    world.collect(START, START.beside(3))
    decoded = world.tick("ethereum_marts")
    world.decode(OF_DAY)
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
    replaced = world.tick("ethereum_marts", decoded.cursor)
    assert span(replaced) == [(START.beside(2).key, START.beside(3).key)]
    waits = world.tick("network_days", before.cursor)
    assert waits.run_requests == []
    world.decode(OF_DAY[2:])
    after = world.tick("network_days", waits.cursor)
    assert span(after) == [DAY]
    assert after.run_requests[-1].run_key != before.run_requests[0].run_key


def keys(ticked: Any) -> list[str]:
    return [request.run_key for request in ticked.run_requests]


def _part(blocks: BlockRange) -> ChainRange:
    return ChainRange(BIG.name, blocks)
