"""Pages of trades that do not join: each with the name of what is wrong, and nothing committed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from krakening import (
    DAY,
    XBT,
    KrakenHouse,
    Row,
    Venue,
    nanos,
    sandboxed,
    trades_of,
)

from crypto_assets.catalog import MarketDay
from crypto_assets.errors import (
    ClockJumpError,
    ConflictingDuplicateError,
    DuplicateIdError,
    IntegrityError,
    MalformedRowError,
    MissingIdError,
    StuckCursorError,
    UnexpectedReplyError,
    UnknownSymbolError,
    UnorderedIdError,
    ValueOutOfRangeError,
)
from crypto_assets.sources.kraken import TRADES


@pytest.fixture
def house(tmp_path: Path) -> Iterator[KrakenHouse]:
    with KrakenHouse(tmp_path / "home") as built:
        yield built


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("page_repeat", MissingIdError),
        ("page_skip", MissingIdError),
        ("page_reverse", UnorderedIdError),
        ("cursor_reset", StuckCursorError),
        ("last_missing", UnexpectedReplyError),
        ("unknown_pair", UnknownSymbolError),
        ("html_body", UnexpectedReplyError),
        ("json_error_body", UnexpectedReplyError),
    ],
)
def test_fault_of_the_sandbox_has_a_name_and_commits_nothing(
    house: KrakenHouse, fault: str, kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        house.prove(TRADES, DAY, sandboxed(fault))
    assert house.contents() == {}
    assert house.prove(TRADES, DAY, sandboxed()).status == "complete"


def second_page(change: Callable[[dict[str, Any], list[Row]], Any]) -> Venue:
    """1,500 trades of DAY, whose second page is changed each time it is asked for."""
    venue = Venue(trades_of(1500))
    border = str(round(venue.trades[999][2] * 10**9))

    def bend(since: str, page: dict[str, Any]) -> dict[str, Any] | None:
        if since != border:
            return page
        rows = page["XXBTZUSD"]
        changed = change(page, rows)
        return page if changed is None else {**page, "XXBTZUSD": changed}

    venue.bend = bend
    return venue


def _restamp(rows: list[Row], at: int, seconds: float) -> None:
    rows[at] = [*rows[at][:2], rows[at][2] + seconds, *rows[at][3:]]


def _again(page: dict[str, Any], rows: list[Row]) -> list[Row]:
    return trades_of(1500)[:1000]


def _other(page: dict[str, Any], rows: list[Row]) -> list[Row]:
    (known,) = trades_of(1500)[999:1000]
    return [["1.00000", *known[1:]], *rows]


def _back(page: dict[str, Any], rows: list[Row]) -> None:
    _restamp(rows, 50, -3600)


def _future(page: dict[str, Any], rows: list[Row]) -> None:
    _restamp(rows, -1, 86_400)
    page["last"] = str(int(page["last"]) + nanos(date(1970, 1, 2)))


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (_again, DuplicateIdError, "nothing but trades that came before, up to 1499"),
        (lambda page, rows: [rows[0], *rows], DuplicateIdError, "1500 is there twice on a page"),
        (
            lambda page, rows: [rows[0], ["1.0", *rows[0][1:]], *rows[1:]],
            ConflictingDuplicateError,
            "twice on a page, with other content",
        ),
        (_other, ConflictingDuplicateError, "1499 came again, with other content"),
        (lambda page, rows: rows[3:], MissingIdError, "1503 .* ended with 1499, and 3 of those"),
        (lambda page, rows: rows[::-1], UnorderedIdError, "2002 comes after 2003"),
        (lambda page, rows: page.update(last=str(nanos(DAY))), StuckCursorError, "not lead on"),
        (lambda page, rows: [], MissingIdError, "gives no page of them, twice in a row"),
        (lambda page, rows: rows[:9], MissingIdError, "lies beyond: trades would be left out"),
        (lambda page, rows: page.update(last=None), UnexpectedReplyError, "of a page, is None"),
        (lambda page, rows: page.update(last=1.5e18), UnexpectedReplyError, "of a page, is Dec"),
        (_back, ClockJumpError, "1550 is stamped 3570000.* ns before trade 1549"),
        (_future, ClockJumpError, "which is still to come"),
        (
            lambda page, rows: [[*row[:2], row[2] * 1000, *row[3:]] for row in rows],
            ClockJumpError,
            "which is still to come",
        ),
    ],
)  # fmt: skip
def test_second_page_that_does_not_join_is_refused(
    house: KrakenHouse, change: Any, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        house.prove(TRADES, DAY, second_page(change).wire())
    assert house.contents() == {}
    if issubclass(kind, IntegrityError):
        folder = house.lake.quarantine(MarketDay(TRADES.name, XBT.market, DAY))
        (kept,) = folder.iterdir()
        assert kept.name.startswith(kind.__name__)
        assert len([*kept.glob("trades-*.json")]) >= 2
    assert house.prove(TRADES, DAY, Venue(trades_of(1500)).wire()).row_count == 1500


def test_page_that_is_empty_once_is_asked_for_again(house: KrakenHouse) -> None:
    failures = [True]
    venue = second_page(lambda page, rows: [] if failures and failures.pop() else rows)
    assert house.prove(TRADES, DAY, venue.wire()).row_count == 1500


@pytest.mark.parametrize(
    ("odd", "kind", "words"),
    [
        ({0: None}, MalformedRowError, "None is no number"),
        ({0: "NaN"}, MalformedRowError, "'NaN' is no number"),
        ({0: "1e5"}, MalformedRowError, "'1e5' is no number"),
        ({0: True}, MalformedRowError, "True is no number"),
        ({0: "1.12345678901"}, MalformedRowError, "price of a row of REST does not fit"),
        ({0: "123456789"}, MalformedRowError, "price|more digits"),
        ({0: "0.00000"}, ValueOutOfRangeError, "price of trade 502 is 0"),
        ({0: "-5"}, ValueOutOfRangeError, "price of trade 502 is -5"),
        ({1: ""}, MalformedRowError, "'' is no number"),
        ({1: "0.00000000"}, ValueOutOfRangeError, "volume of trade 502 is 0"),
        ({2: "1741132800.0000000001"}, MalformedRowError, "finer than a nanosecond"),
        ({3: "x"}, MalformedRowError, "side is neither b nor s"),
        ({4: None}, MalformedRowError, "order_type of a row of REST does not fit"),
        ({6: "502"}, MalformedRowError, "trade_id is no integer"),
        ({6: 2**63}, MalformedRowError, "does not fit"),
    ],
)
def test_wrong_row_is_refused(
    house: KrakenHouse, odd: dict[int, Any], kind: type[IntegrityError], words: str
) -> None:
    trades = trades_of(1, after=0)
    venue = Venue(trades)

    def bend(_: str, page: dict[str, Any]) -> dict[str, Any]:
        rows = [[*row] for row in page["XXBTZUSD"]]
        for row in rows[-1:]:
            for at, value in odd.items():
                row[at] = value
        return {**page, "XXBTZUSD": rows}

    venue.bend = bend
    with pytest.raises(kind, match=words):
        house.prove(TRADES, DAY, venue.wire())
    assert house.contents() == {}


@pytest.mark.parametrize("row", [["1", "1", 1.0, "b", "l", ""], {"price": 1}, "row", None, []])
def test_row_of_other_columns_is_refused(house: KrakenHouse, row: Any) -> None:
    bend = lambda _, page: {**page, "XXBTZUSD": [row]}  # noqa: E731
    with pytest.raises(MalformedRowError, match="has not the 7 columns expected"):
        house.prove(TRADES, DAY, Venue(trades_of(1), bend=bend).wire())
