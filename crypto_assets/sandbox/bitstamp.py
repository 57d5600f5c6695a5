"""Bitstamp's face of the sandbox: its candles and its list of markets, as on the wire.

https://www.bitstamp.net/api (GetOHLCData, GetTradingPairsInfo). It has the markets that the
catalogue collects from it through ccxt. What was traded comes from `world`, what is broken on
purpose from `faults`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from crypto_assets.catalog import Listing
from crypto_assets.sandbox.faults import Faults, Part, Target
from crypto_assets.sandbox.paged import Skew
from crypto_assets.sandbox.world import DAY_US, KLINE, SCALE, Clock, Ints, Market, Rows, World

STEPS = (60, 180, 300, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
_MOST = 1000
_SECOND_US = 1_000_000


def routes(listings: Sequence[Listing], world: World, clock: Clock, faults: Faults) -> list[Route]:
    """The addresses of candles and markets, for those of the listings that are at Bitstamp."""
    markets = {
        listing.symbol.replace("/", "").lower(): (
            listing.symbol,
            world.market(replace(listing, venue=listing.exchange, market=listing.pair)),
        )
        for listing in listings
        if listing.exchange == "bitstamp"
    }
    face = _Face(markets, clock, faults)
    return [
        Route("/api/v2/markets/", face.markets),
        Route("/api/v2/ohlc/{pair}/", face.candles),
    ]


class _Face:
    def __init__(
        self, markets: dict[str, tuple[str, Market]], clock: Clock, faults: Faults
    ) -> None:
        self._markets = markets
        self._clock = clock
        self._faults = faults

    def markets(self, request: Request) -> Response:
        """All markets, listed by now or not."""
        target = Target(request.url.path, Part.REST, "markets")
        described = [
            _described(pair, symbol, market) for pair, (symbol, market) in self._markets.items()
        ]
        return self._faults.reply(target, lambda: JSONResponse(described))

    def candles(self, request: Request) -> Response:
        """The newest `limit` candles that open until `end`, oldest first; quiet minutes too.

        `start` counts only without `end`: a recorded reply to a request with both begins before it
        (daily candles until 2020-01-01, asked for from 2019-01-01 on, begin in April 2017).
        """
        symbol, market = self._markets.get(request.path_params["pair"], (None, None))
        target = Target(request.url.path, Part.REST, "candles", symbol)

        def answer() -> Response:
            try:
                rows = self._faults.candles(target, self._rows(request, market, target))
            except HTTPException as error:
                body = {"status": "error", "reason": error.detail}
                return JSONResponse(body, error.status_code)
            printed = _candles(rows, self._faults.skew(target))
            return JSONResponse({"data": {"ohlc": printed, "pair": symbol}})

        return self._faults.reply(target, answer)

    def _rows(self, request: Request, market: Market | None, target: Target) -> Rows:
        if market is None:
            raise HTTPException(404, "Invalid market symbol.")
        step, limit = _number(request, "step"), _number(request, "limit")
        if step not in STEPS or not 1 <= limit <= _MOST:
            raise HTTPException(400, f"step is one of {STEPS}, limit from 1 to {_MOST}")
        now = int(self._clock.now().timestamp())
        start, end = _number(request, "start", 0), _number(request, "end", 0)
        last = min(end or (start + step * limit - 1 if start else now), now)
        last = last * _SECOND_US - self._faults.skew(target).late_us
        first, until = (_day_of(at) for at in (last - step * limit * _SECOND_US, last))
        day, until = max(first, market.listing.since), min(until, market.listing.until or until)
        loaded = [np.empty(0, KLINE)]
        while day <= until:
            loaded.append(market.klines(day, step // 60, now * _SECOND_US))
            day += timedelta(days=1)
        rows = np.concatenate(loaded)
        return rows[rows["open_time"] <= last][-limit:]


def _described(pair: str, symbol: str, market: Market) -> dict[str, object]:
    return {
        "name": symbol,
        "market_symbol": pair,
        "base_currency": market.base,
        "base_decimals": 8,
        "counter_currency": market.quote,
        "counter_decimals": market.price_decimals,
        "minimum_order_value": "10",
        "trading": "Enabled",
        "instant_order_counter_decimals": market.price_decimals,
        "instant_and_market_orders": "Enabled",
        "description": f"{market.base} / {market.quote}",
        "market_type": "SPOT",
    }


def _candles(rows: Rows, skew: Skew) -> list[dict[str, str]]:
    """Strings throughout, prices with the decimals of the market and volumes with eight."""
    opened = ((rows["open_time"] + skew.late_us) // _SECOND_US).tolist()
    prices = {name: _skewed(rows[name], skew) for name in ("close", "high", "low", "open")}
    return [
        {
            **{name: _shortest(int(amounts[at])) for name, amounts in prices.items()},
            "timestamp": str(opened[at]),
            "volume": _fixed(int(rows["volume"][at])),
        }
        for at in range(len(rows))
    ]


def _skewed(prices: Ints, skew: Skew) -> Ints:
    return prices + prices * skew.price_bps // 10_000


def _fixed(amount: int) -> str:
    """An integer of 1e-8 with all its decimals."""
    return f"{amount // SCALE}.{amount % SCALE:08d}"


def _shortest(amount: int) -> str:
    """A price as Bitstamp prints it: with two decimals at least (1197.30)."""
    whole, _, decimals = _fixed(amount).partition(".")
    return f"{whole}.{decimals.rstrip('0'):0<2}"


def _number(request: Request, name: str, default: int | None = None) -> int:
    text = request.query_params.get(name)
    if text is None and default is not None:
        return default
    if not re.fullmatch("[0-9]{1,11}", text or ""):
        raise HTTPException(400, f"{name}: a number is required.")
    return int(text or "")


def _day_of(at: int) -> date:
    return date(1970, 1, 1) + timedelta(days=at // DAY_US)
