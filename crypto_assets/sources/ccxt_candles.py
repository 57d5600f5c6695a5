"""One-minute candles of any other exchange, through ccxt: one more witness of prices.

A line under `ccxt` in markets.yaml is all it takes. What ccxt does and does not do here is in
`ccxt_exchange`, how pages are held to each other in `ccxt_walk`. Needs the optional library ccxt.

Not supported, each refused by name: exchanges that ccxt asks by POST (hyperliquid, derive, grvt) or
with an API key (luno), and markets that are not spot.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.compute as pc

from crypto_assets.catalog import Dataset, Listing, MarketDay
from crypto_assets.errors import NotFinalError
from crypto_assets.sources.candles import MINUTE_US, check_prices, grid_holes, is_zero
from crypto_assets.sources.ccxt_exchange import Candle, Exchange, read_page
from crypto_assets.sources.ccxt_walk import Walk
from crypto_assets.sources.columns import int64, micros, raw_of_json, raw_schema, typed
from crypto_assets.sources.pages import Pages
from crypto_assets.sources.venue import Extract, Hole

# Of any exchange and asset: the smallest prices in use have 12 decimals, and some exchanges print
# doubles with all their noise.
_PRICE = pa.decimal128(38, 18)
_VOLUME = pa.decimal128(38, 24)
# Public replies are cached for seconds, clocks differ, and trades may be late into a candle.
_SETTLED = timedelta(minutes=10)

CANDLES = Dataset(
    name="ccxt_candles",
    venue="ccxt",
    description="One-minute candles of other exchanges through ccxt; the market names the exchange "
    "(BTC-USD@bitstamp). Whether a quiet minute has one differs between exchanges.",
    schema=pa.schema(
        [
            pa.field("open_time", pa.timestamp("us"), nullable=False),
            *(pa.field(name, _PRICE, nullable=False) for name in ("open", "high", "low", "close")),
            # In the base currency, as ccxt unifies it; no spot exchange of ccxt leaves it out.
            pa.field("volume", _VOLUME, nullable=False),
        ]
    ),
    key=("open_time",),
    time_column="open_time",
    price_column="close",
)


class Ccxt:
    """Fetches one market-day of candles; see `sources.venue.Venue`.

    `urls` replaces addresses of exchanges, by ccxt's id of each. `limits_folder` holds what all
    processes of this machine share of the rate limits, which are those that ccxt keeps to;
    `transport` replaces the network, and lifts the limits; `now` tells the time, UTC.
    """

    datasets: tuple[Dataset, ...] = (CANDLES,)

    def __init__(
        self,
        *,
        urls: Mapping[str, str] | None = None,
        limits_folder: Path | None = None,
        transport: httpx.BaseTransport | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._urls = dict(urls or {})
        self._connect = partial(Exchange, limits_folder=limits_folder, transport=transport, now=now)
        self._now = now
        self._exchanges: dict[str, Exchange] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """End requests under way and give connections back."""
        for exchange in self._exchanges.values():
            exchange.close()

    def fetch(self, dataset: Dataset, listing: Listing, part: MarketDay, workdir: Path) -> Extract:
        """Deliver one market-day that is over and settled: no minute of it is still forming."""
        if part.ends_at + _SETTLED > self._now():
            raise NotFinalError(
                f"{part} ends at {part.ends_at.isoformat()}; a day is fetched {_SETTLED} after"
            )
        exchange = self._exchange(listing.exchange)
        exchange.check(listing)
        pages = Pages(workdir, str(part), read_page)
        urls: list[str] = []

        def ask(since: int, limit: int) -> list[Candle]:
            asked = listing.symbol, since, limit
            # Numbered, because the same may be asked twice to see whether it stays.
            name = f"{len(urls):04d}-{since}-{limit}"
            rows, url = exchange.read(pages.get(name, partial(exchange.ask, *asked)), *asked)
            urls.append(url)
            return rows

        walk = Walk(part, ask, most=exchange.most, listed=listing.since)
        candles = walk.candles()
        batch = _batch(candles, dataset, part)
        checks = {
            "numbers_are_as_printed": "passed",
            "candles_are_on_the_grid": "passed",
            "candles_are_possible": "passed",
        }
        if walk.overlaps:
            checks["pages_overlap"] = "passed"
        return Extract(
            batches=iter([batch]),
            row_count=lambda: len(candles),
            documents=(pages.document(urls[0]),),
            checks=checks,
            holes=_holes(batch, listing, part),
        )

    def _exchange(self, name: str) -> Exchange:
        with self._lock:
            if name not in self._exchanges:
                self._exchanges[name] = self._connect(name, url=self._urls.get(name))
            return self._exchanges[name]


def _batch(candles: list[Candle], dataset: Dataset, part: MarketDay) -> pa.RecordBatch:
    """Candles of the day, checked."""
    rows = [[candle.opened * 1000, *(f"{amount:f}" for amount in candle[1:])] for candle in candles]
    raw = raw_of_json(rows, tuple(range(len(dataset.schema))), raw_schema(dataset), part)
    batch = typed(raw, dataset, 1, part)
    check_prices(batch, part)
    return batch


def _holes(batch: pa.RecordBatch, listing: Listing, part: MarketDay) -> tuple[Hole, ...]:
    """Stretches of the day's minutes without a candle.

    Some exchanges print quiet minutes and others leave them out; ccxt cannot tell which, nor a
    quiet minute from a lost one. So none is said to be quiet: the evidence says what is known.
    """
    quiet = pc.sum(is_zero(batch["volume"])).as_py() or 0
    evidence = f"{listing.exchange} was asked and has no candle; " + (
        f"{quiet} others of the day have volume 0, so that it prints quiet minutes"
        if quiet
        else "no candle of the day has volume 0, so that the minute may have been quiet"
    )
    holes = []
    for starts, ends in grid_holes(int64(batch["open_time"]), MINUTE_US, part):
        is_before_listing = part.day == listing.since and starts == micros(part.starts_at)
        is_after_delisting = part.day == listing.until and ends == micros(part.ends_at)
        if is_before_listing or is_after_delisting:
            listed = f"{listing.symbol} is listed {listing.since} to {listing.until or 'now'}"
            holes.append(Hole(starts, ends, "not_listed", listed))
        else:
            holes.append(Hole(starts, ends, "source_missing", evidence))
    return tuple(holes)
