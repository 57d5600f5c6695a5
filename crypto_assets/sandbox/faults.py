"""What can go wrong at a source, by name: one function below is one fault.

A reply fault acts on the HTTP answer. A row fault changes rows of an archive's CSV, and an archive
fault its members, both before the checksum is made: the checksum holds, so that only a check of
the content can find them. Faults of venues that are read in pages are in `paged`, those of a node
of a chain in `chain_faults`. How they are switched on says FAULT_SYNTAX.
"""

from __future__ import annotations

import re
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import StrEnum
from functools import partial
from typing import Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, Response

from crypto_assets.errors import SettingsError
from crypto_assets.sandbox.archive import Members, zip_bytes
from crypto_assets.sandbox.chain_faults import CHAINED, ChainFault, Reorg
from crypto_assets.sandbox.paged import PAGED, CandleFault, Page, PageFault, Skew
from crypto_assets.sandbox.world import Rows

SLOW_SECONDS = 1.0
RETRY_AFTER_SECONDS = 1
BOMB_BYTES = 2**31

_NO_END = 2**63

Answer = Callable[[], Response]
Csv = list[list[str]]
_Act = TypeVar("_Act", bound=Callable[..., Any])
_Kind = TypeVar("_Kind")


class Part(StrEnum):
    """What a request asks for."""

    REST = "rest"
    ZIP = "zip"
    CHECKSUM = "checksum"
    RPC = "rpc"


@dataclass(frozen=True, slots=True)
class Target:
    """One request, as far as a fault may be limited to it.

    Of a node, `symbol` is its name, `dataset` the method, and `block` what a call is about.
    """

    address: str
    part: Part
    dataset: str
    symbol: str | None = None
    day: date | None = None
    block: int | None = None


@dataclass(frozen=True, slots=True)
class ReplyFault:
    """Acts on the answer; `parts` are those it makes sense for."""

    description: str
    act: Callable[[Answer], Response]
    parts: frozenset[Part] = frozenset(Part)


@dataclass(frozen=True, slots=True)
class RowFault:
    """Acts on the rows of a CSV (a list of fields each) of the `datasets` it makes sense for."""

    description: str
    act: Callable[[Csv, str], Csv]
    datasets: frozenset[str] = frozenset({"trades", "klines"})


@dataclass(frozen=True, slots=True)
class ArchiveFault:
    """Makes the zip from the members that a sound one would have."""

    description: str
    act: Callable[[Members], bytes]


_Acting = ReplyFault | RowFault | ArchiveFault
Fault = _Acting | PageFault | CandleFault | Skew | ChainFault
FAULTS: dict[str, Fault] = {**PAGED, **CHAINED}


@dataclass(slots=True)
class _Rule:
    fault: Fault
    symbol: str | None
    day: date | None
    blocks: tuple[int, int] | None
    dataset: str | None
    times: int | None
    seen: Counter[str] = field(default_factory=Counter)

    def applies(self, target: Target) -> bool:
        limits = (
            (self.symbol, target.symbol),
            (self.day, target.day),
            (self.dataset, target.dataset),
        )
        return all(wanted is None or wanted == actual for wanted, actual in limits) and (
            self.blocks is None
            or (target.block is not None and self.blocks[0] <= target.block <= self.blocks[1])
        )

    def strikes(self, key: str) -> bool:
        self.seen[key] += 1
        return self.times is None or self.seen[key] <= self.times


FAULT_SYNTAX = (
    "name[@SYMBOL[@DATE[@DATASET]]][:N] for a venue, name[@NODE[@BLOCKS[@METHOD]]][:N] for a node "
    "of a chain, several with commas between; * stands for any, BLOCKS is one block, a range "
    "21516100-21516199 or an open one 21516100-, and :N strikes the first N requests only. "
    "For example gap@BTCUSDT@2024-01-03, rate_limit:2 or dropped_log@ethereum@21516007"
)


class Faults:
    """Which faults are on, by a text as of FAULT_SYNTAX.

    A rule with a day concerns archives only, one with blocks only reorgs and what is about one
    block: block faults, and answer faults of the block that is asked for. With
    `:N` a reply fault strikes the first N matching requests; a fault of the content strikes the
    first N requests of each address, so that a zip and its checksum file stay in agreement. Of a
    node an address is a method, and of faults about one block a method and block. Raises
    SettingsError for text that cannot be read and for symbols that are not among `symbols`.
    """

    def __init__(self, text: str = "", symbols: Collection[str] = ()) -> None:
        self._symbols = symbols
        self._lock = threading.Lock()
        self.switch(text)

    def switch(self, text: str) -> None:
        """Replace all rules, while the sandbox runs if need be."""
        rules = [_parse(item.strip()) for item in text.split(",") if item.strip()]
        for rule in rules:
            if rule.symbol is not None and rule.symbol not in self._symbols:
                raise SettingsError(
                    f"a sandbox fault names {rule.symbol}, which is no symbol and no node of "
                    f"the catalogue; known are {', '.join(sorted(self._symbols))}"
                )
        self._rules = rules

    def reply(self, target: Target, answer: Answer) -> Response:
        """The answer to a request after every reply fault that strikes it."""
        for rule in self._rules:
            fault = rule.fault
            if isinstance(fault, ReplyFault) and target.part in fault.parts:
                answer = self._struck(rule, target, answer, fault)
        return answer()

    def damage(self, target: Target) -> tuple[RowFault | ArchiveFault, ...]:
        """The faults that strike the content behind a request, in the order they were given."""
        struck: list[RowFault | ArchiveFault] = []
        for rule in self._rules:
            fault = rule.fault
            if not isinstance(fault, RowFault | ArchiveFault) or not rule.applies(target):
                continue
            if isinstance(fault, RowFault) and target.dataset not in fault.datasets:
                continue
            with self._lock:
                if rule.strikes(target.address):
                    struck.append(fault)
        return tuple(struck)

    def struck(self, kind: type[_Kind], target: Target) -> list[_Kind]:
        """The faults of a kind that strike a request; `N` counts the requests of an address."""
        return [
            rule.fault
            for rule in self._rules
            if isinstance(rule.fault, kind) and self._strikes(rule, target)
        ]

    def page(self, target: Target, page: Page) -> Page:
        """A page after every page fault that strikes it; `N` counts the pages of an address."""
        for fault in self.struck(PageFault, target):
            page = fault.act(page)
        return page

    def candles(self, target: Target, candles: Rows) -> Rows:
        """The candles of a reply after every candle fault that strikes it."""
        for fault in self.struck(CandleFault, target):
            candles = fault.act(candles)
        return candles

    def reorgs(self, node: str) -> list[tuple[int, int]]:
        """The ranges of blocks that a node has of other branches; `N` means nothing to it."""
        return [
            rule.blocks or (0, _NO_END)
            for rule in self._rules
            if isinstance(rule.fault, Reorg) and rule.symbol in (None, node)
        ]

    def skew(self, target: Target) -> Skew:
        """How far off the venue is, every skew that applies together; `N` means nothing to it."""
        skews = [rule.fault for rule in self._rules if rule.applies(target)]
        return Skew(
            "all together",
            sum(skew.price_bps for skew in skews if isinstance(skew, Skew)),
            sum(skew.late_us for skew in skews if isinstance(skew, Skew)),
        )

    def _strikes(self, rule: _Rule, target: Target) -> bool:
        if not rule.applies(target):
            return False
        with self._lock:
            return rule.strikes(target.address)

    def _struck(self, rule: _Rule, target: Target, answer: Answer, fault: ReplyFault) -> Answer:
        if not rule.applies(target):
            return answer
        with self._lock:
            return (lambda: fault.act(answer)) if rule.strikes("") else answer


_RULE = re.compile(r"(\w+)(?:@([^@:]+))?(?:@([^@:]+))?(?:@([^@:]+))?(?::([1-9]\d*))?")
_BLOCKS = re.compile(r"(\d+)(-(\d*))?")


def _parse(item: str) -> _Rule:
    written = _RULE.fullmatch(item)
    if written is None or written[1] not in FAULTS:
        raise _unreadable(item)
    symbol, when, dataset = (None if limit == "*" else limit for limit in written.group(2, 3, 4))
    times = int(written[5]) if written[5] else None
    day = blocks = None
    if when and (written_blocks := _BLOCKS.fullmatch(when)):
        first, is_range, last = written_blocks.groups()
        blocks = int(first), int((last or _NO_END) if is_range else first)
        if blocks[0] > blocks[1]:
            raise _unreadable(item)
    elif when:
        try:
            day = date.fromisoformat(when)
        except ValueError as error:
            raise _unreadable(item) from error
    return _Rule(FAULTS[written[1]], symbol, day, blocks, dataset, times)


def _unreadable(item: str) -> SettingsError:
    return SettingsError(
        f"cannot read the sandbox fault {item!r}: write {FAULT_SYNTAX}. "
        f"Known faults: {', '.join(sorted(FAULTS))}"
    )


def _fault(kind: type[_Acting], description: str, **limits: Any) -> Callable[[_Act], _Act]:
    """Enters the decorated function, without its underscore, as a fault of that kind."""

    def enter(act: _Act) -> _Act:
        FAULTS[act.__name__[1:]] = kind(description, act, **limits)
        return act

    return enter


_reply = partial(_fault, ReplyFault)
_rows = partial(_fault, RowFault)
_archive = partial(_fault, ArchiveFault)


# --- the HTTP answer ---------------------------------------------------------------------------


@_reply("429 with Retry-After")
def _rate_limit(_: Answer) -> Response:
    body = {"code": -1003, "msg": "Too many requests queued."}
    return JSONResponse(body, 429, {"Retry-After": str(RETRY_AFTER_SECONDS)})


@_reply("418 with Retry-After: the address is banned")
def _ban(_: Answer) -> Response:
    body = {"code": -1003, "msg": "Way too much request weight used; IP banned."}
    return JSONResponse(body, 418, {"Retry-After": str(RETRY_AFTER_SECONDS)})


@_reply("503")
def _server_error(_: Answer) -> Response:
    return HTMLResponse("<html><body>503 Service Unavailable</body></html>", 503)


@_reply(f"the answer takes {SLOW_SECONDS:g} s longer")
def _slow(answer: Answer) -> Response:
    time.sleep(SLOW_SECONDS)
    return answer()


@_reply("200 with an HTML page")
def _html_body(_: Answer) -> Response:
    return HTMLResponse("<!DOCTYPE html><html><body>Checking your browser</body></html>")


@_reply("200 with a JSON error object")
def _json_error_body(_: Answer) -> Response:
    return JSONResponse({"code": -1000, "msg": "An unknown error occurred."})


@_reply("404 as Coinbase says it of a product that it does not have", parts=frozenset({Part.REST}))
def _unknown_product(_: Answer) -> Response:
    return JSONResponse({"message": "NotFound"}, 404)


@_reply("200 with an error array, as Kraken has it when busy", parts=frozenset({Part.REST}))
def _error_array(_: Answer) -> Response:
    return JSONResponse({"error": ["EService:Unavailable"]})


@_reply("200 with an error array, as Kraken has it for too many", parts=frozenset({Part.REST}))
def _error_array_limit(_: Answer) -> Response:
    return JSONResponse({"error": ["EGeneral:Too many requests"]})


@_reply("200 with an error array, as Kraken has it of a pair gone", parts=frozenset({Part.REST}))
def _unknown_pair(_: Answer) -> Response:
    return JSONResponse({"error": ["EQuery:Unknown asset pair"]})


@_reply("404 for an archive that must exist", parts=frozenset({Part.ZIP, Part.CHECKSUM}))
def _missing_archive(_: Answer) -> Response:
    raise HTTPException(404)


@_reply("the zip ends halfway, with a Content-Length to match", parts=frozenset({Part.ZIP}))
def _truncated(answer: Answer) -> Response:
    whole = answer()
    headers = {key: value for key, value in whole.headers.items() if key != "content-length"}
    return Response(bytes(whole.body)[: len(whole.body) // 2], whole.status_code, headers)


@_reply("the checksum file names another digest", parts=frozenset({Part.CHECKSUM}))
def _wrong_checksum(answer: Answer) -> Response:
    digest, _, name = bytes(answer().body).decode().partition("  ")
    return Response(f"{digest[::-1]}  {name}")


# --- the members of a zip ----------------------------------------------------------------------


@_archive("the member is named after another symbol")
def _zip_wrong_member(members: Members) -> bytes:
    return zip_bytes((f"OTHER-{name}", content) for name, content in members)


@_archive("a second member, a macOS resource fork")
def _zip_extra_member(members: Members) -> bytes:
    return zip_bytes([*members, *((f"__MACOSX/._{name}", b"\0\5\26\7") for name, _ in members)])


@_archive("the member's name climbs out of the folder")
def _zip_path_traversal(members: Members) -> bytes:
    return zip_bytes((f"../../{name}", content) for name, content in members)


@_archive("the member is empty")
def _empty_archive(members: Members) -> bytes:
    return zip_bytes((name, b"") for name, _ in members)


@_archive("the member inflates to 2 GiB from 2 MB")
def _zip_bomb(members: Members) -> bytes:
    # A full flush ends a chunk on a byte and forgets its window, so that chunks can be repeated.
    chunk = 2**20
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = deflate.compress(b"0" * chunk) + deflate.flush(zlib.Z_FULL_FLUSH)
    stream = packed * (BOMB_BYTES // chunk) + deflate.flush()
    name = members[0][0].encode()
    # Version, flags, method (deflate), time, date, CRC (never reached), sizes, length of the name.
    entry = struct.pack("<5H3I2H", 20, 0, 8, 0, 33, 0, len(stream), BOMB_BYTES, len(name), 0)
    local = b"PK\3\4" + entry + name
    central = b"PK\1\2" + struct.pack("<H", 20) + entry + bytes(14) + name
    sizes = struct.pack("<4H2IH", 0, 0, 1, 1, len(central), len(local) + len(stream), 0)
    return local + stream + central + b"PK\5\6" + sizes


# --- the rows of a CSV -------------------------------------------------------------------------

_PRICE = 1  # of a trade, or a candle's open
_TIME_COLUMNS = {"trades": (4,), "klines": (0, 6)}
_AMOUNT_COLUMNS = {"trades": (2, 3), "klines": (5, 7, 9, 10)}
_HEADERS = {
    "trades": "id,price,qty,quote_qty,time,is_buyer_maker,is_best_match",
    "klines": "open_time,open,high,low,close,volume,close_time,quote_volume,count,"
    "taker_buy_volume,taker_buy_quote_volume,ignore",
}


@_rows("a header row, as in futures files")
def _header_row(rows: Csv, dataset: str) -> Csv:
    return [_HEADERS[dataset].split(","), *rows]


@_rows("one column more in every row")
def _extra_column(rows: Csv, _: str) -> Csv:
    return [[*row, "0"] for row in rows]


@_rows("timestamps in seconds")
def _wrong_unit(rows: Csv, dataset: str) -> Csv:
    return [_timed(row, dataset, lambda text: text[:10]) for row in rows]


@_rows("milliseconds and microseconds mixed: the second half of the rows is in the other unit")
def _unit_flip(rows: Csv, dataset: str) -> Csv:
    def flip(text: str) -> str:
        return text[:13] if len(text) > 13 else text + "000"

    half = len(rows) // 2
    return rows[:half] + [_timed(row, dataset, flip) for row in rows[half:]]


@_rows("the last row is stamped a day later")
def _other_day(rows: Csv, dataset: str) -> Csv:
    def shift(text: str) -> str:
        return str(int(text) + 86_400 * 10 ** (len(text) - 10))

    return [*rows[:-1], _timed(rows[-1], dataset, shift)]


@_rows("a row comes twice")
def _duplicate(rows: Csv, dataset: str) -> Csv:
    at = _traded_row(rows, dataset)
    return [*rows[: at + 1], *rows[at:]]


@_rows("a row comes twice, the second time with other amounts")
def _conflicting_duplicate(rows: Csv, dataset: str) -> Csv:
    at = _traded_row(rows, dataset)
    return [*rows[: at + 1], _doubled(rows[at], dataset), *rows[at + 1 :]]


@_rows("three rows are missing in the middle")
def _gap(rows: Csv, dataset: str) -> Csv:
    at = _traded_row(rows, dataset)
    return rows[:at] + rows[at + 3 :]


@_rows("two neighbouring rows are swapped")
def _unordered(rows: Csv, dataset: str) -> Csv:
    at = _traded_row(rows, dataset)
    return [*rows[:at], rows[at + 1], rows[at], *rows[at + 2 :]]


@_rows("a price has nine decimals")
def _too_many_digits(rows: Csv, dataset: str) -> Csv:
    return _repriced(rows, dataset, lambda price: price + "1")


@_rows("a price is negative")
def _negative_price(rows: Csv, dataset: str) -> Csv:
    return _repriced(rows, dataset, lambda price: "-" + price)


@_rows("a price is zero")
def _zero_price(rows: Csv, dataset: str) -> Csv:
    return _repriced(rows, dataset, lambda _: "0.00000000")


@_rows("a price is NaN")
def _nan_price(rows: Csv, dataset: str) -> Csv:
    return _repriced(rows, dataset, lambda _: "NaN")


@_rows("published again with the amounts of one row doubled; consistent in itself")
def _restated(rows: Csv, dataset: str) -> Csv:
    at = _traded_row(rows, dataset)
    return [*rows[:at], _doubled(rows[at], dataset), *rows[at + 1 :]]


@_rows("the volume of a kline is off by its last digit", datasets=frozenset({"klines"}))
def _shifted_kline(rows: Csv, dataset: str) -> Csv:
    at = _traded_row(rows, dataset)
    volume = _AMOUNT_COLUMNS[dataset][0]
    shifted = [*rows[at]]
    shifted[volume] = str(Decimal(shifted[volume]) + Decimal("0.00000001"))
    return [*rows[:at], shifted, *rows[at + 1 :]]


def _traded_row(rows: Csv, dataset: str) -> int:
    """The first row from the middle on that has a volume: a quiet kline would hide a change."""
    volume = _AMOUNT_COLUMNS[dataset][0]
    return next(at for at in range(len(rows) // 2, len(rows)) if Decimal(rows[at][volume]))


def _timed(row: list[str], dataset: str, change: Callable[[str], str]) -> list[str]:
    changed = [*row]
    for column in _TIME_COLUMNS[dataset]:
        changed[column] = change(row[column])
    return changed


def _doubled(row: list[str], dataset: str) -> list[str]:
    changed = [*row]
    for column in _AMOUNT_COLUMNS[dataset]:
        changed[column] = str(2 * Decimal(row[column]))
    return changed


def _repriced(rows: Csv, dataset: str, change: Callable[[str], str]) -> Csv:
    at = _traded_row(rows, dataset)
    changed = [*rows[at]]
    changed[_PRICE] = change(changed[_PRICE])
    return [*rows[:at], changed, *rows[at + 1 :]]
