"""Coinbase Exchange's face of the sandbox: its pages of trades and its candles, as on the wire.

REST: https://docs.cdp.coinbase.com/exchange/reference/exchangerestapi_getproducttrades, and
`…getproductcandles`. What was traded comes from `world`, what is broken on purpose from `faults`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta

import numpy as np
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from crypto_assets.catalog import Listing
from crypto_assets.sandbox.faults import Faults, Part, Target
from crypto_assets.sandbox.paged import Page, Skew
from crypto_assets.sandbox.world import (
    DAY_US,
    KLINE,
    SCALE,
    TRADE,
    Clock,
    Ints,
    Market,
    Rows,
    World,
    day_start,
)

GRANULARITIES = (60, 300, 900, 3600, 21600, 86400)
_MOST_TRADES, _MOST_CANDLES = 1000, 300
_SECOND_US = 1_000_000


def routes(listings: Sequence[Listing], world: World, clock: Clock, faults: Faults) -> list[Route]:
    """The addresses of trades and candles, for the listings given."""
    face = _Face({listing.symbol: world.market(listing) for listing in listings}, clock, faults)
    return [
        Route("/products/{product}/trades", face.endpoint("trades", face.trades)),
        Route("/products/{product}/candles", face.endpoint("candles", face.candles)),
    ]


class _Face:
    def __init__(self, markets: dict[str, Market], clock: Clock, faults: Faults) -> None:
        self._markets = markets
        self._clock = clock
        self._faults = faults

    def endpoint(
        self, dataset: str, content: Callable[[Request, Market, Target], Response]
    ) -> Callable[[Request], Response]:
        """The endpoint of a dataset, with its errors."""

        def answer(request: Request, target: Target) -> Response:
            try:
                return content(request, self._market(target.symbol), target)
            except HTTPException as error:
                return JSONResponse({"message": error.detail}, error.status_code)

        def endpoint(request: Request) -> Response:
            product = request.path_params["product"]
            target = Target(request.url.path, Part.REST, dataset, product)
            return self._faults.reply(target, lambda: answer(request, target))

        return endpoint

    def trades(self, request: Request, market: Market, target: Target) -> Response:
        """A page of trades, newest first, of ids between `before` and `after`, neither included."""
        limit = _number(request, "limit", _MOST_TRADES)
        if not 1 <= limit <= _MOST_TRADES:
            raise HTTPException(400, "Invalid limit")
        after, before = _number(request, "after", 2**62), _number(request, "before", 0)
        rows = self._older(market, after, limit)
        page = Page(
            rows=rows[rows["id"] > before],
            asked=str(after),
            cursor=str(rows["id"][-1]) if len(rows) else None,
            before=lambda count: _from(self._older(market, after + count, count), after),
        )
        if limit > 1:  # what asks for a single trade is looking one up
            page = self._faults.page(target, page)
        response = JSONResponse(_trades(page.rows, self._faults.skew(target)))
        if len(page.rows):
            response.headers["CB-BEFORE"] = str(page.rows["id"][0])
        if page.cursor is not None:
            response.headers["CB-AFTER"] = page.cursor
        return response

    def candles(self, request: Request, market: Market, target: Target) -> Response:
        """The candles that open from `start` to `end`, and one more that precedes them."""
        seconds = _number(request, "granularity", 60)
        if seconds not in GRANULARITIES:
            raise HTTPException(400, "Unsupported granularity")
        start, end = _instant(request, "start"), _instant(request, "end")
        if start is None or end is None:
            end = self._now() // _SECOND_US
            start = end - _MOST_CANDLES * seconds + 1
        if end - start > _MOST_CANDLES * seconds:
            raise HTTPException(
                400,
                "granularity too small for the requested time range. Count of aggregations "
                f"requested exceeds {_MOST_CANDLES}",
            )
        skew = self._faults.skew(target)
        first, last = (at * _SECOND_US - skew.late_us for at in (start, end))
        days = _days(market.listing, _day_of(first - seconds * _SECOND_US), _day_of(last))
        loaded = [market.klines(day, seconds // 60, self._now()) for day in days]
        rows = np.concatenate([np.empty(0, KLINE), *loaded])
        rows = rows[(rows["count"] > 0) & (rows["open_time"] <= last)]
        inside = rows["open_time"] >= first
        asked = self._faults.candles(target, rows[inside])
        preceding = rows[~inside][-1:] if len(asked) < _MOST_CANDLES else rows[:0]
        return Response(
            _candles(np.concatenate([preceding, asked])[::-1], skew), media_type="application/json"
        )

    def _market(self, product: str | None) -> Market:
        market = self._markets.get(product or "")
        if market is None or day_start(market.listing.since) > self._now():
            raise HTTPException(404, "NotFound")
        return market

    def _now(self) -> int:
        return int(self._clock.now().timestamp()) * _SECOND_US

    def _older(self, market: Market, cursor: int, count: int) -> Rows:
        """The newest trades with a smaller id than the cursor, newest first."""
        found = np.empty(0, TRADE)
        day = min(market.day_of_id(max(cursor - 2, 0)), _day_of(self._now()))
        while day >= market.listing.since and len(found) < count:
            rows = market.trades(day).copy()
            rows["id"] += 1  # ids begin with 1
            rows = rows[(rows["id"] < cursor) & (rows["time"] <= self._now())]
            found = np.concatenate([rows, found])[-count:]
            day -= timedelta(days=1)
        return found[::-1]


def _days(listing: Listing, first: date, last: date) -> list[date]:
    first, last = max(first, listing.since), min(last, listing.until or last)
    return [first + timedelta(days=at) for at in range((last - first).days + 1)]


def _from(rows: Rows, first_id: int) -> Rows:
    return rows[rows["id"] >= first_id]


def _trades(rows: Rows, skew: Skew) -> list[dict[str, object]]:
    # Trailing zeros of a time are left out: "2025-12-31T06:00:12.44524Z".
    times = np.datetime_as_string((rows["time"] + skew.late_us).astype("datetime64[us]"))
    return [
        {
            "trade_id": trade_id,
            "side": "buy" if is_buyer_maker else "sell",
            "size": _fixed(size),
            "price": _fixed(price),
            "time": f"{time.rstrip('0').rstrip('.')}Z",
        }
        for trade_id, is_buyer_maker, size, price, time in zip(
            rows["id"].tolist(),
            rows["is_buyer_maker"].tolist(),
            rows["qty"].tolist(),
            _skewed(rows["price"], skew).tolist(),
            times.tolist(),
            strict=True,
        )
    ]


def _candles(rows: Rows, skew: Skew) -> str:
    """Written by hand: JSON numbers with the digits that they have, not those of a float."""
    opened = ((rows["open_time"] + skew.late_us) // _SECOND_US).tolist()
    prices = [_skewed(rows[name], skew).tolist() for name in ("low", "high", "open", "close")]
    return "[{}]".format(
        ",".join(
            f"[{at},{','.join(map(_shortest, amounts))}]"
            for at, *amounts in zip(opened, *prices, rows["volume"].tolist(), strict=True)
        )
    )


def _skewed(prices: Ints, skew: Skew) -> Ints:
    return prices + prices * skew.price_bps // 10_000


def _fixed(amount: int) -> str:
    """An integer of 1e-8 with all its decimals."""
    return f"{amount // SCALE}.{amount % SCALE:08d}"


def _shortest(amount: int) -> str:
    return _fixed(amount).rstrip("0").rstrip(".")


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not re.fullmatch("[0-9]{1,18}", text):
        raise HTTPException(400, f'Invalid value for "{name}"')
    return int(text)


def _instant(request: Request, name: str) -> int | None:
    """A time parameter in seconds since 1970, sent as such or as ISO 8601."""
    text = request.query_params.get(name)
    if text is None or text.isdecimal():
        return None if text is None else int(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise HTTPException(400, f"Invalid {name}") from error
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())


def _day_of(at: int) -> date:
    return date(1970, 1, 1) + timedelta(days=at // DAY_US)
