"""What Coinbase's rows mean: its datasets, and pure parsing of what `coinbase` fetched.

Trades: https://docs.cdp.coinbase.com/exchange/reference/exchangerestapi_getproducttrades
Candles: https://docs.cdp.coinbase.com/exchange/reference/exchangerestapi_getproductcandles
No I/O but reading kept pages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from crypto_assets.catalog import Dataset, Listing, MarketDay
from crypto_assets.errors import (
    ConflictingDuplicateError,
    DuplicateIdError,
    MalformedRowError,
    MissingIdError,
    OutsidePartitionError,
    StuckCursorError,
    UnorderedIdError,
    UnorderedTimeError,
    ValueOutOfRangeError,
)
from crypto_assets.sources.candles import MINUTE_US, check_grid, check_prices, grid_holes
from crypto_assets.sources.columns import int64, micros, raw_of_json, raw_schema, typed
from crypto_assets.sources.venue import Hole

# Smallest increments in use are 8 decimals; two more are room. Their product has 20.
_AMOUNT = pa.decimal128(28, 10)
# Volumes of candles are sums of doubles, printed with all the noise that they picked up
# (2018-02-01 00:05: 4.727521520000001): up to 17 digits, from the smallest size of 1e-8 on.
_VOLUME = pa.decimal128(38, 24)
_TIME = pa.timestamp("us")

TRADES = Dataset(
    name="coinbase_trades",
    venue="coinbase",
    description="Trades of Coinbase Exchange, one row per trade; `side` is that of the maker.",
    schema=pa.schema(
        [
            pa.field("trade_id", pa.int64(), nullable=False),
            pa.field("side", pa.string(), nullable=False),
            pa.field("size", _AMOUNT, nullable=False),
            pa.field("price", _AMOUNT, nullable=False),
            pa.field("time", _TIME, nullable=False),
        ]
    ),
    key=("trade_id",),
    time_column="time",
    price_column="price",
    id_column="trade_id",
    id_rule="expected",
)
CANDLES = Dataset(
    name="coinbase_candles",
    venue="coinbase",
    description="One-minute candles as Coinbase Exchange publishes them, which it says may be "
    "incomplete; a minute without a trade has none.",
    schema=pa.schema(
        [
            pa.field("open_time", _TIME, nullable=False),
            *(pa.field(name, _AMOUNT, nullable=False) for name in ("low", "high", "open", "close")),
            pa.field("volume", _VOLUME, nullable=False),
        ]
    ),
    key=("open_time",),
    time_column="open_time",
    price_column="close",
)

_KEYS = tuple(TRADES.schema.names)
_WRITTEN = pa.schema(
    [
        pa.field(field.name, pa.string() if field.name == "time" else field.type)
        for field in TRADES.schema
    ]
)
_PLACES = pa.schema([_WRITTEN.field("trade_id"), _WRITTEN.field("time")])
# Trailing zeros are left out ("12.44524Z"), and the fraction with them.
_INSTANT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?Z$"
# One matching engine stamps all trades of a product. A leap second may repeat a second.
_STEP_BACK_US = 2_000_000
_SECOND_US = 1_000_000


class Page(NamedTuple):
    """Ids and times (µs since 1970) of the trades of one page, newest first."""

    ids: npt.NDArray[np.int64]
    times: npt.NDArray[np.int64]


def page_of(rows: Sequence[Any], part: MarketDay) -> Page:
    """Where a page's trades are; raises the error that is named after how they are out of order."""
    raw = raw_of_json([_plain(row) for row in rows], ("trade_id", "time"), _PLACES, part)
    page = Page(int64(raw["trade_id"]), _micros_of(raw["time"], rows, part))
    steps = np.diff(page.ids)
    if (wrong := np.flatnonzero(steps >= 0)).size:
        at = int(wrong[0])
        pair = [rows[at], rows[at + 1]]
        if steps[at] > 0:
            raise UnorderedIdError(
                f"{part}: id {page.ids[at + 1]} comes after {page.ids[at]} in a page that must "
                "begin with the newest trade",
                rows=pair,
            )
        kind, words = (
            (DuplicateIdError, "the same")
            if pair[0] == pair[1]
            else (ConflictingDuplicateError, "other")
        )
        raise kind(f"{part}: id {page.ids[at]} is in a page twice, with {words} content", rows=pair)
    return page


def check_continues(
    page: Page, rows: Sequence[Any], previous: Any, cursor: int, part: MarketDay
) -> None:
    """A page asked for with trades older than `cursor` begins with `previous`, the row before it.

    Pages overlap by that row, so that nothing can be left out between them where ids have holes.
    """
    if rows and page.ids[0] == cursor - 1:
        if rows[0] != previous:
            raise ConflictingDuplicateError(
                f"{part}: trade {cursor - 1} has other content in the next page",
                rows=[previous, rows[0]],
            )
        return
    asked = f"{part}: asked for trades older than {cursor}, got"
    if not rows:
        raise MissingIdError(f"{asked} none, though {cursor - 1} exists", asked=cursor)
    evidence = {"asked": cursor, "rows": [rows[0], rows[-1]]}
    if page.ids[0] < cursor:
        raise MissingIdError(
            f"{asked} them from {page.ids[0]} on, though {cursor - 1} exists", **evidence
        )
    if page.ids[-1] >= cursor - 1:
        raise StuckCursorError(f"{asked} only ids from {page.ids[-1]} on", **evidence)
    raise DuplicateIdError(
        f"{asked} them from {page.ids[0]} on, of which some came already", **evidence
    )


def rows_of_day(rows: Iterable[Any], part: MarketDay) -> int:
    """How many rows are of the day, by the date that they are written with."""
    return sum(str(row["time"]).startswith(f"{part.partition}T") for row in rows)


def check_quiet(pages: Iterable[list[Any]], part: MarketDay) -> None:
    """Ids before and after a day without a trade join; raises MissingIdError."""
    places = [page_of(rows, part) for rows in pages]
    ids, times = (np.concatenate(columns) for columns in zip(*places, strict=True))
    before = ids[times < micros(part.starts_at)].max(initial=0)
    after = ids[times >= micros(part.ends_at)]
    if after.size and after.min() != before + 1:
        raise MissingIdError(
            f"{part}: no trade is of that day, but ids go from {before} before it to {after.min()} "
            "after it",
            missing=int(after.min() - before - 1),
        )


def trades_of_pages(pages: Iterable[list[Any]], part: MarketDay) -> Iterator[pa.RecordBatch]:
    """Trades of the day in order of id, from pages that come oldest first, each newest first.

    Raises OutsidePartitionError for a trade between those of the day that is of another one.
    """
    starts, ends = micros(part.starts_at), micros(part.ends_at)
    rows_before, latest, phase_before = 0, starts, 0
    for page, following in _with_next(pages):
        # The oldest row of the next page is the newest of this one, again.
        shared = following[-1]["trade_id"] if following else None
        rows = [row for row in reversed(page) if row["trade_id"] != shared]
        raw = raw_of_json([_plain(row) for row in rows], _KEYS, _WRITTEN, part)
        times = _micros_of(raw["time"], rows, part)
        # 0 before, 1 inside, 2 after the day: ids that go on may not go back.
        phase = (times >= starts).astype(np.int64) + (times >= ends)
        if (back := np.flatnonzero(np.diff(phase, prepend=phase_before) < 0)).size:
            row = rows[int(back[0])]
            raise OutsidePartitionError(
                f"{part}: trade {row['trade_id']} of {row['time']} comes after one that is on the "
                "other side of midnight; the venue's clock jumped",
                rows=[row],
            )
        phase_before = int(phase[-1]) if rows else phase_before
        raw = raw.set_column(len(_KEYS) - 1, "time", pa.array(times)).filter(pa.array(phase == 1))
        batch = typed(raw, TRADES, 1, part, rows_before=rows_before)
        latest = _check_clock(batch, latest, part)
        _check_trades(batch, part, rows_before)
        rows_before += batch.num_rows
        yield batch


def candles_of_reply(rows: Sequence[Any], first: int, last: int, part: MarketDay) -> list[Any]:
    """Rows of a reply, oldest first, that open from `first` to `last`, both in seconds.

    Older ones may be there too (documented) and are left out; later ones may not.
    """
    rows, opened = [_plain(row) for row in rows], []
    for row in rows:
        if not isinstance(row, list) or len(row) != len(CANDLES.schema) or type(row[0]) is not int:
            raise MalformedRowError(
                f"{part}: a candle is no list of {', '.join(CANDLES.schema.names)}: {row!r}",
                rows=[row],
            )
        opened.append(row[0])
    for at, (newer, older) in enumerate(pairwise(opened)):
        if newer == older:
            raise DuplicateIdError(
                f"{part}: the candle of {newer} is in a reply twice", rows=rows[at : at + 2]
            )
        if newer < older:
            raise UnorderedIdError(
                f"{part}: the candle of {older} comes after that of {newer} in a reply that must "
                "begin with the newest",
                rows=rows[at : at + 2],
            )
    if opened and opened[0] > last:
        raise OutsidePartitionError(
            f"{part}: asked for candles from {first} to {last} (seconds), got one of {opened[0]}",
            rows=rows[:1],
        )
    return [row for row in reversed(rows) if first <= row[0]]


def joined(replies: Iterable[list[Any]], part: MarketDay) -> list[Any]:
    """The candles of all replies; neighbours share a minute and must say the same of it."""
    candles: dict[int, Any] = {}
    for rows in replies:
        for row in rows:
            if candles.setdefault(row[0], row) != row:
                raise ConflictingDuplicateError(
                    f"{part}: the candle of {row[0]} has other content in the next reply",
                    rows=[candles[row[0]], row],
                )
    return list(candles.values())


def candles_of(rows: Sequence[Any], part: MarketDay) -> pa.RecordBatch:
    """Candles of the day, checked; rows are oldest first."""
    raw = raw_of_json(rows, tuple(range(len(CANDLES.schema))), raw_schema(CANDLES), part)
    opened = int64(raw["open_time"]) * _SECOND_US
    batch = typed(raw.set_column(0, "open_time", pa.array(opened)), CANDLES, 1, part)
    check_grid(batch, MINUTE_US, part, column="open_time")
    check_prices(batch, part)
    return batch


def holes_of(batch: pa.RecordBatch, listing: Listing, part: MarketDay) -> tuple[Hole, ...]:
    """Stretches of the day's minutes without a candle.

    No candle is published for a minute without a trade, whether it was quiet or trading was halted
    (the outage of 2023-03-04 looks no different), and some may be missing besides.
    """
    holes = []
    for starts, ends in grid_holes(int64(batch["open_time"]), MINUTE_US, part):
        is_before_listing = part.day == listing.since and starts == micros(part.starts_at)
        is_after_delisting = part.day == listing.until and ends == micros(part.ends_at)
        if is_before_listing or is_after_delisting:
            evidence = f"{listing.symbol} is listed {listing.since} to {listing.until or 'now'}"
            holes.append(Hole(starts, ends, "not_listed", evidence))
        else:
            evidence = "no candle was published, as for a minute without a trade"
            holes.append(Hole(starts, ends, "no_trades", evidence))
    return tuple(holes)


def _plain(row: Any) -> Any:
    """The row with amounts as text and integers as such, however its numbers are written.

    Coinbase writes amounts of trades as strings, all else as JSON numbers. What is no number
    stays, and is refused with the column's name.
    """
    if isinstance(row, dict):
        forms = {"trade_id": _whole, "size": _text, "price": _text}
        return row | {name: form(row[name]) for name, form in forms.items() if name in row}
    if isinstance(row, list):
        return [*map(_whole, row[:1]), *map(_text, row[1:])]
    return row


def _text(value: Any) -> Any:
    return str(value) if type(value) in (int, Decimal) else value


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, str) and re.fullmatch("[0-9]{1,19}", value) else value


def _micros_of(written: pa.Array, rows: Sequence[Any], part: MarketDay) -> npt.NDArray[np.int64]:
    """Microseconds since 1970 of ISO 8601 texts; raises MalformedRowError for anything finer."""
    well_formed = np.asarray(pc.match_substring_regex(written, _INSTANT), dtype=np.bool_)
    if not well_formed.all():
        raise _malformed_time(rows[int(np.argmin(well_formed))], part)
    try:
        nanoseconds = int64(written.cast(pa.timestamp("ns", "UTC")))
    except pa.ArrowInvalid as error:  # the 30th of February
        at = next(at for at, text in enumerate(written) if not _is_instant(text))
        raise _malformed_time(rows[at], part) from error
    if (finer := np.flatnonzero(nanoseconds % 1000)).size:
        raise _malformed_time(rows[int(finer[0])], part)
    return nanoseconds // 1000


def _is_instant(text: pa.Scalar) -> bool:
    try:
        text.cast(pa.timestamp("ns", "UTC"))
    except pa.ArrowInvalid:
        return False
    return True


def _malformed_time(row: Any, part: MarketDay) -> MalformedRowError:
    return MalformedRowError(
        f"{part}: the time of a trade is no instant in microseconds UTC "
        f"(2024-01-01T00:00:00.000001Z): {row!r}",
        rows=[row],
    )


def _check_clock(batch: pa.RecordBatch, latest: int, part: MarketDay) -> int:
    """The latest time so far; raises UnorderedTimeError if a time lies well before it."""
    times = int64(batch["time"])
    latest_before = np.maximum.accumulate(np.concatenate(([latest], times)))
    late = np.flatnonzero(latest_before[:-1] - times > _STEP_BACK_US)
    if late.size:
        at = int(late[0])
        raise UnorderedTimeError(
            f"{part}: trade {batch['trade_id'][at]} is of {batch['time'][at]}, "
            f"{(latest_before[at] - times[at]) / 1e6:.1f} s before a trade with a lower id; the "
            "venue's clock jumped",
            rows=batch.slice(max(at - 1, 0), 2).to_pylist(),
        )
    return int(latest_before[-1])


def _check_trades(batch: pa.RecordBatch, part: MarketDay, rows_before: int) -> None:
    zero = pa.scalar(Decimal(0), _AMOUNT)
    for column in ("price", "size"):
        if (at := pc.index(pc.less_equal(batch[column], zero), True).as_py()) >= 0:
            raise ValueOutOfRangeError(
                f"{part}: {column} of row {rows_before + at + 1} is {batch[column][at]}, no trade "
                "can have that",
                row=rows_before + at + 1,
                rows=batch.slice(at, 1).to_pylist(),
            )
    sided = pc.is_in(batch["side"], pa.array(["buy", "sell"]))
    if (at := pc.index(sided, False).as_py()) >= 0:
        raise MalformedRowError(
            f"{part}: side of row {rows_before + at + 1} is {batch['side'][at]}, expected buy or "
            "sell",
            row=rows_before + at + 1,
            rows=batch.slice(at, 1).to_pylist(),
        )


def _with_next(pages: Iterable[list[Any]]) -> Iterator[tuple[list[Any], list[Any] | None]]:
    """Each page with the one that follows it."""
    page: list[Any] | None = None
    for following in pages:
        if page is not None:
            yield page, following
        page = following
    if page is not None:
        yield page, None
