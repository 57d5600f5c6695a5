"""Block ranges are listed in block order, and a day is covered only from end to end."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.schema import DynamicPartitionsTable
from hypothesis import given, settings
from hypothesis import strategies as st
from lake import chain

from crypto_assets.catalog import BlockRange, Chain
from crypto_assets.errors import CatalogError
from crypto_assets.event_log import EventLog
from crypto_assets.lake import Lake, Proof, ranges_between
from crypto_assets.partitions import (
    check_grid,
    days_between,
    days_covered,
    range_partitions,
    ranges_of,
    ranges_of_day,
    register_ranges,
)
from crypto_assets.settings import PROJECT_ROOT

CHAIN = Chain(name="ethereum", chain_id=1)
GRID = "ethereum_ranges"


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """As the project's own: SQLite in files."""
    shutil.copy(PROJECT_ROOT / "dagster.yaml", tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path)) as made:
        yield made


def ranges(first: int, last: int) -> list[BlockRange]:
    return CHAIN.ranges(first * 1000, last * 1000)


def listed(instance: dg.DagsterInstance) -> list[BlockRange]:
    return ranges_of(
        range_partitions("ethereum").get_partition_keys(dynamic_partitions_store=instance)
    )


# Registering


def test_ranges_are_listed_in_block_order_whatever_order_they_come_in(
    instance: dg.DagsterInstance,
) -> None:
    assert register_ranges(instance, "ethereum", ranges(10, 12)) == ranges(10, 12)
    assert register_ranges(instance, "ethereum", reversed(ranges(0, 5))) == ranges(0, 5)
    assert register_ranges(instance, "ethereum", ranges(4, 11)) == ranges(6, 9)
    assert register_ranges(instance, "ethereum", ranges(0, 12)) == []
    assert register_ranges(instance, "ethereum", []) == []
    assert register_ranges(instance, "ethereum", ranges(13, 13) * 2) == ranges(13, 13)
    assert listed(instance) == ranges(0, 13)
    storage = instance.event_log_storage
    assert isinstance(storage, EventLog)
    dagsters = SqliteEventLogStorage.get_dynamic_partitions(storage, GRID)
    assert instance.get_dynamic_partitions(GRID) == dagsters
    assert instance.get_dynamic_partitions("none") == []


def test_any_order_ends_in_block_order() -> None:
    dice = random.Random(7)
    with dg.DagsterInstance.ephemeral() as instance:
        for _ in range(30):
            first = dice.randrange(100)
            register_ranges(instance, "ethereum", ranges(first, first + dice.randrange(9)))
            assert listed(instance) == sorted(set(listed(instance)))


def test_chains_do_not_touch_each_other(instance: dg.DagsterInstance) -> None:
    register_ranges(instance, "base", ranges(5, 6))
    register_ranges(instance, "ethereum", ranges(5, 6))
    register_ranges(instance, "ethereum", ranges(0, 0))
    assert instance.get_dynamic_partitions("base_ranges") == [found.key for found in ranges(5, 6)]


def test_a_list_that_others_left_out_of_order_is_put_in_order(instance: dg.DagsterInstance) -> None:
    instance.add_dynamic_partitions(GRID, [ranges(n, n)[0].key for n in (5, 3, 4)])
    assert register_ranges(instance, "ethereum", ranges(9, 9)) == ranges(9, 9)
    assert listed(instance) == [*ranges(3, 5), *ranges(9, 9)]
    instance.add_dynamic_partitions(GRID, [ranges(7, 7)[0].key])
    assert register_ranges(instance, "ethereum", []) == []
    assert listed(instance) == [*ranges(3, 5), *ranges(7, 7), *ranges(9, 9)]


def test_materializations_stay_and_runs_follow_the_list_when_history_is_registered(
    instance: dg.DagsterInstance,
) -> None:
    runs: list[list[BlockRange]] = []

    @dg.asset(
        partitions_def=range_partitions("ethereum"),
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def blocks(context) -> None:  # type: ignore[no-untyped-def]
        runs.append(ranges_of(context.partition_keys))

    def run(first: int, last: int) -> None:
        tags = {
            "dagster/asset_partition_range_start": ranges(first, first)[0].key,
            "dagster/asset_partition_range_end": ranges(last, last)[0].key,
        }
        assert dg.materialize([blocks], instance=instance, tags=tags).success

    register_ranges(instance, "ethereum", ranges(7, 8))
    run(8, 8)
    register_ranges(instance, "ethereum", ranges(0, 3))
    done = {found.key for found in ranges(8, 8)}
    assert instance.get_materialized_partitions(dg.AssetKey("blocks")) == done
    run(2, 8)
    assert runs == [ranges(8, 8), [*ranges(2, 3), *ranges(7, 8)]]


def test_two_at_the_same_time_lose_nothing(instance: dg.DagsterInstance) -> None:
    register_ranges(instance, "ethereum", ranges(500, 510))
    groups = [ranges(100 * n, 100 * n + 40) for n in range(4, -1, -1)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda group: register_ranges(instance, "ethereum", group), groups))
    register_ranges(instance, "ethereum", [])
    assert listed(instance) == sorted({*ranges(500, 510), *(r for group in groups for r in group)})


def test_dying_between_taking_out_and_putting_in_changes_nothing(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_ranges(instance, "ethereum", ranges(5, 9))

    def die() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(DynamicPartitionsTable, "insert", die)
        with pytest.raises(KeyboardInterrupt):
            register_ranges(instance, "ethereum", ranges(0, 0))
    assert listed(instance) == ranges(5, 9)
    assert register_ranges(instance, "ethereum", ranges(0, 0)) == ranges(0, 0)


@pytest.mark.parametrize("size", [500, 2000])
def test_ranges_of_another_size_are_not_registered_beside_those_that_are_listed(
    instance: dg.DagsterInstance, tmp_path: Path, size: int
) -> None:
    """The lake is empty, so that only Dagster knows of the size before."""
    register_ranges(instance, "ethereum", ranges(0, 3))
    other = CHAIN.model_copy(update={"range_size": size})
    with pytest.raises(
        CatalogError, match=r"4 of .* 000000000-000000999; nothing .* back .*delete"
    ):
        register_ranges(instance, "ethereum", other.ranges(0, 9000))
    with pytest.raises(CatalogError, match=f"no ranges of {size} blocks"):
        check_grid(instance, Lake(tmp_path), other)
    assert listed(instance) == ranges(0, 3)

    check_grid(instance, Lake(tmp_path), CHAIN)
    assert register_ranges(instance, "ethereum", ranges(2, 5)) == ranges(4, 5)
    check_grid(instance, Lake(tmp_path), other.model_copy(update={"name": "base"}))


def test_what_was_deleted_in_the_ui_lets_another_size_in(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    register_ranges(instance, "ethereum", ranges(0, 1))
    other = CHAIN.model_copy(update={"range_size": 500})
    for blocks in ranges(0, 1):
        instance.delete_dynamic_partition(GRID, blocks.key)
    check_grid(instance, Lake(tmp_path), other)
    register_ranges(instance, "ethereum", other.ranges(0, 999))
    assert listed(instance) == other.ranges(0, 999)


def test_the_lake_says_which_size_may_be_registered(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    lake = Lake(tmp_path / "home")
    chain.commit(lake)
    with pytest.raises(CatalogError, match="ranges of 10 blocks, not of 1000; set its range_size"):
        check_grid(instance, lake, CHAIN)
    check_grid(instance, lake, chain.CHAIN)


def test_a_key_that_is_no_range_is_named(instance: dg.DagsterInstance) -> None:
    instance.add_dynamic_partitions(GRID, ["by hand"])
    with pytest.raises(CatalogError, match=r"1 of .* such as by hand; nothing was registered"):
        register_ranges(instance, "ethereum", ranges(0, 0))
    assert instance.get_dynamic_partitions(GRID) == ["by hand"]


def test_figures_for_25_000_ranges(
    instance: dg.DagsterInstance, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of mainnet. Prints what the UI, the sensor and a person wait for; asserts no time."""
    told = []

    def measure(what: str, first: int, last: int) -> None:
        started = time.perf_counter()
        register_ranges(instance, "ethereum", ranges(first, last))
        told.append(f"{what} {time.perf_counter() - started:.2f} s")

    measure("the newest 12,500", 12_500, 24_999)
    measure("history before them", 0, 12_499)
    measure("one more", 25_000, 25_000)
    measure("nothing new", 24_990, 25_000)
    started = time.perf_counter()
    assert len(listed(instance)) == 25_001
    told.append(f"listing {time.perf_counter() - started:.2f} s")
    with capsys.disabled():
        print(f"\n25,000 ranges registered: {', '.join(told)}")


# Days

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
DAY, NEXT, THIRD = date(2024, 1, 1), date(2024, 1, 2), date(2024, 1, 3)
MIDNIGHT = datetime(2024, 1, 2, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def proof(number: int, first_at: datetime, last_at: datetime) -> Proof:
    """Of the range so many thousands from the genesis; each names the one before by its hash."""
    blocks = CHAIN.range_of(number * 1000)
    return Proof(
        dataset="ethereum_blocks",
        partition=blocks.key,
        market="",
        venue="ethereum",
        status="complete",
        row_count=1000,
        source_row_count=1000,
        first_id=blocks.first,
        last_id=blocks.last,
        first_at=first_at,
        last_at=last_at,
        id_rule="none",
        gap_count=0,
        duplicate_count=0,
        content_digest="",
        key=("number",),
        source=(),
        checks={},
        gaps=(),
        neighbours={},
        code_version="",
        fetched_at=NOON,
        parent_hash=f"0x{number - 1}",
        last_hash=f"0x{number}",
    )


def hourly(*numbers: int) -> list[Proof]:
    """Ranges of 1,000 blocks over ten hours each, the first of which begins at noon."""
    return [
        proof(n, NOON + timedelta(hours=10 * n), NOON + timedelta(hours=10 * n + 9, minutes=59))
        for n in numbers
    ]


def test_a_day_is_covered_once_a_block_on_either_side_is_there() -> None:
    # They begin at 22:00 of the first day, 08:00, 18:00, 04:00 of the third, 14:00, 00:00.
    assert days_covered(hourly(1, 2)) == []
    assert days_covered(hourly(1, 2, 3)) == [NEXT]
    assert days_covered(hourly(2, 3, 4, 5)) == []
    assert days_covered(hourly(1, 2, 3, 4, 5)) == [NEXT]
    assert days_covered(reversed(hourly(1, 2, 3, 4, 5, 6))) == [NEXT, THIRD]
    assert days_covered([]) == []


def test_a_missing_range_in_the_middle_uncovers_its_days() -> None:
    assert days_covered(hourly(1, 2, 4, 5, 6)) == []
    assert days_covered(hourly(1, 2, 3, 5, 6, 7, 8)) == [NEXT, date(2024, 1, 4)]


def test_nothing_can_be_missing_before_the_genesis() -> None:
    assert days_covered(hourly(0, 1, 2)) == [DAY]
    assert days_covered(hourly(1, 2)) == []


@pytest.mark.parametrize(
    ("first_at", "is_covered"),
    [(MIDNIGHT - SECOND, True), (MIDNIGHT, False), (MIDNIGHT + SECOND, False)],
    ids=["23:59:59", "00:00:00", "00:00:01"],
)
def test_the_lower_edge(first_at: datetime, is_covered: bool) -> None:
    """A block at midnight is the day's own: whether it is the first, only one before it tells."""
    run = [
        proof(1, first_at, MIDNIGHT + 3600 * SECOND),
        proof(2, MIDNIGHT + 3601 * SECOND, MIDNIGHT + timedelta(days=1)),
    ]
    assert days_covered(run) == ([NEXT] if is_covered else [])


@pytest.mark.parametrize(
    ("last_at", "is_covered"),
    [(MIDNIGHT - SECOND, False), (MIDNIGHT, True), (MIDNIGHT + SECOND, True)],
    ids=["23:59:59", "00:00:00", "00:00:01"],
)
def test_the_upper_edge(last_at: datetime, is_covered: bool) -> None:
    """A block at midnight is of the day after: then there is none left of this one."""
    first_at = MIDNIGHT - timedelta(days=1) - SECOND
    assert days_covered([proof(1, first_at, last_at)]) == ([DAY] if is_covered else [])


def test_a_day_on_which_the_chain_stood_still_is_covered() -> None:
    run = [
        proof(1, NOON, MIDNIGHT - SECOND),
        proof(2, MIDNIGHT + timedelta(days=1), MIDNIGHT + timedelta(days=1, hours=1)),
    ]
    assert days_covered(run) == [NEXT]
    assert ranges_of_day(NEXT, run) == []
    inside = [proof(1, NOON, MIDNIGHT + timedelta(days=2))]
    assert days_covered(inside) == [NEXT, THIRD]
    assert ranges_of_day(NEXT, inside) == [CHAIN.range_of(1000)], "it may hold blocks of the day"


def test_ranges_that_do_not_join_by_their_hashes_cover_nothing_together() -> None:
    one, two, three, four = hourly(1, 2, 3, 4)
    assert days_covered([one, two, three, four]) == [NEXT]
    forked = three.model_copy(update={"parent_hash": "0x", "last_hash": "0x"})
    assert days_covered([one, two, forked, four]) == []


def test_ranges_of_a_day_are_those_that_reach_into_it() -> None:
    run = hourly(*range(8))
    assert ranges_of_day(DAY, run) == ranges(0, 1)
    assert ranges_of_day(NEXT, reversed(run)) == ranges(1, 3)
    assert ranges_of_day(THIRD, run) == ranges(3, 5)
    assert ranges_of_day(date(2023, 12, 31), run) == []


@pytest.mark.parametrize(("at", "day"), [(MIDNIGHT - SECOND, DAY), (MIDNIGHT, NEXT)])
def test_one_block_belongs_to_one_day(at: datetime, day: date) -> None:
    found = [each for each in (DAY, NEXT) if ranges_of_day(each, [proof(1, at, at)])]
    assert found == [day]


@given(
    st.sets(st.integers(0, 20)),
    st.lists(st.integers(1, 30), min_size=21, max_size=21),
    st.integers(1, 15),
)
def test_covered_is_what_lies_between_blocks_that_are_there(
    present: set[int], hours: list[int], step: int
) -> None:
    """Against every block one by one: the same days, and all their blocks in `ranges_of_day`."""
    at, times = NOON, {}
    for number, each in enumerate(hours):
        times[number] = [at + timedelta(hours=each * k) for k in range(0, 10, step)]
        at = times[number][-1] + timedelta(hours=each)
    proofs = [proof(number, times[number][0], times[number][-1]) for number in present]
    covered = days_covered(proofs)
    blocks = [(time, number in present) for number in range(21) for time in times[number]]
    for day in days_between(DAY - timedelta(days=1), at.date()):
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        end = start + timedelta(days=1)
        before = [is_there for time, is_there in blocks if time < start]
        inside = [is_there for time, is_there in blocks if start <= time < end]
        after = [is_there for time, is_there in blocks if time >= end]
        is_covered = (
            all(inside) and bool(after) and after[0] and (before[-1] if before else day == DAY)
        )
        assert (day in covered) == is_covered
        held = {number for number in present if any(start <= t < end for t in times[number])}
        assert held <= {found.first // 1000 for found in ranges_of_day(day, proofs)}


@pytest.fixture(scope="module", params=[-1, 0, 1], ids=["23:59:59", "00:00:00", "00:00:01"])
def hourly_lake(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Lake, list[Proof]]:
    """Twenty ranges of ten blocks, one an hour, the first beside midnight; without the twelfth."""
    lake = Lake(tmp_path_factory.mktemp("hourly"))
    started_at = chain.STARTED_AT + request.param * SECOND
    proofs = []
    for number in (*range(11), *range(12, 20)):
        part = chain.part_of(10 * number)
        rows = chain.rows_of(part.blocks, started_at=started_at, seconds=3600)
        proofs.append(chain.commit(lake, rows, part)["blocks"])
    return lake, proofs


@settings(deadline=None)
@given(first=st.integers(-2, 10), count=st.integers(1, 4))
def test_the_ranges_around_some_days_tell_as_much_of_them_as_all_ranges_do(
    hourly_lake: tuple[Lake, list[Proof]], first: int, count: int
) -> None:
    lake, proofs = hourly_lake
    start = chain.STARTED_AT + timedelta(days=first)
    end = start + timedelta(days=count)
    days = set(days_between(start.date(), (end - SECOND).date()))
    around = [found["blocks"] for found in ranges_between(lake, chain.CHAIN.name, start, end)]
    assert days.intersection(days_covered(around)) == days.intersection(days_covered(proofs))
    for day in days:
        assert ranges_of_day(day, around) == ranges_of_day(day, proofs)
