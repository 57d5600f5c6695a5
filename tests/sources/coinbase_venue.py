"""Collecting Coinbase in a test: the real collector, client and lake, over a scripted venue."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
from collecting import House, Wire, answered, noon

from crypto_assets.assets.collect import Collector
from crypto_assets.catalog import Catalog, Dataset, Listing, MarketDay
from crypto_assets.lake import Proof
from crypto_assets.sandbox import create_app, transport
from crypto_assets.sources.coinbase import Coinbase

BTC = Listing("coinbase", "BTC-USD", "BTC-USD", date(2015, 7, 20))
DAY = date(2024, 3, 5)
TODAY = date(2025, 6, 15)
Row = dict[str, Any]


def part(dataset: Dataset, day: date = DAY) -> MarketDay:
    return MarketDay(dataset.name, BTC.market, day)


def sandbox(faults: str = "", *, trades_per_day: int = 2500, today: date = TODAY) -> Wire:
    """A new sandbox of BTC-USD, with a count of what it is asked."""
    app = create_app(Catalog((BTC,)), faults=faults, today=today, trades_per_day=trades_per_day)
    return Wire(transport(app))


@contextmanager
def collector(
    house: House, wire: httpx.BaseTransport, listing: Listing = BTC, *, now: datetime | None = None
) -> Iterator[Collector]:
    """A collector of one market whose venue answers through `wire`."""
    source = Coinbase(
        url="https://api.exchange.coinbase.com", transport=wire, now=lambda: now or noon(TODAY)
    )
    try:
        yield Collector(house.lake, Catalog((listing,)), lambda _: source, workers=1)
    finally:
        source.close()


def prove(
    house: House,
    dataset: Dataset,
    wire: httpx.BaseTransport,
    *,
    day: date = DAY,
    listing: Listing = BTC,
    now: datetime | None = None,
) -> Proof:
    """The proof of one day; raises what kept it from being proven."""
    with collector(house, wire, listing, now=now) as collecting:
        (done,) = collecting.collect(dataset, [day])
    for failure in done.failures:
        raise failure.error
    return done.proofs[0]


class Exchange(httpx.BaseTransport):
    """Coinbase with the trades (oldest first) and candles (newest first) given.

    `spoil` may replace the rows of a page; it is given them with the cursor asked for.
    """

    def __init__(
        self,
        trades: list[Row] | None = None,
        candles: Callable[[int, int], Any] = lambda start, end: [],
        spoil: Callable[[list[Row], int | None], Any] = lambda rows, after: rows,
    ) -> None:
        # A trade without an id is where a sound one would be.
        self._trades = [
            (int(row["trade_id"] or at + 1), row) for at, row in enumerate(trades or [])
        ]
        self._candles = candles
        self._spoil = spoil

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        sent = request.url.params
        if request.url.path.endswith("/candles"):
            start, end = (
                int(datetime.fromisoformat(sent[x]).timestamp()) for x in ("start", "end")
            )
            return answered(json.dumps(self._candles(start, end)).encode())
        after = int(sent["after"]) if "after" in sent else None
        older = [row for trade_id, row in self._trades if after is None or trade_id < after]
        page = older[::-1][: int(sent["limit"])]
        if int(sent["limit"]) > 1:
            page = self._spoil(page, after)
        return answered(json.dumps(page).encode())


def trade(trade_id: int, at: datetime, **odd: Any) -> Row:
    """A trade as Coinbase writes it."""
    return {
        "trade_id": trade_id,
        "side": "buy",
        "size": "0.01000000",
        "price": "40000.12000000",
        "time": f"{at:%Y-%m-%dT%H:%M:%S.%f}".rstrip("0").rstrip(".") + "Z",
        **odd,
    }


def instant(day: date, seconds: float = 0) -> datetime:
    """So many seconds after the start of a UTC day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(seconds=seconds)


def day_of_trades(count: int = 5, first_id: int = 11, every: float = 1.0, **odd: Any) -> list[Row]:
    """Trades of DAY after ten of the day before, and one after it; `odd` is in the last of DAY."""
    before = [trade(first_id - 10 + at, instant(DAY, -100 + at)) for at in range(10)]
    of_day = [trade(first_id + at, instant(DAY, every * at)) for at in range(count)]
    of_day[-1] |= odd
    return [*before, *of_day, trade(first_id + count, instant(DAY, 86_400))]


def candle(opened: int, low: Any = 1.4, high: Any = 1.7, volume: Any = 10) -> list[Any]:
    """A candle as Coinbase writes it."""
    return [opened, low, high, 1.5, 1.6, volume]


def every_minute(start: int, end: int) -> list[Any]:
    """All candles from start to end, newest first."""
    return [candle(at) for at in range(end, start - 1, -60)]
