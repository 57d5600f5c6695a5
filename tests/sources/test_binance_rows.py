"""What an archive may hold: each wrong row ends in its own error, and the lake as it was."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import duckdb
import pytest
from collecting import (
    BEFORE_LISTING,
    BTC,
    KLINES,
    TRADES,
    House,
    Shelf,
    csv_of,
    kline_rows,
    member,
    millis,
    trade_rows,
    zipped,
)

from crypto_assets.catalog import Dataset
from crypto_assets.errors import (
    BadArchiveError,
    BrokenCandleError,
    ConflictingDuplicateError,
    DuplicateIdError,
    IntegrityError,
    MalformedRowError,
    MissingIdError,
    OffGridError,
    OutsidePartitionError,
    UnorderedIdError,
    ValueOutOfRangeError,
    WrongTimeUnitError,
)
from crypto_assets.lake import read_proof

DAY = date(2024, 3, 5)
TRADE_HEADER = "id,price,qty,quote_qty,time,is_buyer_maker,is_best_match"
KLINE_HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
    "taker_buy_quote_volume,ignore"
)

Case = tuple[str, type[IntegrityError], str]


def assert_refused(
    house: House, dataset: Dataset, wire: object, kind: type[IntegrityError], words: str
) -> None:
    """The exact error, saying where and what to do; evidence kept; lake as it was."""
    house.prove(dataset, BEFORE_LISTING, wire)  # so that the lake has something to lose
    before = house.contents()
    with pytest.raises(IntegrityError) as caught:
        house.prove(dataset, DAY, wire)
    message = str(caught.value)
    assert type(caught.value) is kind, message
    assert words in message
    assert str(DAY) in message
    assert "Run the partition again" in message
    assert house.contents() == before
    (evidence,) = house.evidence(dataset, DAY)
    assert evidence["reason"] == kind.__name__
    assert words in evidence["message"]
    assert any(name.endswith(".zip") for name in evidence["files"])
    assert f"{evidence['reason']}-" in message, "the message says where the evidence is"


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ("extra_column", MalformedRowError, "8 columns"),
        ("wrong_unit", WrongTimeUnitError, "in seconds"),
        ("unit_flip", WrongTimeUnitError, "in microseconds, expected milliseconds throughout"),
        ("other_day", OutsidePartitionError, "is not of that UTC day"),
        ("duplicate", DuplicateIdError, "there twice, with the same content"),
        ("conflicting_duplicate", ConflictingDuplicateError, "there twice, with other content"),
        ("gap", MissingIdError, "3 ids are missing before id"),
        ("unordered", UnorderedIdError, "comes after a higher one"),
        ("too_many_digits", MalformedRowError, "price: Rescaling Decimal value would cause data"),
        ("negative_price", ValueOutOfRangeError, "price of row"),
        ("zero_price", ValueOutOfRangeError, "is 0E-8, no trade can have that"),
        ("nan_price", MalformedRowError, "'NaN' is not a valid decimal128"),
        ("zip_wrong_member", BadArchiveError, "OTHER-BTCUSDT-trades"),
        ("zip_extra_member", BadArchiveError, "__MACOSX"),
        ("zip_path_traversal", BadArchiveError, "../../BTCUSDT"),
        ("zip_bomb", BadArchiveError, "claims to inflate to 2147483648 bytes"),
        ("empty_archive", BadArchiveError, "is empty, but REST has trades of that day from id"),
    ],
)
def test_damaged_archive_of_trades_is_refused(
    house: House, fault: str, kind: type[IntegrityError], words: str
) -> None:
    assert_refused(house, TRADES, house.sandbox(fault), kind, words)


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ("extra_column", MalformedRowError, "13 columns"),
        ("wrong_unit", WrongTimeUnitError, "in seconds"),
        ("unit_flip", WrongTimeUnitError, "in microseconds, expected milliseconds throughout"),
        ("other_day", OutsidePartitionError, "is not of that UTC day"),
        ("duplicate", DuplicateIdError, "there twice, with the same content"),
        ("conflicting_duplicate", ConflictingDuplicateError, "there twice, with other content"),
        ("unordered", UnorderedIdError, "comes after a higher one"),
        ("too_many_digits", MalformedRowError, "open: Rescaling Decimal value would cause data"),
        ("negative_price", BrokenCandleError, "has a low above its open or close"),
        ("nan_price", MalformedRowError, "'NaN' is not a valid decimal128"),
        ("empty_archive", BadArchiveError, "is empty, but REST has trades of that day from id"),
    ],
)
def test_damaged_archive_of_klines_is_refused(
    house: House, fault: str, kind: type[IntegrityError], words: str
) -> None:
    assert_refused(house, KLINES, house.sandbox(fault), kind, words)


def changed(column: int, text: str, row: int = 2) -> list[list[str]]:
    rows = trade_rows(DAY)
    rows[row][column] = text
    return rows


@pytest.mark.parametrize(
    ("column", "text", "kind", "words"),
    [
        (1, "1.123456789", MalformedRowError, "row 3"),
        (1, "1e-9", MalformedRowError, "price"),
        (1, "12345678901.00000000", MalformedRowError, "row 3"),
        (1, "12345678901.1", MalformedRowError, "row 3 has a number with more digits"),
        (1, "99999999999", MalformedRowError, "more digits than its type holds"),
        (1, "1234567890123456789", MalformedRowError, "row 3"),
        (1, "inf", MalformedRowError, "'inf'"),
        (1, "", MalformedRowError, "price: Empty string"),
        (1, '"1.5"', MalformedRowError, "row 3"),
        (1, "0x10", MalformedRowError, "row 3"),
        (1, "0.00000000", ValueOutOfRangeError, "price of row 3"),
        (2, "0.00000000", ValueOutOfRangeError, "qty of row 3 is 0E-8"),
        (2, "-1.00000000", ValueOutOfRangeError, "qty of row 3"),
        (3, "-0.00000001", ValueOutOfRangeError, "quote_qty of row 3"),
        (0, "", MalformedRowError, "id: CSV conversion error to int64"),
        (0, "102.5", MalformedRowError, "row 3"),
        (0, "9223372036854775808", MalformedRowError, "row 3"),
        (4, "", MalformedRowError, "time: CSV conversion error"),
        (4, f"{millis(DAY)}000000", WrongTimeUnitError, "time of row 3"),
        (4, f"{millis(DAY)}000", WrongTimeUnitError, "in microseconds, expected milliseconds"),
        (4, f"{millis(DAY) - 1}", OutsidePartitionError, "time of row 3"),
        (4, f"{millis(DAY + timedelta(days=1))}", OutsidePartitionError, "time of row 3"),
        (4, "-1", OutsidePartitionError, "time of row 3, -1,"),
        (5, "yes", MalformedRowError, "is_buyer_maker: CSV conversion error to bool"),
        (5, "", MalformedRowError, "is_buyer_maker"),
        (6, "True,extra", MalformedRowError, "Expected 7 columns, got 8"),
    ],
)
def test_wrong_trade_is_named_by_row_and_column(
    house: House, column: int, text: str, kind: type[IntegrityError], words: str
) -> None:
    shelf = Shelf().put_csv(TRADES, DAY, csv_of(changed(column, text)))
    assert_refused(house, TRADES, shelf, kind, words)


@pytest.mark.parametrize(
    ("column", "text", "kind", "words"),
    [
        (0, str(millis(DAY) + 60_000 * 2 + 1), OffGridError, "does not open on its grid of 60 s"),
        (6, str(millis(DAY) + 60_000 * 3), OffGridError, "close time that does not fit"),
        # A minute cut short, though the next one is there: not a halt.
        (6, str(millis(DAY) + 60_000 * 2 + 9), OffGridError, "close time that does not fit"),
        (2, "1.55000000", BrokenCandleError, "high below its open or close"),
        (3, "1.55000000", BrokenCandleError, "low above its open or close"),
        (3, "0.00000000", BrokenCandleError, "a price of zero or less"),
        (5, "-1.00000000", BrokenCandleError, "negative volume"),
        (5, "0.00000000", BrokenCandleError, "trades without volume"),
        (8, "0", BrokenCandleError, "volume without trades"),
        (8, "-3", BrokenCandleError, "fewer than no trades"),
        (9, "10.00000001", BrokenCandleError, "more taker than all volume"),
        (9, "-0.00000001", BrokenCandleError, "negative taker volume"),
        (10, "15.00000001", BrokenCandleError, "more taker than all quote volume"),
        (10, "-1.00000000", BrokenCandleError, "negative taker volume"),
        (4, "12345678901", MalformedRowError, "row 3 has a number with more digits"),
        (11, "\udcff", MalformedRowError, "row 3"),
    ],
)
def test_wrong_candle_is_named(
    house: House, column: int, text: str, kind: type[IntegrityError], words: str
) -> None:
    rows = kline_rows(DAY)
    rows[2][column] = text
    csv = csv_of(rows).encode("utf-8", "surrogateescape")
    shelf = Shelf().put(KLINES, DAY, zipped((member(KLINES, DAY), csv)))
    assert_refused(house, KLINES, shelf, kind, words)


@pytest.mark.parametrize(
    ("dataset", "rows", "header"),
    [(TRADES, trade_rows(DAY), TRADE_HEADER), (KLINES, kline_rows(DAY), KLINE_HEADER)],
    ids=["trades", "klines"],
)
def test_header_may_be_there_or_not(
    house: House, dataset: Dataset, rows: list[list[str]], header: str
) -> None:
    with_header = house.prove(
        dataset, DAY, Shelf().put_csv(dataset, DAY, csv_of(rows, header=header))
    )
    house.lake.file(house.collector(Shelf()).part_of(with_header)).unlink()
    without = house.prove(dataset, DAY, Shelf().put_csv(dataset, DAY, csv_of(rows)))
    assert with_header.content_digest == without.content_digest
    assert with_header.row_count == with_header.source_row_count == len(rows)


@pytest.mark.parametrize(
    "header",
    [
        "price,id,qty,quote_qty,time,is_buyer_maker,is_best_match",
        "id,price,qty,quote_qty,time,is_buyer_maker,is_best",
        "version https://git-lfs.github.com/spec/v1",
    ],
)
def test_other_columns_are_refused(house: House, header: str) -> None:
    shelf = Shelf().put_csv(TRADES, DAY, csv_of(trade_rows(DAY), header=header))
    assert_refused(house, TRADES, shelf, MalformedRowError, "expected")


def test_empty_line_is_refused(house: House) -> None:
    csv = csv_of(trade_rows(DAY)).replace("\n", "\n\n", 1)
    assert_refused(house, TRADES, Shelf().put_csv(TRADES, DAY, csv), MalformedRowError, "row 2, ''")


@pytest.mark.parametrize("ending", ["\r\n", "\n"])
@pytest.mark.parametrize("last", ["", "ending"])
def test_line_ends_do_not_matter(house: House, ending: str, last: str) -> None:
    csv = csv_of(trade_rows(DAY)).replace("\n", ending)
    csv = csv if last else csv.removesuffix(ending)
    assert house.prove(TRADES, DAY, Shelf().put_csv(TRADES, DAY, csv)).row_count == 5


def test_booleans_and_exact_numbers_are_taken_from_their_text(house: House) -> None:
    rows = trade_rows(DAY, 3)
    rows[0][1], rows[1][1], rows[2][1] = "9999999999.99999999", "1E3", "0.00000001"
    rows[0][5], rows[1][5], rows[2][5] = "TRUE", "false", "True"
    proof = house.prove(TRADES, DAY, Shelf().put_csv(TRADES, DAY, csv_of(rows)))
    path = house.lake.file(house.collector(Shelf()).part_of(proof))
    assert duckdb.sql(
        f"select price::varchar, is_buyer_maker from '{path}' order by id"
    ).fetchall() == [
        ("9999999999.99999999", True),
        ("1000.00000000", False),
        ("0.00000001", True),
    ]


def test_candle_cut_short_before_a_halt_is_believed(house: House) -> None:
    rows = kline_rows(DAY, [*range(10), *range(20, 1440)])
    rows[9][6] = str(millis(DAY) + 9 * 60_000 + 41_646)
    proof = house.prove(KLINES, DAY, Shelf().put_csv(KLINES, DAY, csv_of(rows)))
    (gap,) = proof.gaps
    assert (gap.reason, f"{gap.started_at:%H:%M}-{gap.ended_at:%H:%M}") == (
        "venue_halt",
        "00:10-00:20",
    )
    assert proof == read_proof(house.lake.file(house.collector(Shelf()).part_of(proof)))


def test_holes_are_explained_on_the_first_and_last_day_of_a_market(house: House) -> None:
    listed = replace(BTC, since=DAY, until=DAY)
    minutes = [*range(600, 700), *range(710, 1000)]
    shelf = Shelf().put_csv(KLINES, DAY, csv_of(kline_rows(DAY, minutes)))
    proof = house.prove(KLINES, DAY, shelf, listed)
    assert [(g.reason, f"{g.started_at:%H:%M}", f"{g.ended_at:%H:%M}") for g in proof.gaps] == [
        ("not_listed", "00:00", "10:00"),
        ("venue_halt", "11:40", "11:50"),
        ("not_listed", "16:40", "00:00"),
    ]
    assert proof.gap_count == 3
