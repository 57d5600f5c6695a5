"""Each claim about Kraken passes on a whole world and fails, for its day only, on a broken one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date

import duckdb
import pytest

from crypto_assets.catalog import Catalog, Listing
from crypto_assets.checks.kraken import SUITES
from crypto_assets.checks.scope import market_days
from crypto_assets.checks.suite import Suite, SuiteResult, evaluate

from .conftest import DAYS
from .worlds import BROKEN_DAY, traded_world

BY_NAME = {suite.name: suite for suite in SUITES}
EQUAL = BY_NAME["candles_equal_kraken"]

WORLD = f"""
    {traded_world("kraken")}

    create table raw.kraken_trades as
    select
        market, date, id as trade_id, price, size as volume, time,
        epoch_us(time) * 1000 as time_ns, left(side, 1) as side, 'l' as order_type, '' as misc,
    from trades;

    -- The newest 720 minutes of each day, quiet ones too.
    create table raw.kraken_ohlc as
    with minute as (
        select market, date, date + to_minutes(n) as open_time,
        from (select distinct market, date from trades), range(720, 1440) as r(n)
    )
    select
        market, date, open_time,
        coalesce(open, 1)::decimal(18, 10) as open, coalesce(high, 1)::decimal(18, 10) as high,
        coalesce(low, 1)::decimal(18, 10) as low, coalesce(close, 1)::decimal(18, 10) as close,
        -- Cut off after the decimals of the market's prices, not rounded.
        regexp_extract(
            coalesce(vwap, 0)::varchar, if(market = 'BTC-USD', '\\d+\\.\\d', '\\d+\\.\\d{{5}}')
        )::decimal(18, 10) as vwap,
        coalesce(volume, 0)::decimal(28, 8) as volume, coalesce(trade_count, 0) as count,
    from minute
    left join (
        select *, opened_at as open_time from markets.ohlcv_1m where venue = 'kraken'
    ) using (market, open_time);

    insert into raw.proofs
    select
        'kraken_ohlc', date::varchar, market, 'kraken', 'complete', count(*), count(*), null, null,
        null,
    from raw.kraken_ohlc
    group by all;
"""

OF_DAY = "market = 'BTC-USD' and date = date '2024-03-02'"
A_TRADE = f"{OF_DAY} and trade_id = 3232"
# The minute of the trades 3232 and 3233: 792 trades of 55.000017 s into the day.
A_MINUTE = "timestamp '2024-03-02 12:06:00'"
A_QUIET_MINUTE = "timestamp '2024-03-02 14:30:00'"
A_CANDLE = f"market = 'BTC-USD' and venue = 'kraken' and opened_at = {A_MINUTE}"
A_PROOF = "market = 'BTC-USD' and partition = '2024-03-02' and dataset = 'kraken_{}'"
OURS = f"update markets.ohlcv_1m set {{}} where {A_CANDLE}"
THEIRS = f"update raw.kraken_ohlc set {{}} where {OF_DAY} and open_time = {A_MINUTE}"

# Suite, what is broken, and every claim that must then fail.
BREAKS = [
    ("kraken_trades_are_complete", f"delete from raw.proofs where {A_PROOF.format('trades')}",
     {"listed_days_are_proven", "files_hold_the_proven_rows", "rows_equal_source",
      "ids_are_the_proven_ones"}),
    ("kraken_trades_are_complete",
     f"update raw.proofs set row_count = row_count - 1 where {A_PROOF.format('trades')}",
     {"files_hold_the_proven_rows"}),
    ("kraken_trades_are_complete",
     f"update raw.proofs set source_row_count = 0 where {A_PROOF.format('trades')}",
     {"rows_equal_source"}),
    ("kraken_trades_are_complete",
     f"update raw.proofs set last_id = null where {A_PROOF.format('trades')}",
     {"ids_are_the_proven_ones"}),
    ("kraken_trades_are_complete", f"delete from raw.kraken_trades where {A_TRADE}",
     {"files_hold_the_proven_rows", "rows_equal_source", "ids_leave_no_hole"}),
    # As the source gave it, so that nothing is known to be wrong.
    ("kraken_trades_are_complete",
     f"delete from raw.kraken_trades where {A_TRADE}; "
     "update raw.proofs set row_count = 1439, source_row_count = 1439 "
     f"where {A_PROOF.format('trades')}",
     {"ids_leave_no_hole"}),
    ("candles_equal_kraken",
     f"delete from raw.kraken_ohlc where {OF_DAY}; "
     f"delete from raw.proofs where {A_PROOF.format('ohlc')}",
     {"ohlc_is_there_to_compare"}),
    ("candles_equal_kraken", f"delete from markets.ohlcv_1m where {A_CANDLE}",
     {"no_candle_is_missing"}),
    ("candles_equal_kraken", THEIRS.format("count = 0, volume = 0, vwap = 0"),
     {"no_candle_is_made_up"}),
    ("candles_equal_kraken", OURS.format(f"opened_at = {A_QUIET_MINUTE}"),
     {"no_candle_is_missing", "no_candle_is_made_up"}),
    *(
        ("candles_equal_kraken", OURS.format(f"{column} = {column} + {step}"),
         {f"{column}_equals_kraken"})
        for column, step in {
            **dict.fromkeys(("open", "high", "low", "close", "volume"), "0.000000000001"),
            "trade_count": "1",
        }.items()
    ),
    ("candles_equal_kraken", OURS.format("vwap = vwap + 0.1"), {"vwap_equals_kraken"}),
    ("candles_equal_kraken", THEIRS.format("vwap = vwap + 0.2"), {"vwap_equals_kraken"}),
    ("candles_equal_kraken", THEIRS.format("vwap = 0"), {"vwap_equals_kraken"}),
]  # fmt: skip


@pytest.fixture
def world() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute(WORLD)
        yield connection


@pytest.fixture
def catalog() -> Catalog:
    return Catalog(
        (
            Listing("kraken", "BTC-USD", "XBTUSD", date(2013, 10, 6)),
            Listing("kraken", "USDT-USD", "USDTUSD", date(2017, 4, 19)),
            Listing("coinbase", "BTC-USD", "BTC-USD", date(2020, 1, 1)),
        )
    )


@pytest.mark.parametrize("name", BY_NAME)
def test_a_whole_world_passes(
    name: str, world: duckdb.DuckDBPyConnection, judge: Callable[[Suite], SuiteResult]
) -> None:
    assert world.execute("select bool_or(count = 0) from raw.kraken_ohlc").fetchall() == [(True,)]

    result = judge(BY_NAME[name])

    assert result.passed
    assert len(result.results) == len(BY_NAME[name].claims) * 3
    assert all(set(r.observed) == {"kraken BTC-USD", "kraken USDT-USD"} for r in result.results)
    assert result.offenders == ()


@pytest.mark.parametrize(("name", "broken", "failing"), BREAKS)
def test_a_broken_day_fails_its_claims_alone(
    name: str,
    broken: str,
    failing: set[str],
    world: duckdb.DuckDBPyConnection,
    judge: Callable[[Suite], SuiteResult],
) -> None:
    assert world.execute(broken).fetchall()[0][0] == 1

    result = judge(BY_NAME[name])

    assert {r.claim.name for r in result.results if not r.passed} == failing
    # Ids may have holes at the venue itself.
    blocks = failing != {"ids_leave_no_hole"}
    assert result.failed == ((BROKEN_DAY,) if blocks else ())
    assert result.warned == (() if blocks else (BROKEN_DAY,))
    assert {row["claim"] for row in result.offenders} == failing
    assert {(row["partition"], row["market"]) for row in result.offenders} == {
        ("2024-03-02", "BTC-USD")
    }


def test_every_claim_was_seen_failing() -> None:
    seen = {(name, claim) for name, _, failing in BREAKS for claim in failing}
    assert seen == {(suite.name, claim.name) for suite in SUITES for claim in suite.claims}


@pytest.mark.parametrize(
    ("market", "vwap", "holds"),
    [
        ("BTC-USD", "62000.1", True),
        ("BTC-USD", "62000.199999999999", True),
        # What rounds up to the next digit, with all of ours.
        ("BTC-USD", "62000.2", True),
        ("BTC-USD", "62000.200000000001", False),
        ("BTC-USD", "62000", True),
        ("BTC-USD", "61999.999999999999", False),
        ("USDT-USD", "62000.10001", True),
        ("USDT-USD", "62000.100010000001", False),
    ],
)
def test_a_mean_price_may_differ_by_what_was_cut_off(
    market: str,
    vwap: str,
    holds: bool,
    world: duckdb.DuckDBPyConnection,
    judge: Callable[[Suite], SuiteResult],
) -> None:
    """By one unit of the last decimal that is in use in the market."""
    world.execute(OURS.format(f"vwap = {vwap}").replace("BTC-USD", market))
    world.execute(THEIRS.format("vwap = 62000.1").replace("BTC-USD", market))

    result = judge(EQUAL)

    assert result.passed == holds
    assert {row["market"] for row in result.offenders} == (set() if holds else {market})


@pytest.mark.parametrize(
    "broken",
    [
        # A minute that Kraken did not know any more when it was asked, and one that it left out.
        "update markets.ohlcv_1m set close = 1 where opened_at = timestamp '2024-03-02 03:36:00'",
        f"delete from raw.kraken_ohlc where open_time = {A_MINUTE}",
        # It was asked too late for all of the day.
        f"delete from raw.kraken_ohlc where {OF_DAY}",
    ],
)
def test_minutes_of_which_kraken_said_nothing_are_not_compared(
    broken: str, world: duckdb.DuckDBPyConnection, judge: Callable[[Suite], SuiteResult]
) -> None:
    assert world.execute(broken).fetchall()[0][0] > 0

    assert judge(EQUAL).passed


def test_both_candles_stand_side_by_side(
    world: duckdb.DuckDBPyConnection, judge: Callable[[Suite], SuiteResult]
) -> None:
    world.execute(f"delete from markets.ohlcv_1m where {A_CANDLE}")
    world.execute(
        THEIRS.format("open = 1, high = 4, low = 0.5, close = 2, vwap = 1.5, volume = 3, count = 7")
    )

    (row,) = judge(EQUAL).offenders

    assert (row["place"], row["found"]) == ("2024-03-02 12:06:00", "no candle")
    assert row["expected"] == (
        "open 1.0000000000 high 4.0000000000 low 0.5000000000 close 2.0000000000 "
        "vwap 1.5000000000 volume 3.00000000, 7 trades"
    )


@pytest.mark.parametrize("name", BY_NAME)
def test_a_day_before_listing_holds(name: str, world: duckdb.DuckDBPyConnection) -> None:
    world.execute("delete from raw.kraken_trades")
    world.execute("delete from raw.kraken_ohlc")
    world.execute("delete from markets.ohlcv_1m")
    world.execute(
        "update raw.proofs set status = 'not_listed', row_count = 0, source_row_count = 0, "
        "first_id = null, last_id = null"
    )
    catalog = Catalog((Listing("kraken", "BTC-USD", "XBTUSD", date(2025, 1, 1)),))

    assert evaluate(BY_NAME[name], world, market_days(catalog, DAYS[1:2])).passed
