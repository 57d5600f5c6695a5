"""Pages of candles, as exchanges of several habits send them, held to each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from collecting import House, Wire

from crypto_assets.errors import (
    ConflictingDuplicateError,
    DuplicateIdError,
    MissingIdError,
    OffGridError,
    OutsidePartitionError,
    StuckCursorError,
    UnorderedIdError,
)

from .ccxt_exchanges import (
    FORMATS,
    START,
    Exchange,
    candle,
    instant,
    minutes,
    prove,
)


def test_a_day_is_walked_in_pages_that_share_a_candle(house: House) -> None:
    wire = Wire(Exchange(minutes(-500, 2000)))
    proof = prove(house, wire)
    assert (proof.row_count, proof.gaps, proof.status) == (1440, (), "complete")
    assert proof.checks["numbers_are_as_printed"] == proof.checks["pages_overlap"] == "passed"
    assert proof.source[0].url.startswith("https://www.bitstamp.net/api/v2/ohlc/btcusd/?step=60")
    assert [request.url.path for request in wire.requests] == [
        "/api/v2/markets/", "/api/v2/ohlc/btcusd/", "/api/v2/ohlc/btcusd/",
    ]  # fmt: skip
    asked = [(int(r.url.params["start"]), int(r.url.params["limit"])) for r in wire.asked("usd/")]
    assert asked == [(START, 1000), (START + 999 * 60, 441)]


def test_pages_of_any_order_and_size_make_the_same_day(house: House) -> None:
    """OKX gives 300 at once here, newest first; of a longer stretch it would give the newest."""
    whole, hundred = minutes(), Wire(Exchange(minutes(), lambda rows, _: rows[-100:], name="okx"))
    okx = FORMATS["okx"].listing
    digests = {
        prove(house, Exchange(whole)).content_digest,
        prove(house, Exchange(whole, name="okx"), listing=okx).content_digest,
        prove(house, hundred, listing=replace(okx, market="BTC-USDT@okxus")).content_digest,
    }
    assert len(digests) == 1


def test_a_day_without_candles_is_empty_and_was_asked_for_hour_by_hour(house: House) -> None:
    wire = Wire(Exchange())
    proof = prove(house, wire)
    assert (proof.status, [gap.reason for gap in proof.gaps]) == ("empty", ["source_missing"])
    assert len(wire.asked("usd/")) == 24 + 1


def test_a_long_silence_is_walked_over(house: House) -> None:
    rows = minutes(-2000, 10) + minutes(1300, 1440)
    for name in ("bitstamp", "okx", "bybit"):
        exchange = Exchange(rows, name=name)
        (gap,) = prove(house, exchange, listing=FORMATS[name].listing).gaps
        assert (gap.started_at, gap.ended_at) == (instant(10), instant(1300)), name


def test_a_page_that_left_candles_out_is_found_out(house: House) -> None:
    def spoil(rows: list[Any], _: Any) -> list[Any]:
        return next(empty, rows)

    for which in ([[]], [[], []]):
        empty = iter(which)
        with pytest.raises(MissingIdError, match="which a page before left out"):
            prove(house, Exchange(minutes(), spoil))
    assert house.contents() == {}
    empty = iter([minutes(700, 1000)])
    assert prove(house, Exchange(minutes(), spoil)).row_count == 1440


def test_a_page_that_came_twice_is_found_out(house: House) -> None:
    """As long as the one that was asked for, so that it looks like one of a quiet hour."""
    asked: list[str] = []

    def spoil(rows: list[Any], sent: Any) -> list[Any]:
        asked.append(sent["before"])
        return minutes(0, 300) if len(asked) == 2 else rows

    okx = Exchange(minutes(), spoil, name="okx")
    with pytest.raises(MissingIdError, match="T05:00:00Z on, which a page before left out"):
        prove(house, okx, listing=FORMATS["okx"].listing)


OTHER = candle(999, volume="9")


def _second(change: Any) -> Any:
    """The change applied to all pages but the first."""
    return lambda rows, sent: rows if int(sent["start"]) == START else change(rows)


@pytest.mark.parametrize(
    ("spoil", "kind", "words"),
    [
        (_second(lambda _: minutes(0, 1000)), StuckCursorError, "none of them new: it would be"),
        (lambda _r, _s: minutes(0, 1000), StuckCursorError, "none of them new: it would be"),
        (_second(lambda rows: rows[::-1]), UnorderedIdError, "order that turns round"),
        (_second(lambda rows: [*rows[1:], rows[0]]), UnorderedIdError, "that turns round"),
        (_second(lambda rows: rows[1:]), MissingIdError, "T16:40:00Z on, though the page before"),
        (_second(lambda rows: []), MissingIdError, "got none, though the page before"),
        (_second(lambda rows: minutes(900, 998)), MissingIdError, "got none, though the page"),
        (_second(lambda rows: [OTHER, *rows[1:]]), ConflictingDuplicateError, "16:39:00Z has othe"),
        (lambda rows, _: [*rows[:5], *rows[4:]], DuplicateIdError, "is in a page twice"),
        (lambda _r, _s: minutes(-2000, -1000), StuckCursorError, "none of them new"),
        (lambda _r, _s: minutes(2000, 2010), OutsidePartitionError, "may not keep candles so long"),
        (lambda rows, _: [(row[0] * 1000, *row[1:]) for row in rows], OutsidePartitionError, " ms"),
        (lambda rows, _: [(row[0] // 60, *row[1:]) for row in rows], OffGridError, "on no minute"),
        (lambda _r, _s: minutes(-9_999_999, -9_999_900), OutsidePartitionError, "to 2005-"),
        (lambda rows, _: [*rows[:-1], (rows[-1][0] - 7, *rows[-1][1:])], OffGridError, "minute"),
    ],
)
def test_wrong_page_is_refused(house: House, spoil: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        prove(house, Exchange(minutes(), spoil))
    assert house.contents() == {}
