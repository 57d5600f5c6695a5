"""Collecting through ccxt in a test: the real collector, client, lake and ccxt, over replies.

The wire formats are those that the exchanges document:
https://www.bitstamp.net/api (GetOHLCData), https://www.okx.com/docs-v5/en (candlesticks history),
https://docs.gemini.com/rest/market-data (candles), and
https://bybit-exchange.github.io/docs/v5/market/kline.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
from collecting import House, Wire, answered, noon

from crypto_assets.assets.collect import Collector
from crypto_assets.catalog import Catalog, Listing, MarketDay
from crypto_assets.lake import Proof
from crypto_assets.sandbox import create_app, transport
from crypto_assets.sources.ccxt_candles import CANDLES, Ccxt

DAY = date(2024, 3, 5)
TODAY = date(2024, 6, 15)
START = int(datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC).timestamp())
BTC = Listing("ccxt", "BTC-USD@bitstamp", "BTC/USD", date(2011, 8, 18))

# Seconds since 1970, open, high, low, close, volume: numbers as the exchange prints them.
Row = tuple[Any, ...]
# The rows that answer a request; it is given those that a sound exchange would send.
Spoil = Callable[[list[Row], Mapping[str, str]], Any]


@dataclass(frozen=True)
class Format:
    """How one exchange is asked and how it answers."""

    listing: Listing
    markets: tuple[str, Any]
    candles: str
    chosen: Callable[[list[Row], Mapping[str, str]], list[Row]]
    printed: Callable[[list[Row]], str]


def _bitstamp(rows: list[Row]) -> str:
    names = ("timestamp", "open", "high", "low", "close", "volume")
    ohlc = [
        dict(zip(names, (row if row[0] is None else map(str, row)), strict=False)) for row in rows
    ]
    return json.dumps({"data": {"ohlc": ohlc, "pair": "BTC/USD"}})


def _newest_first(rows: list[Row], rest: tuple[str, ...]) -> list[list[str]]:
    return [[str(row[0] * 1000), *map(str, row[1:]), *rest] for row in reversed(rows)]


def _okx(rows: list[Row]) -> str:
    data = _newest_first(rows, ("1", "1", "1"))
    return json.dumps({"code": "0", "msg": "", "data": data})


def _bybit(rows: list[Row]) -> str:
    result = {"symbol": "BTCUSDT", "category": "spot", "list": _newest_first(rows, ("1",))}
    return json.dumps({"retCode": 0, "retMsg": "OK", "result": result, "time": 1672025956592})


def _gemini(rows: list[Row]) -> str:
    """JSON numbers, with whatever digits they are given."""
    printed = (f"[{row[0] * 1000},{','.join(map(str, row[1:]))}]" for row in reversed(rows))
    return f"[{','.join(printed)}]"


def _listing(market: str, exchange: str) -> Listing:
    return Listing("ccxt", f"{market}@{exchange}", market.replace("-", "/"), date(2020, 1, 1))


FORMATS = {
    "bitstamp": Format(
        BTC,
        (
            "/api/v2/markets/",
            [
                {
                    "name": "BTC/USD", "market_symbol": "btcusd", "base_currency": "BTC",
                    "base_decimals": 8, "counter_currency": "USD", "counter_decimals": 0,
                    "minimum_order_value": "10", "trading": "Enabled", "market_type": kind,
                }
                for kind in ("SPOT", "PERPETUAL")
            ],
        ),
        "/api/v2/ohlc/btcusd/",
        lambda rows, sent: [row for row in rows if row[0] <= int(sent["end"])][
            -int(sent["limit"]) :
        ],
        _bitstamp,
    ),
    "okx": Format(
        _listing("BTC-USDT", "okx"),
        (
            "/api/v5/public/instruments",
            {
                "code": "0",
                "data": [
                    {
                        "instType": "SPOT", "instId": "BTC-USDT", "baseCcy": "BTC",
                        "quoteCcy": "USDT", "tickSz": "0.1", "lotSz": "0.00000001",
                        "minSz": "0.00001", "state": "live",
                    }
                ],
            },
        ),
        "/api/v5/market/history-candles",
        lambda rows, sent: [
            row for row in rows if int(sent["before"]) < row[0] * 1000 < int(sent["after"])
        ][-int(sent["limit"]) :],
        _okx,
    ),
    "bybit": Format(
        _listing("BTC-USDT", "bybit"),
        (
            "/v5/market/instruments-info",
            {
                "retCode": 0,
                "result": {
                    "category": "spot",
                    "list": [
                        {
                            "symbol": "BTCUSDT", "baseCoin": "BTC", "quoteCoin": "USDT",
                            "status": "Trading", "lotSizeFilter": {"basePrecision": "0.000001"},
                            "priceFilter": {"tickSize": "0.01"},
                        }
                    ],
                },
            },
        ),
        "/v5/market/kline",
        lambda rows, sent: [row for row in rows if row[0] * 1000 >= int(sent["start"])][
            : int(sent["limit"])
        ],
        _bybit,
    ),
    "gemini": Format(
        _listing("BTC-USD", "gemini"),
        ("/v1/symbols", ["btcusd", "ethusd"]),
        "/v2/candles/btcusd/1m",
        lambda rows, _: rows,
        _gemini,
    ),
}  # fmt: skip


class Exchange(httpx.BaseTransport):
    """An exchange with the candles given, oldest first; `spoil` may answer otherwise."""

    def __init__(
        self,
        rows: Iterable[Row] = (),
        spoil: Spoil = lambda rows, sent: rows,
        name: str = "bitstamp",
    ) -> None:
        self._rows = list(rows)
        self._spoil = spoil
        self._format = FORMATS[name]

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        path, markets = self._format.markets
        if request.url.path == path:
            return answered(json.dumps(markets).encode())
        if request.url.path != self._format.candles:
            return answered(b"{}", 404)
        sent = dict(request.url.params)
        said = self._spoil(self._format.chosen(self._rows, sent), sent)
        if isinstance(said, httpx.Response):
            return said
        return answered(self._format.printed(list(said)).encode())


def candle(minute: int, *prices: Any, volume: Any = "10.00000000", at: int = START) -> Row:
    """A candle of a minute of DAY."""
    return (at + 60 * minute, *(prices or ("1.50", "1.70", "1.40", "1.60")), volume)


def minutes(first: int = 0, last: int = 1440) -> list[Row]:
    """A candle of each minute of DAY from the first up to the last, which is not included."""
    return [candle(minute) for minute in range(first, last)]


def sandbox(faults: str = "", *, trades_per_day: int = 2500) -> Wire:
    """Bitstamp's face of a new sandbox, with a count of what it is asked."""
    app = create_app(Catalog((BTC,)), faults=faults, today=TODAY, trades_per_day=trades_per_day)
    return Wire(transport(app))


def prove(
    house: House,
    wire: httpx.BaseTransport,
    *,
    listing: Listing = BTC,
    day: date = DAY,
    now: datetime | None = None,
    urls: Mapping[str, str] | None = None,
) -> Proof:
    """The proof of one day; raises what kept it from being proven."""
    source = Ccxt(urls=urls, transport=wire, now=lambda: now or noon(TODAY))
    try:
        collector = Collector(house.lake, Catalog((listing,)), lambda _: source, workers=1)
        (done,) = collector.collect(CANDLES, [day])
    finally:
        source.close()
    for failure in done.failures:
        raise failure.error
    return done.proofs[0]


def part(listing: Listing = BTC, day: date = DAY) -> MarketDay:
    return MarketDay(CANDLES.name, listing.market, day)


def instant(minute: int, day: date = DAY) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(minutes=minute)
