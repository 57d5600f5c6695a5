"""Kraken's face of the sandbox: asset pairs, trades and OHLC, as they look on the wire.

https://docs.kraken.com/api-reference/market-data. What was traded comes from `world`, what is
broken on purpose from `faults`. Errors have status 200. Times are nanoseconds; trades of one taker
order share theirs, and are printed as floats of seconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import date, timedelta
from functools import partial
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from crypto_assets.catalog import Listing
from crypto_assets.sandbox.faults import Faults, Part, Target
from crypto_assets.sandbox.paged import Page, Skew
from crypto_assets.sandbox.world import DAY_US, MINUTE_US, TRADE, Clock, Ints, Market, Rows, World

PAGE_LIMIT = 1000
OHLC_MINUTES = 720
CANDLE = np.dtype(
    [(name, np.int64) for name in ("time", "open", "high", "low", "close", "vwap")]
    + [(name, np.int64) for name in ("volume", "count")]
)

# Old assets carry a class prefix (X for coins, Z for money), and pairs of two such ones too.
_COMMON = {"BTC": "XBT", "DOGE": "XDG"}
_OLD = {name: f"X{name}" for name in ("XBT", "XDG", "ETH", "LTC", "XRP", "XLM", "XMR", "ZEC")}
_OLD |= {name: f"Z{name}" for name in ("USD", "EUR", "GBP", "JPY", "CAD", "AUD")}
_LEGACY_KEYS = {"USDTUSD": "USDTZUSD"}
_VOLUME_DECIMALS = 8
_NONE: Rows = np.empty(0, TRADE)


def routes(listings: Sequence[Listing], world: World, clock: Clock, faults: Faults) -> list[Route]:
    """The public addresses of Kraken, for the listings given."""
    face = _Face([_Pair(listing, world.market(listing)) for listing in listings], clock, faults)
    return [
        Route(f"/0/public/{name}", face.endpoint(dataset, content))
        for name, dataset, content in (
            ("Time", "time", face.time),
            ("AssetPairs", "pairs", face.pairs),
            ("Trades", "trades", face.trades),
            ("OHLC", "ohlc", face.candles),
        )
    ]


class _KrakenError(Exception):
    """What the error array says."""


class _Pair:
    """A market under Kraken's names, its trades of any time as they are stamped there."""

    def __init__(self, listing: Listing, market: Market) -> None:
        self.listing = listing
        self.market = market
        self.base, self.quote = (_COMMON.get(asset, asset) for asset in (market.base, market.quote))
        self.altname = f"{self.base}{self.quote}"
        is_old = self.base in _OLD and self.quote in _OLD
        old_key = f"{_OLD.get(self.base)}{_OLD.get(self.quote)}"
        self.key = old_key if is_old else _LEGACY_KEYS.get(self.altname, self.altname)
        self.decimals = market.price_decimals
        self._tick = 10 ** (8 - market.price_decimals)
        self._lot = 10 ** (8 - market.qty_decimals)

    @property
    def names(self) -> set[str]:
        """By what a request may name the pair."""
        return {self.altname, self.key, self.wsname, self.listing.symbol}

    @property
    def wsname(self) -> str:
        """BASE/QUOTE."""
        return f"{self.base}/{self.quote}"

    def trades(self, first_us: int, last_us: int, skew: Skew, *, newest: bool) -> Iterator[Rows]:
        """Trades of every day from one time to another, a day at a time, newest or oldest first."""
        first = max(_day_of(first_us - skew.late_us), self.listing.since)
        last = _day_of(last_us - skew.late_us)
        last = min(last, self.listing.until or last)
        count = max(0, (last - first).days + 1)
        for at in reversed(range(count)) if newest else range(count):
            yield self._rows(first + timedelta(days=at), skew)

    def quote_amounts(self, rows: Rows) -> Ints:
        """Price times size, exactly, in 1e-8."""
        spare = 10 ** (8 - self.market.price_decimals - self.market.qty_decimals)
        amounts: Ints = (rows["price"] // self._tick) * (rows["qty"] // self._lot) * spare
        return amounts

    def _rows(self, day: date, skew: Skew) -> Rows:
        rows = self.market.trades(day)
        if skew.price_bps or skew.late_us:
            rows = rows.copy()
            rows["price"] += rows["price"] * skew.price_bps // 10_000 // self._tick * self._tick
            rows["time"] += skew.late_us
        return rows


class _Face:
    def __init__(self, pairs: Sequence[_Pair], clock: Clock, faults: Faults) -> None:
        self._pairs = pairs
        self._clock = clock
        self._faults = faults

    def endpoint(
        self, dataset: str, content: Callable[[Request, Target], Any]
    ) -> Callable[[Request], Response]:
        """An address with its envelope: a result, or an array of errors."""

        def answer(request: Request, target: Target) -> Response:
            try:
                return JSONResponse({"error": [], "result": content(request, target)})
            except _KrakenError as error:
                return JSONResponse({"error": [str(error)]})

        def endpoint(request: Request) -> Response:
            asked = request.query_params.get("pair", "")
            pair = next((pair for pair in self._pairs if asked in pair.names), None)
            symbol = pair.listing.symbol if pair else asked or None
            target = Target(request.url.path, Part.REST, dataset, symbol)
            return self._faults.reply(target, lambda: answer(request, target))

        return endpoint

    def time(self, _request: Request, _target: Target) -> Any:
        """The present."""
        return {"unixtime": self._now_us() // 1_000_000}

    def pairs(self, request: Request, _target: Target) -> Any:
        """The pairs asked for, or all that are tradable, by their keys."""
        asked = request.query_params.get("pair")
        if asked:
            found = [self._pair(name) for name in asked.split(",")]
        else:
            found = [pair for pair in self._pairs if self._is_listed(pair)]
        return {pair.key: _description(pair) for pair in found}

    def trades(self, request: Request, target: Target) -> Any:
        """The oldest trades after `since` or, without it, the newest."""
        pair, skew = self._pair(request.query_params.get("pair", "")), self._faults.skew(target)
        limit = min(_number(request, "count") or PAGE_LIMIT, PAGE_LIMIT)
        since = _number(request, "since")
        if since is None:
            rows, since = self._last(pair, skew, limit), 0
        else:
            since *= 10**9 if since < 10**11 else 1
            rows = self._first_after(pair, skew, limit, since)
        cursor = int(_nanoseconds(rows)[-1]) if len(rows) else since
        before = partial(self._last, pair, skew, until=since)
        page = self._faults.page(target, Page(rows, str(since), str(cursor), before))
        printed = [
            [
                _decimal(price, 5 if pair.decimals <= 5 else 8),
                _decimal(volume, _VOLUME_DECIMALS),
                time_ns / 1e9,
                "s" if is_sell else "b",
                "m" if trade_id % 3 else "l",
                "",
                trade_id,
            ]
            for price, volume, time_ns, is_sell, trade_id in zip(
                page.rows["price"].tolist(),
                page.rows["qty"].tolist(),
                _nanoseconds(page.rows).tolist(),
                page.rows["is_buyer_maker"].tolist(),
                page.rows["id"].tolist(),
                strict=True,
            )
        ]
        last = {} if page.cursor is None else {"last": page.cursor}
        return {pair.key: printed, **last}

    def candles(self, request: Request, target: Target) -> Any:
        """The newest 720 minutes, and the one that is still forming."""
        pair, skew = self._pair(request.query_params.get("pair", "")), self._faults.skew(target)
        if request.query_params.get("interval", "1") != "1":
            raise _KrakenError("EGeneral:Invalid arguments:interval")
        now = self._now_us()
        forming = now // MINUTE_US * MINUTE_US
        first = forming - OHLC_MINUTES * MINUTE_US
        # A day more, for the close before the first minute.
        days: list[Rows] = [_NONE]
        for rows in pair.trades(0, now, skew, newest=True):
            days.insert(0, rows[rows["time"] <= now])
            if len(rows) and rows["time"][0] < first:
                break
        candles = _candles(pair, np.concatenate(days), first, OHLC_MINUTES + 1)
        done = candles["time"][-2] if len(candles) > 1 else first
        since = (_number(request, "since") or 0) * 1_000_000
        candles = candles[(candles["time"] > since) | (candles["time"] == forming)]
        candles = self._faults.candles(target, candles)
        printed = [
            [
                candle["time"] // 1_000_000,
                *(_decimal(candle[name], pair.decimals) for name in ("open", "high", "low")),
                _decimal(candle["close"], pair.decimals),
                _decimal(candle["vwap"], pair.decimals) if candle["count"] else "0.0",
                _decimal(candle["volume"], _VOLUME_DECIMALS),
                candle["count"],
            ]
            for candle in _dicts(candles)
        ]
        return {pair.key: printed, "last": int(done) // 1_000_000}

    def _now_us(self) -> int:
        return int(self._clock.now().timestamp()) * 1_000_000

    def _is_listed(self, pair: _Pair) -> bool:
        return pair.listing.is_listed_on(self._clock.now().date())

    def _pair(self, name: str) -> _Pair:
        for pair in self._pairs:
            if name in pair.names and self._is_listed(pair):
                return pair
        raise _KrakenError("EQuery:Unknown asset pair")

    def _first_after(self, pair: _Pair, skew: Skew, limit: int, since: int) -> Rows:
        """The oldest trades after a time in ns."""
        now = self._now_us()
        pages = [_NONE]
        for rows in pair.trades(since // 1000, now, skew, newest=False):
            pages.append(rows[(_nanoseconds(rows) > since) & (rows["time"] <= now)])
            if sum(map(len, pages)) >= limit:
                break
        return np.concatenate(pages)[:limit]

    def _last(self, pair: _Pair, skew: Skew, limit: int, until: int | None = None) -> Rows:
        """The newest trades up to a time in ns or, without one, up to now."""
        most = self._now_us() * 1000 if until is None else until
        pages = [_NONE]
        for rows in pair.trades(0, most // 1000, skew, newest=True):
            pages.insert(0, rows[_nanoseconds(rows) <= most])
            if sum(map(len, pages)) >= limit:
                break
        return np.concatenate(pages)[-limit:]


def _candles(pair: _Pair, trades: Rows, first: int, count: int) -> Rows:
    """One-minute candles; a minute without a trade repeats the close before it."""
    opens = first + np.arange(count) * MINUTE_US
    edges = np.searchsorted(trades["time"], np.append(opens, opens[-1] + MINUTE_US))
    starts, ends = edges[:-1], edges[1:]
    exists = ends > 0  # none before the first trade of all
    opens, starts, ends = opens[exists], starts[exists], ends[exists]
    candles = np.zeros(len(opens), CANDLE)
    candles["time"], candles["count"] = opens, ends - starts
    for name in ("open", "high", "low", "close"):
        candles[name] = trades["price"][ends - 1]
    has_traded = ends > starts
    if has_traded.any():
        at = starts[has_traded]
        inside = trades[at[0] : ends[-1]]
        candles["open"][has_traded] = trades["price"][at]
        for name, extreme in (("high", np.maximum), ("low", np.minimum)):
            candles[name][has_traded] = extreme.reduceat(inside["price"], at - at[0])
        volume = np.add.reduceat(inside["qty"], at - at[0])
        amount = np.add.reduceat(pair.quote_amounts(inside), at - at[0])
        candles["volume"][has_traded] = volume
        # Cut off, not rounded: so in all 272 traded minutes of a reply of 2025-11-10.
        candles["vwap"][has_traded] = [
            a * 10**pair.decimals // v * 10 ** (8 - pair.decimals)
            for a, v in zip(amount.tolist(), volume.tolist(), strict=True)
        ]
    return candles


def _dicts(rows: Rows) -> list[dict[str, int]]:
    return [dict(zip(rows.dtype.names or (), row, strict=True)) for row in rows.tolist()]


def _description(pair: _Pair) -> dict[str, Any]:
    return {
        "altname": pair.altname,
        "wsname": pair.wsname,
        "aclass_base": "currency",
        "base": _OLD.get(pair.base, pair.base),
        "aclass_quote": "currency",
        "quote": _OLD.get(pair.quote, pair.quote),
        "lot": "unit",
        "pair_decimals": pair.decimals,
        "lot_decimals": _VOLUME_DECIMALS,
        "lot_multiplier": 1,
        "tick_size": _decimal(10 ** (8 - pair.decimals), pair.decimals),
        "status": "online",
    }


def _nanoseconds(rows: Rows) -> Ints:
    """When trades were made: those of one order at once, far enough from a whole microsecond that
    printing them as floats does not move them into another.
    """
    times: Ints = rows["time"] * 1000 + 200 + rows["time"] * 7919 % 600
    return times


def _decimal(amount: int, decimals: int) -> str:
    """An integer of 1e-8 with so many decimals, which hold it exactly."""
    whole, rest = divmod(amount // 10 ** (8 - decimals), 10**decimals)
    return f"{whole}.{rest:0{decimals}d}"


def _number(request: Request, name: str) -> int | None:
    text = request.query_params.get(name)
    if text is None or re.fullmatch(r"[0-9]{1,19}", text):
        return None if text is None else int(text)
    raise _KrakenError(f"EGeneral:Invalid arguments:{name}")


def _day_of(at: int) -> date:
    return date(1970, 1, 1) + timedelta(days=at // DAY_US)
