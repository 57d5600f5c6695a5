"""The sandbox's seeded world: a latent USD price per asset, and venues that trade around it.

What is here is true, whatever a venue's face prints: trades with contiguous ids, and candles that
are exact sums of them. Wire formats live in the face of each venue, damage in `faults`.
Everything is integers, drawn from bit generators (the part of numpy.random whose streams never
change) and cheap to reach for any day: no earlier day is generated to know a later one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crypto_assets.catalog import Listing

Ints = NDArray[np.int64]
Rows = NDArray[Any]

SCALE = 10**8  # prices and sizes are integers of 1e-8, the digits that Binance prints
MINUTE_US = 60_000_000
DAY_MINUTES = 1440
DAY_US = DAY_MINUTES * MINUTE_US
EPOCH = date(2000, 1, 1)
DAYS = 25_000  # the world ends in 2068

# Trades are stamped in whole milliseconds before this day and in microseconds from it on.
MICROSECONDS_SINCE = date(2025, 1, 1)

TRADE = np.dtype(
    [(name, np.int64) for name in ("id", "price", "qty", "quote_qty", "time")]
    + [("is_buyer_maker", np.bool_)]
)
AGGREGATE = np.dtype(
    [(name, np.int64) for name in ("id", "price", "qty", "first_id", "last_id", "time")]
    + [("is_buyer_maker", np.bool_)]
)
KLINE = np.dtype(
    [(name, np.int64) for name in ("open_time", "open", "high", "low", "close", "volume")]
    + [(name, np.int64) for name in ("close_time", "quote_volume", "count")]
    + [(name, np.int64) for name in ("taker_buy_volume", "taker_buy_quote_volume")]
)

# Minutes of the day for which a venue stopped matching, half-open. That of Binance is a real one:
# its archive of 2023-03-24 has 1360 klines.
HALTS = {"binance": {date(2023, 3, 24): (12 * 60 + 40, 14 * 60)}}

_ONE = 10**9  # a latent level is this many parts of the asset's reference price
_REFERENCE_USD = {"BTC": Decimal(40_000), "ETH": Decimal(2_500), "USD": Decimal(1)}
_STABLE = frozenset({"USDC", "USDT", "DAI", "FDUSD", "TUSD", "BUSD", "USDP", "PYUSD", "USDE"})
_MEAN_REVERSION_DAYS = 128


class World:
    """One seeded world. Two of the same seed and density are equal, on any machine."""

    def __init__(self, seed: int = 0, trades_per_day: int = 5_000) -> None:
        if trades_per_day < 10:
            raise ValueError(f"trades_per_day must be at least 10, not {trades_per_day}")
        self.seed = seed
        self.trades_per_day = trades_per_day
        self._closing_levels: Callable[[str], Ints] = lru_cache(maxsize=None)(
            self._draw_closing_levels
        )
        self._levels: Callable[[str, int], Ints] = lru_cache(maxsize=64)(self._draw_levels)

    def market(self, listing: Listing) -> Market:
        """The market of a listing: its grid, its ids and its trades of any day."""
        return Market(self, listing)

    def levels(self, asset: str, day: date) -> Ints:
        """Latent levels at the 1441 minute borders of a day, in parts of 1e-9 of the reference.

        The last level of a day is the first one of the next.
        """
        return self._levels(asset, day_index(day))

    def level(self, asset: str, at: int) -> int:
        """The latent level at a second since 1970, in parts of 1e-9 of the reference."""
        index, since_start = divmod(at, 86_400)
        minute, second = divmod(since_start, 60)
        before, after = self.levels(asset, date(1970, 1, 1) + timedelta(days=index))[
            minute : minute + 2
        ].tolist()
        return int(before + (after - before) * second // 60)

    def usd(self, asset: str, at: int) -> int:
        """What an asset is worth at a second since 1970, in 1e-8 USD; at least 1."""
        return max(1, int(reference_usd(asset) * SCALE) * self.level(asset, at) // _ONE)

    def draw(self, *key: object, count: int, below: int) -> Ints:
        """`count` integers in [0, below), the same for the same key for ever."""
        digest = hashlib.sha256("/".join(map(str, (self.seed, *key))).encode()).digest()
        raw = np.random.Philox(key=int.from_bytes(digest[:16], "big")).random_raw(count)
        return np.asarray(raw % np.uint64(below), dtype=np.int64)

    def _draw_closing_levels(self, asset: str) -> Ints:
        width = _daily_move(asset)
        moves = self.draw("days", asset, count=DAYS + 2, below=2 * width + 1) - width
        # Reversion to the reference keeps every asset within a plausible range for ever.
        walk = accumulate(moves.tolist(), lambda x, move: x - x // _MEAN_REVERSION_DAYS + move)
        limit = _ONE * 7 // 10
        return np.clip(np.fromiter(walk, np.int64, DAYS + 2), -limit, limit) + _ONE

    def _draw_levels(self, asset: str, index: int) -> Ints:
        start, end = self._closing_levels(asset)[index : index + 2].tolist()
        width = _daily_move(asset) // 38  # the square root of 1440
        moves = self.draw("minutes", asset, index, count=DAY_MINUTES, below=2 * width + 1) - width
        walk = np.concatenate(([0], np.cumsum(moves)))
        bridge = np.arange(DAY_MINUTES + 1) * (end - start - int(walk[-1])) // DAY_MINUTES
        levels: Ints = start + walk + bridge
        return levels


class Market:
    """One listing's market. Arrays are of the dtypes TRADE, AGGREGATE and KLINE, in id order."""

    def __init__(self, world: World, listing: Listing) -> None:
        self.listing = listing
        self.base, self.quote = listing.market.split("-")
        self._world = world
        ratio = reference_usd(self.base) / reference_usd(self.quote)
        self.price_decimals = min(8, max(2, 5 - ratio.adjusted()))
        self.qty_decimals = min(5, 8 - self.price_decimals)
        self._reference_ticks = float(ratio * 10**self.price_decimals)
        self._key = (listing.venue, listing.market)
        # Venues differ by up to 2 bps in level and 1 bp in half spread.
        self._premium = int(self._draw("premium", count=1, below=400_001)[0]) - 200_000
        self._half_spread = (10_000 + int(self._draw("spread", count=1, below=90_000)[0])) / _ONE
        self._opening_minute = 60 * (1 + int(self._draw("opening", count=1, below=12)[0]))
        self._counts = self._daily_counts()
        self._first_ids = np.concatenate(([0], np.cumsum(self._counts)))
        self._first_aggregate_ids = np.concatenate(
            ([0], np.cumsum(self._counts - _same_price_fills(self._counts)))
        )
        self.trades: Callable[[date], Rows] = lru_cache(maxsize=2)(self._draw_trades)

    def first_id(self, day: date) -> int:
        """The id of a day's first trade: one more than the last of the day before."""
        return int(self._first_ids[day_index(day)])

    def day_of_id(self, trade_id: int) -> date:
        """The day that a trade id falls on."""
        return _day_of(self._first_ids, trade_id)

    def day_of_aggregate_id(self, aggregate_id: int) -> date:
        """The day that the id of an aggregate trade falls on."""
        return _day_of(self._first_aggregate_ids, aggregate_id)

    def aggregates(self, day: date) -> Rows:
        """Fills of one taker order at one price, merged as Binance's aggTrades are."""
        trades = self.trades(day)
        is_first = np.ones(len(trades), np.bool_)
        is_first[1:] = np.logical_or.reduce(
            [np.diff(trades[name].astype(np.int64)) != 0 for name in ("time", "price")]
            + [np.diff(trades["is_buyer_maker"])]
        )
        starts = np.flatnonzero(is_first)
        merged = np.empty(len(starts), AGGREGATE)
        for name in ("price", "time", "is_buyer_maker"):
            merged[name] = trades[name][starts]
        merged["id"] = self._first_aggregate_ids[day_index(day)] + np.arange(len(starts))
        merged["first_id"] = trades["id"][starts]
        merged["last_id"] = np.append(trades["id"][starts[1:]] - 1, trades["id"][-1:])
        merged["qty"] = np.add.reduceat(trades["qty"], starts) if len(starts) else 0
        return merged

    def klines(self, day: date, minutes: int = 1, until: int | None = None) -> Rows:
        """The venue's candles of a day, of an interval that divides it, up to a time (µs).

        A minute without a trade repeats the close before it with volume zero; a minute of a halt,
        and one before the first trade of the listing, has no candle.
        """
        trades, start = self.trades(day), day_start(day)
        if until is not None:
            trades = trades[trades["time"] <= until]
        width = minutes * MINUTE_US
        opens = start + np.arange(DAY_MINUTES // minutes) * width
        edges = np.searchsorted(trades["time"], np.append(opens, start + DAY_US))
        first, end = edges[:-1], edges[1:]
        traded = end > first

        previous = self._close_before(day) if not traded[0] else 0
        prices = np.concatenate(([previous], trades["price"]))
        candles = np.empty(len(opens), KLINE)
        candles["open_time"], candles["close_time"] = opens, opens + width - 1
        for name in ("open", "high", "low", "close"):
            candles[name] = prices[end]
        if traded.any():
            at = first[traded]
            candles["open"][traded] = trades["price"][at]
            candles["high"][traded] = np.maximum.reduceat(trades["price"], at)
            candles["low"][traded] = np.minimum.reduceat(trades["price"], at)
        candles["count"] = end - first
        taker_bought = ~trades["is_buyer_maker"]
        for name, of in (("volume", "qty"), ("quote_volume", "quote_qty")):
            for prefix, amount in (("", trades[of]), ("taker_buy_", trades[of] * taker_bought)):
                sums = np.concatenate(([0], np.cumsum(amount)))
                if (sums[1:] < sums[:-1]).any():
                    raise OverflowError(f"{self.listing.market} {day}: too many trades a day")
                candles[prefix + name] = sums[end] - sums[first]

        exists = self._is_open(day).reshape(-1, minutes).any(axis=1)
        if until is not None:
            exists &= opens <= until
        if day == self.listing.since:
            exists &= end > 0
        return candles[exists]

    def _draw(self, *key: object, count: int, below: int) -> Ints:
        return self._world.draw(*self._key, *key, count=count, below=below)

    def _daily_counts(self) -> Ints:
        mean = self._world.trades_per_day
        counts = mean * 4 // 5 + self._draw("counts", count=DAYS, below=mean * 2 // 5 + 1)
        since = day_index(self.listing.since)
        counts[since] = counts[since] * (DAY_MINUTES - self._opening_minute) // DAY_MINUTES
        counts[:since] = 0
        if self.listing.until is not None:
            counts[day_index(self.listing.until) + 1 :] = 0
        return counts

    def _is_open(self, day: date) -> NDArray[np.bool_]:
        is_open = np.full(DAY_MINUTES, self.listing.is_listed_on(day))
        if day == self.listing.since:
            is_open[: self._opening_minute] = False
        halted, resumed = HALTS.get(self.listing.venue, {}).get(day, (0, 0))
        is_open[halted:resumed] = False
        return is_open

    def _close_before(self, day: date) -> int:
        if not self.listing.is_listed_on(day - timedelta(days=1)):
            return 0
        return int(self.trades(day - timedelta(days=1))["price"][-1])

    def _draw_trades(self, day: date) -> Rows:
        index = day_index(day)
        count = int(self._counts[index])
        trades = np.empty(count, TRADE)
        if count == 0:
            return trades
        trades["id"] = self._first_ids[index] + np.arange(count)

        # A quarter of the trades continue the taker order of the trade before them, half of these
        # at the same price, the others one tick deeper. The numbers are exact, so that ids of
        # aggregate trades are known for every day without generating any.
        same, deeper = _same_price_fills(count), count // 4
        places = 1 + np.argsort(self._draw("orders", index, count=count - 1, below=2**62))
        is_deeper = np.zeros(count, np.bool_)
        is_deeper[places[same:deeper]] = True
        starts_order = np.ones(count, np.bool_)
        starts_order[places[:deeper]] = False
        order = np.cumsum(starts_order) - 1
        depth: Ints = np.cumsum(is_deeper, dtype=np.int64)
        depth = depth - depth[starts_order][order]

        since_start = self._order_times(day, index, int(order[-1]) + 1)
        is_sell = self._draw("sides", index, count=len(since_start), below=2) == 1
        ticks = self._order_ticks(day, since_start, is_sell, int(depth.max()))
        price = ticks[order] + np.where(is_sell[order], -depth, depth)

        # The product of three uniforms: a median order of 700 USD, a largest of 10,000.
        raw = self._draw("sizes", index, count=count, below=10**9)
        cents = (raw // 10**6 + 1) * (raw // 1000 % 1000 + 1) * (raw % 1000 + 1) // 1000
        in_quote = cents / 100 / float(reference_usd(self.quote))
        lots = in_quote / price * 10 ** (self.price_decimals + self.qty_decimals)
        lots = np.maximum(np.rint(lots), 1).astype(np.int64)

        spare = 10 ** (8 - self.price_decimals - self.qty_decimals)
        trades["price"] = price * 10 ** (8 - self.price_decimals)
        trades["qty"] = lots * 10 ** (8 - self.qty_decimals)
        trades["quote_qty"] = price * lots * spare
        trades["time"] = day_start(day) + since_start[order]
        trades["is_buyer_maker"] = is_sell[order]
        trades.flags.writeable = False
        return trades

    def _order_times(self, day: date, index: int, orders: int) -> Ints:
        """When each order arrives, in µs of the day: strictly increasing, a few minutes quiet."""
        minutes = np.flatnonzero(self._is_open(day))
        quiet = self._draw("quiet", index, count=6, below=len(minutes) - 1)
        minutes = np.delete(minutes, np.unique(quiet) + 1)  # the first open minute trades
        tick = 1 if day >= MICROSECONDS_SINCE else 1000
        per_minute = MINUTE_US // tick
        # One order in each of as many equal slots: strictly increasing, and no minute without a
        # trade but the quiet ones once there are two slots a minute.
        span = len(minutes) * per_minute
        at = np.arange(orders) * span // orders
        at += self._draw("times", index, count=orders, below=span // orders)
        return minutes[at // per_minute] * MINUTE_US + at % per_minute * tick

    def _order_ticks(self, day: date, since_start: Ints, is_sell: Rows, deepest: int) -> Ints:
        base, quote = (
            _at(self._world.levels(asset, day), since_start) for asset in (self.base, self.quote)
        )
        mid = (base + self._premium) / quote * self._reference_ticks
        half_spread = np.maximum(np.rint(mid * self._half_spread), 1)
        ticks = np.rint(mid + np.where(is_sell, -half_spread, half_spread)).astype(np.int64)
        return np.maximum(ticks, 1 + deepest)


@dataclass
class Clock:
    """What time it is in the sandbox: the real UTC time, or noon of `fixed` so that runs repeat."""

    fixed: date | None = None

    def now(self) -> datetime:
        """The present, UTC."""
        if self.fixed is None:
            return datetime.now(UTC)
        return datetime.combine(self.fixed, time(12), UTC)


def reference_usd(asset: str) -> Decimal:
    """Around which USD price an asset's latent path lives; for an unknown name, from its hash."""
    if asset in _STABLE:
        return Decimal(1)
    if asset in _REFERENCE_USD:
        return _REFERENCE_USD[asset]
    digest = hashlib.sha256(asset.encode()).digest()
    return Decimal(100 + int.from_bytes(digest[:4], "big") % 900).scaleb(-(digest[4] % 4) - 1)


def day_index(day: date) -> int:
    """How many days after the world's first one; ValueError outside of the world."""
    index = (day - EPOCH).days
    if not 0 <= index < DAYS:
        raise ValueError(f"the sandbox has no {day}: its days begin at {EPOCH}, {DAYS} in all")
    return index


def day_start(day: date) -> int:
    """Midnight UTC in µs since 1970."""
    return (day - date(1970, 1, 1)).days * DAY_US


def _daily_move(asset: str) -> int:
    if asset == "USD":
        return 0
    return 300_000 if asset in _STABLE else 40_000_000


def _at(levels: Ints, since_start: Ints) -> Ints:
    minute, rest = np.divmod(since_start, MINUTE_US)
    here = levels[minute]
    between: Ints = here + (levels[minute + 1] - here) * rest // MINUTE_US
    return between


def _same_price_fills(count: Any) -> Any:
    return count // 8


def _day_of(first_ids: Ints, wanted: int) -> date:
    index = int(np.searchsorted(first_ids, wanted, side="right")) - 1
    return EPOCH + timedelta(days=max(0, min(index, DAYS - 1)))
