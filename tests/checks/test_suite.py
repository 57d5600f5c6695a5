"""Evaluation: results of every day apart, limits on what is shown, and what cannot be judged."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta

import duckdb
import pytest

from crypto_assets.catalog import Catalog, Listing
from crypto_assets.checks.scope import market_days
from crypto_assets.checks.suite import (
    SHOWN_ROWS,
    BrokenSuiteError,
    Claim,
    Suite,
    SuiteResult,
    are_equal,
    as_warning,
    evaluate,
    is_between,
    is_zero,
)

SUITE = Suite(
    name="readings_are_zero",
    asset="raw/readings",
    description="Every reading is zero.",
    claims=(
        is_zero("wrong", "readings_are_zero", "no reading is wrong"),
        are_equal("rows_here", "rows_there", "rows_agree", "both have as many rows"),
    ),
    metrics="""
        select
            venue, market, day,
            count(*) filter (where value <> 0) as wrong,
            count(*) as rows_here,
            count(*) as rows_there,
        from market_days
        join readings using (market, day)
        where day between $from_day and $to_day
        group by all
    """,
    offenders="""
        select
            'readings_are_zero' as claim, 'binance' as venue, market, day,
            lpad(nth::varchar, 3, '0') as place, value::varchar as found, '0' as expected,
        from readings
        where day between $from_day and $to_day and value <> 0
    """,
)
DAYS = [date(2024, 1, 1) + timedelta(days=n) for n in range(31)]


@pytest.fixture
def readings() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("""
        create table readings as
        select market, date '2024-01-01' + day::int as day, nth, 0::decimal(28, 12) as value
        from unnest(['BTC-USDT', 'ETH-BTC']) as m(market), range(31) as d(day), range(120) as n(nth)
    """)
    return connection


@pytest.fixture
def run(readings: duckdb.DuckDBPyConnection, catalog: Catalog) -> Callable[[Suite], SuiteResult]:
    scope = market_days(catalog, DAYS)
    return lambda suite: evaluate(suite, readings, scope, run_id="run-1")


def test_one_failing_day_of_a_month_is_the_only_one_that_fails(
    readings: duckdb.DuckDBPyConnection, run: Callable[[Suite], SuiteResult]
) -> None:
    readings.execute(
        "update readings set value = 0.000000000001 "
        "where day = '2024-01-17' and market = 'ETH-BTC' and nth = 7"
    )

    result = run(SUITE)

    assert result.failed == ("2024-01-17",)
    assert [(r.claim.name, r.partition, r.unexpected) for r in result.results if not r.passed] == [
        ("readings_are_zero", "2024-01-17", (("binance", "ETH-BTC", "2024-01-17"),))
    ]
    assert len(result.results) == 31 * 2
    (row,) = result.offenders_of("2024-01-17")
    assert (row["place"], row["found"]) == ("007", "0.000000000001")
    assert result.offenders_of("2024-01-16") == ()


def test_what_is_kept_says_which_partition_and_what_was_seen(
    readings: duckdb.DuckDBPyConnection, run: Callable[[Suite], SuiteResult]
) -> None:
    readings.execute("update readings set value = 1 where day = '2024-01-17'")

    failed, passed = run(SUITE).rows_to_keep("2024-01-17")

    assert failed["partition"] == passed["partition"] == "2024-01-17"
    assert (failed["passed"], failed["unexpected_count"]) == (False, 2)
    assert (passed["passed"], passed["unexpected_count"]) == (True, 0)
    assert (
        failed["observed"]
        == '{"binance BTC-USDT": {"wrong": 120}, "binance ETH-BTC": {"wrong": 120}}'
    )
    assert failed["run_id"] == "run-1"


def test_offending_rows_of_a_day_are_limited_but_of_every_market(
    readings: duckdb.DuckDBPyConnection, run: Callable[[Suite], SuiteResult]
) -> None:
    readings.execute("update readings set value = 1 where day in ('2024-01-17', '2024-01-18')")

    result = run(SUITE)

    for key in result.failed:
        shown = result.offenders_of(key)
        assert len(shown) == SHOWN_ROWS
        assert [row["market"] for row in shown].count("BTC-USDT") == SHOWN_ROWS // 2


def test_claims_that_warn_and_claims_that_block_are_told_apart(
    readings: duckdb.DuckDBPyConnection, run: Callable[[Suite], SuiteResult]
) -> None:
    readings.execute("update readings set value = 1 where day = '2024-01-17' and nth < 3")
    readings.execute("update readings set value = 1 where day = '2024-01-18' and nth = 3")
    few = is_between("wrong", 0, 1, "few_readings_are_wrong", "at most one reading is wrong")
    none = as_warning(is_zero("wrong", "readings_are_zero", "no reading is wrong"))

    result = run(replace(SUITE, claims=(none, few)))

    assert (result.failed, result.warned) == (("2024-01-17",), ("2024-01-18",))
    assert [result.verdict(key) for key in result.partitions[15:18]] == [None, "ERROR", "WARN"]
    assert not result.passed
    assert [
        (row["expectation"], row["passed"], row["severity"], row["blocking"])
        for row in result.rows_to_keep("2024-01-18")
    ] == [
        ("readings_are_zero", False, "WARN", False),
        ("few_readings_are_wrong", True, "ERROR", True),
    ]
    judged = {
        entry["expectation_config"]["meta"]["claim"]: entry["expectation_config"]["severity"]
        for entry in result.validation["results"]
    }
    assert judged == {"readings_are_zero": "warning", "few_readings_are_wrong": "critical"}


@pytest.mark.parametrize(
    ("least", "most", "holds"),
    [(120, 120, True), (0, 120, True), (120, 200, True), (0, 119, False), (121, 200, False)],
)
def test_both_bounds_are_within(
    least: int,
    most: int,
    holds: bool,
    readings: duckdb.DuckDBPyConnection,
    run: Callable[[Suite], SuiteResult],
) -> None:
    readings.execute("update readings set value = 1")
    claim = is_between("wrong", least, most, "readings_are_wrong", "so many are wrong")

    assert run(replace(SUITE, claims=(claim,))).passed == holds


def test_rows_of_claims_and_markets_that_hold_are_not_shown(
    readings: duckdb.DuckDBPyConnection, run: Callable[[Suite], SuiteResult]
) -> None:
    """What breaks a claim beyond a tolerance is listed for who is beyond it alone."""
    readings.execute("update readings set value = 1 where day = '2024-01-17' and nth < 3")
    readings.execute(
        "update readings set value = 1 "
        "where day in ('2024-01-17', '2024-01-18') and market = 'ETH-BTC' and nth = 3"
    )
    claim = is_between("wrong", 0, 3, "readings_are_zero", "at most three readings are wrong")

    result = run(replace(SUITE, claims=(claim,)))

    assert result.failed == ("2024-01-17",)
    assert [(row["partition"], row["market"], row["place"]) for row in result.offenders] == [
        ("2024-01-17", "ETH-BTC", f"00{nth}") for nth in range(4)
    ]


def test_a_total_stands_beside_what_it_should_be(
    readings: duckdb.DuckDBPyConnection, run: Callable[[Suite], SuiteResult]
) -> None:
    readings.execute("update readings set value = 1 where day = '2024-01-17' and nth < 3")
    claim = is_between("wrong", 0, 2, "few_readings_are_wrong", "at most two readings are wrong")

    rows = run(replace(SUITE, claims=(claim,))).offenders

    assert [(row["place"], row["found"], row["expected"]) for row in rows] == [
        ("whole day", "wrong 3", "at most two readings are wrong")
    ] * 2


def test_totals_are_shown_when_no_row_explains_a_failure(
    run: Callable[[Suite], SuiteResult],
) -> None:
    metrics = SUITE.metrics.replace("count(*) as rows_there", "count(*) + 1 as rows_there")

    result = run(replace(SUITE, metrics=metrics))

    assert result.offenders_of("2024-01-01")[0] == {
        "claim": "rows_agree",
        "venue": "binance",
        "market": "BTC-USDT",
        "partition": "2024-01-01",
        "place": "whole day",
        "found": "rows_here 120",
        "expected": "rows_there 121",
    }


def test_a_market_not_listed_yet_is_not_expected(readings: duckdb.DuckDBPyConnection) -> None:
    catalog = Catalog((Listing("binance", "BTC-USDT", "BTCUSDT", DAYS[30]),))

    result = evaluate(SUITE, readings, market_days(catalog, DAYS))

    assert [len(result.of(key)[0].observed) for key in result.partitions] == [0] * 30 + [1]
    assert result.passed


def test_nothing_to_judge_passes(readings: duckdb.DuckDBPyConnection) -> None:
    assert evaluate(SUITE, readings, market_days(Catalog(()), DAYS)).passed


@pytest.mark.parametrize("value", ["null::bigint", "0.0::double"])
def test_a_metric_that_great_expectations_would_let_pass_is_refused(
    value: str, run: Callable[[Suite], SuiteResult]
) -> None:
    metrics = SUITE.metrics.replace("count(*) filter (where value <> 0)", f"any_value({value})")

    with pytest.raises(BrokenSuiteError, match="metric wrong of binance BTC-USDT 2024-01-01"):
        run(replace(SUITE, metrics=metrics))


def test_an_expectation_that_cannot_be_judged_is_not_a_failure_of_the_data(
    run: Callable[[Suite], SuiteResult],
) -> None:
    claim = Claim(
        "rows_are_enough",
        "there are rows",
        "expect_column_values_to_match_regex",
        {"column": "wrong", "regex": "("},
    )

    with pytest.raises(BrokenSuiteError, match="rows_are_enough could not be judged"):
        run(replace(SUITE, claims=(claim,)))


def test_nothing_is_sent_anywhere(
    run: Callable[[Suite], SuiteResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)

    assert run(SUITE).passed
