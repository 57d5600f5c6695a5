"""Coinbase Exchange: trades by their integer ids, newest first, and its own one-minute candles.

Pages: https://docs.cdp.coinbase.com/exchange/docs/rest-pagination (`after=N` gives what is older
than N, 1,000 at most; CB-AFTER names the oldest row of a page). Limits:
https://docs.cdp.coinbase.com/exchange/docs/rest-rate-limits. What the rows mean is in
`coinbase_rows`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from crypto_assets.catalog import Dataset, Listing, MarketDay
from crypto_assets.errors import (
    NotFinalError,
    NotFoundError,
    SourceMissingError,
    StuckCursorError,
    UnknownSymbolError,
)
from crypto_assets.sources.coinbase_rows import (
    CANDLES,
    TRADES,
    candles_of,
    candles_of_reply,
    check_continues,
    check_quiet,
    holes_of,
    joined,
    page_of,
    rows_of_day,
    trades_of_pages,
)
from crypto_assets.sources.columns import json_rows, micros
from crypto_assets.sources.http import HostPolicy, HttpClient
from crypto_assets.sources.pages import Pages
from crypto_assets.sources.venue import Extract

__all__ = ["CANDLES", "TRADES", "Coinbase"]

_EPOCH = date(1970, 1, 1)
_PAGE = 1000
_MAX_REPLY = 4 << 20
_MINUTE = timedelta(minutes=1)
_DAY_MINUTES = 1440
# 300 candles a request. Whether `end` belongs to them is not documented, so that a request may
# give one less: each begins with the last minute of the one before.
_CANDLES = 300
# Public replies are cached for seconds and clocks differ. After ten minutes nothing of a day is
# still on its way, and that nobody has traded since may be believed.
_SETTLED = timedelta(minutes=10)

# 10 a second and address (rate limits page); one is left to other programs.
_POLICY = HostPolicy("coinbase", limits=((9, 1.0),))
# What answers in place of the network need not be spared.
_UNLIMITED = HostPolicy("coinbase")


class Coinbase:
    """Fetches one market-day of trades or candles; see `sources.venue.Venue`.

    `limits_folder` holds what all processes of this machine share of the rate limit; `transport`
    replaces the network, and lifts the limit; `now` tells the time, UTC.
    """

    datasets: tuple[Dataset, ...] = (TRADES, CANDLES)

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
            policy=_UNLIMITED if transport else _POLICY,
            limits_path=limits_folder / "coinbase.sqlite" if limits_folder else None,
            transport=transport,
        )
        self._now = now

    def close(self) -> None:
        """End requests under way and give connections back."""
        self._http.close()

    def fetch(self, dataset: Dataset, listing: Listing, part: MarketDay, workdir: Path) -> Extract:
        """Deliver one market-day that is over and settled."""
        if part.ends_at + _SETTLED > self._now():
            raise NotFinalError(
                f"{part} ends at {part.ends_at.isoformat()}; a day is fetched {_SETTLED} after"
            )
        pages = Pages(workdir, str(part))
        if dataset is TRADES:
            return self._trades(listing, part, pages)
        return self._candles(listing, part, pages)

    def _trades(self, listing: Listing, part: MarketDay, pages: Pages) -> Extract:
        """From a page that reaches past the day's end down to one that reaches before its start.

        Each page begins with the last row of the one before, and is kept as a checkpoint.
        """
        starts = micros(part.starts_at)
        rows = pages.get("trades-newest", partial(self._newest_page, listing, part))
        page = page_of(rows, part)
        row_count, checks = rows_of_day(rows, part), {"pages_overlap": "passed"}
        while page.times[-1] >= starts:
            cursor, oldest = int(page.ids[-1]) + 1, rows[-1]
            ask = partial(self._trades_page, listing, part, after=cursor, limit=_PAGE)
            rows = pages.get(f"trades-{cursor:020d}", ask)
            page = page_of(rows, part)
            check_continues(page, rows, oldest, cursor, part)
            row_count += rows_of_day(rows[1:], part)
            if len(rows) == 1:
                _check_beginning(int(page.ids[0]), row_count, listing, part)
                break
        if not row_count:
            check_quiet(pages, part)
            checks["ids_join_around_the_day"] = "passed"
        return Extract(
            batches=trades_of_pages(reversed(pages), part),
            row_count=lambda: row_count,
            documents=(pages.document(self._http.url(f"/products/{listing.symbol}/trades")),),
            checks=checks | {"values_are_possible": "passed"},
        )

    def _newest_page(self, listing: Listing, part: MarketDay) -> bytes:
        """The page in which the day ends: found by search over ids, a row at a time.

        Between the newest trade and the oldest, the place is guessed by time and halved in turn.
        """
        ends = micros(part.ends_at)
        above = self._newest(listing, part)
        if above is None:
            raise SourceMissingError(
                f"{part}: Coinbase knows {listing.symbol} but has no trade of it; correct `since` "
                "in markets.yaml"
            )
        below_id, below_time = 0, (listing.since - _EPOCH) // timedelta(microseconds=1)
        is_guess = True
        # If nobody has traded since the day, it ends with the newest trade.
        while above.time >= ends and above.id - below_id >= _PAGE:
            middle = (above.id + below_id) // 2
            if is_guess and below_time < ends:
                share = (ends - below_time) / (above.time - below_time)
                guess = below_id + int((above.id - below_id) * share)
                middle = min(max(guess, below_id + 1), above.id - 1)
            is_guess = not is_guess
            found = self._newest(listing, part, at_most=middle)
            if found is not None and found.time >= ends:
                above = found
            else:
                # There is no trade between the one found and the middle.
                below_id, below_time = middle, found.time if found else below_time
        cursor = above.id + 1
        body = self._trades_page(listing, part, after=cursor, limit=_PAGE)
        rows = json_rows(body, str(part))
        check_continues(page_of(rows, part), rows, above.row, cursor, part)
        return body

    def _newest(
        self, listing: Listing, part: MarketDay, at_most: int | None = None
    ) -> _Trade | None:
        """The newest trade (with an id of at most that), None if there is none."""
        asked = {} if at_most is None else {"after": at_most + 1}
        rows = json_rows(self._trades_page(listing, part, **asked, limit=1), str(part))
        page = page_of(rows, part)
        if not rows:
            return None
        found = _Trade(int(page.ids[0]), int(page.times[0]), rows[0])
        if at_most is not None and found.id > at_most:
            raise StuckCursorError(
                f"{part}: asked for a trade older than {at_most + 1}, got {found.id}", rows=rows
            )
        return found

    def _trades_page(self, listing: Listing, part: MarketDay, **asked: int) -> bytes:
        """A page of trades; its own cursor must go on from its last row."""
        body, cursor = self._get(listing, "trades", asked)
        rows = json_rows(body, str(part))
        if rows and cursor is not None:
            page = page_of(rows, part)
            if cursor != str(page.ids[-1]):
                raise StuckCursorError(
                    f"{part}: a page ends with trade {page.ids[-1]} but says to go on from "
                    f"{cursor!r}",
                    rows=rows[-1:],
                )
        return body

    def _candles(self, listing: Listing, part: MarketDay, pages: Pages) -> Extract:
        replies = []
        for minute in range(0, _DAY_MINUTES, _CANDLES - 1):
            starts = part.starts_at + minute * _MINUTE
            ends = min(starts + (_CANDLES - 1) * _MINUTE, part.ends_at)
            asked = {"granularity": 60, "start": _iso(starts), "end": _iso(ends)}
            rows = pages.get(f"candles-{minute:04d}", partial(self._candles_page, listing, asked))
            between = int(starts.timestamp()), int(ends.timestamp())
            replies.append(candles_of_reply(rows, *between, part))
        # The last reply may go on into the next day.
        rows = [row for row in joined(replies, part) if row[0] < int(part.ends_at.timestamp())]
        batch = candles_of(rows, part)
        return Extract(
            batches=iter([batch]),
            row_count=lambda: len(rows),
            documents=(pages.document(self._http.url(f"/products/{listing.symbol}/candles")),),
            checks={
                "replies_overlap": "passed",
                "candles_are_on_the_grid": "passed",
                "candles_are_possible": "passed",
            },
            holes=holes_of(batch, listing, part),
        )

    def _candles_page(self, listing: Listing, asked: dict[str, Any]) -> bytes:
        return self._get(listing, "candles", asked)[0]

    def _get(self, listing: Listing, what: str, asked: dict[str, Any]) -> tuple[bytes, str | None]:
        """The body and the cursor CB-AFTER."""
        try:
            reply = self._http.get_bytes(
                f"/products/{listing.symbol}/{what}", params=asked, max_bytes=_MAX_REPLY
            )
        except NotFoundError as error:
            if re.search(r'"message":\s*"NotFound"', str(error)):
                raise UnknownSymbolError(
                    f"Coinbase does not know the product {listing.symbol}; if it was renamed or "
                    f"delisted, correct `symbol` or `until` in markets.yaml ({error})"
                ) from error
            raise
        return reply.body, reply.headers.get("CB-AFTER")


class _Trade(NamedTuple):
    """Where a trade is, in ids and microseconds since 1970, and its row."""

    id: int
    time: int
    row: Any


def _check_beginning(first_id: int, row_count: int, listing: Listing, part: MarketDay) -> None:
    """Nothing is older than this trade: so it is on the first day, or where ids begin."""
    if first_id > 1 and not (row_count and part.day == listing.since):
        raise SourceMissingError(
            f"{part}: Coinbase has no trade of {listing.symbol} before {first_id}, which is not "
            "the first one; it may have forgotten them. If the market was not listed before, "
            "correct `since` in markets.yaml"
        )


def _iso(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
