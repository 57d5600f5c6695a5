"""What can go wrong at a venue that is read in pages, by name; `faults` switches it on.

A page fault changes one page of trades and a candle fault the candles of one reply. A skew makes a
venue consistently wrong: its trades and candles agree with each other, and only another source can
tell. Faces apply them to what `world` gave, before they print it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from crypto_assets.sandbox.world import Rows

OVERLAPPING = 10
SKIPPED = 3


@dataclass(frozen=True, slots=True)
class Page:
    """One page in the order it is printed.

    `asked` is the cursor that it was asked with, `cursor` the one to go on with (None: left out).
    `before(n)` gives the n rows that the page before ended with, as far as there are so many.
    """

    rows: Rows
    asked: str
    cursor: str | None
    before: Callable[[int], Rows]


@dataclass(frozen=True, slots=True)
class PageFault:
    """Acts on a page of trades."""

    description: str
    act: Callable[[Page], Page]


@dataclass(frozen=True, slots=True)
class CandleFault:
    """Acts on the candles of a reply: an array with the fields high and low, in time order."""

    description: str
    act: Callable[[Rows], Rows]


@dataclass(frozen=True, slots=True)
class Skew:
    """All prices are off by `price_bps`, and all times late by `late_us`."""

    description: str
    price_bps: int = 0
    late_us: int = 0


def _overlap(page: Page) -> Page:
    return replace(page, rows=np.concatenate([page.before(OVERLAPPING), page.rows]))


def _repeat(page: Page) -> Page:
    return replace(page, rows=page.before(len(page.rows)))


def _skip(page: Page) -> Page:
    return replace(page, rows=page.rows[SKIPPED:])


def _reverse(page: Page) -> Page:
    return replace(page, rows=page.rows[::-1])


def _reset(page: Page) -> Page:
    return replace(page, cursor=page.asked)


def _without_cursor(page: Page) -> Page:
    return replace(page, cursor=None)


def _gap(candles: Rows) -> Rows:
    middle = len(candles) // 2
    return np.delete(candles, np.s_[middle : middle + SKIPPED])


def _swapped(candles: Rows) -> Rows:
    swapped = candles.copy()
    if len(candles):
        # The widest one: a candle of one price would look the same.
        at = int(np.argmax(candles["high"] - candles["low"]))
        swapped["high"][at], swapped["low"][at] = candles["low"][at], candles["high"][at]
    return swapped


PAGED: dict[str, PageFault | CandleFault | Skew] = {
    "page_overlap": PageFault(f"a page begins with {OVERLAPPING} rows of the one before", _overlap),
    "page_repeat": PageFault("the page before comes again, though the cursor goes on", _repeat),
    "page_skip": PageFault(f"the first {SKIPPED} rows of a page are missing", _skip),
    "page_reverse": PageFault("the rows of a page are in the opposite order", _reverse),
    "cursor_reset": PageFault("the cursor of a page does not go on", _reset),
    "last_missing": PageFault("a page has no cursor", _without_cursor),
    "candle_gap": CandleFault(f"{SKIPPED} candles are missing in the middle of a reply", _gap),
    "candle_high_below_low": CandleFault("a candle has its high and low exchanged", _swapped),
    "drift": Skew("all prices of the venue are 1 % high", price_bps=100),
    "clock_off": Skew("the venue's clock is a minute fast", late_us=60_000_000),
}
