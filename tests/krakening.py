"""Collecting Kraken in a test: the real collector, client and lake, over a venue made of lists."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
from collecting import House, Wire, answered
from starlette.applications import Starlette

from crypto_assets.assets.collect import Collector
from crypto_assets.catalog import Catalog, Listing
from crypto_assets.sandbox import kraken as face
from crypto_assets.sandbox import transport as sandbox_transport
from crypto_assets.sandbox.faults import Faults
from crypto_assets.sandbox.world import Clock, World
from crypto_assets.sources.kraken import Kraken

XBT = Listing("kraken", "BTC-USD", "XBTUSD", date(2013, 10, 6))
DAY = date(2025, 3, 5)
NEXT_DAY = timedelta(days=1)
PAIR = {"XXBTZUSD": {"altname": "XBTUSD", "wsname": "XBT/USD"}}

Row = list[Any]


class KrakenHouse(House):
    """A lake in a folder of its own, and collectors of Kraken for it."""

    def collector(
        self,
        wire: httpx.BaseTransport,
        *listings: Listing,
        now: datetime | None = None,
        workers: int = 2,
    ) -> Collector:
        kraken = Kraken(
            url="https://api.kraken.com",
            transport=wire,
            now=lambda: now or morning_after(DAY),
        )
        self._opened.callback(kraken.close)
        return Collector(self.lake, Catalog(listings or (XBT,)), lambda _: kraken, workers=workers)


@dataclass
class SetClock(Clock):
    """The sandbox's clock at any instant."""

    at: datetime = field(default_factory=lambda: morning_after(DAY))

    def now(self) -> datetime:
        return self.at


@dataclass
class Venue:
    """Kraken, its trades and candles as lists; `bend` may change a result before it is sent."""

    trades: list[Row] = field(default_factory=list)
    candles: list[Row] = field(default_factory=list)
    pairs: dict[str, Any] = field(default_factory=lambda: dict(PAIR))
    limit: int = 1000
    is_inclusive: bool = False
    bend: Callable[[str, dict[str, Any]], dict[str, Any] | None] = lambda since, result: result

    def wire(self) -> Wire:
        """A transport that answers from the lists."""
        return Wire(httpx.MockTransport(self._answer))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        sent = request.url.params
        if request.url.path.endswith("AssetPairs"):
            return said(self.pairs)
        if request.url.path.endswith("OHLC"):
            return said({"XXBTZUSD": self.candles, "last": nanos(DAY) // 10**9})
        since = sent.get("since", "")
        bent = self.bend(since, self._page(since))
        return said(bent) if bent is not None else said({}, "EService:Busy")

    def _page(self, since: str) -> dict[str, Any]:
        if not since:
            rows = self.trades[-self.limit :]
        else:
            first = int(since) - self.is_inclusive
            rows = [row for row in self.trades if exact_ns(row) > first][: self.limit]
        last = str(exact_ns(rows[-1])) if rows else since
        return {"XXBTZUSD": [row[:7] for row in rows], "last": last}


def exact_ns(row: Row) -> int:
    """When a trade was made; a row may carry it as an eighth column, which is not sent."""
    return int(row[7]) if len(row) > 7 else round(row[2] * 10**9)


def said(result: Any, *errors: str) -> httpx.Response:
    """A reply in Kraken's envelope."""
    return answered(json.dumps({"error": [*errors], "result": result}).encode())


def nanos(day: date, seconds: float = 0) -> int:
    """Nanoseconds since 1970 of a second of a day."""
    return int(((day - date(1970, 1, 1)).total_seconds() + seconds) * 10**9)


def trades_of(
    count: int, *, every: float = 30, before: int = 2, after: int = 2, first_id: int = 500
) -> list[Row]:
    """`count` trades of DAY, and some the minute before it and the minute after it."""
    times = [nanos(DAY, -20 + at) for at in range(before)]
    times += [nanos(DAY, every * at) for at in range(count)]
    times += [nanos(DAY + NEXT_DAY, 1 + at) for at in range(after)]
    return [
        [f"{40_000 + at}.10000", "0.50000000", time / 10**9, "bs"[at % 2], "l", "", first_id + at]
        for at, time in enumerate(times)
    ]


def candle(day: date, minute: int, **odd: Any) -> Row:
    """A candle of ten trades."""
    values: dict[str, Any] = {
        "time": nanos(day, 60 * minute) // 10**9, "open": "2.0", "high": "4.0", "low": "1.0",
        "close": "3.0", "vwap": "2.5", "volume": "7.00000000", "count": 10,
    }  # fmt: skip
    return list((values | odd).values())


def morning_after(day: date, **later: float) -> datetime:
    """Six in the morning of the next day, UTC, or another time after its midnight."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC) + NEXT_DAY
    return midnight + timedelta(**(later or {"hours": 6}))


def sandboxed(faults: str = "", *listings: Listing, now: datetime | None = None) -> Wire:
    """Kraken's face of a sandbox whose clock stands at that instant."""
    listed = listings or (XBT,)
    app = Starlette(
        routes=face.routes(
            listed,
            World(0, trades_per_day=2500),
            SetClock(at=now or morning_after(DAY)),
            Faults(faults, {listing.symbol for listing in listed}),
        )
    )
    return Wire(sandbox_transport(app))
