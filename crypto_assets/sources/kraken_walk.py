"""Following Kraken's trades from before a day to after it, and holding the pages to each other.

Pure: pages in, claims or errors out. The cursor `last` is the time of a page's last trade and, by
the documents, exclusive. It can therefore cut between trades of one instant: those are found by a
page that spans the border. Any other hole that such a page does not have was a page that skipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import pyarrow as pa

from crypto_assets.catalog import MarketDay
from crypto_assets.errors import (
    ClockJumpError,
    ConflictingDuplicateError,
    DuplicateIdError,
    MissingIdError,
    StuckCursorError,
    UnorderedIdError,
)
from crypto_assets.sources.columns import micros
from crypto_assets.sources.kraken_rows import (
    Trade,
    TradesPage,
    batch_of_trades,
    trades_of_rows,
)

# Kraken's most and default for one page.
PAGE_LIMIT = 1000
# How far a cursor may lie past the time that is printed of a page's last trade. Times are printed
# to 0.1 µs now, but were to 0.1 ms once (ccxt #4617).
_PRINTED_NS = 1_000_000


class Walk:
    """What is known of a day after each page; `take` pages in order until `is_over`.

    `row_count` counts the day's trades by the pages, before any of them becomes a column.
    """

    def __init__(self, part: MarketDay, now_us: int) -> None:
        self._part = part
        self._now_ns = now_us * 1000
        self._starts_ns, self._ends_ns = (
            micros(at) * 1000 for at in (part.starts_at, part.ends_at)
        )
        self._recent: dict[int, Trade] = {}
        self.last: Trade | None = None
        self.row_count = 0
        self.is_over = False
        self.saw_before = False
        self.mended: dict[int, list[Trade]] = {}
        """Trades that a cursor cut off, by the id of the trade that they come before."""

    def take(self, page: TradesPage, asked: str) -> Trade | None:
        """Add a page that was asked with that cursor.

        Returns its first new trade if ids are missing before it, which `mend` must then explain.
        Raises for pages that repeat, run backwards or lead nowhere.
        """
        trades = trades_of_rows(page.rows, self._part)
        self._check_order(trades)
        fresh = self._fresh(trades)
        leads_on = int(page.last) > int(asked)
        if not fresh:
            if trades and leads_on:
                raise DuplicateIdError(
                    f"{self._part}: the page from cursor {asked} on holds nothing but trades that "
                    f"came before, up to {trades[-1].trade_id}, though its cursor goes on",
                    rows=[trades[0], trades[-1]],
                )
            if len(trades) >= PAGE_LIMIT:
                raise self._stuck(page, asked)
            return None
        if not leads_on:
            raise self._stuck(page, asked)
        if int(page.last) > trades[-1].time_ns + _PRINTED_NS:
            raise MissingIdError(
                f"{self._part}: the page from cursor {asked} on ends with trade "
                f"{trades[-1].trade_id} at {trades[-1].time_ns} ns, but its cursor {page.last} "
                "lies beyond: trades would be left out",
                last=page.last,
                rows=[trades[-1]],
            )
        before, self.last = self.last, fresh[-1]
        self._recent = {trade.trade_id: trade for trade in trades}
        self._count(fresh)
        self.is_over = fresh[-1].time_ns >= self._ends_ns
        self.saw_before |= fresh[0].time_ns < self._starts_ns
        if before is not None and fresh[0].trade_id > before.trade_id + 1:
            self._recent[before.trade_id] = before
            return fresh[0]
        return None

    def mend(self, before: Trade, after: Trade, border: TradesPage) -> None:
        """Explain the ids between two pages by a page that spans their border.

        Those that it does not have either, the venue never gave out. Raises MissingIdError if it
        has others than those of the instant where the cursor cut.
        """
        trades = trades_of_rows(border.rows, self._part)
        self._check_order(trades, alone=True)
        ids = {trade.trade_id for trade in trades}
        between = [t for t in trades if before.trade_id < t.trade_id < after.trade_id]
        if not {before.trade_id, after.trade_id} <= ids:
            problem = "a page across the border does not hold both"
        elif any(trade.time_ns != before.time_ns for trade in between):
            problem = f"{len(between)} of those in between exist: the page skipped them"
        else:
            if between:
                self.mended[after.trade_id] = between
                self._count(between)
            return
        raise MissingIdError(
            f"{self._part}: a page goes on with trade {after.trade_id} where the one before ended "
            f"with {before.trade_id}, and {problem}",
            rows=[before, after, *between[:3]],
        )

    def is_up_to(self, newest: Trade | None) -> bool:
        """Whether no trade came after what was seen, so that the day needs no later one."""
        if newest is None:
            return True
        if self.last is None:
            return newest.time_ns < self._starts_ns
        return newest.trade_id <= self.last.trade_id

    def check_moved_from(self, before: Trade | None) -> None:
        """A page that was asked for because later trades exist must have some."""
        if self.last is before:
            raise MissingIdError(
                f"{self._part}: Kraken has trades after {before and before.trade_id} but gives no "
                "page of them, twice in a row",
                rows=[before],
            )

    def checks(self) -> dict[str, str]:
        """The claims that hold once the walk has ended."""
        return {
            "values_are_possible": "passed",
            "pages_join": "passed",
            "day_begins_after_a_trade": "passed" if self.saw_before else "none in the month before",
            "day_ends_before_a_trade": "passed" if self.is_over else "none came later",
        }

    def _check_order(self, trades: Sequence[Trade], *, alone: bool = False) -> None:
        for one, other in pairwise(trades):
            self._check_step(one, other)
        newest = trades[-1] if trades else None
        if newest is not None and newest.time_ns > self._now_ns:
            raise ClockJumpError(
                f"{self._part}: trade {newest.trade_id} is stamped {newest.time_ns} ns, which is "
                "still to come; the venue's clock is wrong, or this machine's is",
                rows=[newest],
            )
        following = [t for t in trades if self.last and t.trade_id > self.last.trade_id]
        if self.last is not None and following and not alone:
            self._check_step(self.last, following[0])

    def _check_step(self, one: Trade, other: Trade) -> None:
        where = f"{self._part}: trade {other.trade_id}"
        if other.trade_id == one.trade_id:
            if other == one:
                raise DuplicateIdError(f"{where} is there twice on a page", rows=[one])
            raise ConflictingDuplicateError(
                f"{where} is there twice on a page, with other content", rows=[one, other]
            )
        if other.trade_id < one.trade_id:
            raise UnorderedIdError(
                f"{where} comes after {one.trade_id} on a page", rows=[one, other]
            )
        if other.time_ns < one.time_ns:
            raise ClockJumpError(
                f"{where} is stamped {one.time_ns - other.time_ns} ns before trade {one.trade_id}, "
                "which came first",
                rows=[one, other],
            )

    def _fresh(self, trades: Sequence[Trade]) -> list[Trade]:
        if self.last is None:
            return [*trades]
        for trade in trades:
            known = self._recent.get(trade.trade_id, trade)
            if known != trade:
                raise ConflictingDuplicateError(
                    f"{self._part}: trade {trade.trade_id} came again, with other content",
                    rows=[known, trade],
                )
        return [trade for trade in trades if trade.trade_id > self.last.trade_id]

    def _count(self, trades: Iterable[Trade]) -> None:
        self.row_count += sum(self._starts_ns <= t.time_ns < self._ends_ns for t in trades)

    def _stuck(self, page: TradesPage, asked: str) -> StuckCursorError:
        return StuckCursorError(
            f"{self._part}: asked for trades after {asked}, Kraken gave {len(page.rows)} and the "
            f"cursor {page.last}, which does not lead on",
            asked=asked,
            last=page.last,
        )


def trades_of_pages(
    pages: Iterable[TradesPage], mended: dict[int, list[Trade]], part: MarketDay
) -> Iterator[pa.RecordBatch]:
    """The day's trades, a page at a time, each once and in the order of their ids."""
    starts, ends = micros(part.starts_at), micros(part.ends_at)
    last_id: int | None = None
    for page in pages:
        trades = trades_of_rows(page.rows, part)
        fresh = [t for t in trades if last_id is None or t.trade_id > last_id]
        if not fresh:
            continue
        last_id = fresh[-1].trade_id
        fresh = [*mended.get(fresh[0].trade_id, ()), *fresh]
        if of_day := [trade for trade in fresh if starts <= trade.time_us < ends]:
            yield batch_of_trades(of_day, part)
