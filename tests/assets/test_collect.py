"""The collector over real parts: what it skips and fetches, and what a failure leaves alone."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from collecting import (
    BEFORE_LISTING,
    BTC,
    KLINES,
    TRADES,
    House,
    Shelf,
    Wire,
    answered,
    csv_of,
    kline_rows,
    noon,
    trade_rows,
)

from crypto_assets.assets.collect import Collector
from crypto_assets.catalog import Catalog, Dataset, Listing, MarketDay
from crypto_assets.errors import (
    CatalogError,
    MissingIdError,
    NotFinalError,
    SourceMissingError,
)
from crypto_assets.lake import read_proof
from crypto_assets.sources.venue import Document, Extract

DAY = date(2024, 3, 5)
DAYS = [DAY + timedelta(days=at) for at in range(4)]
ETH = replace(BTC, market="ETH-USDT", symbol="ETHUSDT")


def shelf_of(*listings: Listing) -> Shelf:
    """Candles of all days, of each market."""
    shelf = Shelf()
    for listing in listings:
        for day in DAYS:
            shelf.put_csv(KLINES, day, csv_of(kline_rows(day)), listing.symbol)
    return shelf


def test_proven_days_are_skipped(house: House) -> None:
    wire = Wire(shelf_of(BTC))
    first = house.collect(KLINES, DAYS, wire)
    assert [day.fetched for day in first] == [1, 1, 1, 1]
    contents = house.contents()
    wire.requests.clear()
    again = house.collect(KLINES, DAYS, wire)
    assert [day.fetched for day in again] == [0, 0, 0, 0]
    assert wire.requests == []
    assert house.contents() == contents
    assert {day.day: day.proofs for day in first} == {day.day: day.proofs for day in again}


def test_only_a_market_that_is_new_is_fetched(house: House) -> None:
    wire = Wire(shelf_of(BTC, ETH))
    house.collect(KLINES, DAYS, wire, BTC)
    wire.requests.clear()
    done = house.collect(KLINES, DAYS, wire, BTC, ETH)
    assert [(day.fetched, len(day.proofs)) for day in done] == [(1, 2)] * 4
    assert all("ETHUSDT" in request.url.path for request in wire.requests)


def test_failing_market_day_does_not_stop_the_others(house: House) -> None:
    shelf = shelf_of(BTC, ETH)
    for path in [path for path in shelf.files if f"ETHUSDT-1m-{DAYS[1]}" in path]:
        del shelf.files[path]
    shelf.put_csv(KLINES, DAYS[2], csv_of(kline_rows(DAYS[1])))
    busy = Wire(shelf)
    busy.broken = lambda request: (
        answered(b"[[1,2,3]]") if request.url.path.endswith("klines") else None
    )
    done = {day.day: day for day in house.collect(KLINES, DAYS, busy, BTC, ETH)}
    assert {day: (len(of.proofs), len(of.failures)) for day, of in done.items()} == {
        DAYS[0]: (2, 0),
        DAYS[1]: (1, 1),
        DAYS[2]: (1, 1),
        DAYS[3]: (2, 0),
    }
    assert str(done[DAYS[1]].failures[0].part) == f"binance_klines ETH-USDT {DAYS[1]}"
    assert "OutsidePartitionError" in repr(done[DAYS[2]].failures[0].error)
    assert len(house.contents()) == 6


def test_days_that_cannot_be_proven_yet_fail_by_themselves(house: House) -> None:
    shelf = shelf_of(BTC)
    done = house.collect(KLINES, DAYS, shelf, now=noon(DAYS[3]))
    failures = {day.day: [type(failure.error) for failure in day.failures] for day in done}
    assert failures == {DAYS[0]: [], DAYS[1]: [], DAYS[2]: [], DAYS[3]: [NotFinalError]}


def test_file_that_is_not_readable_is_fetched_again(house: House) -> None:
    shelf = shelf_of(BTC)
    sound = house.prove(KLINES, DAY, shelf)
    path = house.lake.file(MarketDay(KLINES.name, BTC.market, DAY))
    for damage in (b"", b"PAR1 and nothing more", path.read_bytes()[:-100]):
        path.write_bytes(damage)
        assert house.prove(KLINES, DAY, shelf).content_digest == sound.content_digest
        assert read_proof(path).content_digest == sound.content_digest


def test_file_of_another_partition_is_replaced(house: House) -> None:
    shelf = shelf_of(BTC)
    house.collect(KLINES, DAYS[:2], shelf)
    one, other = (house.lake.file(MarketDay(KLINES.name, BTC.market, day)) for day in DAYS[:2])
    one.write_bytes(other.read_bytes())
    (done,) = house.collect(KLINES, [DAY], shelf)
    assert (done.fetched, done.proofs[0].partition) == (1, str(DAY))


def test_correcting_since_fetches_what_was_not_listed(house: House) -> None:
    shelf = shelf_of(BTC)
    assert house.prove(KLINES, DAY, shelf, replace(BTC, since=DAYS[2])).status == "not_listed"
    assert house.prove(KLINES, DAY, shelf, BTC).status == "complete"
    # The other way round what is proven stays.
    assert house.prove(KLINES, DAY, shelf, replace(BTC, since=DAYS[2])).status == "complete"


def test_days_before_listing_ask_nothing(house: House) -> None:
    wire = Wire(Shelf())
    days = [BEFORE_LISTING + timedelta(days=at) for at in range(20)]
    done = house.collect(KLINES, days, wire)
    assert {day.proofs[0].status for day in done} == {"not_listed"}
    assert wire.requests == []


def test_day_asked_for_twice_is_done_once(house: House) -> None:
    (done,) = house.collect(KLINES, [DAY, DAY], shelf_of(BTC))
    assert done.fetched == 1


def test_venue_that_is_not_in_the_catalogue_is_named(house: House) -> None:
    collector = Collector(house.lake, Catalog((replace(BTC, venue="kraken"),)), _never, workers=1)
    with pytest.raises(CatalogError, match=r"'binance' is not in markets\.yaml; it lists: kraken"):
        list(collector.collect(KLINES, [DAY]))


def _never(name: str) -> Any:
    raise AssertionError(f"{name} was connected")


def test_hourly_prices_are_the_last_of_each_hour(house: House) -> None:
    rows = kline_rows(DAY, [*range(90), *range(1380, 1440)])
    collector = house.collector(Shelf().put_csv(KLINES, DAY, csv_of(rows)))
    (done,) = collector.collect(KLINES, [DAY])
    closes = [Decimal(rows[at][4]) for at in (59, 89, -1)]
    prices = collector.hourly_prices(KLINES, done.proofs[0])
    assert prices == [*closes[:2], *[None] * 21, closes[2]]


# --- threads -----------------------------------------------------------------------------------


class Scripted:
    """A venue whose days do what they are told, in the worker thread that fetches them."""

    datasets: tuple[Dataset, ...] = (KLINES,)

    def __init__(self, act: Callable[[date], None]) -> None:
        self._act = act

    def fetch(self, dataset: Dataset, listing: Listing, part: MarketDay, workdir: Path) -> Extract:
        self._act(part.day)
        document = Document("https://host/file", None, "0" * 64, 0)
        return Extract(iter(()), lambda: 0, (document,), {})


def collector_of(house: House, act: Callable[[date], None], workers: int) -> Collector:
    return Collector(house.lake, Catalog((BTC,)), lambda _: Scripted(act), workers=workers)


def test_days_are_fetched_at_the_same_time(house: House) -> None:
    together = threading.Barrier(4, timeout=10)
    collector = collector_of(house, lambda _: together.wait() and None, workers=4)
    assert len(list(collector.collect(KLINES, DAYS))) == 4


def test_day_is_told_as_soon_as_it_is_done(house: House) -> None:
    told = threading.Event()

    def act(day: date) -> None:
        if day != DAYS[3]:
            assert told.wait(10), "waits for a day that is told only after this one"

    days = collector_of(house, act, workers=4).collect(KLINES, DAYS)
    assert next(days).day == DAYS[3]
    told.set()
    assert {day.day for day in days} == set(DAYS[:3])


def test_bug_in_a_worker_is_not_a_failed_day(house: House) -> None:
    def act(day: date) -> None:
        if day == DAYS[1]:
            raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        list(collector_of(house, act, workers=2).collect(KLINES, DAYS))


def test_bug_stops_what_has_not_begun(house: House) -> None:
    begun: list[date] = []

    def act(day: date) -> None:
        begun.append(day)
        raise ZeroDivisionError

    days = [DAY + timedelta(days=at) for at in range(50)]
    with pytest.raises(ZeroDivisionError):
        list(collector_of(house, act, workers=1).collect(KLINES, days))
    assert len(begun) < 50


def test_same_partition_at_once_is_fetched_once(house: House) -> None:
    fetched: list[date] = []
    collector = collector_of(house, fetched.append, workers=1)
    threads = [
        threading.Thread(target=lambda: list(collector.collect(KLINES, [DAY]))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fetched == [DAY]
    assert len(house.contents()) == 1


# --- failures that heal ------------------------------------------------------------------------


def test_what_a_failed_run_left_does_not_stay(house: House) -> None:
    shelf = Shelf().put_csv(TRADES, DAY, csv_of([*trade_rows(DAY, 3), *trade_rows(DAY)[4:]]))
    with pytest.raises(MissingIdError):
        house.prove(TRADES, DAY, shelf)
    assert not [path for path in (house.lake.home / "inflight").rglob("*") if path.is_file()]
    shelf.put_csv(TRADES, DAY, csv_of(trade_rows(DAY)))
    assert house.prove(TRADES, DAY, shelf).row_count == 5
    assert not [path for path in (house.lake.home / "inflight").rglob("*") if path.is_file()]
    assert len(house.evidence(TRADES, DAY)) == 1, "evidence outlives the repair"


def test_same_refused_file_is_kept_once(house: House) -> None:
    shelf = Shelf().put_csv(TRADES, DAY, csv_of([*trade_rows(DAY, 3), *trade_rows(DAY)[4:]]))
    for _ in range(3):
        with pytest.raises(MissingIdError):
            house.prove(TRADES, DAY, shelf)
    assert len(house.evidence(TRADES, DAY)) == 1


def test_writer_that_died_leaves_nothing(house: House) -> None:
    inflight = house.lake.inflight(MarketDay(TRADES.name, BTC.market, DAY))
    inflight.mkdir(parents=True)
    (inflight / f".{TRADES.name}.{os.getpid()}.parquet.tmp").write_bytes(b"half a file")
    house.prove(TRADES, DAY, Shelf().put_csv(TRADES, DAY, csv_of(trade_rows(DAY))))
    assert not inflight.exists()


def test_missing_archive_is_a_failure_not_an_empty_day(house: House) -> None:
    def rest(path: str, sent: httpx.QueryParams) -> Any:
        return [{"a": 1, "f": 1, "l": 1, "T": int(noon(DAY).timestamp() * 1000)}]

    (done,) = house.collect(TRADES, [DAY], Shelf(rest))
    assert [type(failure.error) for failure in done.failures] == [SourceMissingError]
    assert house.contents() == {}
