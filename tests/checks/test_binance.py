"""Each claim about Binance passes on a whole world and fails, for its day only, on a broken one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import duckdb
import pytest

from crypto_assets.catalog import Catalog, Listing
from crypto_assets.checks.binance import SUITES
from crypto_assets.checks.scope import market_days
from crypto_assets.checks.suite import Suite, SuiteResult, evaluate

from .conftest import DAYS

BY_NAME = {suite.name: suite for suite in SUITES}
BROKEN_DAY = "2024-03-02"
OF_DAY = "market = 'BTC-USDT' and date = date '2024-03-02'"
A_TRADE = f"{OF_DAY} and id = 1500"
# The minute of the trade 1500: 100 trades of 130.000017 s into the day.
A_MINUTE = "timestamp '2024-03-02 03:36:00'"
A_KLINE = f"{OF_DAY} and open_time = {A_MINUTE}"
A_PROOF = "market = 'BTC-USDT' and partition = '2024-03-02' and dataset = 'binance_trades'"
GAP = "row(timestamp '2024-03-02', timestamp '2024-03-03', '{}', 'evidence')"
A_CANDLE = f"market = 'BTC-USDT' and opened_at = {A_MINUTE}"

# Suite, what is broken, and every claim that must then fail.
BREAKS = [
    ("trades_are_complete", f"delete from raw.proofs where {A_PROOF}",
     {"listed_days_are_proven", "files_hold_the_proven_rows", "rows_equal_source",
      "ids_are_the_proven_ones"}),
    ("trades_are_complete", f"update raw.proofs set row_count = row_count + 1 where {A_PROOF}",
     {"files_hold_the_proven_rows"}),
    ("trades_are_complete",
     f"update raw.proofs set source_row_count = source_row_count - 1 where {A_PROOF}",
     {"rows_equal_source"}),
    ("trades_are_complete", f"delete from raw.binance_trades where {A_TRADE}",
     {"files_hold_the_proven_rows", "rows_equal_source", "ids_leave_no_hole",
      "klines_count_the_same_trades", "counting_klines_have_trades"}),
    ("trades_are_complete", f"update raw.proofs set last_id = last_id + 1 where {A_PROOF}",
     {"ids_are_the_proven_ones"}),
    ("trades_are_complete", f"update raw.binance_klines set count = count + 1 where {A_KLINE}",
     {"klines_count_the_same_trades"}),
    ("trades_are_complete", f"delete from raw.binance_klines where {A_KLINE}",
     {"klines_count_the_same_trades", "traded_minutes_have_a_kline"}),
    *(
        (suite, broken, failing)
        for suite, klines in (
            ("candles_equal_klines", "binance_klines"),
            ("candles_equal_rest", "binance_rest_klines"),
        )
        for broken, failing in (
            ("delete from raw.proofs where market = 'BTC-USDT' and partition = '2024-03-02' "
             f"and dataset = '{klines}'",
             {"klines_are_there_to_compare"}),
            (f"delete from markets.ohlcv_1m where {A_CANDLE}", {"no_candle_is_missing"}),
            (f"delete from raw.{klines} where {A_KLINE}", {"no_candle_is_made_up"}),
            (f"update raw.{klines} set count = 0 where {A_KLINE}", {"no_candle_is_made_up"}),
            *(
                (f"update markets.ohlcv_1m set {column} = {column} + {step} where {A_CANDLE}",
                 {f"{column}_equals"})
                for column, step in {
                    **dict.fromkeys(("open", "high", "low", "close"), "0.000000000001"),
                    **dict.fromkeys(("volume", "taker_buy_volume"), "0.000000000001"),
                    "quote_volume": "0.00000000000000000001",
                    "taker_buy_quote_volume": "0.00000000000000000001",
                    "trade_count": "1",
                }.items()
            ),
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize("name", BY_NAME)
def test_a_whole_world_passes(name: str, judge: Callable[[Suite], SuiteResult]) -> None:
    result = judge(BY_NAME[name])

    assert result.passed
    assert len(result.results) == len(BY_NAME[name].claims) * 3
    assert all(set(r.observed) == {"binance BTC-USDT", "binance ETH-BTC"} for r in result.results)
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
    assert result.failed == (BROKEN_DAY,)
    assert {row["claim"] for row in result.offenders} == failing
    assert {(row["partition"], row["market"]) for row in result.offenders} == {
        ("2024-03-02", "BTC-USDT")
    }


def test_every_claim_was_seen_failing() -> None:
    seen = {(name, claim) for name, _, failing in BREAKS for claim in failing}
    assert seen == {(suite.name, claim.name) for suite in SUITES for claim in suite.claims}


def test_both_values_stand_side_by_side(
    world: duckdb.DuckDBPyConnection, judge: Callable[[Suite], SuiteResult]
) -> None:
    world.execute(f"update markets.ohlcv_1m set close = 0.051234567891 where {A_CANDLE}")

    (row,) = judge(BY_NAME["candles_equal_klines"]).offenders

    published = world.execute(f"select close from raw.binance_klines where {A_KLINE}").fetchall()
    assert row["found"] == "0.051234567891"
    assert row["expected"] == str(published[0][0])


def test_trades_are_judged_before_klines_are_there(
    world: duckdb.DuckDBPyConnection, judge: Callable[[Suite], SuiteResult]
) -> None:
    world.execute("delete from raw.binance_klines")
    world.execute("delete from raw.proofs where dataset = 'binance_klines'")

    assert judge(BY_NAME["trades_are_complete"]).passed


@pytest.mark.parametrize("name", BY_NAME)
def test_a_day_before_listing_holds(name: str, world: duckdb.DuckDBPyConnection) -> None:
    world.execute("delete from raw.binance_trades")
    world.execute("delete from raw.binance_klines")
    world.execute("delete from raw.binance_rest_klines")
    world.execute("delete from markets.ohlcv_1m")
    world.execute(
        "update raw.proofs set status = 'not_listed', row_count = 0, source_row_count = 0, "
        f"first_id = null, last_id = null, gap_count = 1, gaps = [{GAP.format('not_listed')}]"
    )
    catalog = Catalog((Listing("binance", "BTC-USDT", "BTCUSDT", date(2025, 1, 1)),))

    assert evaluate(BY_NAME[name], world, market_days(catalog, DAYS[1:2])).passed
