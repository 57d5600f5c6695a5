"""What Kraken's replies mean: its datasets, its error arrays, and pure parsing of what it sent.

https://docs.kraken.com/api-reference/market-data (Get Tradable Asset Pairs, Get Recent Trades, Get
OHLC Data). Numbers come as strings or as JSON numbers and are exact either way. A trade's time is
printed as the shortest float of seconds, so to about 0.2 µs: `time_ns` is what was printed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from crypto_assets.catalog import Dataset, Listing, MarketDay
from crypto_assets.errors import (
    MalformedRowError,
    NotFinalError,
    PermanentSourceError,
    RateLimitedError,
    ServerFaultError,
    SourceError,
    UnexpectedReplyError,
    UnknownSymbolError,
    ValueOutOfRangeError,
)
from crypto_assets.sources.candles import (
    MINUTE_US,
    check_claims,
    check_grid,
    check_prices,
    grid_holes,
    is_zero,
)
from crypto_assets.sources.columns import int64, micros, raw_of_json, raw_schema, typed
from crypto_assets.sources.venue import Document, Extract, Hole

# Prices have up to ten decimals (AssetPairs, `pair_decimals`), volumes up to eight.
_PRICE = pa.decimal128(18, 10)
_VOLUME = pa.decimal128(28, 8)
_TIME = pa.timestamp("us")

TRADES = Dataset(
    name="kraken_trades",
    venue="kraken",
    description="Spot trades of Kraken, one row per trade; `side` is the taker's (b or s).",
    schema=pa.schema(
        [
            pa.field("trade_id", pa.int64(), nullable=False),
            pa.field("price", _PRICE, nullable=False),
            pa.field("volume", _VOLUME, nullable=False),
            pa.field("time", _TIME, nullable=False),
            pa.field("time_ns", pa.int64(), nullable=False),
            pa.field("side", pa.string(), nullable=False),
            pa.field("order_type", pa.string(), nullable=False),
            pa.field("misc", pa.string(), nullable=False),
        ]
    ),
    key=("trade_id",),
    time_column="time",
    price_column="price",
    id_column="trade_id",
    id_rule="expected",
)
OHLC = Dataset(
    name="kraken_ohlc",
    venue="kraken",
    description="One-minute candles as Kraken publishes them: the newest 720 minutes only.",
    schema=pa.schema(
        [
            pa.field("open_time", _TIME, nullable=False),
            *(pa.field(name, _PRICE, nullable=False) for name in ("open", "high", "low", "close")),
            pa.field("vwap", _PRICE, nullable=False),
            pa.field("volume", _VOLUME, nullable=False),
            pa.field("count", pa.int64(), nullable=False),
        ]
    ),
    key=("open_time",),
    time_column="open_time",
    price_column="close",
)

# "Returns up to 720 of the most recent entries (older data cannot be retrieved)" (Get OHLC Data).
OHLC_MINUTES = 720

_RAW = {dataset.name: raw_schema(dataset) for dataset in (TRADES, OHLC)}
_TRADE_COLUMNS, _CANDLE_COLUMNS = 7, 8
_SIDES = frozenset({"b", "s"})
_NAMES = {"XBT": "BTC", "XDG": "DOGE"}
# https://support.kraken.com/articles/360001491786-api-error-messages
_TOO_MANY = re.compile(r"E(API:Rate limit|General:Too many requests|General:Temporary lockout)")
_BUSY = re.compile(r"E(Service:|General:Internal error)")


class Pair(NamedTuple):
    """A pair by its names: `key` in replies, `altname` in requests, `market` in the catalogue."""

    key: str
    altname: str
    market: str


class Trade(NamedTuple):
    """One trade in the columns of TRADES: decimals as text, `time_us` cut off, not rounded."""

    trade_id: int
    price: str
    volume: str
    time_us: int
    time_ns: int
    side: str
    order_type: str
    misc: str


class TradesPage(NamedTuple):
    """A page of trades, rows as they came; `last` is the cursor to go on with, digit by digit."""

    name: str
    rows: list[Any]
    last: str


class CandlesPage(NamedTuple):
    """All candles that Kraken keeps, rows as they came, the last one still forming."""

    name: str
    rows: list[Any]


def check_errors(body: bytes, what: str) -> None:
    """Raise what an error array says; Kraken sends it with status 200. Warnings (W…) may pass."""
    errors = [text for text in _object(body, what)["error"] if not text.startswith("W")]
    if errors:
        raise _refusal("; ".join(errors), what)


def read_pair(body: bytes, symbol: str) -> Pair:
    """The pair that a reply of AssetPairs describes, which was asked for by that symbol."""
    result = _result(body, symbol)
    (key, found) = next(iter(result.items())) if len(result) == 1 else ("", {})
    try:
        base, quote = found["wsname"].split("/")
        market = f"{_NAMES.get(base, base)}-{_NAMES.get(quote, quote)}"
        return Pair(key, found["altname"], market)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unexpected(f"{symbol}: no single pair with altname and wsname", body) from error


def read_trades(body: bytes, what: str) -> TradesPage:
    """A reply of Trades: the only key that is not `last` names the pair in Kraken's legacy way."""
    name, rows, last = _named_rows(body, what)
    # A float would have lost digits already: the same page would come for ever, or trades be
    # left out (freqtrade #12961, ccxt #15827).
    if isinstance(last, int) and not isinstance(last, bool):
        last = str(last)
    if not isinstance(last, str) or not re.fullmatch(r"[0-9]{1,19}", last):
        raise _unexpected(
            f"{what}: `last`, the cursor of a page, is {last!r}, no nanoseconds", body
        )
    return TradesPage(name, rows, last)


def read_candles(body: bytes, what: str) -> CandlesPage:
    """A reply of OHLC."""
    name, rows, last = _named_rows(body, what)
    if not isinstance(last, int) or isinstance(last, bool):
        raise _unexpected(f"{what}: `last` is {last!r}, not a time in seconds", body)
    return CandlesPage(name, rows)


def check_name(name: str, pair: Pair, what: str) -> None:
    """A reply must be about the pair asked for, by its legacy or its plain name."""
    if name not in (pair.key, pair.altname):
        raise UnexpectedReplyError(
            f"{what}: asked for {pair.altname} ({pair.key}), Kraken answers about {name}; if the "
            "pair was renamed, correct `symbol` in markets.yaml, then run again"
        )


def trades_of_rows(rows: Sequence[Any], part: MarketDay) -> list[Trade]:
    """The trades of a page, in its order; raises MalformedRowError for a row that is none."""
    return [_trade(row, part) for row in rows]


def batch_of_trades(trades: Sequence[Trade], part: MarketDay) -> pa.RecordBatch:
    """Trades of the day in the columns of TRADES; raises for values that no trade can have."""
    raw = raw_of_json(trades, range(len(Trade._fields)), _RAW[TRADES.name], part)
    batch = typed(raw, TRADES, 1, part)
    for column in ("price", "volume"):
        zero = pa.scalar(Decimal(0), batch[column].type)
        is_wrong = np.asarray(pc.less_equal(batch[column], zero))
        if is_wrong.any():
            row = batch.slice(int(np.argmax(is_wrong)), 1).to_pylist()[0]
            raise ValueOutOfRangeError(
                f"{part}: {column} of trade {row['trade_id']} is {row[column]}, no trade can have "
                "that",
                rows=[row],
            )
    return batch


def check_is_final(page: CandlesPage, part: MarketDay) -> None:
    """The last candle is still forming and must be of a later day; raises NotFinalError."""
    if not page.rows or _seconds(page.rows[-1], part) * 1_000_000 < micros(part.ends_at):
        raise NotFinalError(
            f"{part}: the candle that Kraken is still forming is of that day, or there is none; "
            "run the partition again in a few minutes"
        )


def candles_of_page(
    page: CandlesPage | None, listing: Listing, part: MarketDay, documents: tuple[Document, ...]
) -> Extract:
    """The candles of a day that a reply still has; none was asked for if all are too old."""
    starts, ends = micros(part.starts_at), micros(part.ends_at)
    rows = page.rows if page else []
    # The last row is left out: it is still forming, and `check_is_final` found it in a later day.
    opened = [_seconds(row, part) * 1_000_000 for row in rows]
    of_day = [row for row, at in zip(rows[:-1], opened[:-1], strict=True) if starts <= at < ends]
    raw = raw_of_json([_candle(row, part) for row in of_day], range(8), _RAW[OHLC.name], part)
    batch = typed(raw, OHLC, 1, part)
    check_grid(batch, MINUTE_US, part, column="open_time")
    check_prices(batch, part)
    has_traded = pc.greater(batch["count"], 0)
    check_claims(
        batch,
        part,
        (
            (pc.less(batch["count"], 0), "counts fewer than no trades"),
            (
                pc.xor(is_zero(batch["volume"]), is_zero(batch["count"])),
                "has volume without trades, or trades without volume",
            ),
            (
                pc.and_(has_traded, pc.less(batch["vwap"], batch["low"])),
                "has a mean price below its low",
            ),
            (
                pc.and_(has_traded, pc.greater(batch["vwap"], batch["high"])),
                "has a mean price above its high",
            ),
        ),
    )
    on_the_way = {"candles_are_on_the_grid": "passed", "candles_are_possible": "passed"}
    row_count = len(of_day)
    return Extract(
        batches=iter([batch]),
        row_count=lambda: row_count,
        documents=documents,
        checks=on_the_way if row_count else {},
        holes=_holes(batch, min(opened, default=None), listing, part),
    )


def _holes(
    batch: pa.RecordBatch, oldest: int | None, listing: Listing, part: MarketDay
) -> tuple[Hole, ...]:
    """Minutes without a candle: older than what Kraken keeps, or left out.

    Kraken fills minutes without trades (216 of 721 in a reply of 2025-11-10), so that a missing one
    says nothing about trading.
    """
    holes = []
    for starts, ends in grid_holes(int64(batch["open_time"]), MINUTE_US, part):
        is_old = oldest is None or starts < oldest
        evidence = (
            f"Kraken keeps the newest {OHLC_MINUTES} minutes, which begin later"
            if is_old
            else "Kraken's reply leaves these minutes out, though it fills those without trades"
        )
        is_before_listing = part.day == listing.since and starts == micros(part.starts_at)
        if is_before_listing and oldest is not None and oldest > micros(part.starts_at):
            evidence += f"; or {listing.symbol}, listed that day, was not trading yet"
        holes.append(Hole(starts, ends, "source_missing", evidence))
    return tuple(holes)


def _trade(row: Any, part: MarketDay) -> Trade:
    if not isinstance(row, list) or len(row) != _TRADE_COLUMNS:
        raise _malformed(part, f"a trade has not the {_TRADE_COLUMNS} columns expected", row)
    price, volume, time, side, order_type, misc, trade_id = row
    if not isinstance(trade_id, int) or isinstance(trade_id, bool):
        raise _malformed(part, "trade_id is no integer", row)
    if side not in _SIDES:
        raise _malformed(part, "side is neither b nor s", row)
    nanoseconds = _number(time, row, part).scaleb(9)
    if nanoseconds != (time_ns := int(nanoseconds)):
        raise _malformed(part, "time is finer than a nanosecond", row)
    price, volume = (f"{_number(value, row, part):f}" for value in (price, volume))
    return Trade(trade_id, price, volume, time_ns // 1000, time_ns, side, order_type, misc)


def _candle(row: list[Any], part: MarketDay) -> list[Any]:
    numbers = [f"{_number(value, row, part):f}" for value in row[1:-1]]
    return [_seconds(row, part) * 1_000_000, *numbers, row[-1]]


def _seconds(row: Any, part: MarketDay) -> int:
    if not isinstance(row, list) or len(row) != _CANDLE_COLUMNS:
        raise _malformed(part, f"a candle has not the {_CANDLE_COLUMNS} columns expected", row)
    seconds = _number(row[0], row, part)
    if seconds != int(seconds):
        raise _malformed(part, "a candle's time is no whole second", row)
    return int(seconds)


def _number(value: Any, row: Any, part: MarketDay) -> Decimal:
    """A string of digits or a JSON number, exactly."""
    is_digits = isinstance(value, str) and re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value)
    is_number = isinstance(value, int | Decimal) and not isinstance(value, bool)
    if is_digits or is_number:
        number = Decimal(value)
        # What has more digits fits no column, and 1e999999999 would become a very long text.
        if number.adjusted() < 20 and int(number.as_tuple().exponent) >= -18:
            return number
    raise _malformed(part, f"{value!r} is no number", row)


def _named_rows(body: bytes, what: str) -> tuple[str, list[Any], Any]:
    result = _result(body, what)
    names = [name for name in result if name != "last"]
    if len(names) != 1 or not isinstance(result[names[0]], list):
        raise _unexpected(f"{what}: expected the rows of one pair", body)
    return names[0], result[names[0]], result.get("last")


def _result(body: bytes, what: str) -> dict[str, Any]:
    check_errors(body, what)
    result = _object(body, what).get("result")
    if not isinstance(result, dict):
        raise _unexpected(f"{what}: expected a result", body)
    return result


def _object(body: bytes, what: str) -> dict[str, Any]:
    try:
        said: Any = json.loads(body, parse_float=Decimal, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise _unexpected(f"{what}: expected a JSON object", body) from error
    if isinstance(said, dict):
        errors = said.get("error")
        if isinstance(errors, list) and all(isinstance(text, str) for text in errors):
            return said
    raise _unexpected(f"{what}: expected a JSON object with an array of errors", body)


def _refusal(errors: str, what: str) -> SourceError:
    if "EQuery:Unknown asset pair" in errors:
        return UnknownSymbolError(
            f"{what}: Kraken does not know the pair ({errors}); it was renamed or delisted, or "
            "never there: correct `symbol` or set `until` in markets.yaml"
        )
    if _TOO_MANY.search(errors):
        return RateLimitedError(f"{what}: {errors}; lower the rate limit")
    if _BUSY.search(errors):
        return ServerFaultError(f"{what}: {errors}; try again later")
    return PermanentSourceError(f"{what}: {errors}; the request itself is refused")


def _malformed(part: MarketDay, problem: str, row: Any) -> MalformedRowError:
    return MalformedRowError(f"{part}: {problem}: {row!r}"[:500], rows=[row])


def _unexpected(problem: str, body: bytes) -> UnexpectedReplyError:
    return UnexpectedReplyError(
        f"{problem}, got {body[:120]!r}; something between here and the source answers in its "
        "place, or the source changed: check its address, then run again"
    )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
