"""Binance's face of the sandbox: its public archive and its spot REST, as they look on the wire.

Archive: https://github.com/binance/binance-public-data
REST: https://github.com/binance/binance-spot-api-docs/blob/master/rest-api.md
What was traded comes from `world`, what is broken on purpose from `faults`. Intervals are those
that divide a day.
"""

from __future__ import annotations

import hashlib
import io
import re
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from email.utils import format_datetime
from functools import lru_cache
from time import monotonic
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from crypto_assets.catalog import Listing
from crypto_assets.sandbox.archive import zip_bytes
from crypto_assets.sandbox.faults import Faults, Part, RowFault, Target
from crypto_assets.sandbox.world import (
    DAY_US,
    MICROSECONDS_SINCE,
    SCALE,
    Clock,
    Ints,
    Market,
    Rows,
    World,
    day_start,
)

INTERVAL_MINUTES = {
    **{f"{minutes}m": minutes for minutes in (1, 3, 5, 15, 30)},
    **{f"{hours}h": hours * 60 for hours in (1, 2, 4, 6, 8, 12)},
    "1d": 1440,
}
REST_WEIGHTS = {
    "time": 1,
    "exchangeInfo": 20,
    "klines": 2,
    "aggTrades": 4,
    "trades": 25,
    "historicalTrades": 25,
}
TRADE_KEYS = ("id", "price", "qty", "quoteQty", "time", "isBuyerMaker", "isBestMatch")
AGGREGATE_KEYS = ("a", "p", "q", "f", "l", "T", "m", "M")
_REST_LIMIT, _REST_LIMIT_MAX = 500, 1000
# A time parameter may be sent in either unit; no millisecond of this millennium is as large.
_SMALLEST_MICROSECOND = 10**14

Markets = dict[str, Market]
Columns = list[Any]


def routes(listings: Sequence[Listing], world: World, clock: Clock, faults: Faults) -> list[Route]:
    """All addresses of the archive and of REST, for the listings given."""
    markets = {listing.symbol: world.market(listing) for listing in listings}
    archive, rest = _Archive(markets, clock, faults), _Rest(markets, clock, faults)
    return [
        Route("/data/spot/daily/trades/{symbol}/{file}", archive.answer),
        Route("/data/spot/daily/klines/{symbol}/{interval}/{file}", archive.answer),
        *(Route(f"/api/v3/{name}", rest.endpoint(name)) for name in REST_WEIGHTS),
    ]


class _File(NamedTuple):
    name: str
    body: bytes
    sha256: str


class _Archive:
    def __init__(self, markets: Markets, clock: Clock, faults: Faults) -> None:
        self._markets = markets
        self._clock = clock
        self._faults = faults
        # A client asks for the checksum and the zip one after the other.
        self._sound_file = lru_cache(maxsize=8)(_file)

    def answer(self, request: Request) -> Response:
        """A zip or its checksum file; 404 for what the venue has not, or not yet, published."""
        symbol, interval = request.path_params["symbol"], request.path_params.get("interval")
        kind = interval or "trades"
        file = re.fullmatch(
            rf"{re.escape(f'{symbol}-{kind}-')}(\d{{4}}-\d\d-\d\d)\.zip(\.CHECKSUM)?",
            request.path_params["file"],
        )
        try:
            target = Target(
                address=request.url.path,
                part=Part.CHECKSUM if file and file[2] else Part.ZIP,
                dataset="klines" if interval else "trades",
                symbol=symbol,
                day=_date(file[1]) if file else None,
            )
            return self._faults.reply(target, lambda: self._sound_answer(request, target, kind))
        except HTTPException:
            return _no_such_key(request.scope["path"].lstrip("/"))

    def _sound_answer(self, request: Request, target: Target, kind: str) -> Response:
        market, day = self._markets.get(target.symbol or ""), target.day
        if (
            market is None
            or day is None
            or not market.listing.is_listed_on(day)
            or day >= self._clock.now().date()
            or kind not in ("trades", *INTERVAL_MINUTES)
        ):
            raise HTTPException(404)
        damage = self._faults.damage(target)
        file = (_file if damage else self._sound_file)(market, day, kind, damage)
        published_at = datetime.combine(day, time(2, 6), UTC) + timedelta(days=1)
        headers = {
            "Last-Modified": format_datetime(published_at, usegmt=True),
            "Accept-Ranges": "bytes",
        }
        if target.part is Part.ZIP:
            return _ranged(request, file.body, headers, "application/zip")
        body = f"{file.sha256}  {file.name}\n".encode()
        return _ranged(request, body, headers, "binary/octet-stream")


def _file(market: Market, day: date, kind: str, damage: tuple[Any, ...]) -> _File:
    unit = 1 if day >= MICROSECONDS_SINCE else 1000
    if kind == "trades":
        dataset, columns = "trades", _trade_columns(market.trades(day), unit)
    else:
        candles = market.klines(day, INTERVAL_MINUTES[kind])
        dataset, columns = "klines", _kline_columns(candles, unit)
    content, zipped = _csv(columns), zip_bytes
    for fault in damage:
        if isinstance(fault, RowFault):
            rows = fault.act([line.split(",") for line in content.decode().splitlines()], dataset)
            content = "".join(f"{','.join(row)}\n" for row in rows).encode()
        else:
            zipped = fault.act
    name = f"{market.listing.symbol}-{kind}-{day}"
    body = zipped([(f"{name}.csv", content)])
    return _File(f"{name}.zip", body, hashlib.sha256(body).hexdigest())


def _ranged(request: Request, body: bytes, headers: dict[str, str], media_type: str) -> Response:
    headers["ETag"] = etag = f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("Range", ""))
    if asked is None or asked[0] == "bytes=-" or request.headers.get("If-Range", etag) != etag:
        return Response(body, 200, headers, media_type)
    last = len(body) - 1
    if asked[1]:
        first, last = int(asked[1]), min(int(asked[2] or last), last)
    else:
        first = max(0, len(body) - int(asked[2]))
    if first > last:
        return Response(status_code=416, headers={"Content-Range": f"bytes */{len(body)}"})
    headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
    return Response(body[first : last + 1], 206, headers, media_type)


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None  # 2024-02-30 is a name like any other that the storage does not have


def _no_such_key(key: str) -> Response:
    return Response(
        '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>NoSuchKey</Code>'
        f"<Message>The specified key does not exist.</Message><Key>{escape(key)}</Key></Error>",
        404,
        media_type="application/xml",
    )


class _Rest:
    def __init__(self, markets: Markets, clock: Clock, faults: Faults) -> None:
        self._markets = markets
        self._clock = clock
        self._faults = faults
        self._lock = threading.Lock()
        self._minute, self._used_weight = 0, 0

    def endpoint(self, name: str) -> Callable[[Request], Response]:
        """The endpoint of that name, with its errors and headers."""
        content = {
            "time": lambda call: {"serverTime": call.now // call.unit},
            "exchangeInfo": self._exchange_info,
            "klines": _klines,
            "aggTrades": _aggregates,
            "trades": _newest_trades,
            "historicalTrades": _historical_trades,
        }[name]

        def answer(request: Request) -> Response:
            try:
                return JSONResponse(content(_Call(request, self._markets, self._clock)))
            except _RestError as error:
                return JSONResponse({"code": error.code, "msg": str(error)}, 400)

        def endpoint(request: Request) -> Response:
            symbol = request.query_params.get("symbol")
            target = Target(request.url.path, Part.REST, name, symbol)
            response = self._faults.reply(target, lambda: answer(request))
            response.headers["X-MBX-USED-WEIGHT-1M"] = str(self._use(REST_WEIGHTS[name]))
            return response

        return endpoint

    def _use(self, weight: int) -> int:
        minute = int(monotonic() // 60)  # real time, even where the sandbox's clock stands still
        with self._lock:
            if minute != self._minute:
                self._minute, self._used_weight = minute, 0
            self._used_weight += weight
            return self._used_weight

    def _exchange_info(self, call: _Call) -> Any:
        several, one = call.sent.get("symbols"), call.sent.get("symbol")
        symbols = call.names("symbols") if several else [one] if one else [*self._markets]
        weight = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1}
        return {
            "timezone": "UTC",
            "serverTime": call.now // call.unit,
            "rateLimits": [{**weight, "limit": 6000}],
            "exchangeFilters": [],
            "symbols": [_symbol_info(call.market(symbol), call.now) for symbol in symbols],
        }


class _RestError(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Call:
    """One REST request: its checked parameters, the unit of its times, and what exists by now."""

    def __init__(self, request: Request, markets: Markets, clock: Clock) -> None:
        self.sent = request.query_params
        self.unit = 1 if request.headers.get("X-MBX-TIME-UNIT") == "MICROSECOND" else 1000
        self.now = int(clock.now().timestamp() * 1000) * 1000
        self._markets = markets

    def required(self, name: str) -> str:
        """A parameter that must be sent."""
        if text := self.sent.get(name):
            return text
        raise _RestError(
            -1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."
        )

    def number(self, name: str) -> int | None:
        """A parameter of digits."""
        text = self.sent.get(name)
        if text is None or re.fullmatch(r"[0-9]{1,18}", text):
            return None if text is None else int(text)
        raise _RestError(
            -1100, f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]+$'."
        )

    def names(self, name: str) -> list[str]:
        """A parameter that is a JSON array of names."""
        text = self.sent[name]
        if re.fullmatch(r'\["\w+"(,"\w+")*\]', text):
            return re.findall(r"\w+", text)
        raise _RestError(-1100, f"Illegal characters found in parameter '{name}'.")

    def time(self, name: str, default: int) -> int:
        """A time parameter in µs, at most one past now."""
        number = self.number(name)
        if number is None:
            return default
        if number < _SMALLEST_MICROSECOND:
            # Both ends are inclusive, so the end takes the whole of its millisecond.
            number = number * 1000 + (999 if name == "endTime" else 0)
        return min(number, self.now + 1)

    def market(self, symbol: str | None = None) -> Market:
        """The market asked for; a symbol is unknown until it is listed."""
        market = self._markets.get(symbol or self.required("symbol"))
        if market is None or day_start(market.listing.since) > self.now:
            raise _RestError(-1121, "Invalid symbol.")
        return market

    def page_between(self, market: Market, load: Callable[[date], Rows], key: str) -> Rows | None:
        """The oldest rows from `startTime` on or, without one, the newest up to `endTime`."""
        since, until = self.time("startTime", 0), self.time("endTime", self.now)
        last = min(until, self.now)
        return self._page(
            load,
            lambda rows: (since <= rows[key]) & (rows[key] <= last),
            _days(market, _day_of(since), _day_of(last)),
            newest="startTime" not in self.sent,
        )

    def page_from(self, market: Market, load: Callable[[date], Rows], first: date) -> Rows | None:
        """The oldest rows from the id `fromId` on, which falls on day `first`."""
        from_id = self.number("fromId")
        return self._page(
            load,
            lambda rows: (rows["id"] >= from_id) & (rows["time"] <= self.now),
            _days(market, first, _day_of(self.now)),
            newest=False,
        )

    def _page(
        self,
        load: Callable[[date], Rows],
        is_wanted: Callable[[Rows], Rows],
        days: list[date],
        *,
        newest: bool,
    ) -> Rows | None:
        limit = self.number("limit")
        if limit == 0:
            raise _RestError(-1130, "Data sent for parameter 'limit' is not valid.")
        limit = min(limit or _REST_LIMIT, _REST_LIMIT_MAX)
        pages: list[Rows] = []
        for day in reversed(days) if newest else days:
            rows = load(day)
            pages.append(rows[is_wanted(rows)])
            if sum(map(len, pages)) >= limit:
                break
        if not pages:
            return None
        joined = np.concatenate(pages[::-1] if newest else pages)
        return joined[-limit:] if newest else joined[:limit]


def _klines(call: _Call) -> Any:
    market, interval = call.market(), call.required("interval")
    if interval not in INTERVAL_MINUTES:
        raise _RestError(-1120, "Invalid interval.")
    minutes = INTERVAL_MINUTES[interval]
    rows = call.page_between(market, lambda day: market.klines(day, minutes, call.now), "open_time")
    return _json(rows, _kline_columns, call)


def _aggregates(call: _Call) -> Any:
    market, from_id = call.market(), call.number("fromId")
    if from_id is None:
        rows = call.page_between(market, market.aggregates, "time")
    elif "startTime" in call.sent or "endTime" in call.sent:
        raise _RestError(-1128, "Combination of optional parameters invalid.")
    else:
        rows = call.page_from(market, market.aggregates, market.day_of_aggregate_id(from_id))
    return _json(rows, _aggregate_columns, call, AGGREGATE_KEYS)


def _newest_trades(call: _Call) -> Any:
    market = call.market()
    rows = call.page_between(market, market.trades, "time")
    return _json(rows, _trade_columns, call, TRADE_KEYS)


def _historical_trades(call: _Call) -> Any:
    market, from_id = call.market(), call.number("fromId")
    if from_id is None:
        return _newest_trades(call)
    rows = call.page_from(market, market.trades, market.day_of_id(from_id))
    return _json(rows, _trade_columns, call, TRADE_KEYS)


def _symbol_info(market: Market, now: int) -> Any:
    until = market.listing.until
    is_trading = until is None or now < day_start(until) + DAY_US
    tick, step = (
        _decimals(np.array([10 ** (8 - decimals)]))[0].as_py()
        for decimals in (market.price_decimals, market.qty_decimals)
    )
    return {
        "symbol": market.listing.symbol,
        "status": "TRADING" if is_trading else "BREAK",
        "baseAsset": market.base,
        "baseAssetPrecision": 8,
        "quoteAsset": market.quote,
        "quoteAssetPrecision": 8,
        "isSpotTradingAllowed": is_trading,
        "filters": [
            {"filterType": "PRICE_FILTER", "tickSize": tick},
            {"filterType": "LOT_SIZE", "stepSize": step},
        ],
    }


def _trade_columns(rows: Rows, unit: int) -> Columns:
    return [
        pa.array(rows["id"]),
        *(_decimals(rows[name]) for name in ("price", "qty", "quote_qty")),
        pa.array(rows["time"] // unit),
        pa.array(rows["is_buyer_maker"]),
        pa.array(np.ones(len(rows), np.bool_)),
    ]


def _aggregate_columns(rows: Rows, unit: int) -> Columns:
    return [
        pa.array(rows["id"]),
        *(_decimals(rows[name]) for name in ("price", "qty")),
        *(pa.array(rows[name]) for name in ("first_id", "last_id")),
        pa.array(rows["time"] // unit),
        pa.array(rows["is_buyer_maker"]),
        pa.array(np.ones(len(rows), np.bool_)),
    ]


def _kline_columns(rows: Rows, unit: int) -> Columns:
    return [
        pa.array(rows["open_time"] // unit),
        *(_decimals(rows[name]) for name in ("open", "high", "low", "close", "volume")),
        pa.array(rows["close_time"] // unit),
        _decimals(rows["quote_volume"]),
        pa.array(rows["count"]),
        *(_decimals(rows[name]) for name in ("taker_buy_volume", "taker_buy_quote_volume")),
        pa.array(["0"] * len(rows)),
    ]


def _decimals(amounts: Ints) -> Any:
    """Integers of 1e-8 as Binance prints them: always eight decimals."""
    whole, rest = np.divmod(amounts, SCALE)
    digits = pc.utf8_lpad(pa.array(rest).cast(pa.string()), 8, "0")
    return pc.binary_join_element_wise(pa.array(whole).cast(pa.string()), digits, ".")


def _csv(columns: Columns) -> bytes:
    printed = [
        pc.if_else(column, "True", "False") if pa.types.is_boolean(column.type) else column
        for column in columns
    ]
    buffer = io.BytesIO()
    csv.write_csv(
        pa.table(printed, names=[str(at) for at in range(len(printed))]),
        buffer,
        csv.WriteOptions(include_header=False, quoting_style="none"),
    )
    return buffer.getvalue()


def _json(
    rows: Rows | None,
    columns: Callable[[Rows, int], Columns],
    call: _Call,
    keys: Sequence[str] = (),
) -> Any:
    if rows is None:
        return []
    lists = zip(*(column.to_pylist() for column in columns(rows, call.unit)), strict=True)
    return [dict(zip(keys, row, strict=True)) if keys else list(row) for row in lists]


def _days(market: Market, first: date, last: date) -> list[date]:
    first, last = max(first, market.listing.since), min(last, market.listing.until or last)
    return [first + timedelta(days=at) for at in range((last - first).days + 1)]


def _day_of(at: int) -> date:
    return date(1970, 1, 1) + timedelta(days=at // DAY_US)
