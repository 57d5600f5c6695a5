"""Each claim about Coinbase passes on a whole world and fails, for its day only, when broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date

import duckdb
import pytest

from crypto_assets.catalog import Catalog, Listing
from crypto_assets.checks.coinbase import SUITES
from crypto_assets.checks.scope import market_days
from crypto_assets.checks.suite import Suite, SuiteResult, evaluate

from .conftest import DAYS
from .worlds import BROKEN_DAY, traded_world

BY_NAME = {suite.name: suite for suite in SUITES}
AGREE = BY_NAME["candles_agree_with_coinbase"]

WORLD = f"""
    {traded_world("coinbase")}

    create table raw.coinbase_trades as
    select
        market, date, id as trade_id, side, size::decimal(28, 10) as size,
        price::decimal(28, 10) as price, time,
    from trades;

    create table raw.coinbase_candles as
    select
        market, date, time_bucket(interval '1 minute', time) as open_time,
        min(price)::decimal(28, 10) as low, max(price)::decimal(28, 10) as high,
        arg_min(price, id)::decimal(28, 10) as open, arg_max(price, id)::decimal(28, 10) as close,
        -- With the noise of a sum of floats, above and below.
        (sum(size) + 0.000000000000000444 * if(max(id) % 2 = 0, 1, -1))::decimal(38, 24) as volume,
    from trades
    group by all;

    insert into raw.proofs
    select
        'coinbase_candles', date::varchar, market, 'coinbase', 'complete', count(*), count(*),
        null, null, null,
    from raw.coinbase_candles
    group by all;
"""

OF_DAY = "market = 'BTC-USD' and date = date '2024-03-02'"
A_TRADE = f"{OF_DAY} and trade_id = 3232"
# The minute of the trades 3232 and 3233: 792 trades of 55.000017 s into the day.
A_MINUTE = "timestamp '2024-03-02 12:06:00'"
A_CANDLE = f"market = 'BTC-USD' and venue = 'coinbase' and opened_at = {A_MINUTE}"
A_PROOF = "market = 'BTC-USD' and partition = '2024-03-02' and dataset = 'coinbase_{}'"
THEIRS = f"update raw.coinbase_candles set {{}} where {OF_DAY} and open_time = {A_MINUTE}"
# Whole hours have 55 minutes with a trade.
SIXTEEN = f"{OF_DAY} and hour(open_time) = 20 and minute(open_time) between 0 and 15"

# Suite, what is broken, and every claim that must then fail.
BREAKS = [
    ("coinbase_trades_are_complete", f"delete from raw.proofs where {A_PROOF.format('trades')}",
     {"listed_days_are_proven", "files_hold_the_proven_rows", "rows_equal_source",
      "ids_are_the_proven_ones"}),
    ("coinbase_trades_are_complete",
     f"update raw.proofs set row_count = row_count + 1 where {A_PROOF.format('trades')}",
     {"files_hold_the_proven_rows"}),
    ("coinbase_trades_are_complete",
     f"update raw.proofs set source_row_count = null where {A_PROOF.format('trades')}",
     {"rows_equal_source"}),
    ("coinbase_trades_are_complete",
     f"update raw.proofs set first_id = first_id + 1 where {A_PROOF.format('trades')}",
     {"ids_are_the_proven_ones"}),
    ("coinbase_trades_are_complete", f"delete from raw.coinbase_trades where {A_TRADE}",
     {"files_hold_the_proven_rows", "rows_equal_source", "ids_leave_no_hole"}),
    ("coinbase_trades_are_complete",
     f"insert into raw.coinbase_trades from raw.coinbase_trades where {A_TRADE}",
     {"files_hold_the_proven_rows", "rows_equal_source", "ids_leave_no_hole"}),
    # As the source gave it, so that nothing is known to be wrong.
    ("coinbase_trades_are_complete",
     f"delete from raw.coinbase_trades where {A_TRADE}; "
     "update raw.proofs set row_count = 1439, source_row_count = 1439 "
     f"where {A_PROOF.format('trades')}",
     {"ids_leave_no_hole"}),
    ("candles_agree_with_coinbase",
     f"delete from raw.coinbase_candles where {OF_DAY}; "
     f"delete from raw.proofs where {A_PROOF.format('candles')}",
     {"candles_are_there_to_compare"}),
    ("candles_agree_with_coinbase", f"delete from markets.ohlcv_1m where {A_CANDLE}",
     {"candles_know_no_other_trades"}),
    ("candles_agree_with_coinbase", THEIRS.format("high = high + 0.0000000001"),
     {"candles_reach_no_further", "whole_candles_are_equal"}),
    ("candles_agree_with_coinbase", THEIRS.format("low = low - 0.0000000001"),
     {"candles_reach_no_further", "whole_candles_are_equal"}),
    # It lacks a trade, and knows another.
    ("candles_agree_with_coinbase", THEIRS.format("high = high + 0.1, volume = volume / 2"),
     {"candles_reach_no_further"}),
    ("candles_agree_with_coinbase", THEIRS.format("volume = volume + 0.00000001"),
     {"candles_weigh_no_more"}),
    *(
        ("candles_agree_with_coinbase", THEIRS.format(f"{column} = {column} + {step}"),
         {"whole_candles_are_equal"})
        for column, step in {
            "open": "0.0000000001", "close": "0.0000000001",
            "high": "-0.0000000001", "low": "0.0000000001",
        }.items()
    ),
    ("candles_agree_with_coinbase", f"delete from raw.coinbase_candles where {SIXTEEN}",
     {"few_candles_are_incomplete"}),
    ("candles_agree_with_coinbase",
     f"update raw.coinbase_candles set volume = volume / 2 where {SIXTEEN}",
     {"few_candles_are_incomplete"}),
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
            Listing("coinbase", "BTC-USD", "BTC-USD", date(2020, 1, 1)),
            Listing("coinbase", "USDT-USD", "USDT-USD", date(2021, 5, 4)),
            Listing("kraken", "BTC-USD", "XBTUSD", date(2020, 1, 1)),
        )
    )


@pytest.mark.parametrize("name", BY_NAME)
def test_a_whole_world_passes(name: str, judge: Callable[[Suite], SuiteResult]) -> None:
    result = judge(BY_NAME[name])

    assert result.passed
    assert len(result.results) == len(BY_NAME[name].claims) * 3
    assert all(set(r.observed) == {"coinbase BTC-USD", "coinbase USDT-USD"} for r in result.results)
    assert result.offenders == ()


@pytest.mark.parametrize(("name", "broken", "failing"), BREAKS)
def test_a_broken_day_fails_its_claims_alone(
    name: str,
    broken: str,
    failing: set[str],
    world: duckdb.DuckDBPyConnection,
    judge: Callable[[Suite], SuiteResult],
) -> None:
    assert world.execute(broken).fetchall()[0][0] == (16 if SIXTEEN in broken else 1)

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
    ("volume", "noise", "heavier", "incomplete"),
    [
        ("0.00000001", "0.000000001", 0, 0),
        ("0.00000001", "0.000000002", 1, 0),
        ("0.00000001", "-0.000000001", 0, 0),
        ("0.00000001", "-0.000000002", 0, 1),
        # A double has 15 digits.
        ("100000", "0.000000101", 0, 0),
        ("100000", "0.000000102", 1, 0),
        ("100000", "-0.000000102", 0, 1),
    ],
)
def test_volumes_may_differ_by_the_noise_of_sums(  # noqa: PLR0917
    volume: str, noise: str, heavier: int, incomplete: int, world: duckdb.DuckDBPyConnection,
    judge: Callable[[Suite], SuiteResult],
) -> None:  # fmt: skip
    world.execute(f"update markets.ohlcv_1m set volume = {volume} where {A_CANDLE}")
    world.execute(THEIRS.format(f"volume = {volume}::decimal(38, 24) + {noise}"))

    result = judge(AGREE)

    seen = {r.claim.name: r.observed["coinbase BTC-USD"] for r in result.of(BROKEN_DAY)}
    assert seen["candles_weigh_no_more"] == {"breaks_candles_weigh_no_more": heavier}
    assert seen["few_candles_are_incomplete"] == {"incomplete": incomplete}
    assert result.passed == (not heavier)


def test_candles_of_a_quarter_of_an_hour_may_be_missing(
    world: duckdb.DuckDBPyConnection, judge: Callable[[Suite], SuiteResult]
) -> None:
    world.execute(f"delete from raw.coinbase_candles where {SIXTEEN} and minute(open_time) > 0")

    assert judge(AGREE).passed


def test_a_candle_may_lack_the_last_trade_of_its_minute(
    world: duckdb.DuckDBPyConnection, judge: Callable[[Suite], SuiteResult]
) -> None:
    [(price, size)] = world.execute(
        f"select price, size from raw.coinbase_trades where {A_TRADE}"
    ).fetchall()
    world.execute(
        THEIRS.format(
            f"open = {price}, high = {price}, low = {price}, close = {price}, volume = {size}"
        )
    )
    [(closes,)] = world.execute(f"select close from markets.ohlcv_1m where {A_CANDLE}").fetchall()
    assert closes != price

    assert judge(AGREE).passed


@pytest.mark.parametrize(
    ("broken", "found", "expected"),
    [
        ("delete from raw.coinbase_trades where {}", "id 3233 after 3231", "id 3232"),
        ("insert into raw.coinbase_trades from raw.coinbase_trades where {}",
         "id 3232 after 3232", "id 3233"),
    ],
)  # fmt: skip
def test_a_hole_and_a_double_are_shown(
    broken: str,
    found: str,
    expected: str,
    world: duckdb.DuckDBPyConnection,
    judge: Callable[[Suite], SuiteResult],
) -> None:
    world.execute(broken.format(A_TRADE))

    rows = judge(BY_NAME["coinbase_trades_are_complete"]).offenders

    [row] = [row for row in rows if row["claim"] == "ids_leave_no_hole"]
    assert (row["found"], row["expected"]) == (found, expected)
    assert row["place"].startswith("2024-03-02 12:06:")


def test_both_candles_stand_side_by_side(
    world: duckdb.DuckDBPyConnection, judge: Callable[[Suite], SuiteResult]
) -> None:
    world.execute(f"delete from markets.ohlcv_1m where {A_CANDLE}")
    world.execute(THEIRS.format("open = 1, high = 4, low = 0.5, close = 2, volume = 3"))

    (row,) = judge(AGREE).offenders

    assert (row["place"], row["found"]) == ("2024-03-02 12:06:00", "no trades")
    assert row["expected"] == (
        "open 1.0000000000 high 4.0000000000 low 0.5000000000 close 2.0000000000 "
        "volume 3.000000000000000000000000"
    )


@pytest.mark.parametrize("name", BY_NAME)
def test_a_day_before_listing_holds(name: str, world: duckdb.DuckDBPyConnection) -> None:
    world.execute("delete from raw.coinbase_trades")
    world.execute("delete from raw.coinbase_candles")
    world.execute("delete from markets.ohlcv_1m")
    world.execute(
        "update raw.proofs set status = 'not_listed', row_count = 0, source_row_count = 0, "
        "first_id = null, last_id = null"
    )
    catalog = Catalog((Listing("coinbase", "BTC-USD", "BTC-USD", date(2025, 1, 1)),))

    assert evaluate(BY_NAME[name], world, market_days(catalog, DAYS[1:2])).passed
