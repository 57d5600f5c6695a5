"""What is near enough to the index, whose clock is told to be off, and what is not judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import duckdb
import pytest

from crypto_assets.catalog import Catalog
from crypto_assets.checks.index import SUITES
from crypto_assets.checks.scope import market_days
from crypto_assets.checks.suite import Suite, SuiteResult, evaluate

from .conftest import DAYS
from .index_world import AN_HOUR, BROKEN_DAY, KRAKEN, MOVE, OF_DAY, SET, WORLD

VENUES = SUITES[0]


@pytest.fixture
def world() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute(WORLD)
        yield connection


@pytest.mark.parametrize(("bps", "holds"), [(40, True), (-40, True), (41, False), (-41, False)])
def test_a_median_may_be_40_bps_away(
    bps: int,
    holds: bool,
    world: duckdb.DuckDBPyConnection,
    judge: Callable[[Suite], SuiteResult],
) -> None:
    world.execute(SET.format(f"deviation_bps = {bps}"))

    assert judge(VENUES).passed == holds


@pytest.mark.parametrize(("minutes", "verdict"), [(29, None), (30, "ERROR")])
def test_a_median_of_few_minutes_says_nothing(
    minutes: int,
    verdict: str | None,
    world: duckdb.DuckDBPyConnection,
    judge: Callable[[Suite], SuiteResult],
) -> None:
    """One or two in every hour, so that no hour is judged either."""
    world.execute(
        f"delete from markets.venue_deviations_1m where {KRAKEN} and {OF_DAY} "
        f"and minute(opened_at) * 24 + hour(opened_at) >= {minutes}"
    )
    world.execute(SET.format("deviation_bps = 100"))

    assert judge(VENUES).verdict(BROKEN_DAY) == verdict


@pytest.mark.parametrize(("minutes", "verdict"), [(9, None), (10, "WARN")])
def test_an_hour_of_few_minutes_says_nothing(
    minutes: int,
    verdict: str | None,
    world: duckdb.DuckDBPyConnection,
    judge: Callable[[Suite], SuiteResult],
) -> None:
    world.execute(
        f"delete from markets.venue_deviations_1m where {KRAKEN} and {AN_HOUR} "
        f"and minute(opened_at) >= {minutes}"
    )
    world.execute(f"{SET.format('deviation_bps = 100')} and hour(opened_at) = 9")

    result = judge(VENUES)

    assert result.verdict(BROKEN_DAY) == verdict
    assert [(row["place"], row["found"]) for row in result.offenders] == (
        [("09:00", "median 100.0000 bps")] if verdict else []
    )


def test_minutes_in_which_nobody_else_traded_do_not_dilute(
    world: duckdb.DuckDBPyConnection, judge: Callable[[Suite], SuiteResult]
) -> None:
    """Kraken is alone most of the day, at an index that is its own price."""
    world.execute(
        f"delete from markets.venue_deviations_1m where venue <> 'kraken' and {OF_DAY} "
        "and asset = 'BTC' and minute(opened_at) > 1"
    )
    world.execute(SET.format("deviation_bps = if(minute(opened_at) > 1, 0, 100)"))

    result = judge(VENUES)

    assert result.failed == (BROKEN_DAY,)
    assert {row["claim"] for row in result.offenders} == {"prices_are_near_the_index"}


def test_a_price_without_conversion_is_no_other_venue(
    world: duckdb.DuckDBPyConnection, judge: Callable[[Suite], SuiteResult]
) -> None:
    world.execute(
        "update markets.venue_deviations_1m set price_usd = null, deviation_bps = null "
        f"where venue <> 'kraken' and asset = 'BTC' and {OF_DAY}"
    )
    world.execute(SET.format("deviation_bps = 100"))

    assert judge(VENUES).failed == ()


@pytest.mark.parametrize("market", ["USDC-USD", "BTC-USD"])
def test_a_venue_alone_is_not_judged(
    market: str, world: duckdb.DuckDBPyConnection, judge: Callable[[Suite], SuiteResult]
) -> None:
    """Two markets of the same venue are one witness."""
    world.execute("delete from markets.venue_deviations_1m where venue <> 'kraken'")
    world.execute(
        f"update markets.venue_deviations_1m set deviation_bps = 100 where market = '{market}'"
    )
    world.execute(
        "insert into markets.venue_deviations_1m "
        f"select * replace ('{market}C' as market) from markets.venue_deviations_1m "
        f"where market = '{market}'"
    )

    assert judge(VENUES).passed


@pytest.mark.parametrize("minutes", [1, -1, 15, -60])
def test_a_clock_that_is_off_is_told_by_how_much(
    minutes: int, world: duckdb.DuckDBPyConnection, judge: Callable[[Suite], SuiteResult]
) -> None:
    world.execute(MOVE.format(minutes))

    (row,) = judge(VENUES).offenders

    assert (row["claim"], row["venue"]) == ("clocks_agree", "kraken")
    side = "before" if minutes > 0 else "after"
    assert row["expected"].endswith(f"bps from those {abs(minutes)} min {side}")


def test_one_of_two_clocks_is_off_and_both_are_told(
    world: duckdb.DuckDBPyConnection, judge: Callable[[Suite], SuiteResult]
) -> None:
    world.execute("delete from markets.venue_deviations_1m where venue = 'binance'")
    world.execute(MOVE.format(1))

    assert {(row["venue"], row["market"]) for row in judge(VENUES).offenders} == {
        ("coinbase", "BTC-USD"),
        ("kraken", "BTC-USD"),
    }


@pytest.mark.parametrize(("minutes", "is_judged"), [(290, False), (320, True)])
def test_a_clock_is_told_from_enough_moves(
    minutes: int,
    is_judged: bool,
    world: duckdb.DuckDBPyConnection,
    judge: Callable[[Suite], SuiteResult],
) -> None:
    world.execute(
        f"delete from markets.venue_deviations_1m where {KRAKEN} and {OF_DAY} "
        f"and opened_at >= timestamp '2024-03-02 06:00' + to_minutes({minutes})"
        f"or {KRAKEN} and {OF_DAY} and hour(opened_at) < 6"
    )
    world.execute(MOVE.format(1))

    assert judge(VENUES).failed == ((BROKEN_DAY,) if is_judged else ())


def test_a_wild_hour_of_one_venue_is_no_clock(
    world: duckdb.DuckDBPyConnection, judge: Callable[[Suite], SuiteResult]
) -> None:
    """The last one, which has no later one to be held against."""
    world.execute(
        SET.format("price_usd = price_usd * if(minute(opened_at) % 2 = 0, 0.99, 1.01)")
        + " and hour(opened_at) = 23"
    )

    assert judge(VENUES).passed


def test_few_ticks_of_prices_that_stand_still_are_no_clock(
    world: duckdb.DuckDBPyConnection, judge: Callable[[Suite], SuiteResult]
) -> None:
    """The same tick, at one venue five minutes later."""
    for venue, minute in (("coinbase", 0), ("kraken", 5)):
        world.execute(
            "update markets.venue_deviations_1m set price_usd = 1.0001 where market = 'USDT-USD' "
            f"and venue = '{venue}' and opened_at >= timestamp '2024-03-02 10:0{minute}'"
        )

    assert judge(VENUES).passed


@pytest.mark.parametrize(
    ("minutes", "verdict"), [(733, None), (735, "WARN"), (1439, "WARN"), (1440, None)]
)
def test_half_of_a_day_may_be_without_a_price(
    minutes: int,
    verdict: str | None,
    world: duckdb.DuckDBPyConnection,
    judge: Callable[[Suite], SuiteResult],
) -> None:
    """In whole percent; or all of it, where nothing converts the currency."""
    world.execute(
        SET.format("price_usd = null, deviation_bps = null")
        + f" and hour(opened_at) * 60 + minute(opened_at) < {minutes}"
    )

    result = judge(VENUES)

    assert result.verdict(BROKEN_DAY) == verdict
    assert [(row["found"], row["expected"][:41]) for row in result.offenders] == (
        [(f"unpriced_percent {minutes * 100 // 1440}", "the price of the quote currency is known ")]
        if verdict
        else []
    )


def test_days_apart_are_judged_apart(world: duckdb.DuckDBPyConnection, catalog: Catalog) -> None:
    """A day between them that nobody asked about is not told of."""
    world.execute(MOVE.format(1))

    result = evaluate(VENUES, world, market_days(catalog, [DAYS[0], DAYS[2]]))

    assert result.passed
    assert {r.partition for r in result.results} == {"2024-03-01", "2024-03-03"}
