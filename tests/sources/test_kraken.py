"""Kraken through the real client and lake: pages that join, pages that do not, and its candles."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from collecting import Wire
from krakening import (
    DAY,
    NEXT_DAY,
    PAIR,
    XBT,
    KrakenHouse,
    Venue,
    morning_after,
    nanos,
    said,
    sandboxed,
    trades_of,
)

from crypto_assets.catalog import MarketDay
from crypto_assets.errors import (
    NotFinalError,
    PermanentSourceError,
    RateLimitedError,
    ServerFaultError,
    SourceError,
    UnexpectedReplyError,
    UnknownSymbolError,
)
from crypto_assets.sources.kraken import OHLC, TRADES, Kraken
from crypto_assets.sources.kraken_rows import check_errors


@pytest.fixture
def house(tmp_path: Path) -> Iterator[KrakenHouse]:
    with KrakenHouse(tmp_path / "home") as built:
        yield built


def asked(wire: Wire) -> list[str]:
    return [request.url.params["since"] for request in wire.asked("Trades")]


# --- pages that join ---------------------------------------------------------------------------


def test_day_of_the_sandbox_is_proven(house: KrakenHouse) -> None:
    proof = house.prove(TRADES, DAY, sandboxed())
    assert proof.status == "complete"
    assert proof.row_count == proof.source_row_count == proof.last_id - proof.first_id + 1
    claims = ("pages_join", "day_begins_after_a_trade", "day_ends_before_a_trade")
    assert {proof.checks[claim] for claim in (*claims, "ids_are_contiguous")} == {"passed"}
    assert proof.source[0].url == "https://api.kraken.com/0/public/Trades?pair=XBTUSD"
    assert not house.lake.inflight(MarketDay(TRADES.name, XBT.market, DAY)).exists()


def test_cursor_is_passed_on_digit_by_digit(house: KrakenHouse) -> None:
    trades = trades_of(2100)
    for at, row in enumerate(trades):
        row.append(round(row[2] * 10**9) + 7 * at % 100)  # finer than what is printed
    wire = Venue(trades).wire()
    assert house.prove(TRADES, DAY, wire).row_count == 2100
    assert asked(wire) == [str(nanos(DAY, -60)), str(trades[999][7]), str(trades[1999][7])]


def test_rows_keep_the_printed_time_and_the_takers_side(house: KrakenHouse) -> None:
    row = ["105433.60000", "0.00027625", 1741132800.9717445, "b", "l", "", 10218208]
    house.prove(TRADES, DAY, Venue([row]).wire())
    (stored,) = pq.read_table(
        house.lake.file(MarketDay(TRADES.name, XBT.market, DAY)), partitioning=None
    ).to_pylist()
    assert stored.pop("time").isoformat() == "2025-03-05T00:00:00.971744"
    assert stored == {
        "trade_id": 10218208, "price": Decimal("105433.6"), "volume": Decimal("0.00027625"),
        "time_ns": 1741132800_971744500, "side": "b", "order_type": "l", "misc": "",
    }  # fmt: skip


@pytest.mark.parametrize("after", [0, 1, 1500])
@pytest.mark.parametrize("count", [1, 997, 998, 999, 1000, 2500])
def test_pages_end_where_the_day_ends(house: KrakenHouse, count: int, after: int) -> None:
    wire = Venue(trades_of(count, after=after)).wire()
    proof = house.prove(TRADES, DAY, wire)
    assert (proof.row_count, proof.first_id, proof.last_id) == (count, 502, 501 + count)
    assert proof.checks["day_ends_before_a_trade"] == ("passed" if after else "none came later")
    assert len({*asked(wire)} if after else {}) <= (count + 2) // 1000 + 1


def test_quiet_day_is_empty_because_trades_around_it_join(house: KrakenHouse) -> None:
    proof = house.prove(TRADES, DAY, Venue(trades_of(0)).wire())
    assert (proof.status, proof.row_count) == ("empty", 0)
    assert proof.checks["day_begins_after_a_trade"] == "passed"


def test_first_page_begins_before_the_day_however_quiet_it_was(house: KrakenHouse) -> None:
    trades = trades_of(3)
    trades[0][2], trades[1][2] = nanos(DAY, -9000) / 1e9, nanos(DAY, -8000) / 1e9
    wire = Venue(trades).wire()
    assert house.prove(TRADES, DAY, wire).checks["day_begins_after_a_trade"] == "passed"
    assert asked(wire) == [str(nanos(DAY, -back)) for back in (60, 3600, 86400)]


def test_first_day_of_a_market_has_no_trade_before_it(house: KrakenHouse) -> None:
    proof = house.prove(TRADES, DAY, Venue(trades_of(3, before=0)).wire())
    assert proof.checks["day_begins_after_a_trade"] == "none in the month before"
    assert proof.row_count == 3


def test_pair_is_resolved_once_for_all_days(house: KrakenHouse) -> None:
    wire = sandboxed()
    days = house.collect(TRADES, [DAY - NEXT_DAY, DAY], wire)
    assert [day.failures for day in days] == [(), ()]
    assert len(wire.asked("AssetPairs")) == 1


@pytest.mark.parametrize(
    "fault", ["page_overlap", "page_skip:1", "error_array:1", "server_error:1"]
)
def test_what_heals_leaves_the_same_content(house: KrakenHouse, tmp_path: Path, fault: str) -> None:
    with KrakenHouse(tmp_path / "sound") as other:
        sound = other.prove(TRADES, DAY, sandboxed())
    assert house.prove(TRADES, DAY, sandboxed(fault)).content_digest == sound.content_digest


def test_inclusive_cursor_would_change_nothing(house: KrakenHouse, tmp_path: Path) -> None:
    proofs = []
    for is_inclusive in (False, True):
        with KrakenHouse(tmp_path / str(is_inclusive)) as one:
            venue = Venue(trades_of(2500, after=0), is_inclusive=is_inclusive)
            proofs.append(one.prove(TRADES, DAY, venue.wire()))
    assert proofs[0].content_digest == proofs[1].content_digest
    assert proofs[0].row_count == 2500


def test_trades_of_one_instant_that_the_cursor_cuts_in_two_are_found(house: KrakenHouse) -> None:
    trades = trades_of(1500)
    for at in range(996, 1004):  # the first page ends within these
        trades[at][2] = trades[996][2]
    wire = Venue(trades).wire()
    proof = house.prove(TRADES, DAY, wire)
    assert (proof.row_count, proof.checks["ids_are_contiguous"]) == (1500, "passed")
    assert len(wire.asked("Trades")) == 3


def test_ids_that_the_venue_never_gave_out_are_counted(house: KrakenHouse) -> None:
    trades = trades_of(1500)
    for row in trades[1000:]:  # at the border of two pages
        row[6] += 3
    for row in trades[1200:]:
        row[6] += 4
    proof = house.prove(TRADES, DAY, Venue(trades).wire())
    assert (proof.row_count, proof.checks["ids_are_contiguous"]) == (1500, "7 ids missing")


@pytest.mark.parametrize("last", [int, str])
def test_numbers_may_be_strings_or_json_numbers(
    house: KrakenHouse, tmp_path: Path, last: Callable[[str], Any]
) -> None:
    def bend(_: str, page: dict[str, Any]) -> dict[str, Any]:
        rows = [[float(p), float(v), str(t), *rest] for p, v, t, *rest in page["XXBTZUSD"]]
        return {"XXBTZUSD": rows, "last": last(page["last"])}

    with KrakenHouse(tmp_path / "plain") as other:
        plain = other.prove(TRADES, DAY, Venue(trades_of(1200)).wire())
    bent = house.prove(TRADES, DAY, Venue(trades_of(1200), bend=bend).wire())
    assert bent.content_digest == plain.content_digest


class Killed(BaseException):
    """The end of the process, as far as a thread can tell."""


def test_killed_day_goes_on_after_its_last_page(house: KrakenHouse) -> None:
    wire = Venue(trades_of(4500, every=15)).wire()
    whole: list[str] = []

    def kill(request: Any) -> None:
        if request.url.path.endswith("Trades"):
            whole.append(request.url.params["since"])
            if len(whole) == 4:
                raise Killed

    wire.broken = kill  # type: ignore[assignment]
    with pytest.raises(Killed):
        house.prove(TRADES, DAY, wire)
    assert house.contents() == {}
    wire.broken = lambda _: None
    wire.requests.clear()
    assert house.prove(TRADES, DAY, wire).row_count == 4500
    assert asked(wire)[0] == whole[3]
    assert len(asked(wire)) == 2
    assert len(wire.asked("AssetPairs")) == 1


def test_day_that_is_not_over_is_refused_unasked(house: KrakenHouse) -> None:
    wire = sandboxed()
    for dataset in (TRADES, OHLC):
        with pytest.raises(NotFinalError, match="once it is over"):
            house.prove(dataset, DAY, wire, now=morning_after(DAY, seconds=-1))
    assert wire.requests == []


# --- names and errors --------------------------------------------------------------------------


def test_market_that_the_venue_does_not_have_is_named(house: KrakenHouse) -> None:
    gone = replace(XBT, market="LUNA-USD", symbol="LUNAUSD")
    for dataset in (TRADES, OHLC):
        (done,) = house.collect(dataset, [DAY], sandboxed(), gone, XBT)
        (failure,) = done.failures
        assert isinstance(failure.error, UnknownSymbolError)
        assert "does not know the pair" in str(failure.error)
        assert [proof.market for proof in done.proofs] == ["BTC-USD"]


@pytest.mark.parametrize(
    ("pairs", "kind", "words"),
    [
        (
            {"POLUSD": {"altname": "POLUSD", "wsname": "POL/USD"}},
            UnknownSymbolError,
            "XBTUSD is BTC-USD at Kraken, but Kraken answers with POLUSD .* which is POL-USD",
        ),
        ({"XXBTZUSD": {"altname": "XBTUSD"}}, UnexpectedReplyError, "no single pair"),
        ({"XXBTZUSD": None}, UnexpectedReplyError, "no single pair"),
        ({}, UnexpectedReplyError, "no single pair"),
        ({**PAIR, "XETHZUSD": {}}, UnexpectedReplyError, "no single pair"),
    ],
)
def test_renamed_pair_is_named(
    house: KrakenHouse, pairs: Any, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        house.prove(TRADES, DAY, Venue(trades_of(5), pairs=pairs).wire())
    assert house.contents() == {}


def test_reply_about_another_pair_is_refused(house: KrakenHouse) -> None:
    bend = lambda _, page: {"XETHZUSD": page["XXBTZUSD"], "last": page["last"]}  # noqa: E731
    with pytest.raises(UnexpectedReplyError, match="Kraken answers about XETHZUSD"):
        house.prove(TRADES, DAY, Venue(trades_of(5), bend=bend).wire())
    assert house.contents() == {}


@pytest.mark.parametrize(
    ("errors", "kind"),
    [
        ("EQuery:Unknown asset pair", UnknownSymbolError),
        ("EAPI:Rate limit exceeded", RateLimitedError),
        ("EGeneral:Too many requests", RateLimitedError),
        ("EService:Unavailable", ServerFaultError),
        ("EService:Busy", ServerFaultError),
        ("EGeneral:Internal error", ServerFaultError),
        ("EGeneral:Invalid arguments", PermanentSourceError),
    ],
)
def test_error_array_has_a_name(errors: str, kind: type[SourceError]) -> None:
    with pytest.raises(kind, match=f"Trades: {errors}|{errors}") as raised:
        check_errors(said({}, errors).read(), "Trades")
    assert type(raised.value) is kind


def test_warning_beside_a_result_may_pass() -> None:
    check_errors(said({}, "WGeneral:Deprecated").read(), "Trades")


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"error":"x"}', b'{"error":[1]}', b"", b"NaN"])
def test_reply_without_an_error_array_is_refused(body: bytes) -> None:
    with pytest.raises(UnexpectedReplyError, match="expected a JSON object"):
        check_errors(body, "Trades")


@pytest.mark.parametrize("fault", ["error_array:1", "error_array_limit:1"])
def test_busy_error_array_is_asked_for_again(house: KrakenHouse, fault: str) -> None:
    wire = sandboxed(fault)
    assert house.prove(TRADES, DAY, wire).status == "complete"
    assert len(wire.asked("AssetPairs")) == 2


def test_error_array_in_the_middle_of_a_day_keeps_the_pages(house: KrakenHouse) -> None:
    wire = Venue(trades_of(1500)).wire()
    wire.broken = lambda _: (
        said({}, "EGeneral:Permission denied") if len(wire.asked("Trades")) == 2 else None
    )
    with pytest.raises(PermanentSourceError, match="Permission denied"):
        house.prove(TRADES, DAY, wire)
    assert house.contents() == {}
    wire.broken = lambda _: None
    assert house.prove(TRADES, DAY, wire).row_count == 1500
    assert len(wire.asked("Trades")) == 3


@pytest.mark.timeout(30)
def test_all_that_run_at_once_share_one_request_a_second(tmp_path: Path) -> None:
    class Busy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            at.append(time.monotonic())
            body = json.dumps({"error": ["EQuery:Unknown asset pair"]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    at: list[float] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Busy)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    venues = [Kraken(url=url, limits_folder=tmp_path / "limits") for _ in range(2)]
    try:
        for venue in venues:
            with pytest.raises(UnknownSymbolError):
                venue.fetch(TRADES, XBT, MarketDay(TRADES.name, XBT.market, DAY), tmp_path)
    finally:
        for venue in venues:
            venue.close()
        server.shutdown()
        server.server_close()
        thread.join(5)
    assert at[1] - at[0] >= 1.0
