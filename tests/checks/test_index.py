"""Each claim about the index passes on a whole world and fails, for its day only, when broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest
import yaml

from crypto_assets.catalog import Catalog
from crypto_assets.checks.index import PEGGED, SUITES
from crypto_assets.checks.scope import market_days
from crypto_assets.checks.suite import Suite, SuiteResult, evaluate

from .conftest import DAYS
from .index_world import AN_HOUR, BROKEN_DAY, KRAKEN, MOVE, OF_DAY, SET, WORLD

BY_NAME = {suite.name: suite for suite in SUITES}
INDEX = BY_NAME["index_is_plausible"]

# Suite, market, what is broken, and every claim that must then fail.
BREAKS = [
    ("venues_agree", "BTC-USD", SET.format("deviation_bps = 41"),
     {"prices_are_near_the_index", "hours_are_near_the_index"}),
    ("venues_agree", "BTC-USD", SET.format("deviation_bps = -41"),
     {"prices_are_near_the_index", "hours_are_near_the_index"}),
    # In as many minutes of every hour, so that no hour has enough of them.
    ("venues_agree", "BTC-USD",
     f"delete from markets.venue_deviations_1m where {KRAKEN} and {OF_DAY} "
     f"and minute(opened_at) > 5; {SET.format('deviation_bps = 41')}",
     {"prices_are_near_the_index"}),
    ("venues_agree", "BTC-USD", f"{SET.format('deviation_bps = 41')} and hour(opened_at) = 9",
     {"hours_are_near_the_index"}),
    ("venues_agree", "BTC-USD", MOVE.format(1), {"clocks_agree"}),
    ("venues_agree", "BTC-USD",
     f"{SET.format('price_usd = null, deviation_bps = null')} and hour(opened_at) < 13",
     {"most_minutes_have_a_price_in_usd"}),
    ("index_is_plausible", "USDC-USD",
     f"update markets.index_prices_1m set price_usd = 0.9949 where asset = 'USDC' and {AN_HOUR}",
     {"currencies_are_at_their_peg"}),
    ("index_is_plausible", "BTC-USD",
     "update staging.stg_ccxt__candles set open = open * 1.0042, high = high * 1.0042, "
     f"low = low * 1.0042, close = close * 1.0042 where venue = 'bitstamp' and {AN_HOUR}",
     {"witnesses_agree"}),
]  # fmt: skip
BLOCKING = {"prices_are_near_the_index", "clocks_agree"}


@pytest.fixture
def world() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute(WORLD)
        yield connection


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        (
            "venues_agree",
            {
                "binance BTC-USDT",
                "coinbase BTC-USD",
                "coinbase USDT-USD",
                "kraken BTC-USD",
                "kraken USDC-USD",
                "kraken USDT-USD",
            },
        ),
        ("index_is_plausible", {"index BTC-USD", "index USDC-USD", "index USDT-USD"}),
    ],
)
def test_a_whole_world_passes(
    name: str, seen: set[str], judge: Callable[[Suite], SuiteResult]
) -> None:
    result = judge(BY_NAME[name])

    assert result.passed
    assert len(result.results) == len(BY_NAME[name].claims) * 3
    assert all(set(r.observed) == seen for r in result.results)
    assert result.offenders == ()


@pytest.mark.parametrize(("name", "market", "broken", "failing"), BREAKS)
def test_a_broken_day_fails_its_claims_alone(  # noqa: PLR0917
    name: str, market: str, broken: str, failing: set[str], world: duckdb.DuckDBPyConnection,
    judge: Callable[[Suite], SuiteResult],
) -> None:  # fmt: skip
    assert world.execute(broken).fetchall()[0][0] > 0

    result = judge(BY_NAME[name])

    assert {r.claim.name for r in result.results if not r.passed} == failing
    blocks = bool(failing & BLOCKING)
    assert result.failed == ((BROKEN_DAY,) if blocks else ())
    assert result.warned == (() if blocks else (BROKEN_DAY,))
    assert {row["claim"] for row in result.offenders} == failing
    assert {(row["partition"], row["market"]) for row in result.offenders} == {
        ("2024-03-02", market)
    }
    assert {row["venue"] for row in result.offenders} <= {"kraken", "index"}


def test_every_claim_was_seen_failing() -> None:
    seen = {(name, claim) for name, _, _, failing in BREAKS for claim in failing}
    assert seen == {(suite.name, claim.name) for suite in SUITES for claim in suite.claims}


def test_a_day_is_judged_alike_alone_and_among_others(
    world: duckdb.DuckDBPyConnection, judge: Callable[[Suite], SuiteResult], catalog: Catalog
) -> None:
    for suite in SUITES:
        together = judge(suite)
        for day in DAYS:
            alone = evaluate(suite, world, market_days(catalog, [day]))
            assert alone.of(day.isoformat()) == together.of(day.isoformat())


@pytest.mark.parametrize(
    ("price", "holds"),
    [("1.0050", True), ("1.0051", False), ("0.9950", True), ("0.9949", False)],
)
@pytest.mark.parametrize("asset", PEGGED)
def test_a_stablecoin_may_be_50_bps_from_its_peg(
    price: str, holds: bool, asset: str, world: duckdb.DuckDBPyConnection,
    judge: Callable[[Suite], SuiteResult],
) -> None:  # fmt: skip
    world.execute(
        f"update markets.index_prices_1m set price_usd = {price} "
        f"where asset = '{asset}' and {AN_HOUR}"
    )

    found = [row for row in judge(INDEX).offenders if row["market"] == f"{asset}-USD"]

    assert [(row["place"], row["found"], row["expected"]) for row in found] == (
        [] if holds else [("09:00", f"median {price}00 USD", "1 USD")]
    )


def test_what_has_a_peg_is_what_dbt_converts_through() -> None:
    project = yaml.safe_load(
        (Path(__file__).parents[2] / "dbt_project/dbt_project.yml").read_text()
    )
    currencies = project["vars"]["quote_currencies"]
    assert {c["asset"] for c in currencies if c.get("peg_usd") == 1} == set(PEGGED)


def test_a_witness_is_converted_like_any_market(
    world: duckdb.DuckDBPyConnection, judge: Callable[[Suite], SuiteResult]
) -> None:
    """BTC costs more USDT when USDT is worth less, and nobody contradicts."""
    world.execute(
        f"update markets.index_prices_1m set price_usd = 0.98 where asset = 'USDT' and {OF_DAY}"
    )
    world.execute(
        "update staging.stg_ccxt__candles set open = open / 0.98, high = high / 0.98, "
        f"low = low / 0.98, close = close / 0.98 where market = 'BTC-USDT' and {OF_DAY}"
    )

    assert {row["claim"] for row in judge(INDEX).offenders} == {"currencies_are_at_their_peg"}


def test_a_witness_is_named(
    world: duckdb.DuckDBPyConnection, judge: Callable[[Suite], SuiteResult]
) -> None:
    world.execute(
        "update staging.stg_ccxt__candles set open = open * 0.99, high = high * 0.99, "
        f"low = low * 0.99, close = close * 0.99 where venue = 'okx' and {AN_HOUR}"
    )

    (row,) = judge(INDEX).offenders

    assert (row["venue"], row["market"]) == ("index", "BTC-USD")
    assert row["place"] == "09:00 okx BTC-USDT"
    assert row["found"].startswith("median -100.")


@pytest.mark.parametrize(
    "broken",
    [
        # Fewer minutes than tell anything, minutes without a trade, and other currencies.
        f"open = 1, high = 1, low = 1, close = 1 where minute(opened_at) < 9 and {AN_HOUR}",
        f"open = 1, high = 1, low = 1, close = 1, volume = 0 where {OF_DAY}",
        f"market = 'BTC-EUR', open = 1, high = 1, low = 1, close = 1 where {OF_DAY}",
        f"market = 'XYZ-USD', open = 1, high = 1, low = 1, close = 1 where {OF_DAY}",
    ],
)
def test_what_cannot_be_compared_is_no_witness(
    broken: str, world: duckdb.DuckDBPyConnection, judge: Callable[[Suite], SuiteResult]
) -> None:
    world.execute(f"update staging.stg_ccxt__candles set {broken}")
    if "minute" in broken:
        world.execute(
            f"delete from staging.stg_ccxt__candles where minute(opened_at) >= 9 and {AN_HOUR}"
        )

    assert judge(INDEX).passed
