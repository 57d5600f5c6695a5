"""Binance through the real client and lake: the archive's wire, and REST for what it lacks."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest
from collecting import (
    BEFORE_LISTING,
    BTC,
    KLINES,
    TODAY,
    TRADES,
    House,
    Shelf,
    Wire,
    answered,
    csv_of,
    kline_rows,
    member,
    millis,
    noon,
    trade_rows,
)
from pyarrow import feather

from crypto_assets.catalog import Dataset, MarketDay
from crypto_assets.errors import (
    BadArchiveError,
    ChecksumMismatchError,
    IntegrityError,
    MalformedRowError,
    MissingIdError,
    NotFinalError,
    PermanentSourceError,
    RowCountMismatchError,
    SourceMissingError,
    StorageError,
    UnexpectedReplyError,
    UnknownSymbolError,
    UnorderedIdError,
    WrongTimeUnitError,
)
from crypto_assets.sources.binance import REST_KLINES, Binance
from crypto_assets.sources.binance_rows import klines_of_page, parse_aggregates
from crypto_assets.sources.columns import json_rows, time_scale

DAY = date(2024, 3, 5)
IN_MICROSECONDS = date(2025, 3, 5)
NEXT_DAY = timedelta(days=1)


def just_after(day: date) -> dict[str, Any]:
    """Noon of the next day, when REST is asked for what the archive does not have yet."""
    return {"now": noon(day + NEXT_DAY)}


# --- the archive -------------------------------------------------------------------------------


def test_proof_says_where_the_rows_came_from(house: House) -> None:
    wire = house.sandbox()
    proof = house.prove(TRADES, DAY, wire)
    (source,) = proof.source
    assert source.url.endswith("/data/spot/daily/trades/BTCUSDT/BTCUSDT-trades-2024-03-05.zip")
    assert len(source.sha256) == 64
    assert source.bytes > 0
    assert proof.status == "complete"
    assert proof.row_count == proof.source_row_count == proof.last_id - proof.first_id + 1
    assert proof.checks["checksum_equals_published"] == "passed"
    assert len(wire.requests) == 2


@pytest.mark.parametrize(("fault", "downloads"), [("wrong_checksum:1", 1), ("truncated:1", 2)])
def test_wrong_checksum_is_healed_by_asking_again(house: House, fault: str, downloads: int) -> None:
    wire = house.sandbox(fault)
    assert house.prove(TRADES, DAY, wire).status == "complete"
    assert len(wire.asked(".zip.CHECKSUM")) == 2
    assert len(wire.asked(".zip")) == downloads


@pytest.mark.parametrize("fault", ["wrong_checksum", "truncated"])
def test_checksum_that_stays_wrong_ends_in_quarantine(house: House, fault: str) -> None:
    house.prove(TRADES, BEFORE_LISTING, Shelf())
    before = house.contents()
    wire = house.sandbox(fault)
    with pytest.raises(ChecksumMismatchError, match=r"twice in a row.*Run the partition again"):
        house.prove(TRADES, DAY, wire)
    assert len(wire.asked(".zip")) == 2
    assert house.contents() == before
    (evidence,) = house.evidence(TRADES, DAY)
    assert evidence["reason"] == "ChecksumMismatchError"
    assert evidence["evidence"]["sha256"] != evidence["evidence"]["published_sha256"]
    assert "BTCUSDT-trades-2024-03-05.zip" in evidence["files"]
    assert house.prove(TRADES, DAY, house.sandbox()).status == "complete"


def test_archive_that_a_killed_run_left_is_not_downloaded_again(house: House) -> None:
    shelf = Shelf().put_csv(TRADES, DAY, csv_of(trade_rows(DAY)))
    (path,) = (path for path in shelf.files if path.endswith(".zip"))
    kept = house.lake.inflight(MarketDay(TRADES.name, BTC.market, DAY)) / Path(path).name
    kept.parent.mkdir(parents=True)
    kept.write_bytes(shelf.files[path])
    wire = Wire(shelf)
    assert house.prove(TRADES, DAY, wire).row_count == 5
    assert not wire.asked(".zip")


def test_other_archive_that_was_left_is_replaced(house: House) -> None:
    kept = house.lake.inflight(MarketDay(TRADES.name, BTC.market, DAY))
    kept.mkdir(parents=True)
    (kept / f"BTCUSDT-trades-{DAY}.zip").write_bytes(b"PK of yesterday")
    shelf = Shelf().put_csv(TRADES, DAY, csv_of(trade_rows(DAY)))
    assert house.prove(TRADES, DAY, shelf).row_count == 5


@pytest.mark.parametrize("fault", ["html_body", "json_error_body"])
@pytest.mark.parametrize("dataset", [TRADES, KLINES], ids=["trades", "klines"])
def test_error_page_with_status_200_is_no_archive(
    house: House, fault: str, dataset: Dataset
) -> None:
    before = house.contents()
    with pytest.raises(UnexpectedReplyError, match=r"\.CHECKSUM should hold the SHA-256 of"):
        house.prove(dataset, DAY, house.sandbox(fault))
    assert house.contents() == before
    assert house.prove(dataset, DAY, house.sandbox()).status == "complete"


@pytest.mark.parametrize(
    "body",
    ["http_bodies/html_www.x-rates.com_http200.html", "http_bodies/binance_1121.json",
     "http_bodies/node_04_http200.json", "lfs_pointer/CryptoTrades_20210922.csv"],
)  # fmt: skip
@pytest.mark.parametrize("ending", [".zip", ".CHECKSUM"])
def test_recorded_body_in_place_of_the_archive_is_refused(
    house: House, realdata: Path, body: str, ending: str
) -> None:
    wire = Wire(Shelf().put_csv(TRADES, DAY, csv_of(trade_rows(DAY))))
    content = (realdata / "bad_data" / body).read_bytes()
    wire.broken = lambda request: answered(content) if request.url.path.endswith(ending) else None
    with pytest.raises(UnexpectedReplyError, match=r"BTCUSDT-trades-2024-03-05\.zip"):
        house.prove(TRADES, DAY, wire)
    assert house.contents() == {}
    wire.broken = lambda _: None
    assert house.prove(TRADES, DAY, wire).status == "complete"


def test_zip_of_other_empty_files_is_refused(house: House, realdata: Path) -> None:
    archive = (realdata / "bad_data/archives/zero_length_members.zip").read_bytes()
    with pytest.raises(BadArchiveError, match=r"holds \['1.tmp', '2.tmp'\], expected exactly"):
        house.prove(TRADES, DAY, Shelf().put(TRADES, DAY, archive))
    assert house.contents() == {}


@pytest.mark.parametrize("dataset", [TRADES, KLINES], ids=["trades", "klines"])
@pytest.mark.parametrize("header", [True, False])
def test_archive_without_rows_is_an_empty_day_only_if_rest_agrees(
    house: House, dataset: Dataset, header: bool
) -> None:
    names = [field.name for field in dataset.schema]
    names += ["ignore"] if dataset is KLINES else []
    csv = ",".join(names) + "\n" if header else ""
    proof = house.prove(dataset, DAY, Shelf(_quiet).put_csv(dataset, DAY, csv))
    assert (proof.status, proof.row_count, proof.source_row_count) == ("empty", 0, 0)
    assert proof.checks["rest_has_no_trades"] == "passed"
    assert [Path(source.url).name for source in proof.source] == [
        Path(member(dataset, DAY)).with_suffix(".zip").name,
        "aggTrades?symbol=BTCUSDT",
    ]
    reasons = [(gap.reason, gap.ended_at - gap.started_at) for gap in proof.gaps]
    assert reasons == ([("venue_halt", NEXT_DAY)] if dataset is KLINES else [])
    house.lake.file(MarketDay(dataset.name, BTC.market, DAY)).unlink()
    with pytest.raises(
        BadArchiveError, match="is empty, but REST has trades of that day from id 7"
    ):
        house.prove(dataset, DAY, Shelf(_busy).put_csv(dataset, DAY, csv))


def _aggregate(number: int, first: int, last: int, time: int) -> dict[str, Any]:
    return {"a": number, "p": "1", "q": "1", "f": first, "l": last, "T": time, "m": True, "M": True}


AFTER = _aggregate(4, 7, 7, millis(DAY + NEXT_DAY))


def _quiet(path: str, sent: httpx.QueryParams) -> Any:
    """Trades 5 and 6 the day before, trade 7 the day after."""
    before = _aggregate(3, 5, 6, millis(DAY) - 1)
    if path == "klines":
        return []
    if "fromId" in sent:
        return [before] if sent["fromId"] == "3" else [AFTER]
    return [AFTER]


def _busy(path: str, sent: httpx.QueryParams) -> Any:
    return [_aggregate(4, 7, 9, millis(DAY))]


# --- a day that the archive does not have ------------------------------------------------------


def test_day_before_listing_is_not_asked_for(house: House) -> None:
    wire = house.sandbox()
    for dataset in (TRADES, KLINES):
        proof = house.prove(dataset, BEFORE_LISTING, wire)
        (gap,) = proof.gaps
        assert (proof.status, gap.reason, gap.ended_at - gap.started_at) == (
            "not_listed", "not_listed", NEXT_DAY,
        )  # fmt: skip
        assert "2017-08-17" in gap.evidence
    assert wire.requests == []


def test_day_after_delisting_is_not_asked_for(house: House) -> None:
    wire = house.sandbox()
    proof = house.prove(TRADES, DAY, wire, replace(BTC, until=DAY - NEXT_DAY))
    assert proof.status == "not_listed"
    assert wire.requests == []


@pytest.mark.parametrize("dataset", [TRADES, KLINES], ids=["trades", "klines"])
def test_archive_missing_for_long_is_an_error(house: House, dataset: Dataset) -> None:
    with pytest.raises(SourceMissingError, match=r"no longer late.*correct `since` or `until`"):
        house.prove(dataset, DAY, house.sandbox("missing_archive"))
    assert house.contents() == {}


def test_day_that_is_not_over_is_refused_unasked(house: House) -> None:
    wire = house.sandbox()
    with pytest.raises(NotFinalError, match=r"ends at 2025-06-16T00:00:00.*once it is over"):
        house.prove(TRADES, TODAY, wire)
    last_instant = datetime(2025, 6, 15, 23, 59, 59, 999999, tzinfo=UTC)
    with pytest.raises(NotFinalError):
        house.prove(TRADES, TODAY, wire, now=last_instant)
    assert wire.requests == []


def test_unknown_symbol_names_the_catalogue(house: House) -> None:
    listing = replace(BTC, market="BTC-USTD", symbol="BTCUSTD")
    for dataset in (TRADES, KLINES):
        with pytest.raises(UnknownSymbolError, match=r"BTCUSTD; correct it in markets\.yaml"):
            house.prove(dataset, DAY, house.sandbox(), listing)
    assert house.contents() == {}


@pytest.mark.parametrize(
    ("first", "before", "status"),
    [
        (
            _aggregate(4, 7, 7, millis(DAY + NEXT_DAY)),
            _aggregate(3, 5, 6, millis(DAY) - 1),
            "empty",
        ),
        # The day's first trade is the market's first ever.
        (_aggregate(0, 0, 0, millis(DAY + NEXT_DAY)), None, "empty"),
        # Nobody traded since: the newest trade is older than the day.
        (None, _aggregate(3, 5, 6, millis(DAY) - 1), "empty"),
        (None, None, "empty"),
        # REST has forgotten what came before, or ids between the two are missing.
        (AFTER, None, None),
        (AFTER, _aggregate(3, 5, 5, millis(DAY) - 1), None),
        (AFTER, _aggregate(3, 5, 6, millis(DAY)), None),
    ],
)
def test_quiet_day_is_empty_only_if_the_ids_around_it_join(
    house: House, first: Any, before: Any, status: str | None
) -> None:
    def rest(path: str, sent: httpx.QueryParams) -> Any:
        assert path == "aggTrades"
        row = first if "startTime" in sent else before
        return [row] if row else []

    if status is None:
        with pytest.raises(SourceMissingError, match="may have forgotten them; correct `since`"):
            house.prove(TRADES, DAY, Shelf(rest))
        assert house.contents() == {}
    else:
        proof = house.prove(TRADES, DAY, Shelf(rest))
        assert (proof.status, proof.row_count) == (status, 0)
        assert proof.source[0].bytes > 0


# --- REST --------------------------------------------------------------------------------------


@pytest.mark.parametrize("day", [DAY, IN_MICROSECONDS], ids=["ms", "us"])
@pytest.mark.parametrize("dataset", [TRADES, KLINES], ids=["trades", "klines"])
def test_rest_gives_the_same_content_as_the_archive(
    house: House, tmp_path: Path, dataset: Dataset, day: date
) -> None:
    wire = house.sandbox("missing_archive", today=day + NEXT_DAY)
    of_rest = house.prove(dataset, day, wire, **just_after(day))
    unit = "MICROSECOND" if day == IN_MICROSECONDS else "MILLISECOND"
    pages = wire.asked("historicalTrades") + wire.asked("klines")
    assert {page.headers["X-MBX-TIME-UNIT"] for page in pages} == {unit}
    with House(tmp_path / "other") as other:
        of_archive = other.prove(dataset, day, other.sandbox())
    assert of_rest.content_digest == of_archive.content_digest
    assert of_rest.row_count == of_rest.source_row_count == of_archive.row_count
    assert (of_rest.first_id, of_rest.last_id) == (of_archive.first_id, of_archive.last_id)
    assert of_rest.first_at == of_archive.first_at
    assert "historicalTrades" in of_rest.source[-1].url or "klines" in of_rest.source[-1].url


def test_klines_of_rest_are_those_of_the_archive_however_old_the_day(house: House) -> None:
    of_rest = house.prove(REST_KLINES, DAY, house.sandbox("missing_archive"))
    of_archive = house.prove(KLINES, DAY, house.sandbox())
    assert of_rest.content_digest == of_archive.content_digest
    assert [source.url.partition("?")[0] for source in of_rest.source] == [
        "https://api.binance.com/api/v3/klines"
    ]


def trades_api(
    count: int, *, later: int = 0, first_id: int = 100, **odd: Any
) -> Callable[[str, httpx.QueryParams], Any]:
    """REST of a market with `count` trades on DAY, one every 10 s, and `later` ones after it."""
    times = [millis(DAY) + 10_000 * at for at in range(count)]
    times += [millis(DAY + NEXT_DAY) + at for at in range(later)]
    rows = [
        {"id": first_id + at, "price": "1.5", "qty": "2", "quoteQty": "3", "time": time,
         "isBuyerMaker": True, "isBestMatch": True} | odd
        for at, time in enumerate(times)
    ]  # fmt: skip

    def rest(path: str, sent: httpx.QueryParams) -> Any:
        if path == "historicalTrades":
            skip = int(sent["fromId"]) - first_id
            return rows[skip : skip + int(sent["limit"])]
        since = int(sent.get("startTime", 0))
        found = [(at, time) for at, time in enumerate(times) if time >= since][:1]
        return [_aggregate(at, first_id + at, first_id + at, time) for at, time in found]

    return rest


@pytest.mark.parametrize("later", [0, 1, 1500])
@pytest.mark.parametrize("count", [1, 999, 1000, 1001, 2000, 2500])
def test_pages_end_where_the_day_ends(house: House, count: int, later: int) -> None:
    wire = Wire(Shelf(trades_api(count, later=later)))
    proof = house.prove(TRADES, DAY, wire, **just_after(DAY))
    assert (proof.first_id, proof.last_id, proof.row_count) == (100, 99 + count, count)
    asked = [int(request.url.params["fromId"]) for request in wire.asked("historicalTrades")]
    # Nobody having traded after midnight, a full last page does not say that it is the last.
    pages = -(-count // 1000) + (later == 0 and count % 1000 == 0)
    assert asked == [100 + 1000 * at for at in range(pages)]
    assert not house.lake.inflight(MarketDay(TRADES.name, BTC.market, DAY)).exists()


def test_trade_made_while_the_pages_are_read_is_left_to_its_own_day(house: House) -> None:
    before, after = trades_api(10), trades_api(10, later=3)
    has_traded = False

    def rest(path: str, sent: httpx.QueryParams) -> Any:
        nonlocal has_traded
        has_traded |= path == "historicalTrades"
        return (after if has_traded else before)(path, sent)

    assert house.prove(TRADES, DAY, Shelf(rest), **just_after(DAY)).last_id == 109


def test_pages_of_a_failed_run_are_not_asked_for_again(house: House) -> None:
    wire = Wire(Shelf(trades_api(4500, later=1)))
    wire.broken = lambda request: (
        answered(b'{"code":-1105,"msg":"no"}', 400)
        if request.url.params.get("fromId") == "3100"
        else None
    )
    with pytest.raises(PermanentSourceError):
        house.prove(TRADES, DAY, wire, **just_after(DAY))
    assert len(wire.asked("historicalTrades")) == 4
    assert house.contents() == {}
    wire.broken = lambda _: None
    wire.requests.clear()
    assert house.prove(TRADES, DAY, wire, **just_after(DAY)).row_count == 4500
    asked = [request.url.params["fromId"] for request in wire.asked("historicalTrades")]
    assert asked == ["3100", "4100"]


@pytest.mark.parametrize("dataset", [TRADES, KLINES], ids=["trades", "klines"])
def test_error_page_with_status_200_is_not_kept_as_a_page(house: House, dataset: Dataset) -> None:
    wire = house.sandbox("missing_archive", today=DAY + NEXT_DAY)
    wire.broken = lambda request: (
        answered(b"<html>Checking your browser</html>")
        if request.url.path.endswith(("historicalTrades", "klines"))
        else None
    )
    with pytest.raises(UnexpectedReplyError, match=r"<html>Checking.*run again"):
        house.prove(dataset, DAY, wire, **just_after(DAY))
    wire.broken = lambda _: None
    assert house.prove(dataset, DAY, wire, **just_after(DAY)).status == "complete"


@pytest.mark.parametrize(
    ("odd", "kind", "words"),
    [
        ({"price": 1.5}, MalformedRowError, "price of a row of REST does not fit"),
        ({"price": None}, MalformedRowError, "price of a row of REST does not fit"),
        ({"price": "NaN"}, MalformedRowError, "price of a row of REST does not fit"),
        ({"price": "1.123456789"}, MalformedRowError, "price of a row of REST does not fit"),
        ({"price": "12345678901.1"}, MalformedRowError, "digits|does not fit"),
        ({"qty": ""}, MalformedRowError, "qty of a row of REST does not fit"),
        ({"id": "100"}, MalformedRowError, "id of a row of REST does not fit"),
        ({"id": 2**63}, MalformedRowError, "id of a row of REST does not fit"),
        ({"id": 99}, MissingIdError, "asked for trades from id 100 on and gave them from 99"),
        ({"isBuyerMaker": 1}, MalformedRowError, "is_buyer_maker of a row of REST does not fit"),
        ({"time": f"{millis(DAY)}"}, MalformedRowError, "time of a row of REST does not fit"),
        ({"time": millis(DAY) * 1000}, WrongTimeUnitError, "in microseconds, expected millisec"),
    ],
)
def test_wrong_row_of_rest_is_refused(
    house: House, odd: dict[str, Any], kind: type[IntegrityError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        house.prove(TRADES, DAY, Shelf(trades_api(1, **odd)), **just_after(DAY))
    assert house.contents() == {}
    (evidence,) = house.evidence(TRADES, DAY)
    assert f"trades-{100:020d}.json" in evidence["files"]


@pytest.mark.parametrize("row", [["abc"], [[1, 2]], [{}], [5], [None]])
@pytest.mark.parametrize("dataset", [TRADES, KLINES], ids=["trades", "klines"])
def test_row_of_rest_in_another_form_is_refused(
    house: House, dataset: Dataset, row: list[Any]
) -> None:
    api = trades_api(5)

    def rest(path: str, sent: httpx.QueryParams) -> Any:
        return api(path, sent) if path == "aggTrades" else row

    with pytest.raises(MalformedRowError, match="a row of REST"):
        house.prove(dataset, DAY, Shelf(rest), **just_after(DAY))


def test_fewer_trades_than_the_ids_span_are_refused(house: House) -> None:
    api = trades_api(1200, later=1)

    def rest(path: str, sent: httpx.QueryParams) -> Any:
        return api(path, sent)[:700]

    with pytest.raises(RowCountMismatchError, match="700 rows were read but the source has 1200"):
        house.prove(TRADES, DAY, Shelf(rest), **just_after(DAY))
    assert house.contents() == {}


@pytest.mark.parametrize("dataset", [TRADES, KLINES], ids=["trades", "klines"])
def test_rest_that_gives_the_same_page_for_ever_is_refused(house: House, dataset: Dataset) -> None:
    api, candles = trades_api(5000, later=1), _numbers(kline_rows(DAY, range(1000)))
    first = api("historicalTrades", httpx.QueryParams({"fromId": 100, "limit": 1000}))

    def rest(path: str, sent: httpx.QueryParams) -> Any:
        if path == "aggTrades":
            return api(path, sent)
        return first if path == "historicalTrades" else candles

    # Trades must begin where they were asked for; candles come twice.
    refused = MissingIdError if dataset is TRADES else UnorderedIdError
    with pytest.raises(refused):
        house.prove(dataset, DAY, Shelf(rest), **just_after(DAY))


def _numbers(rows: list[list[str]]) -> list[list[Any]]:
    """Candles as REST writes them."""
    return [[int(text) if at in (0, 6, 8) else text for at, text in enumerate(row)] for row in rows]


def test_rest_of_2025_in_milliseconds_is_refused(house: House) -> None:
    day = IN_MICROSECONDS
    rows = _numbers(kline_rows(day, range(10)))
    with pytest.raises(WrongTimeUnitError, match="in milliseconds, expected microseconds"):
        house.prove(KLINES, day, Shelf(lambda path, sent: rows), **just_after(day))


def test_listed_market_without_candles_is_empty_and_a_halt(house: House) -> None:
    proof = house.prove(KLINES, DAY, Shelf(), **just_after(DAY))
    assert (proof.status, [gap.reason for gap in proof.gaps]) == ("empty", ["venue_halt"])
    assert proof.checks["rest_has_no_candles"] == "passed"


def test_trades_of_rest_are_a_page_at_a_time_in_memory(house: House, tmp_path: Path) -> None:
    binance = Binance(
        archive_url="https://data.binance.vision",
        rest_url="https://api.binance.com",
        transport=Shelf(trades_api(2500)),
        now=lambda: noon(DAY + NEXT_DAY),
    )
    part = MarketDay(TRADES.name, BTC.market, DAY)
    extract = binance.fetch(TRADES, BTC, part, tmp_path)
    assert [batch.num_rows for batch in extract.batches] == [1000, 1000, 500]
    binance.close()


# --- the disk ----------------------------------------------------------------------------------


def test_file_where_a_folder_belongs_is_a_storage_error(house: House) -> None:
    house.lake.home.mkdir()
    (house.lake.home / "inflight").write_text("in the way")
    with pytest.raises(StorageError, match=r"cannot write .*inflight.*CRYPTO_ASSETS_DATA_DIR"):
        house.prove(TRADES, DAY, house.sandbox())


@pytest.mark.parametrize(
    ("kib", "is_downloaded"),
    [(64, False), (8, True), (62, True)],
    ids=["while downloading", "while writing rows", "while writing the proof"],
)
def test_full_disk_is_a_storage_error(
    house: House,
    small_files: Callable[[int], AbstractContextManager[None]],
    kib: int,
    is_downloaded: bool,
) -> None:
    house.prove(TRADES, BEFORE_LISTING, Shelf())
    before = house.contents()
    shelf = Shelf().put_csv(TRADES, DAY, csv_of(trade_rows(DAY, 20_000)))
    if is_downloaded:
        (path,) = (path for path in shelf.files if path.endswith(".zip"))
        kept = house.lake.inflight(MarketDay(TRADES.name, BTC.market, DAY)) / Path(path).name
        kept.parent.mkdir(parents=True)
        kept.write_bytes(shelf.files[path])
    wire = Wire(shelf)
    with small_files(kib << 10), pytest.raises(StorageError, match=r"[Ff]ree space"):
        house.prove(TRADES, DAY, wire)
    assert bool(wire.asked(".zip")) is not is_downloaded
    assert house.contents() == before
    assert house.evidence(TRADES, DAY) == []
    assert house.prove(TRADES, DAY, wire).row_count == 20_000


# --- what Binance really published -------------------------------------------------------------


def vision(realdata: Path, dataset: Dataset, *days: date, symbol: str = BTC.symbol) -> Shelf:
    """Recorded archives as they are, with checksums made here."""
    folder = realdata / "binance_vision/spot/daily/klines" / symbol / "1m"
    shelf = Shelf()
    for day in days:
        shelf.put(dataset, day, (folder / f"{symbol}-1m-{day}.zip").read_bytes(), symbol)
    return shelf


def test_recorded_archives_come_through_as_they_are(house: House, realdata: Path) -> None:
    folder = realdata / "binance_vision/spot/daily/klines/BTCUSDT/1m"
    days = [date.fromisoformat(path.stem[-10:]) for path in sorted(folder.glob("*.zip"))]
    done = house.collect(KLINES, days, vision(realdata, KLINES, *days))
    assert len(done) == len(days) >= 15
    rows = {day.day: day.proofs[0].row_count for day in done}
    assert rows == {day: 1360 if day == date(2023, 3, 24) else 1440 for day in days}


def test_halt_of_2023_03_24_is_a_hole_with_its_reason(house: House, realdata: Path) -> None:
    day = date(2023, 3, 24)
    proof = house.prove(KLINES, day, vision(realdata, KLINES, day))
    assert proof.row_count == 1360
    (gap,) = proof.gaps
    assert gap.reason == "venue_halt"
    assert gap.started_at == datetime(2023, 3, 24, 12, 40, tzinfo=UTC)
    assert gap.ended_at == datetime(2023, 3, 24, 14, 0, tzinfo=UTC)
    path = house.lake.file(MarketDay(KLINES.name, BTC.market, day))
    assert duckdb.sql(
        "select count(*) filter (count = 0), max(close_time - open_time) filter (close_time < "
        f"open_time + interval '59.999 seconds') from '{path}'"
    ).fetchone() == (72, timedelta(seconds=41, milliseconds=646))


def test_listing_day_of_arbusdt_starts_at_its_listing(house: House, realdata: Path) -> None:
    day = date(2023, 3, 23)
    arb = replace(BTC, market="ARB-USDT", symbol="ARBUSDT", since=day)
    proof = house.prove(KLINES, day, vision(realdata, KLINES, day, symbol="ARBUSDT"), arb)
    (gap,) = proof.gaps
    assert (proof.row_count, gap.reason) == (540, "not_listed")
    assert gap.started_at == datetime(2023, 3, 23, tzinfo=UTC)
    assert gap.ended_at == datetime(2023, 3, 23, 15, tzinfo=UTC)


def test_trades_of_2019_10_11_make_the_candles_beside_them(house: House, realdata: Path) -> None:
    """The recording has aggregated trades: each is laid out as one trade, numbered by its own id.

    Aggregates are contiguous like trades are, and carry no less for open, high, low, close and
    volume: an aggregate is trades of one taker at one price and time.
    """
    day, folder = date(2019, 10, 11), realdata / "binance_trades"
    packed = folder / "XRPETH/2019-10-11_ccxt_with_raw_info.json.gz"
    recorded = [trade["info"] for trade in json.loads(gzip.decompress(packed.read_bytes()))]
    rows = [
        [str(raw["a"]), raw["p"], raw["q"], f"{Decimal(raw['p']) * Decimal(raw['q']):.8f}",
         str(raw["T"]), str(raw["m"]), str(raw["M"])]
        for raw in recorded
    ]  # fmt: skip
    xrp = replace(BTC, market="XRP-ETH", symbol="XRPETH")
    shelf = Shelf().put_csv(TRADES, day, csv_of(rows), xrp.symbol)
    proof = house.prove(TRADES, day, shelf, xrp)
    assert (proof.row_count, proof.first_id, proof.last_id) == (5929, 13519807, 13525735)
    built = duckdb.sql(
        f"""
        select
            epoch_ms(time_bucket(interval '1 minute', time)) as minute, arg_min(price, id),
            max(price), min(price), arg_max(price, id), sum(qty),
        from '{house.lake.file(MarketDay(TRADES.name, xrp.market, day))}'
        group by all order by minute
        """
    ).fetchall()
    beside = feather.read_table(folder / "XRPETH_1m/2019-10-11.feather").to_pylist()
    # Floats there: the shortest text that reads back as the same float is the number meant.
    expected = [
        (int(candle["date"].timestamp() * 1000),
         *(Decimal(repr(candle[name])) for name in ("open", "high", "low", "close", "volume")))
        for candle in beside
    ]  # fmt: skip
    assert built == expected
    assert len(built) == 1022


@pytest.mark.parametrize(("month", "scale"), [("2024-11", 1000), ("2024-12", 1000), ("2025-01", 1)])
def test_unit_is_recognised_on_both_sides_of_2025(realdata: Path, month: str, scale: int) -> None:
    folder = realdata / "binance_vision/spot/monthly/klines_csv/BTCUSDT/1h"
    lines = (folder / f"BTCUSDT-1h-{month}.csv").read_text().splitlines()
    for at in range(0, len(lines), 24):
        first = int(lines[at].split(",")[0])
        day = date.fromisoformat(f"{month}-{at // 24 + 1:02}")
        assert time_scale(first, MarketDay(KLINES.name, BTC.market, day)) == scale


def test_recorded_replies_of_rest_parse(realdata: Path) -> None:
    for name, count in (
        ("klines_BTCUSDT_1h_page1_2020-04-30", 1000),
        ("klines_BTCUSDT_1h_page2_2020-06-11", 468),
    ):
        rows = json_rows((realdata / f"binance_rest/{name}.json").read_bytes(), name)
        assert len(rows) == count
        by_day: dict[date, list[Any]] = {}
        for row in rows:
            by_day.setdefault(datetime.fromtimestamp(row[0] / 1000, UTC).date(), []).append(row)
        for day, of_day in by_day.items():
            batch = klines_of_page(of_day, MarketDay(KLINES.name, BTC.market, day))
            assert [str(value) for value in batch["close"]] == [row[4] for row in of_day]
    body = (realdata / "binance_trades/rest_aggTrades_BTCUSDT_2020-01-02.json").read_bytes()
    part = MarketDay(TRADES.name, BTC.market, date(2020, 1, 2))
    aggregates = parse_aggregates(body, part)
    assert len(aggregates) == 1000
    assert aggregates[0] == (202790190, 222825297, 222825297, 1577977823305)
