"""Replies parsed against Bitstamp's documented formats, and faults on the wire."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest

from crypto_assets.catalog import Catalog, Listing
from crypto_assets.sandbox import create_app, transport

REST = "https://www.bitstamp.net/api/v2"
CATALOG = Catalog(
    (
        Listing("coinbase", "BTC-USD", "BTC-USD", date(2015, 7, 20)),
        Listing("ccxt", "BTC-USD@bitstamp", "BTC/USD", date(2011, 8, 18)),
        Listing("ccxt", "NEW-USD@bitstamp", "NEW/USD", date(2025, 6, 20)),
        Listing("ccxt", "ETH-USD@gemini", "ETH/USD", date(2016, 5, 8)),
    )
)
START = int(datetime(2025, 6, 13, tzinfo=UTC).timestamp())
PRICES = ("open", "high", "low", "close")
Client = Callable[..., httpx.Client]


@pytest.fixture
def venue() -> Iterator[Client]:
    """Builds clients of new sandboxes: `venue("drift")`."""
    opened: list[httpx.Client] = []

    def client(faults: str = "", today: date = date(2025, 6, 15)) -> httpx.Client:
        app = create_app(CATALOG, faults=faults, today=today, trades_per_day=3000)
        opened.append(httpx.Client(transport=transport(app)))
        return opened[-1]

    yield client
    for one in opened:
        one.close()


def candles(client: httpx.Client, **asked: int) -> list[dict[str, str]]:
    params: dict[str, int] = {"step": 60, "limit": 1000, **asked}
    reply = client.get(f"{REST}/ohlc/btcusd/", params=params)
    assert reply.status_code == 200, reply.text
    assert reply.json()["data"]["pair"] == "BTC/USD"
    return list(reply.json()["data"]["ohlc"])


def test_candles_have_the_documented_form(venue: Client) -> None:
    rows = candles(venue(), start=START, end=START + 59_999)
    assert [int(row["timestamp"]) for row in rows] == list(range(START, START + 60_000, 60))
    for row in rows:
        assert sorted(row) == ["close", "high", "low", "open", "timestamp", "volume"]
        assert all(re.fullmatch(r"\d+\.\d{2,8}", row[name]) for name in PRICES)
        assert re.fullmatch(r"\d+\.\d{8}", row["volume"])
        opened, high, low, close = (Decimal(row[name]) for name in PRICES)
        assert low <= min(opened, close) <= max(opened, close) <= high


def test_a_quiet_minute_repeats_the_close_before_it(venue: Client) -> None:
    rows = candles(venue(), end=START + 59_999)
    at = next(at for at, row in enumerate(rows) if row["volume"] == "0.00000000")
    assert {rows[at][name] for name in PRICES} == {rows[at - 1]["close"]}


def test_the_newest_until_the_end_whatever_the_start(venue: Client) -> None:
    client = venue()
    rows = candles(client, start=START, end=START + 299, limit=10)
    assert [int(row["timestamp"]) for row in rows] == list(range(START - 300, START + 300, 60))
    assert candles(client, start=START - 300, limit=10) == rows
    hours = candles(client, step=3600, limit=24, end=START + 86_399)
    assert [int(row["timestamp"]) for row in hours] == list(range(START, START + 86_400, 3600))
    newest = candles(client, limit=1)[0]["timestamp"]
    assert int(newest) == int(datetime(2025, 6, 15, 12, tzinfo=UTC).timestamp())


def test_it_trades_around_the_same_price_as_others(venue: Client) -> None:
    client = venue()
    (own,) = candles(client, end=START + 59, limit=1)
    reply = client.get(
        "https://api.exchange.coinbase.com/products/BTC-USD/candles",
        params={"granularity": 60, "start": START, "end": START},
    )
    close = Decimal(str(reply.json()[0][4]))
    assert 0 < abs(Decimal(own["close"]) / close - 1) < Decimal("0.002")


def test_markets_are_those_that_are_collected_from_it(venue: Client) -> None:
    markets: list[dict[str, Any]] = venue().get(f"{REST}/markets/").json()
    assert [(row["name"], row["market_symbol"], row["market_type"]) for row in markets] == [
        ("BTC/USD", "btcusd", "SPOT"), ("NEW/USD", "newusd", "SPOT"),
    ]  # fmt: skip
    assert (markets[0]["base_currency"], markets[0]["counter_currency"]) == ("BTC", "USD")


def test_a_market_that_is_not_listed_yet_has_no_candle(venue: Client) -> None:
    reply = venue().get(f"{REST}/ohlc/newusd/", params={"step": 60, "limit": 10})
    assert reply.json() == {"data": {"ohlc": [], "pair": "NEW/USD"}}


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("ethusd/?step=60&limit=10", 404, "Invalid market symbol."),
        ("btcusd/?limit=10", 400, "step: a number is required."),
        ("btcusd/?step=60", 400, "limit: a number is required."),
        ("btcusd/?step=60&limit=10&end=now", 400, "end: a number is required."),
        ("btcusd/?step=61&limit=10", 400, "step is one of"),
        ("btcusd/?step=60&limit=1001", 400, "limit from 1 to 1000"),
        ("btcusd/?step=60&limit=0", 400, "limit from 1 to 1000"),
    ],
)
def test_errors_have_a_reason(venue: Client, path: str, status: int, reason: str) -> None:
    reply = venue().get(f"{REST}/ohlc/{path}")
    assert (reply.status_code, reply.json()["status"]) == (status, "error")
    assert reason in reply.json()["reason"]


def test_candle_faults_change_replies(venue: Client) -> None:
    asked = {"end": START + 7199, "limit": 120}
    sound = candles(venue(), **asked)
    assert len(candles(venue("candle_gap@BTC/USD"), **asked)) == 117
    assert candles(venue("candle_gap@BTC-USD"), **asked) == sound
    rows = candles(venue("candle_high_below_low"), **asked)
    (broken,) = (row for row in rows if Decimal(row["high"]) < Decimal(row["low"]))
    assert broken | {"high": broken["low"], "low": broken["high"]} in sound


def test_skewed_venue_agrees_with_itself(venue: Client) -> None:
    asked = {"end": START + 7199, "limit": 120}
    sound = candles(venue(), **asked)
    for row, high in zip(sound, candles(venue("drift"), **asked), strict=True):
        for name in PRICES:
            assert Decimal(high[name]) == Decimal(row[name]) * Decimal("1.01")
        assert (high["volume"], high["timestamp"]) == (row["volume"], row["timestamp"])
    late = candles(venue("clock_off"), **asked)
    assert [{**row, "timestamp": ""} for row in late[1:]] == [
        {**row, "timestamp": ""} for row in sound[:-1]
    ]
    assert [row["timestamp"] for row in late] == [row["timestamp"] for row in sound]
