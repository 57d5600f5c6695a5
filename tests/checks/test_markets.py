"""Each claim about candles passes on a whole world and fails, for its day only, on a broken one."""

from __future__ import annotations

from collections.abc import Callable

import duckdb
import pytest

from crypto_assets.checks.markets import SUITES
from crypto_assets.checks.suite import Suite, SuiteResult

(SUITE,) = SUITES
A_CANDLE = "market = 'BTC-USDT' and opened_at = timestamp '2024-03-02 03:36:00'"
UPDATE = "update markets.ohlcv_1m set {} where " + A_CANDLE

# What is broken, and every claim that must then fail.
BREAKS = [
    (UPDATE.format("high = open - 0.000000000001"), {"low_and_high_enclose"}),
    (UPDATE.format("low = close + 0.000000000001"), {"low_and_high_enclose"}),
    (UPDATE.format("low = 0"), {"prices_are_positive"}),
    (UPDATE.format("volume = 0, taker_buy_volume = 0"), {"volumes_are_positive"}),
    (UPDATE.format("trade_count = 0"), {"candles_have_trades", "ids_span_the_trades"}),
    (UPDATE.format("taker_buy_volume = volume + 0.000000000001"), {"takers_buy_a_part"}),
    (UPDATE.format("taker_buy_quote_volume = quote_volume + 0.00000000000000000001"),
     {"takers_buy_a_part"}),
    (UPDATE.format("taker_buy_volume = -0.000000000001"), {"takers_buy_a_part"}),
    (UPDATE.format("vwap = high + 0.000000000002"), {"vwap_is_within_low_and_high"}),
    (UPDATE.format("vwap = low - 0.000000000002"), {"vwap_is_within_low_and_high"}),
    (UPDATE.format("vwap = null"), {"vwap_is_within_low_and_high"}),
    (UPDATE.format("opened_at = opened_at + interval 1 microsecond"),
     {"candles_open_on_the_minute"}),
    (f"insert into markets.ohlcv_1m from markets.ohlcv_1m where {A_CANDLE}",
     {"candles_are_unique"}),
    ("delete from raw.proofs where market = 'BTC-USDT' and partition = '2024-03-02' "
     "and dataset = 'binance_trades'", {"days_are_proven"}),
    (UPDATE.format("last_trade_id = last_trade_id + 1"), {"ids_span_the_trades"}),
    (UPDATE.format("first_trade_id = null"), {"ids_span_the_trades"}),
]  # fmt: skip


def test_a_whole_world_passes(judge: Callable[[Suite], SuiteResult]) -> None:
    result = judge(SUITE)

    assert result.passed
    assert all(set(r.observed) == {"binance BTC-USDT", "binance ETH-BTC"} for r in result.results)


@pytest.mark.parametrize(("broken", "failing"), BREAKS)
def test_a_broken_day_fails_its_claims_alone(
    broken: str,
    failing: set[str],
    world: duckdb.DuckDBPyConnection,
    judge: Callable[[Suite], SuiteResult],
) -> None:
    assert world.execute(broken).fetchall()[0][0] == 1

    result = judge(SUITE)

    assert {r.claim.name for r in result.results if not r.passed} == failing
    assert result.failed == ("2024-03-02",)
    assert {row["claim"] for row in result.offenders} == failing
    assert {(row["partition"], row["market"]) for row in result.offenders} == {
        ("2024-03-02", "BTC-USDT")
    }


def test_every_claim_was_seen_failing() -> None:
    assert {claim.name for claim in SUITE.claims} == {
        name for _, failing in BREAKS for name in failing
    }


def test_vwap_may_be_off_by_the_rounding_of_its_last_digit(
    world: duckdb.DuckDBPyConnection, judge: Callable[[Suite], SuiteResult]
) -> None:
    world.execute(UPDATE.format("vwap = high + 0.000000000001"))

    assert judge(SUITE).passed


def test_ids_may_have_holes_where_the_venue_does_not_number_without_them(
    world: duckdb.DuckDBPyConnection, judge: Callable[[Suite], SuiteResult]
) -> None:
    world.execute("update raw.proofs set id_rule = 'none'")
    world.execute(UPDATE.format("last_trade_id = last_trade_id + 1"))

    assert judge(SUITE).passed
