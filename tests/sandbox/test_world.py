"""What a world promises for any market and day, whatever a face prints of it."""

from __future__ import annotations

import hashlib
from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto_assets.catalog import Listing
from crypto_assets.sandbox.world import (
    DAY_US,
    MINUTE_US,
    Clock,
    Market,
    World,
    day_start,
    reference_usd,
)

SINCE = date(2020, 3, 3)
markets = st.sampled_from(["BTC-USDT", "USDC-USDT", "USDT-USD", "ETH-BTC", "XYZ-BTC", "BTC-XYZ"])
days = st.dates(SINCE, date(2027, 1, 1))
densities = st.sampled_from([10, 300, 5_000])


def market_of(name: str, seed: int = 0, trades_per_day: int = 5_000) -> Market:
    listing = Listing("binance", name, name.replace("-", ""), SINCE, date(2026, 12, 30))
    return World(seed, trades_per_day).market(listing)


@settings(max_examples=30, deadline=None)
@given(markets, days, densities, st.integers(0, 3))
def test_trades_of_any_day_continue_those_of_the_day_before(
    name: str, day: date, density: int, seed: int
) -> None:
    market = market_of(name, seed, density)
    trades, following = market.trades(day), market.trades(day + timedelta(days=1))
    if day > date(2026, 12, 30):
        assert len(trades) == 0
        return
    assert trades["id"].tolist() == list(range(market.first_id(day), trades["id"][-1] + 1))
    assert market.first_id(day + timedelta(days=1)) == trades["id"][-1] + 1
    if len(following):
        assert following["id"][0] == trades["id"][-1] + 1
    assert (np.diff(trades["time"]) >= 0).all()
    assert day_start(day) <= trades["time"][0]
    assert trades["time"][-1] < day_start(day) + DAY_US
    assert {market.day_of_id(int(trades["id"][at])) for at in (0, -1)} == {day}


@settings(max_examples=30, deadline=None)
@given(markets, days, densities)
def test_amounts_are_on_the_grid_and_multiply_exactly(name: str, day: date, density: int) -> None:
    market = market_of(name, trades_per_day=density)
    trades = market.trades(day)
    assert market.price_decimals + market.qty_decimals <= 8
    for column, decimals in (("price", market.price_decimals), ("qty", market.qty_decimals)):
        assert (trades[column] > 0).all()
        assert (trades[column] % 10 ** (8 - decimals) == 0).all()
    exact = [price * qty for price, qty in zip(*lists(trades, "price", "qty"), strict=True)]
    assert [quote * 10**8 for quote in trades["quote_qty"].tolist()] == exact


@settings(max_examples=20, deadline=None)
@given(markets, days, densities, st.sampled_from([1, 15, 1440]))
def test_klines_are_the_candles_of_the_trades(
    name: str, day: date, density: int, minutes: int
) -> None:
    market = market_of(name, trades_per_day=density)
    candles = market.klines(day, minutes)
    width = minutes * MINUTE_US
    by_bucket: dict[int, list[tuple[int, int, int, bool]]] = {}
    for at, *trade in zip(
        *lists(market.trades(day), "time", "price", "qty", "quote_qty", "is_buyer_maker"),
        strict=True,
    ):
        by_bucket.setdefault(at - at % width, []).append(tuple(trade))
    before = market.trades(day - timedelta(days=1))
    close = int(before["price"][-1]) if day > SINCE and len(before) else None
    for candle in candles:
        trades = by_bucket.pop(int(candle["open_time"]), [])
        prices = [price for price, *_ in trades] or [close]
        bought = [trade for trade in trades if not trade[3]]
        close = prices[-1]
        assert candle.tolist() == (
            candle["open_time"],
            prices[0],
            max(prices),
            min(prices),
            close,
            sum(qty for _, qty, _, _ in trades),
            candle["open_time"] + width - 1,
            sum(quote for _, _, quote, _ in trades),
            len(trades),
            sum(qty for _, qty, _, _ in bought),
            sum(quote for _, _, quote, _ in bought),
        )
    assert by_bucket == {}


@settings(max_examples=20, deadline=None)
@given(markets, days, densities)
def test_aggregates_merge_fills_of_one_order_at_one_price(
    name: str, day: date, density: int
) -> None:
    market = market_of(name, trades_per_day=density)
    trades, merged = market.trades(day), market.aggregates(day)
    assert merged["qty"].sum() == trades["qty"].sum()
    assert (merged["last_id"] - merged["first_id"] + 1).sum() == len(trades)
    keys = list(zip(*lists(merged, "time", "price", "is_buyer_maker"), strict=True))
    assert all(this != following for this, following in pairwise(keys))
    following = market.aggregates(day + timedelta(days=1))
    if len(merged) and len(following):
        assert following["id"][0] == merged["id"][-1] + 1
        assert market.day_of_aggregate_id(int(following["id"][0])) == day + timedelta(days=1)


def test_a_dense_day_has_a_few_quiet_minutes_and_shared_timestamps() -> None:
    market = market_of("BTC-USDT")
    candles, trades = market.klines(date(2024, 1, 3)), market.trades(date(2024, 1, 3))
    assert len(candles) == 1440
    assert 3 <= (candles["count"] == 0).sum() <= 6
    assert len(np.unique(trades["time"])) < len(trades)
    assert 0 < trades["is_buyer_maker"].sum() < len(trades)


def test_the_first_day_starts_late_and_a_halt_has_no_candles() -> None:
    market = market_of("BTC-USDT")
    assert 0 < len(market.klines(SINCE)) < 1440
    assert market.klines(SINCE)[0]["count"] > 0
    assert market.trades(SINCE)["id"][0] == 0
    opens = (market.klines(date(2023, 3, 24))["open_time"] // MINUTE_US % 1440).tolist()
    assert opens == [*range(12 * 60 + 40), *range(14 * 60, 1440)]


def test_klines_until_a_time_hold_what_was_traded_by_then() -> None:
    market, day = market_of("BTC-USDT"), date(2024, 1, 3)
    until = day_start(day) + 90 * MINUTE_US + 30_000_000
    candles = market.klines(day, until=until)
    assert len(candles) == 91
    assert candles["count"].sum() == (market.trades(day)["time"] <= until).sum()


def test_timestamps_are_whole_milliseconds_until_2025() -> None:
    market = market_of("BTC-USDT")
    assert (market.trades(date(2024, 12, 31))["time"] % 1000 == 0).all()
    assert (market.trades(date(2025, 1, 1))["time"] % 1000 != 0).any()


def test_latent_levels_join_from_day_to_day() -> None:
    world = World()
    for asset in ("BTC", "USDC", "ANYTHING"):
        days = [world.levels(asset, date(2024, 1, day)) for day in range(1, 10)]
        assert all(a[-1] == b[0] for a, b in pairwise(days))


def test_venues_agree_within_a_few_basis_points() -> None:
    day = date(2024, 1, 3)
    world = World()
    closes = [
        world.market(Listing(venue, "BTC-USDT", "x", SINCE)).klines(day)["close"]
        for venue in ("binance", "elsewhere")
    ]
    apart_bps = np.abs(closes[0] / closes[1] - 1) * 10_000
    assert 0 < np.median(apart_bps) < 10
    assert not np.array_equal(*closes)


def test_stablecoins_are_worth_about_a_dollar() -> None:
    prices = market_of("USDC-USDT").trades(date(2024, 1, 3))["price"]
    assert abs(prices / 10**8 - 1).max() < 0.02
    assert reference_usd("XYZ") == reference_usd("XYZ") != reference_usd("ZYX")


def test_equal_seeds_give_equal_worlds_and_others_differ() -> None:
    # Pinned: whoever changes the world changes every number that users of the sandbox have seen.
    digests = {
        name: hashlib.sha256(market_of(name).trades(date(2024, 1, 3)).tobytes()).hexdigest()[:16]
        for name in ("BTC-USDT", "USDC-USDT")
    }
    assert digests == {"BTC-USDT": "3e32562ab9e4ff48", "USDC-USDT": "38412a21c4c30319"}
    day = date(2024, 1, 3)
    assert np.array_equal(market_of("BTC-USDT").klines(day), market_of("BTC-USDT").klines(day))
    assert not np.array_equal(
        market_of("BTC-USDT", seed=1).trades(day)["price"][:100],
        market_of("BTC-USDT", seed=2).trades(day)["price"][:100],
    )


def test_what_the_world_does_not_have_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least 10"):
        World(trades_per_day=1)
    with pytest.raises(ValueError, match="1999-12-31"):
        market_of("BTC-USDT").trades(date(1999, 12, 31))


def test_sums_that_do_not_fit_are_an_error_not_another_number() -> None:
    market = market_of("BTC-USDT")
    day = date(2024, 1, 3)
    trades = market.trades(day).copy()
    trades["qty"] = 2**60
    market.trades = lambda _: trades
    with pytest.raises(OverflowError, match="BTC-USDT 2024-01-03"):
        market.klines(day)


def test_a_fixed_clock_stands_at_noon() -> None:
    assert Clock(date(2025, 6, 15)).now().isoformat() == "2025-06-15T12:00:00+00:00"
    assert Clock().now().tzinfo is not None


def lists(rows: np.ndarray, *names: str) -> list[list[int]]:
    return [rows[name].tolist() for name in names]
