"""Kraken spot: trades by the cursor `last`, and what is left of its one-minute candles.

https://docs.kraken.com/api-reference/market-data. Trades go back to the first one, oldest first,
1,000 a page; candles only to the newest 720 minutes, so that most of a past day is gone. Errors
come with status 200. `sources.kraken_walk` holds the pages to each other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import httpx

from crypto_assets.catalog import Dataset, Listing, MarketDay
from crypto_assets.errors import NotFinalError, UnknownSymbolError
from crypto_assets.sources.columns import micros
from crypto_assets.sources.http import HostPolicy, HttpClient, Reply
from crypto_assets.sources.kraken_rows import (
    OHLC,
    OHLC_MINUTES,
    TRADES,
    CandlesPage,
    Pair,
    Trade,
    TradesPage,
    candles_of_page,
    check_errors,
    check_is_final,
    check_name,
    read_candles,
    read_pair,
    read_trades,
    trades_of_rows,
)
from crypto_assets.sources.kraken_walk import Walk, trades_of_pages
from crypto_assets.sources.pages import Pages
from crypto_assets.sources.venue import Extract

__all__ = ["OHLC", "TRADES", "Kraken"]

_PAIRS, _TRADES, _OHLC = (f"/0/public/{name}" for name in ("AssetPairs", "Trades", "OHLC"))
_MAX_REPLY = 4 << 20
# One a second "or less would remain within the rate limits" of public endpoints, by address
# (https://support.kraken.com/articles/206548367-what-are-the-api-rate-limits).
_POLICY = HostPolicy("kraken", limits=((1, 1.1),))
# How long before the day the first page may begin: the shortest that shows a trade before the day,
# whose id tells that none is missing at its start.
_LOOK_BACK = tuple(
    timedelta(**span) for span in ({"minutes": 1}, {"hours": 1}, {"days": 1}, {"days": 30})
)
_BORDER_NS = 1_000_000_000


class Kraken:
    """Fetches one market-day of trades or candles; see `sources.venue.Venue`.

    `limits_folder` holds what all processes of this machine share of the rate limit; `transport`
    replaces the network, and with it goes the limit; `now` tells the time, UTC.
    """

    datasets: tuple[Dataset, ...] = (TRADES, OHLC)

    def __init__(
        self,
        *,
        url: str,
        limits_folder: Path | None = None,
        transport: httpx.BaseTransport | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._http = HttpClient(
            base_url=url,
            policy=_POLICY if transport is None else replace(_POLICY, limits=()),
            limits_path=limits_folder / "kraken.sqlite" if limits_folder else None,
            transport=transport,
        )
        self._now = now
        self._pairs: dict[str, Pair] = {}
        self._pairs_lock = threading.Lock()

    def close(self) -> None:
        """End requests under way and give connections back."""
        self._http.close()

    def fetch(self, dataset: Dataset, listing: Listing, part: MarketDay, workdir: Path) -> Extract:
        """Deliver one market-day: all its trades, or those of its candles that Kraken keeps."""
        if part.ends_at > self._now():
            raise NotFinalError(
                f"{part} ends at {part.ends_at.isoformat()}; a day is fetched once it is over"
            )
        pair = self._pair(listing)
        if dataset is TRADES:
            return self._trades(pair, part, workdir)
        return self._candles(pair, listing, part, workdir)

    def _pair(self, listing: Listing) -> Pair:
        """What Kraken calls the pair, asked for once; it must be the market of the catalogue."""
        with self._pairs_lock:
            if listing.symbol not in self._pairs:
                body = self._get(_PAIRS, pair=listing.symbol)
                self._pairs[listing.symbol] = read_pair(body, listing.symbol)
        pair = self._pairs[listing.symbol]
        if pair.market != listing.market:
            raise UnknownSymbolError(
                f"markets.yaml says that {listing.symbol} is {listing.market} at Kraken, but "
                f"Kraken answers with {pair.altname} ({pair.key}), which is {pair.market}; correct "
                "`symbol` in markets.yaml"
            )
        return pair

    def _trades(self, pair: Pair, part: MarketDay, workdir: Path) -> Extract:
        """All trades of the day; each page is kept in `workdir`, where a new run goes on."""
        pages, borders = (Pages(workdir, str(part), read_trades) for _ in range(2))
        walk = Walk(part, micros(self._now()))
        cursor = self._first_cursor(pair, part, workdir)
        while not walk.is_over:
            before = walk.last
            page = self._page(pages, pair, part, cursor)
            after = walk.take(page, cursor)
            if walk.last is before:
                if walk.is_up_to(self._newest(pair, part)):
                    break
                page = self._page(pages, pair, part, cursor, "-again")
                after = walk.take(page, cursor)
                walk.check_moved_from(before)
            if before is not None and after is not None:
                since = str(before.time_ns - _BORDER_NS)
                walk.mend(before, after, self._page(borders, pair, part, since, "-border"))
            cursor = page.last
        return Extract(
            batches=trades_of_pages(pages, walk.mended, part),
            row_count=lambda: walk.row_count,
            documents=(pages.document(f"{self._http.url(_TRADES)}?pair={pair.altname}"),),
            checks=walk.checks(),
        )

    def _first_cursor(self, pair: Pair, part: MarketDay, workdir: Path) -> str:
        """The latest of some cursors whose page begins before the day, else the earliest."""
        pages = Pages(workdir, str(part), read_trades)
        for back in _LOOK_BACK:
            cursor = str(micros(part.starts_at - back) * 1000)
            trades = trades_of_rows(self._page(pages, pair, part, cursor).rows, part)
            if any(trade.time_us < micros(part.starts_at) for trade in trades):
                break
        return cursor

    def _page(
        self, pages: Pages, pair: Pair, part: MarketDay, cursor: str, suffix: str = ""
    ) -> TradesPage:
        ask = partial(self._get, _TRADES, pair=pair.altname, since=cursor)
        page: TradesPage = pages.get(f"trades-{cursor}{suffix}", ask)
        check_name(page.name, pair, str(part))
        return page

    def _newest(self, pair: Pair, part: MarketDay) -> Trade | None:
        """The venue's newest trade: without a cursor the newest ones come."""
        page = read_trades(self._get(_TRADES, pair=pair.altname), str(part))
        check_name(page.name, pair, str(part))
        trades = trades_of_rows(page.rows, part)
        return max(trades, key=lambda trade: trade.trade_id, default=None)

    def _candles(self, pair: Pair, listing: Listing, part: MarketDay, workdir: Path) -> Extract:
        """What is left of a day's candles; nothing is asked once all of them are too old."""
        if self._now() - part.ends_at >= timedelta(minutes=OHLC_MINUTES):
            return candles_of_page(None, listing, part, ())

        def ask() -> bytes:
            body = self._get(_OHLC, pair=pair.altname, interval=1)
            check_is_final(read_candles(body, str(part)), part)
            return body

        pages = Pages(workdir, str(part), read_candles)
        page: CandlesPage = pages.get("ohlc", ask)
        check_name(page.name, pair, str(part))
        url = f"{self._http.url(_OHLC)}?pair={pair.altname}&interval=1"
        return candles_of_page(page, listing, part, (pages.document(url),))

    def _get(self, path: str, **params: str | int) -> bytes:
        def check(reply: Reply) -> None:
            check_errors(reply.body, reply.url)

        return self._http.get_bytes(path, params=params, max_bytes=_MAX_REPLY, check=check).body
