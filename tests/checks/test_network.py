"""Each claim about days of chains passes on whole ones and fails, for its day only, when broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta

import duckdb
import pytest
from chain_days import ETHEREUM, OTHER, commit, every

from crypto_assets.checks.network import SUITES
from crypto_assets.checks.scope import days
from crypto_assets.checks.suite import SuiteResult, evaluate
from crypto_assets.lake import Lake
from crypto_assets.warehouse import load_chains

(SUITE,) = SUITES
JUDGED = [date(2024, 3, 2), date(2024, 3, 3)]
HOUR = timedelta(hours=1)
# The day before is collected in part.
FIRST_DAY, LAST_DAY = "2024-03-02", "2024-03-03"
DAILY = "update network.blocks_daily set {} where chain = 'ethereum' and day = '2024-03-02'"
OF_DAY = "where chain = 'ethereum' and day = '2024-03-02'"
# What is broken, the day that it breaks, and every claim that must then fail.
BREAKS = [
    (f"delete from network.blocks_daily {OF_DAY}", FIRST_DAY, {"covered_days_have_a_row"}),
    (f"delete from raw.covered_days {OF_DAY}", FIRST_DAY,
     {"rows_are_of_covered_days", "days_with_blocks_are_covered"}),
    (f"delete from raw.covered_days {OF_DAY}; delete from network.blocks_daily {OF_DAY}", FIRST_DAY,
     {"days_with_blocks_are_covered"}),
    (DAILY.format("block_count = 25"), FIRST_DAY,
     {"blocks_are_contiguous", "rows_count_the_collected_blocks"}),
    ("delete from raw.chain_blocks where number = 120", FIRST_DAY,
     {"rows_count_the_collected_blocks"}),
    (DAILY.format("first_block = 113, block_count = 23"), FIRST_DAY,
     {"rows_count_the_collected_blocks", "days_end_between_blocks"}),
    (DAILY.format("last_block = 134"), FIRST_DAY,
     {"blocks_are_contiguous", "days_end_between_blocks"}),
    (DAILY.format("first_block = 111, last_block = 134"), FIRST_DAY, {"days_end_between_blocks"}),
    (DAILY.format("first_block = 113, last_block = 136"), FIRST_DAY, {"days_end_between_blocks"}),
    ("delete from raw.chain_blocks where number = 111", FIRST_DAY, {"days_end_between_blocks"}),
    ("delete from raw.chain_blocks where number = 160", LAST_DAY, {"days_end_between_blocks"}),
]  # fmt: skip


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """A block an hour: from noon on, and of the other chain from its genesis on."""
    lake = Lake(tmp_path_factory.mktemp("network"))
    commit(lake, ETHEREUM, every(HOUR, datetime(2024, 3, 1, 12), range(100, 190)))
    commit(lake, OTHER, every(HOUR, datetime(2024, 3, 2, 5), range(70)))
    with duckdb.connect() as connection:
        load_chains(connection, lake, JUDGED, [ETHEREUM, OTHER])
        connection.execute("""
            create table copy as from raw.chain_blocks;
            drop view raw.chain_blocks;
            create table raw.chain_blocks as from copy;
            create schema network;
            create table network.blocks_daily as
            select
                covered.chain, day, count(number) as block_count, min(number) as first_block,
                max(number) as last_block,
            from raw.covered_days as covered
            left join raw.chain_blocks as block
                on block.chain = covered.chain and timestamp::date = day
            group by all;
        """)
        yield connection


@pytest.fixture
def world(shared: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    """What a test breaks is whole again after it."""
    shared.begin()
    yield shared
    shared.rollback()


@pytest.fixture
def judge(world: duckdb.DuckDBPyConnection) -> Callable[[], SuiteResult]:
    return lambda: evaluate(SUITE, world, days(JUDGED))


def test_whole_days_pass(
    world: duckdb.DuckDBPyConnection, judge: Callable[[], SuiteResult]
) -> None:
    rows = world.execute("from network.blocks_daily order by all").fetchall()
    assert rows == [
        ("ethereum", JUDGED[0], 24, 112, 135),
        ("ethereum", JUDGED[1], 24, 136, 159),
        ("other", JUDGED[0], 19, 0, 18),
        ("other", JUDGED[1], 24, 19, 42),
    ]

    result = judge()

    assert result.passed
    assert len(result.results) == len(SUITE.claims) * 2
    assert all(set(r.observed) == {"ethereum", "other"} for r in result.results)
    assert result.offenders == ()


@pytest.mark.parametrize(("broken", "day", "failing"), BREAKS)
def test_a_broken_day_fails_its_claims_alone(
    broken: str,
    day: str,
    failing: set[str],
    world: duckdb.DuckDBPyConnection,
    judge: Callable[[], SuiteResult],
) -> None:
    assert world.execute(broken).fetchall()[0][0] == 1

    result = judge()

    assert {r.claim.name for r in result.results if not r.passed} == failing
    blocks = failing != {"days_with_blocks_are_covered"}
    assert result.failed == ((day,) if blocks else ())
    assert result.warned == (() if blocks else (day,))
    assert {(row["claim"], row["venue"], row["partition"]) for row in result.offenders} == {
        (claim, "ethereum", day) for claim in failing
    }


def test_every_claim_was_seen_failing() -> None:
    seen = {claim for *_, failing in BREAKS for claim in failing}
    assert seen == {claim.name for claim in SUITE.claims}


def test_what_lies_beyond_the_day_is_shown(
    world: duckdb.DuckDBPyConnection, judge: Callable[[], SuiteResult]
) -> None:
    world.execute(DAILY.format("first_block = 113, last_block = 136"))
    world.execute("delete from raw.chain_blocks where chain = 'other' and number = 43")

    shown = {(row["place"], row["found"], row["expected"]) for row in judge().offenders}

    assert shown == {
        ("block before 113", "2024-03-02 00:00:00", "before 2024-03-02"),
        ("block after 42", "not in the lake", "after 2024-03-03"),
    }


@pytest.mark.parametrize("has_row", [True, False])
def test_a_day_on_which_a_chain_stood_still_has_a_row_of_no_blocks(
    has_row: bool, world: duckdb.DuckDBPyConnection, judge: Callable[[], SuiteResult]
) -> None:
    world.execute("insert into raw.covered_days (chain, day) values ('still', '2024-03-02')")
    if has_row:
        world.execute(
            "insert into network.blocks_daily values ('still', '2024-03-02', 0, null, null)"
        )

    result = judge()

    assert result.failed == (() if has_row else (FIRST_DAY,))
    assert {row["venue"] for row in result.offenders} == (set() if has_row else {"still"})


def test_a_day_that_no_chain_has_is_no_failure(world: duckdb.DuckDBPyConnection) -> None:
    result = evaluate(SUITE, world, days([date(2023, 1, 1)]))

    assert result.passed
    assert {len(r.observed) for r in result.results} == {0}
