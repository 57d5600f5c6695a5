"""Coinbase through the real client and lake: cursors, checkpoints, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest
from collecting import House, Wire, answered

from crypto_assets.errors import (
    ConflictingDuplicateError,
    DuplicateIdError,
    IntegrityError,
    MalformedRowError,
    MissingIdError,
    NotFinalError,
    OutsidePartitionError,
    SourceError,
    SourceMissingError,
    StuckCursorError,
    UnexpectedReplyError,
    UnorderedIdError,
    UnorderedTimeError,
    ValueOutOfRangeError,
)
from crypto_assets.lake import verify
from crypto_assets.sources import SIBLINGS
from crypto_assets.sources.coinbase import CANDLES, TRADES, Coinbase

from .coinbase_venue import (
    BTC,
    DAY,
    TODAY,
    Exchange,
    Row,
    day_of_trades,
    instant,
    part,
    prove,
    sandbox,
    trade,
)

BOTH = pytest.mark.parametrize("dataset", [TRADES, CANDLES], ids=["trades", "candles"])
NEXT_DAY = timedelta(days=1)


def pages_asked(wire: Wire) -> list[str | None]:
    """Cursors of the pages of trades that were asked for; look-ups of one trade left out."""
    asked = [request.url.params for request in wire.asked("/trades")]
    return [sent.get("after") for sent in asked if sent["limit"] == "1000"]


def refused(
    house: House, wire: httpx.BaseTransport, kind: type[Exception], words: str, *, heals: bool
) -> None:
    """Trades are refused under that name, nothing is committed, and a sound run heals it.

    `heals` says that the venue is sound when it is asked again.
    """
    with pytest.raises(kind, match=words):
        prove(house, TRADES, wire)
    assert house.contents() == {}
    assert prove(house, TRADES, wire if heals else sandbox()).status == "complete"


# --- a day -------------------------------------------------------------------------------------


def test_day_is_found_by_search_and_read_backwards(house: House) -> None:
    wire = sandbox()
    proof = prove(house, TRADES, wire)
    assert proof.status == "complete"
    assert proof.row_count == proof.source_row_count == proof.last_id - proof.first_id + 1
    assert proof.id_rule == "expected"
    assert proof.checks["ids_are_contiguous"] == proof.checks["pages_overlap"] == "passed"
    cursors = [int(cursor or 0) for cursor in pages_asked(wire)]
    assert cursors == sorted(cursors, reverse=True)
    assert len(cursors) == 3
    # 3,000,000 ids: halving alone takes 12 steps to a page.
    assert len(wire.requests) - len(cursors) <= 14
    (source,) = proof.source
    assert source.url == "https://api.exchange.coinbase.com/products/BTC-USD/trades"


def test_days_join_and_hold_all_trades_that_the_candles_count(house: House) -> None:
    days = [DAY, DAY + NEXT_DAY, TODAY - NEXT_DAY, BTC.since]
    for day in days:
        prove(house, TRADES, sandbox(), day=day)
        prove(house, CANDLES, sandbox(), day=day)
    files = f"'{house.lake.raw}/coinbase_%s/*/*/*.parquet'"
    assert duckdb.sql(
        f"""
        with built as (
            select
                time_bucket(interval '1 minute', time) as open_time, min(price) as low,
                max(price) as high, arg_min(price, trade_id) as open,
                arg_max(price, trade_id) as close, sum(size) as volume
            from {files % "trades"} group by all
        )
        select count(*) > 5000, bool_and(
            built.low = own.low and built.high = own.high and built.open = own.open
            and built.close = own.close and built.volume = own.volume
        )
        from built full join {files % "candles"} as own using (open_time)
        """
    ).fetchone() == (True, True)
    assert not [findings for _, findings in verify(house.lake, SIBLINGS) if findings]


def test_side_is_the_makers_as_given_and_times_keep_their_microseconds(house: House) -> None:
    rows = day_of_trades(2, time="2024-03-05T23:59:59.999999Z", side="sell", size="0.00000001")
    prove(house, TRADES, Exchange(rows))
    stored = duckdb.sql(f"from '{house.lake.file(part(TRADES))}' select * exclude (market, date)")
    assert stored.fetchall() == [
        (11, "buy", Decimal("0.01"), Decimal("40000.12"), datetime(2024, 3, 5)),
        (12, "sell", Decimal("1e-8"), Decimal("40000.12"),
         datetime(2024, 3, 5, 23, 59, 59, 999999)),
    ]  # fmt: skip


@pytest.mark.parametrize("write", [str, float, int], ids=["string", "number", "whole number"])
def test_numbers_may_be_strings_or_json_numbers(house: House, write: Any) -> None:
    rows = day_of_trades(3)
    rows = [row | {"price": write("7"), "size": write("2")} for row in rows]
    rows = [row | {"trade_id": str(row["trade_id"])} if write is str else row for row in rows]
    prove(house, TRADES, Exchange(rows))
    opened = int(instant(DAY).timestamp())
    candles = [[str(opened) if write is str else opened, *map(write, (1, 2, 1, 2, 3))]]
    prove(house, CANDLES, Exchange(candles=lambda start, _: candles if start % 86_400 == 0 else []))
    assert duckdb.sql(
        f"select distinct price, size from '{house.lake.file(part(TRADES))}'"
    ).fetchall() == [(7, 2)]
    assert duckdb.sql(
        f"select low, high, open, close, volume from '{house.lake.file(part(CANDLES))}'"
    ).fetchall() == [(1, 2, 1, 2, 3)]


def test_market_that_nobody_trades_any_more_ends_with_its_last_trade(house: House) -> None:
    proof = prove(house, TRADES, Exchange(day_of_trades(5)[:-1]))
    assert (proof.row_count, proof.first_id, proof.last_id) == (5, 11, 15)


def test_first_day_begins_with_the_first_trade(house: House) -> None:
    rows = [trade(at, instant(DAY, at)) for at in range(1, 6)]
    assert prove(house, TRADES, Exchange(rows)).row_count == 5
    (house.lake.file(part(TRADES))).unlink()
    later = [row | {"trade_id": row["trade_id"] + 100} for row in rows]
    with pytest.raises(SourceMissingError, match=r"before 101.*correct `since`"):
        prove(house, TRADES, Exchange(later))
    assert prove(house, TRADES, Exchange(later), listing=replace(BTC, since=DAY)).first_id == 101


def test_quiet_day_is_believed_if_the_ids_around_it_join(house: House) -> None:
    around = [trade(1, instant(DAY, -5)), trade(2, instant(DAY, 90_000))]
    proof = prove(house, TRADES, Exchange(around))
    assert (proof.status, proof.row_count) == ("empty", 0)
    assert proof.checks["ids_join_around_the_day"] == "passed"
    around[1]["trade_id"] = 4
    house.lake.file(part(TRADES)).unlink()
    with pytest.raises(MissingIdError, match="ids go from 1 before it to 4 after it"):
        prove(house, TRADES, Exchange(around))


def test_product_without_any_trade_is_missing(house: House) -> None:
    with pytest.raises(SourceMissingError, match="has no trade of it"):
        prove(house, TRADES, Exchange([]))


@BOTH
def test_day_is_fetched_once_it_is_settled(house: House, dataset: Any) -> None:
    wire = sandbox()
    with pytest.raises(NotFinalError, match="0:10:00 after"):
        prove(house, dataset, wire, now=instant(DAY, 86_400 + 599))
    assert not wire.requests
    assert prove(house, dataset, wire, now=instant(DAY, 86_400 + 600)).status == "complete"


# --- killed and resumed ------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", [TRADES, CANDLES], ids=["trades", "candles"])
def test_run_that_died_in_the_middle_goes_on_after_its_last_page(
    house: House, dataset: Any
) -> None:
    whole = sandbox()
    prove(house, dataset, whole)
    house.lake.file(part(dataset)).unlink()
    wire = sandbox()

    def broken(request: httpx.Request) -> httpx.Response | None:
        paged = [one for one in wire.requests if one.url.params.get("limit") != "1"]
        return answered(b"busy", 400) if len(paged) > 1 else None

    wire.broken = broken
    with pytest.raises(SourceError):
        prove(house, dataset, wire)
    assert house.contents() == {}
    died_at = wire.requests[-1].url
    wire.requests.clear()
    wire.broken = lambda _: None
    assert prove(house, dataset, wire).status == "complete"
    assert wire.requests[0].url == died_at
    assert [one.url for one in wire.requests] == [one.url for one in whole.requests][
        -len(wire.requests) :
    ]
    assert len(wire.requests) == (2 if dataset is TRADES else 4)


def test_server_error_in_the_middle_of_a_day_is_asked_again(house: House) -> None:
    wire, struck = sandbox(), []

    def broken(request: httpx.Request) -> httpx.Response | None:
        if len(pages_asked(wire)) == 3 and not struck:
            struck.append(request)
            return answered(b"<html>", 503)
        return None

    wire.broken = broken
    assert prove(house, TRADES, wire).status == "complete"
    assert struck


def test_trades_are_a_page_at_a_time_in_memory(tmp_path: Path) -> None:
    source = Coinbase(url="https://x", transport=Exchange(day_of_trades(2500)))
    extract = source.fetch(TRADES, BTC, part(TRADES), tmp_path)
    batches = [batch.num_rows for batch in extract.batches]
    assert sum(batches) == extract.row_count() == 2500
    assert max(batches) <= 1000
    source.close()


def test_limit_is_shared_through_a_file_unless_there_is_no_network(tmp_path: Path) -> None:
    Coinbase(url="https://x", limits_folder=tmp_path, transport=Exchange()).close()
    assert not list(tmp_path.iterdir())
    Coinbase(url="https://x", limits_folder=tmp_path).close()
    assert (tmp_path / "coinbase.sqlite").exists()


# --- pages that cannot be right ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ("page_overlap", DuplicateIdError, "of which some came already"),
        ("page_repeat", StuckCursorError, "says to go on from"),
        ("page_skip", MissingIdError, "got them from"),
        ("page_reverse", UnorderedIdError, "must begin with the newest trade"),
        ("cursor_reset", StuckCursorError, "says to go on from"),
    ],
)
def test_page_that_repeats_skips_or_reverses_is_refused(
    house: House, fault: str, kind: type[IntegrityError], words: str
) -> None:
    refused(house, sandbox(fault), kind, words, heals=False)


def at_second(change: Callable[[list[Row]], Any]) -> Callable[[list[Row], int | None], Any]:
    """Changes the page that follows the first."""
    seen: list[int | None] = []

    def spoil(rows: list[Row], after: int | None) -> Any:
        seen.append(after)
        return change([dict(row) for row in rows]) if len(seen) == 2 else rows

    return spoil


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (lambda rows: [], MissingIdError, "got none, though"),
        (lambda rows: rows[1:], MissingIdError, "got them from"),
        (lambda rows: [rows[0] | {"size": "9"}, *rows[1:]], ConflictingDuplicateError, "other con"),
        (lambda rows: [rows[0], *rows[:5]], DuplicateIdError, "is in a page twice, with the same"),
        (
            lambda rows: [rows[0], rows[1], rows[1] | {"price": "1"}, *rows[2:]],
            ConflictingDuplicateError,
            "is in a page twice, with other",
        ),
        (lambda rows: {"message": "down"}, UnexpectedReplyError, "expected a JSON array"),
        (lambda rows: [*rows[:3], "row"], MalformedRowError, "does not fit"),
    ],
)
def test_broken_second_page_is_refused(
    house: House, change: Any, kind: type[Exception], words: str
) -> None:
    exchange = Exchange(day_of_trades(1500), spoil=at_second(change))
    refused(house, exchange, kind, words, heals=True)


def test_page_that_comes_again_is_refused(house: House) -> None:
    first: list[list[Row]] = []

    def spoil(rows: list[Row], _: int | None) -> list[Row]:
        first.append(rows)
        return first[0]

    exchange = Exchange(day_of_trades(1500), spoil=spoil)
    refused(house, exchange, StuckCursorError, "got only ids from", heals=False)


def test_venue_that_ignores_the_cursor_is_refused(house: House) -> None:
    exchange = Exchange(day_of_trades(3000))
    wire = Wire(exchange)
    newest = exchange.handle_request(
        httpx.Request("GET", "https://x/products/BTC-USD/trades?limit=1")
    ).read()
    wire.broken = lambda request: answered(newest) if "after" in request.url.params else None
    refused(house, wire, StuckCursorError, "asked for a trade older than", heals=False)


# --- rows that cannot be right -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("odd", "kind", "words"),
    [
        ({"price": None}, MalformedRowError, "price of a row"),
        ({"price": "NaN"}, MalformedRowError, "price of a row"),
        ({"price": True}, MalformedRowError, "price of a row"),
        ({"price": "1.12345678901"}, MalformedRowError, "price of a row"),
        ({"price": 10**18}, MalformedRowError, "digits|does not fit"),
        ({"price": "0"}, ValueOutOfRangeError, "price of row 5 is 0"),
        ({"price": "-1"}, ValueOutOfRangeError, "price of row 5 is -1"),
        ({"size": 0}, ValueOutOfRangeError, "size of row 5 is 0"),
        ({"size": ""}, MalformedRowError, "size of a row"),
        ({"side": "BUY"}, MalformedRowError, "side of row 5 is BUY, expected buy or sell"),
        ({"side": None}, MalformedRowError, "side of a row"),
        ({"trade_id": 15.5}, MalformedRowError, "trade_id of a row"),
        ({"trade_id": None}, MalformedRowError, "trade_id of a row"),
        ({"time": "2024-03-05T00:00:09.1234567Z"}, MalformedRowError, "no instant in micro"),
        ({"time": "2024-03-05T00:00:09"}, MalformedRowError, "no instant in micro"),
        ({"time": "2024-02-30T00:00:09Z"}, MalformedRowError, "no instant in micro"),
        ({"time": 1709596809}, MalformedRowError, "time of a row"),
    ],
)
def test_wrong_row_is_refused(house: House, odd: Row, kind: type[Exception], words: str) -> None:
    refused(house, Exchange(day_of_trades(5, **odd)), kind, words, heals=False)


def test_missing_key_is_refused(house: House) -> None:
    rows = day_of_trades(5)
    del rows[12]["size"]
    refused(house, Exchange(rows), MalformedRowError, "size of a row of REST", heals=False)


@pytest.mark.parametrize(
    ("at", "kind", "words"),
    [
        (instant(DAY, -3600), OutsidePartitionError, "clock jumped"),
        (instant(DAY, 90_000), OutsidePartitionError, "clock jumped"),
        (instant(DAY, 500), UnorderedTimeError, r"10\.0 s before a trade with a lower id"),
    ],
)
def test_clock_that_jumps_is_refused(
    house: House, at: datetime, kind: type[Exception], words: str
) -> None:
    rows = [
        *(trade(1 + n, instant(DAY, -9 + n)) for n in range(5)),
        *(trade(6 + n, instant(DAY, 500 + 10 * n)) for n in range(4)),
        trade(11, instant(DAY, 86_400)),
    ]
    rows[7]["time"] = trade(0, at)["time"]
    refused(house, Exchange(rows), kind, words, heals=False)


def test_leap_second_is_no_jump(house: House) -> None:
    rows = day_of_trades(5)
    rows[12]["time"] = rows[11]["time"]
    rows[13]["time"] = rows[10]["time"]
    assert prove(house, TRADES, Exchange(rows)).row_count == 5
