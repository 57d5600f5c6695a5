"""What Binance's rows mean: its datasets, and pure parsing of what `binance` fetched.

Columns of the archive: https://github.com/binance/binance-public-data. Columns of REST:
https://developers.binance.com/docs/binance-spot-api-docs. No I/O but reading a downloaded file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from crypto_assets.catalog import Dataset, Listing, MarketDay
from crypto_assets.errors import MalformedRowError, UnexpectedReplyError, ValueOutOfRangeError
from crypto_assets.sources.candles import (
    MINUTE_US,
    check_claims,
    check_close_times,
    check_grid,
    check_prices,
    grid_holes,
    is_zero,
)
from crypto_assets.sources.columns import (
    int64,
    json_rows,
    micros,
    raw_of_json,
    raw_schema,
    time_scale,
    typed,
)
from crypto_assets.sources.pages import Pages
from crypto_assets.sources.venue import Document, Extract, Hole
from crypto_assets.sources.zipped_csv import ZippedCsv

_PRICE = pa.decimal128(18, 8)
# A single fill of a market quoted in millionths of a dollar passes 10^10 units.
_AMOUNT = pa.decimal128(28, 8)
_TIME = pa.timestamp("us")

TRADES = Dataset(
    name="binance_trades",
    venue="binance",
    description="Spot trades of Binance as its daily archive publishes them, one row per trade.",
    schema=pa.schema(
        [
            pa.field("id", pa.int64(), nullable=False),
            pa.field("price", _PRICE, nullable=False),
            pa.field("qty", _AMOUNT, nullable=False),
            pa.field("quote_qty", _AMOUNT, nullable=False),
            pa.field("time", _TIME, nullable=False),
            pa.field("is_buyer_maker", pa.bool_(), nullable=False),
            pa.field("is_best_match", pa.bool_(), nullable=False),
        ]
    ),
    key=("id",),
    time_column="time",
    price_column="price",
    id_column="id",
    id_rule="contiguous",
)
KLINES = Dataset(
    name="binance_klines",
    venue="binance",
    description="One-minute candles as Binance publishes them; its column `ignore` is left out.",
    schema=pa.schema(
        [
            pa.field("open_time", _TIME, nullable=False),
            *(pa.field(name, _PRICE, nullable=False) for name in ("open", "high", "low", "close")),
            pa.field("volume", _AMOUNT, nullable=False),
            pa.field("close_time", _TIME, nullable=False),
            pa.field("quote_volume", _AMOUNT, nullable=False),
            pa.field("count", pa.int64(), nullable=False),
            pa.field("taker_buy_volume", _AMOUNT, nullable=False),
            pa.field("taker_buy_quote_volume", _AMOUNT, nullable=False),
        ]
    ),
    key=("open_time",),
    time_column="open_time",
    price_column="close",
)
REST_KLINES = replace(
    KLINES,
    name="binance_rest_klines",
    description="The same candles as REST gives them: what the archive is held against.",
)

_CSV = {TRADES.name: raw_schema(TRADES), KLINES.name: raw_schema(KLINES, "ignore")}
_REST_TRADE = ("id", "price", "qty", "quoteQty", "time", "isBuyerMaker", "isBestMatch")
_REST_KLINE = tuple(range(12))
_MICROSECONDS_SINCE = date(2025, 1, 1)
_TINY = Decimal("0.00000001")
_ZERO = pa.scalar(Decimal(0), _AMOUNT)


class Aggregate(NamedTuple):
    """Trades of one taker order at one price and time, of which the venue keeps first and last."""

    id: int
    first_id: int
    last_id: int
    time: int


def parse_checksum(body: bytes, name: str, url: str) -> str:
    """SHA-256 from a `<hex>  <file>` line; raises UnexpectedReplyError for anything else."""
    match = re.fullmatch(r"([0-9a-f]{64})\s+\*?(\S+)\s*", body.decode("utf-8", "replace"))
    if match is None or match[2] != name:
        raise UnexpectedReplyError(
            f"{url} should hold the SHA-256 of {name}, it holds {body[:120]!r}; something between "
            "here and the source answers in its place, check its address, then run again"
        )
    return match[1]


def parse_aggregates(body: bytes, part: MarketDay) -> list[Aggregate]:
    """Aggregated trades of a reply of REST, in its order."""
    schema = pa.schema([pa.field(name, pa.int64()) for name in Aggregate._fields])
    rows = raw_of_json(json_rows(body, str(part)), ("a", "f", "l", "T"), schema, part)
    return [Aggregate(**row) for row in rows.to_pylist()]


def trades_of_archive(
    archive: ZippedCsv, part: MarketDay, document: Document, *, has_header: bool
) -> Extract:
    """The trades of a downloaded archive, which are read and checked as they are asked for."""
    stream = archive.rows(_CSV[TRADES.name], has_header=has_header)

    def batches() -> Iterator[pa.RecordBatch]:
        rows, scale = 0, 0
        for raw in stream:
            scale = scale or time_scale(raw["time"][0].as_py(), part)
            batch = typed(raw, TRADES, scale, part, rows_before=rows)
            _check_trades(batch, part, rows)
            rows += batch.num_rows
            yield batch

    return Extract(
        batches=batches(),
        row_count=lambda: stream.row_count,
        documents=(document,),
        checks={"checksum_equals_published": "passed", "values_are_possible": "passed"},
    )


def klines_of_archive(
    archive: ZippedCsv, listing: Listing, part: MarketDay, document: Document, *, has_header: bool
) -> Extract:
    """All candles of a downloaded archive, which has at least one."""
    stream = archive.rows(_CSV[KLINES.name], has_header=has_header)
    batches: list[pa.RecordBatch] = []
    scale = 0
    for raw in stream:
        scale = scale or time_scale(raw["open_time"][0].as_py(), part)
        rows_before = sum(batch.num_rows for batch in batches)
        batches.append(typed(raw, KLINES, scale, part, rows_before=rows_before))
    return candles_of(
        batches,
        listing,
        part,
        scale=scale,
        row_count=stream.row_count,
        documents=(document,),
        checks={"checksum_equals_published": "passed"},
    )


def klines_of_page(rows: list[Any], part: MarketDay) -> pa.RecordBatch:
    """Candles of one page of REST."""
    raw = raw_of_json(rows, _REST_KLINE, _CSV[KLINES.name], part)
    return typed(raw, KLINES, rest_scale(part), part)


def trade_ids_of_page(rows: list[Any], part: MarketDay) -> npt.NDArray[np.int64]:
    """Ids of the trades of one page of REST."""
    return int64(raw_of_json(rows, ("id",), pa.schema([TRADES.schema.field("id")]), part)["id"])


def trades_of_pages(pages: Pages, part: MarketDay, last_id: int) -> Iterator[pa.RecordBatch]:
    """Trades of REST up to `last_id`, a page at a time."""
    rows = 0
    for page in pages:
        raw = raw_of_json(page, _REST_TRADE, _CSV[TRADES.name], part)
        # The last page goes on into the next day.
        raw = raw.filter(pc.less_equal(raw["id"], last_id))
        batch = typed(raw, TRADES, rest_scale(part), part, rows_before=rows)
        _check_trades(batch, part, rows)
        rows += batch.num_rows
        yield batch


def candles_of(
    batches: list[pa.RecordBatch],
    listing: Listing,
    part: MarketDay,
    *,
    scale: int,
    row_count: int,
    documents: tuple[Document, ...],
    checks: dict[str, str],
) -> Extract:
    """A day of candles, checked, with the holes of its grid and why they are there."""
    empty = pa.RecordBatch.from_pylist([], KLINES.schema)
    batch = pa.concat_batches([empty, *batches])
    check_grid(batch, MINUTE_US, part, column="open_time")
    check_close_times(batch, MINUTE_US, scale, part, columns=("open_time", "close_time"))
    check_prices(batch, part)
    check_claims(
        batch,
        part,
        (
            (pc.less(batch["count"], 0), "counts fewer than no trades"),
            (
                pc.xor(is_zero(batch["volume"]), is_zero(batch["count"])),
                "has volume without trades, or trades without volume",
            ),
            (pc.less(batch["taker_buy_volume"], _ZERO), "has negative taker volume"),
            (pc.less(batch["taker_buy_quote_volume"], _ZERO), "has negative taker volume"),
            (
                pc.greater(batch["taker_buy_volume"], batch["volume"]),
                "has more taker than all volume",
            ),
            (
                pc.greater(batch["taker_buy_quote_volume"], batch["quote_volume"]),
                "has more taker than all quote volume",
            ),
        ),
    )
    on_the_way = {"candles_are_on_the_grid": "passed", "candles_are_possible": "passed"}
    return Extract(
        batches=iter([batch]),
        row_count=lambda: row_count,
        documents=documents,
        checks=checks | (on_the_way if row_count else {}),
        holes=_holes(batch, listing, part),
    )


def quiet_day(claim: str, *documents: Document) -> Extract:
    """A listed day without a trade, and the claim by which that is known."""
    return Extract(
        batches=iter(()), row_count=lambda: 0, documents=documents, checks={claim: "passed"}
    )


def _holes(batch: pa.RecordBatch, listing: Listing, part: MarketDay) -> tuple[Hole, ...]:
    """Stretches of the day's minute grid without a candle, and why.

    Binance emits a candle with zero volume for a quiet minute and none while trading is halted
    (binance-public-data #153, #169), so a missing one is a halt, except before the first candle of
    the listing day and after the last one of the delisting day.
    """
    holes = []
    for starts, ends in grid_holes(int64(batch["open_time"]), MINUTE_US, part):
        is_before_listing = part.day == listing.since and starts == micros(part.starts_at)
        is_after_delisting = part.day == listing.until and ends == micros(part.ends_at)
        if is_before_listing or is_after_delisting:
            evidence = f"{listing.symbol} is listed {listing.since} to {listing.until or 'now'}"
            holes.append(Hole(starts, ends, "not_listed", evidence))
        else:
            evidence = "no kline was emitted, not even with zero volume"
            holes.append(Hole(starts, ends, "venue_halt", evidence))
    return tuple(holes)


def _check_trades(batch: pa.RecordBatch, part: MarketDay, rows_before: int) -> None:
    """Raise ValueOutOfRangeError for a price or size that no trade can have."""
    if batch.num_rows == 0:
        return
    # Less than a hundred-millionth of the quote currency is printed as none.
    for column, lowest in (("price", _TINY), ("qty", _TINY), ("quote_qty", Decimal(0))):
        if pc.min_max(batch[column])["min"].as_py() < lowest:
            at = pc.index(pc.less(batch[column], pa.scalar(lowest, _PRICE)), True).as_py()
            row = rows_before + at + 1
            raise ValueOutOfRangeError(
                f"{part}: {column} of row {row} is {batch[column][at]}, no trade can have that",
                row=row,
                rows=batch.slice(at, 1).to_pylist(),
            )


def sniff_header(head: list[str], dataset: Dataset, part: MarketDay) -> bool:
    """Whether a file has a header: spot files had none so far, futures files gained one (#278)."""
    if not head:
        return False
    fields, names = head[0].split(","), _CSV[dataset.name].names
    if len(fields) != len(names):
        raise MalformedRowError(
            f"{part}: a row has {len(fields)} columns, expected the {len(names)} columns "
            f"{', '.join(names)}; if Binance changed the format, this version cannot read it",
            row=1,
            text=head[0][:200],
        )
    if fields[0].isdigit():
        return False
    if fields != names:
        raise MalformedRowError(
            f"{part}: the header is {', '.join(fields)}, expected {', '.join(names)}; if Binance "
            "changed the format, this version cannot read it",
            row=1,
            text=head[0][:200],
        )
    return True


def rest_scale(part: MarketDay) -> int:
    """Microseconds per unit of the times that REST is asked for: those of the day's archive.

    Rows that REST gave must equal those that the archive will have.
    """
    return 1 if part.day >= _MICROSECONDS_SINCE else 1000
