"""Coinbase's own candles, products that it does not have, and what it really published."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from collecting import House, Wire, answered

from crypto_assets.catalog import Dataset, MarketDay
from crypto_assets.errors import (
    BrokenCandleError,
    ConflictingDuplicateError,
    DuplicateIdError,
    MalformedRowError,
    NotFoundError,
    OffGridError,
    OutsidePartitionError,
    UnexpectedReplyError,
    UnknownSymbolError,
    UnorderedIdError,
)
from crypto_assets.sources.coinbase import CANDLES, TRADES
from crypto_assets.sources.coinbase_rows import candles_of, candles_of_reply
from crypto_assets.sources.columns import json_rows

from .coinbase_venue import BTC, DAY, Exchange, candle, every_minute, instant, part, prove, sandbox

BOTH = pytest.mark.parametrize("dataset", [TRADES, CANDLES], ids=["trades", "candles"])
START = int(instant(DAY).timestamp())


def test_five_requests_that_overlap_by_a_minute_cover_a_day(house: House) -> None:
    wire = Wire(Exchange(candles=every_minute))
    proof = prove(house, CANDLES, wire)
    assert (proof.row_count, proof.gaps) == (1440, ())
    asked = [(request.url.params["start"], request.url.params["end"]) for request in wire.requests]
    assert asked[:2] == [
        ("2024-03-05T00:00:00Z", "2024-03-05T04:59:00Z"),
        ("2024-03-05T04:59:00Z", "2024-03-05T09:58:00Z"),
    ]
    assert asked[-1] == ("2024-03-05T19:56:00Z", "2024-03-06T00:00:00Z")
    assert {request.url.params["granularity"] for request in wire.requests} == {"60"}


def test_a_day_is_whole_whether_or_not_the_end_is_included(house: House) -> None:
    exchange = Exchange(candles=lambda start, end: every_minute(start, end - 60))
    assert prove(house, CANDLES, exchange).row_count == 1440


def test_candles_that_precede_the_start_are_left_out(house: House) -> None:
    exchange = Exchange(candles=lambda start, end: every_minute(start - 7200, end)[:300])
    assert prove(house, CANDLES, exchange).row_count == 1440


def test_minutes_without_a_candle_are_holes(house: House) -> None:
    quiet = range(START + 600, START + 780, 60)
    exchange = Exchange(
        candles=lambda start, end: [row for row in every_minute(start, end) if row[0] not in quiet]
    )
    proof = prove(house, CANDLES, exchange)
    (gap,) = proof.gaps
    assert (proof.row_count, gap.reason) == (1437, "no_trades")
    assert (gap.started_at, gap.ended_at) == (instant(DAY, 600), instant(DAY, 780))


def test_day_without_candles_is_empty(house: House) -> None:
    proof = prove(house, CANDLES, Exchange())
    assert (proof.status, [gap.reason for gap in proof.gaps]) == ("empty", ["no_trades"])


def refused(house: House, reply: Any, kind: type[Exception], words: str) -> None:
    def candles(start: int, end: int) -> Any:
        return reply(every_minute(start, end)) if start == START else every_minute(start, end)

    with pytest.raises(kind, match=words):
        prove(house, CANDLES, Exchange(candles=candles))
    assert house.contents() == {}


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (lambda rows: rows[::-1], UnorderedIdError, "must begin with the newest"),
        (lambda rows: [rows[0], *rows], DuplicateIdError, "is in a reply twice"),
        (lambda rows: [candle(rows[0][0], volume=11), *rows[1:]], ConflictingDuplicateError, "oth"),
        (lambda rows: [candle(START + 86_400), *rows], OutsidePartitionError, "asked for candles"),
        (lambda rows: [[r[0] * 1000, *r[1:]] for r in rows], OutsidePartitionError, "asked for"),
        (lambda rows: [*rows[:-1], candle(START + 7)], OffGridError, "does not open on its grid"),
        (lambda rows: [*rows[:-1], candle(START, low=1.9)], BrokenCandleError, "low above"),
        (lambda rows: [*rows[:-1], candle(START, high=1.2)], BrokenCandleError, "high below"),
        (lambda rows: [*rows[:-1], candle(START, volume=-1)], BrokenCandleError, "negative volume"),
        (lambda rows: [*rows[:-1], candle(START, low=0)], BrokenCandleError, "price of zero"),
        (lambda rows: [*rows[:-1], candle(START, low="NaN")], MalformedRowError, "low of a row"),
        (lambda rows: [*rows[:-1], candle(START, low=None)], MalformedRowError, "low of a row"),
        (lambda rows: [*rows[:-1], rows[-1][:5]], MalformedRowError, "a candle is no list of"),
        (lambda rows: [*rows[:-1], [1.5, *rows[-1][1:]]], MalformedRowError, "is no list of"),
        (lambda rows: [*rows[:-1], {"time": START}], MalformedRowError, "is no list of"),
        (lambda rows: {"message": "Internal"}, UnexpectedReplyError, "expected a JSON array"),
    ],
)
def test_wrong_reply_is_refused(
    house: House, reply: Any, kind: type[Exception], words: str
) -> None:
    refused(house, reply, kind, words)


@pytest.mark.parametrize(("fault", "kind"), [("candle_high_below_low", BrokenCandleError)])
def test_candle_with_high_below_low_is_refused(house: House, fault: str, kind: Any) -> None:
    with pytest.raises(kind):
        prove(house, CANDLES, sandbox(fault))
    assert house.contents() == {}


# --- products that the venue does not have -----------------------------------------------------


@BOTH
def test_unknown_renamed_or_delisted_product_is_named(house: House, dataset: Dataset) -> None:
    with pytest.raises(UnknownSymbolError, match=r"product BTC-USD; if it was renamed or delist"):
        prove(house, dataset, sandbox("unknown_product"))
    assert house.contents() == {}


@BOTH
def test_another_404_is_not_taken_for_an_unknown_product(house: House, dataset: Dataset) -> None:
    wire = sandbox()
    wire.broken = lambda _: answered(b"<html>no such page</html>", 404)
    with pytest.raises(NotFoundError) as caught:
        prove(house, dataset, wire)
    assert not isinstance(caught.value, UnknownSymbolError)


@BOTH
@pytest.mark.parametrize("fault", ["html_body", "json_error_body"])
def test_error_body_with_status_200_is_refused(house: House, dataset: Dataset, fault: str) -> None:
    with pytest.raises(UnexpectedReplyError, match="expected a JSON array"):
        prove(house, dataset, sandbox(fault))
    assert house.contents() == {}
    assert prove(house, dataset, sandbox()).status == "complete"


def test_recorded_error_pages_are_refused(house: House, realdata: Path) -> None:
    for path in sorted((realdata / "bad_data/http_bodies").glob("*200.*")):
        wire, body = sandbox(), path.read_bytes()
        wire.broken = lambda _, body=body: answered(body)  # type: ignore[misc]
        with pytest.raises(UnexpectedReplyError):
            prove(house, TRADES, wire)


# --- what Coinbase really published ------------------------------------------------------------


def recorded(realdata: Path) -> bytes:
    return (realdata / "coinbase/rest/candles_BTC_1m_2018-02-01.json").read_bytes()


def test_recorded_candles_keep_every_digit(house: House, realdata: Path) -> None:
    body, day = recorded(realdata), date(2018, 2, 1)
    of_day = MarketDay(CANDLES.name, BTC.market, day)
    rows = json_rows(body, "candles")
    start = int(instant(day).timestamp())
    batch = candles_of(candles_of_reply(rows, start, start + 17_940, of_day), of_day)
    assert batch.num_rows == 10
    assert batch["open_time"][0].as_py() == datetime(2018, 2, 1)
    stored = [tuple(row.values())[1:] for row in batch.to_pylist()]
    assert stored == [tuple(Decimal(value) for value in row[1:]) for row in reversed(rows)]
    assert Decimal("6.6482725600000006") in [row[-1] for row in stored]


def test_recorded_candles_come_through_the_lake(house: House, realdata: Path) -> None:
    body, day = recorded(realdata), date(2018, 2, 1)
    wire = Wire(Exchange())
    wire.broken = lambda request: (
        answered(body) if request.url.params["start"] == "2018-02-01T00:00:00Z" else None
    )
    proof = prove(house, CANDLES, wire, day=day)
    assert (proof.row_count, len(proof.gaps)) == (10, 1)
    stored = duckdb.sql(
        f"select sum(volume), min(low), max(high) from '{house.lake.file(part(CANDLES, day))}'"
    ).fetchone()
    rows = json.loads(body, parse_float=Decimal)
    volume = sum(Decimal(row[5]) for row in rows)
    assert stored == (volume, min(row[1] for row in rows), max(row[2] for row in rows))


def test_outage_of_2023_03_04_is_found_to_the_minute(house: House, realdata: Path) -> None:
    """Recorded candles, laid out as the venue's replies."""
    day = date(2023, 3, 4)
    lines = (realdata / f"coinbase/BTC-USD_1m/{day}.csv").read_text().splitlines()
    rows = []
    for line in lines:
        opened, *values = line.split(",")
        if opened[0].isdigit():
            at = datetime.fromisoformat(opened).replace(tzinfo=UTC)
            open_, high, low, close, volume = map(float, values[:5])
            rows.append([int(at.timestamp()), low, high, open_, close, volume])
    rows.sort(reverse=True)
    exchange = Exchange(candles=lambda start, end: [row for row in rows if start <= row[0] <= end])
    proof = prove(house, CANDLES, exchange, day=day)
    assert proof.row_count == len(rows) == 1154
    longest = max(proof.gaps, key=lambda gap: gap.ended_at - gap.started_at)
    assert (longest.started_at, longest.ended_at) == (
        datetime(2023, 3, 4, 17, 0, tzinfo=UTC), datetime(2023, 3, 4, 21, 37, tzinfo=UTC),
    )  # fmt: skip
