"""ccxt as a writer of requests and a reader of replies: exact numbers, and errors by name."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import ccxt
import duckdb
import httpx
import pytest
from collecting import House, Wire, answered

from crypto_assets.catalog import Listing
from crypto_assets.errors import (
    BrokenCandleError,
    InexactNumberError,
    MissingLibraryError,
    PermanentSourceError,
    UnexpectedReplyError,
    UnknownExchangeError,
    UnknownSymbolError,
)
from crypto_assets.sources.ccxt_exchange import Exchange as Through
from crypto_assets.sources.ccxt_exchange import read_page

from .ccxt_exchanges import (
    BTC,
    FORMATS,
    Exchange,
    candle,
    instant,
    minutes,
    part,
    prove,
    sandbox,
)

# Every one is another number as a float.
ODD = (
    "40000.123456789012345678", "40001.000000000000000001", "0.000000000000000003",
    "40000.100000000000000005",
)  # fmt: skip
VOLUME = "12345678901234.000000000000000000000001"


COLUMNS = ("open", "high", "low", "close", "volume")


def _through(name: str, transport: httpx.BaseTransport | None = None) -> Through:
    return Through(
        name, url=None, limits_folder=None, transport=transport, now=lambda: datetime.now(UTC)
    )


def stored(house: House, listing: Listing = BTC) -> list[tuple[Any, ...]]:
    file = house.lake.file(part(listing))
    return duckdb.sql(f"from read_parquet('{file}', hive_partitioning = false)").fetchall()


# --- exact numbers -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_every_digit_of_a_reply_is_stored(house: House, name: str) -> None:
    assert all(Decimal(float(number)) != Decimal(number) for number in (*ODD, VOLUME))
    listing = FORMATS[name].listing
    whole = "9007199254740993"
    rows = [candle(0), candle(1, *ODD, volume=VOLUME), candle(2, whole, whole, "1", "1")]
    prove(house, Exchange(rows, name=name), listing=listing)
    of_minute = {row[0]: row[1:] for row in stored(house, listing)}
    exact = of_minute[instant(1).replace(tzinfo=None)]
    assert exact == tuple(map(Decimal, (*ODD, VOLUME)))
    assert of_minute[instant(2).replace(tzinfo=None)][0] == int(whole)


def test_recorded_candles_keep_every_digit(house: House, realdata: Path) -> None:
    """999 daily ones of Bitstamp; the interval is not in a reply."""
    body = (realdata / "daily_cross/bitstamp_btcusd_1d_2017-04_2020-01.json").read_bytes()
    exchange = _through("bitstamp", Exchange())
    exchange.check(BTC)
    candles, _ = exchange.read(read_page(body, "recorded"), "BTC/USD", 0, 1000)
    rows = json.loads(body)["data"]["ohlc"]
    assert candles == [
        (int(row["timestamp"]) * 1000, *(Decimal(row[name]) for name in COLUMNS)) for row in rows
    ]
    exchange.close()


@pytest.mark.parametrize("number", ["1e-8", "1.5E+3", "0.00", "00.10", "5"])
def test_however_a_number_is_written(house: House, number: str) -> None:
    prove(house, Exchange([candle(0, volume=number)]))
    assert stored(house)[0][-1] == Decimal(number)


@pytest.mark.parametrize(
    ("parse", "words"),
    [
        (lambda self, text: float(text), "close of a candle is 1.6"),
        (lambda self, text: str(float(text) * 1.1), "is not in the reply: ccxt computed it"),
        (lambda self, text: Decimal(text) / 3, "is not in the reply: ccxt computed it"),
        (lambda self, text: self.parse_number(text) * 1.1, "ccxt computes with numbers"),
        (lambda self, text: self.safe_float([text], 0), "close of a candle is 1.6"),
    ],
)
def test_a_number_that_ccxt_computes_is_refused(
    house: House, monkeypatch: pytest.MonkeyPatch, parse: Any, words: str
) -> None:
    def parse_ohlcv(self: Any, row: Any, market: Any = None) -> list[Any]:
        *parsed, _, volume = sound(self, row, market)
        return [*parsed, parse(self, row["close"]), volume]

    sound = ccxt.bitstamp.parse_ohlcv
    monkeypatch.setattr(ccxt.bitstamp, "parse_ohlcv", parse_ohlcv)
    with pytest.raises(InexactNumberError, match=words):
        prove(house, Exchange(minutes()))
    assert house.contents() == {}


def test_a_scale_may_move_the_point(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ccxt does for Phemex, which prints 160000000 for 1.6."""

    def parse_ohlcv(self: Any, row: Any, market: Any = None) -> list[Any]:
        *parsed, _ = sound(self, row, market)
        scaled = ccxt.Precise.string_div(row["volume"], "100000000", 18)
        return [*parsed, self.parse_number(scaled)]

    sound = ccxt.bitstamp.parse_ohlcv
    monkeypatch.setattr(ccxt.bitstamp, "parse_ohlcv", parse_ohlcv)
    prove(house, Exchange([candle(0, volume="9007199254740993")]))
    assert stored(house)[0][-1] == Decimal("90071992.54740993")


# --- replies -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("html_body", UnexpectedReplyError),
        ("json_error_body", UnexpectedReplyError),
        ("error_array", UnexpectedReplyError),
        ("candle_high_below_low", BrokenCandleError),
    ],
)
def test_fault_of_the_sandbox_is_refused(house: House, fault: str, kind: type[Exception]) -> None:
    for where in ("", "@*@*@candles"):
        with pytest.raises(kind):
            prove(house, sandbox(fault + where))
    assert house.contents() == {}
    assert prove(house, sandbox()).status == "complete"


@pytest.mark.parametrize(
    "body", [b"<html>", b"", b"null", b'{"data": null}', b'{"code": 1}', b'"text"', b"[", b"\xff"]
)
def test_a_reply_of_another_kind_is_refused_and_not_kept(house: House, body: bytes) -> None:
    with pytest.raises(UnexpectedReplyError):
        prove(house, Exchange(minutes(), lambda *_: answered(body)))
    assert prove(house, Exchange(minutes())).status == "complete"


# --- errors of the exchange --------------------------------------------------------------------


def test_what_passes_is_asked_for_again(house: House) -> None:
    """OKX says that it is asked too often, or busy, with status 200."""
    said = iter(["50011", "50001"])

    def spoil(rows: list[Any], _: Any) -> Any:
        code = next(said, None)
        return rows if code is None else answered(json.dumps({"code": code, "data": []}).encode())

    exchange = Exchange(minutes(), spoil, name="okx")
    assert prove(house, exchange, listing=FORMATS["okx"].listing).row_count == 1440


@pytest.mark.parametrize(
    ("code", "kind"), [("51001", UnknownSymbolError), ("50014", PermanentSourceError)]
)
def test_what_does_not_pass_is_named(house: House, code: str, kind: type[Exception]) -> None:
    def spoil(rows: list[Any], _: Any) -> Any:
        return answered(json.dumps({"code": code, "data": [], "msg": "no"}).encode())

    with pytest.raises(kind, match=f"okx: .*{code}"):
        prove(house, Exchange(minutes(), spoil, name="okx"), listing=FORMATS["okx"].listing)


def test_markets_that_are_not_there_are_asked_for_again(house: House) -> None:
    wire = Wire(Exchange(minutes()))
    bodies = [answered(b"[]")]
    wire.broken = lambda _: bodies.pop() if bodies else None
    with pytest.raises(UnexpectedReplyError, match="lists no market"):
        prove(house, wire)
    assert prove(house, wire).status == "complete"


# --- the catalogue -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"market": "BTC-USD@bitstump"}, UnknownExchangeError, "has no exchange 'bitstump'"),
        ({"market": "BTC-USD@base"}, UnknownExchangeError, "has no exchange 'base'"),
        ({"market": "BTC-USD@mercado"}, UnknownExchangeError, "no candles of one minute"),
        ({"market": "BTC-USD@coinmate"}, UnknownExchangeError, "no candles of one minute"),
        ({"symbol": "XBT/USD"}, UnknownSymbolError, "bitstamp does not have XBT/USD"),
        ({"symbol": "btcusd"}, UnknownSymbolError, "bitstamp does not have btcusd"),
        ({"market": "ETH-USD@bitstamp"}, UnknownSymbolError, "is ETH-USD at .* it is BTC-USD"),
        ({"symbol": "BTC/USD:USD"}, UnknownSymbolError, r"it is BTC-USD \(swap\)"),
    ],
)
def test_a_line_that_ccxt_cannot_serve_is_named(
    house: House, change: dict[str, str], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        prove(house, Exchange(minutes()), listing=replace(BTC, **change))  # type: ignore[arg-type]
    assert house.contents() == {}


@pytest.mark.parametrize(
    ("described", "words"),
    [
        ({"method": "POST", "body": "{}"}, "sends a POST with a body"),
        ({"method": "GET", "body": "{}"}, "sends a GET with a body"),
    ],
)
def test_an_exchange_asked_otherwise_is_named(
    house: House, monkeypatch: pytest.MonkeyPatch, described: dict[str, str], words: str
) -> None:
    def sign(self: Any, *asked: Any) -> Any:
        return sound(self, *asked) | described

    sound = ccxt.bitstamp.sign
    monkeypatch.setattr(ccxt.bitstamp, "sign", sign)
    with pytest.raises(PermanentSourceError, match=words):
        prove(house, Exchange(minutes()))


def test_candles_of_several_replies_are_refused(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch_ohlcv(self: Any, *asked: Any) -> Any:
        return sound(self, *asked) + sound(self, *asked)

    sound = ccxt.bitstamp.fetch_ohlcv
    monkeypatch.setattr(ccxt.bitstamp, "fetch_ohlcv", fetch_ohlcv)
    with pytest.raises(PermanentSourceError, match="candles of several replies"):
        prove(house, Exchange(minutes()))


def test_without_ccxt_the_error_says_how_to_install_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ccxt", None)
    with pytest.raises(MissingLibraryError, match=r"pip install '\.\[ccxt\]'"):
        prove(house, Exchange(minutes()))


def test_ccxt_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, crypto_assets.sources; sys.exit('ccxt' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# --- how the exchange is asked -----------------------------------------------------------------


def test_another_address_takes_the_place_of_the_exchange(house: House) -> None:
    wire = Wire(Exchange(minutes()))
    proof = prove(house, wire, urls={"bitstamp": "http://127.0.0.1:8000/"})
    assert {(r.url.host, r.url.port) for r in wire.requests} == {("127.0.0.1", 8000)}
    assert proof.source[0].url.startswith("http://127.0.0.1:8000/api/v2/ohlc/btcusd/?step=60")


def test_the_pace_is_the_one_that_ccxt_keeps() -> None:
    exchange = _through("btcmarkets")
    assert exchange._http.policy.limits == ((12, 12.0),)
    exchange.close()


def test_every_exchange_with_minute_candles_can_be_named() -> None:
    served = 0
    for name in ccxt.exchanges:
        described = getattr(ccxt, name)()
        if described.has["fetchOHLCV"] is True and "1m" in described.timeframes:
            exchange = _through(name)
            assert 100 <= exchange.most <= 50_000, name
            exchange.close()
            served += 1
    assert served > 80


def test_the_listing_says_where_it_is_traded() -> None:
    assert (BTC.pair, BTC.exchange) == ("BTC-USD", "bitstamp")
    kraken = Listing("kraken", "BTC-USD", "XBTUSD", date(2013, 10, 6))
    assert (kraken.pair, kraken.exchange) == ("BTC-USD", "kraken")
