"""The pages of one day of candles, held to each other: where to go on, and what must not be.

Exchanges differ in what a request for `limit` candles from `since` on gives: the first so many, or
those of so many minutes, the oldest or the newest of them, in either order, filled up with older
ones (Bitstamp) or not. What must be true of all: a page has the candle that the one before it ended
with, and minutes that seem to have none have none when they are asked for again. No I/O of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Any

from crypto_assets.catalog import MarketDay
from crypto_assets.errors import (
    ConflictingDuplicateError,
    DuplicateIdError,
    MissingIdError,
    OffGridError,
    OutsidePartitionError,
    StuckCursorError,
    UnorderedIdError,
)
from crypto_assets.sources.ccxt_exchange import Candle
from crypto_assets.sources.columns import micros

_MINUTE = 60_000
# How far to go on where there is no candle: no exchange answers for fewer minutes at once.
_STRIDE = 60 * _MINUTE


class Walk:
    """Through one day, oldest first. Times are in milliseconds since 1970.

    `ask(since, limit)` gives a page in the order it came; `most` is how many candles the exchange
    gives at once, `listed` the day before which it has none. `overlaps` counts the candles on which
    two pages agreed.
    """

    def __init__(
        self,
        part: MarketDay,
        ask: Callable[[int, int], Sequence[Candle]],
        *,
        most: int,
        listed: date,
    ) -> None:
        self._part = part
        self._ask = ask
        self._most = most
        self._starts, self._ends = (micros(at) // 1000 for at in (part.starts_at, part.ends_at))
        self._listed = (listed - date(1970, 1, 1)).days * 1440 * _MINUTE
        self._found: dict[int, Candle] = {}
        self._is_descending: bool | None = None
        self.overlaps = 0

    def candles(self) -> list[Candle]:
        """All candles of the day, oldest first.

        Raises an IntegrityError for a page that repeats, reverses, contradicts one before it,
        leaves the day or does not lead on.
        """
        since, quiet_since = self._starts, None
        while since < self._ends - (_MINUTE if since in self._found else 0):
            new = self._stretch(since)
            if new:
                if quiet_since is not None:
                    self._check_quiet(quiet_since, new[0])
                since, quiet_since = new[-1], None
            else:
                quiet_since = since if quiet_since is None else quiet_since
                since += _STRIDE
        if quiet_since is not None:
            self._check_quiet(quiet_since, self._ends)
        return [self._found[opened] for opened in sorted(self._found)]

    def _stretch(self, since: int) -> list[int]:
        """When the candles from there on opened that one request gives and that were not known.

        Some exchanges give the newest of a stretch that is longer than they give at once: a page
        that begins later than asked is asked for again, up to where it began.
        """
        is_known, limit = since in self._found, min(self._most, (self._ends - since) // _MINUTE)
        new: set[int] = set()
        while True:
            page, asked = self._page(since, limit)
            opened = [candle.opened for candle in page if candle.opened >= since]
            new |= set(opened) - {since} if is_known else set(opened)
            for candle in page:
                self._keep(candle)
            minutes = (opened[0] - since) // _MINUTE + 1 if opened else 0
            if not 1 < minutes < limit:
                break
            limit = minutes
        if is_known and minutes != 1:
            raise MissingIdError(
                f"{asked} {f'them from {_iso(opened[0])} on' if opened else 'none'}, though the "
                "page before had one of that minute",
                asked=since,
            )
        self.overlaps += is_known
        if not new and len(page) > limit:
            raise StuckCursorError(
                f"{asked} {len(page)} until {_iso(page[-1].opened)}, none of them new: it would "
                "be the same page for ever",
                rows=_ends(page),
            )
        return sorted(new)

    def _check_quiet(self, since: int, until: int) -> None:
        """Raise MissingIdError if there are candles in between after all."""
        limit = min(self._most, (until - since) // _MINUTE + 1)
        page, asked = self._page(until - (limit - 1) * _MINUTE, limit)
        missed = [c for c in page if since <= c.opened < until and c.opened not in self._found]
        if missed:
            raise MissingIdError(
                f"{asked} them from {_iso(missed[0].opened)} on, which a page before left out",
                rows=_ends(missed),
            )

    def _page(self, since: int, limit: int) -> tuple[list[Candle], str]:
        """The page oldest first, and the beginning of a message about it."""
        page = self._in_order(self._ask(since, limit))
        asked = f"{self._part}: asked for {limit} candles from {_iso(since)} on, got"
        if page and (page[0].opened >= self._ends or page[-1].opened < self._listed):
            raise OutsidePartitionError(
                f"{asked} them from {_iso(page[0].opened)} to {_iso(page[-1].opened)}; the "
                "exchange may not keep candles so long",
                rows=_ends(page),
            )
        return page, asked

    def _in_order(self, rows: Sequence[Candle]) -> list[Candle]:
        """The rows oldest first, which may come the other way round but always the same way."""
        for row in rows:
            if row.opened % _MINUTE:
                raise OffGridError(
                    f"{self._part}: a candle of {row.opened} (ms) opens on no minute", rows=[row]
                )
        for before, after in pairwise(rows):
            if before.opened == after.opened:
                raise DuplicateIdError(
                    f"{self._part}: the candle of {_iso(after.opened)} is in a page twice",
                    rows=[before, after],
                )
            is_descending = after.opened < before.opened
            if self._is_descending not in (None, is_descending):
                raise UnorderedIdError(
                    f"{self._part}: the candle of {_iso(after.opened)} comes after that of "
                    f"{_iso(before.opened)}, in an order that turns round",
                    rows=[before, after],
                )
            self._is_descending = is_descending
        return list(reversed(rows)) if self._is_descending else list(rows)

    def _keep(self, candle: Candle) -> None:
        if self._starts <= candle.opened < self._ends:
            known = self._found.setdefault(candle.opened, candle)
            if known != candle:
                raise ConflictingDuplicateError(
                    f"{self._part}: the candle of {_iso(candle.opened)} has other content in the "
                    "next page",
                    rows=[known, candle],
                )


def _ends(page: Sequence[Candle]) -> list[Any]:
    return [page[0], page[-1]]


def _iso(opened: int) -> str:
    """For messages; a time that no calendar has stays as it is."""
    try:
        return f"{datetime.fromtimestamp(opened / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):
        return f"{opened} ms"
