"""One exchange through ccxt, which here only writes requests and reads replies.

ccxt's one way to the network, `Exchange.fetch(url, method, headers, body)`, is replaced: a request
goes through the client that all sources share, and a kept reply is read again without any. Its
clock and its own pacing (`throttle`) are replaced too. https://github.com/ccxt/ccxt/wiki/Manual

Numbers stay what the exchange printed. JSON is read without floats, ccxt's `number` is Decimal, and
in the end the digits of every number must be found in the reply: a scale may move the point, but
whatever was rounded, added or multiplied on the way is refused.
"""

from __future__ import annotations

import importlib
import json
import math
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from crypto_assets.catalog import Listing
from crypto_assets.errors import (
    CryptoAssetsError,
    InexactNumberError,
    MalformedRowError,
    MissingLibraryError,
    PermanentSourceError,
    RateLimitedError,
    ServerFaultError,
    UnexpectedReplyError,
    UnknownExchangeError,
    UnknownSymbolError,
)
from crypto_assets.sources.http import HostPolicy, HttpClient, Reply

_TIMEFRAME = "1m"
_MAX_REPLY = 64 << 20
# Asked for of an exchange of which ccxt does not say how many it gives at most.
_CANDLES = 500
# No request of any exchange costs more than 12 times its `rateLimit` (ccxt 4.5, all 89 with minute
# candles); so many may also come at once.
_MOST_COST = 12
_COLUMNS = ("open", "high", "low", "close", "volume")
# ccxt's errors (ccxt/base/errors.py), the most special first, and what they are here.
_KINDS: tuple[tuple[str, type[CryptoAssetsError]], ...] = (
    ("BadSymbol", UnknownSymbolError),
    ("RateLimitExceeded", RateLimitedError),
    ("DDoSProtection", RateLimitedError),
    ("OperationFailed", ServerFaultError),
    ("BaseError", PermanentSourceError),
)


class Candle(NamedTuple):
    """A candle as the exchange printed it; `opened` is in milliseconds since 1970."""

    opened: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal


class Page(NamedTuple):
    """A reply: its JSON with decimals as text, and the digits of all numbers in it."""

    reply: Any
    digits: frozenset[str]


class _Request(NamedTuple):
    url: str
    headers: dict[str, str]
    cost: float


_Answer = Callable[[Any, _Request], Any]


class Exchange:
    """One exchange, by ccxt's id; share it among threads, and close it after they are done.

    `url` replaces the exchange's own address, up to the path. Raises MissingLibraryError, and
    UnknownExchangeError for an id that ccxt does not have or an exchange without minute candles.
    """

    def __init__(
        self,
        name: str,
        *,
        url: str | None,
        limits_folder: Path | None,
        transport: httpx.BaseTransport | None,
        now: Callable[[], datetime],
    ) -> None:
        self.name = name
        self._library = _library()
        if name not in self._library.exchanges:
            raise UnknownExchangeError(
                f"ccxt {self._library.__version__} has no exchange {name!r}; correct the part "
                "after @ in markets.yaml"
            )
        self._class = getattr(self._library, name)
        described = self._class()
        if described.has.get("fetchOHLCV") is not True or _TIMEFRAME not in described.timeframes:
            raise UnknownExchangeError(
                f"ccxt has no candles of one minute from {name}; take the market out of "
                "markets.yaml"
            )
        limits = (_MOST_COST, _MOST_COST * described.rateLimit / 1000)
        self._url = url.rstrip("/") if url else None
        self._http = HttpClient(
            base_url=url or _address(described),
            policy=HostPolicy(f"ccxt_{name}", limits=() if transport else (limits,)),
            limits_path=limits_folder / f"ccxt_{name}.sqlite" if limits_folder else None,
            transport=transport,
        )
        self._now = now
        self._lock = threading.Lock()
        self._loaded: Any = None
        spot = (described.features or {}).get("spot") or {}
        self.most: int = (spot.get("fetchOHLCV") or {}).get("limit") or _CANDLES

    def close(self) -> None:
        """End requests under way and give connections back."""
        self._http.close()

    def check(self, listing: Listing) -> None:
        """Raise UnknownSymbolError unless the symbol is the catalogue's market, traded spot.

        The first call loads what the exchange calls its markets, which costs a request or a few;
        so does one for a symbol that was not among them.
        """
        with self._lock, self._named("its markets cannot be read"):
            if self._loaded is None or listing.symbol not in self._loaded.markets:
                self._loaded = self._load()
            market = self._loaded.markets.get(listing.symbol)
        if market is None:
            raise UnknownSymbolError(
                f"{self.name} does not have {listing.symbol}; if it was renamed or delisted, "
                "correct `symbol` in markets.yaml: it is ccxt's own, as BTC/USD"
            )
        pair = f"{market['base']}-{market['quote']}"
        if market["spot"] is not True or pair != listing.pair:
            raise UnknownSymbolError(
                f"markets.yaml says that {listing.symbol} is {listing.pair} at {self.name}, but "
                f"it is {pair} ({market['type']}); correct `market` or `symbol`"
            )

    def ask(self, symbol: str, since: int, limit: int) -> bytes:
        """The reply to a request for candles from `since` (ms) on.

        Raises UnexpectedReplyError for a reply in which ccxt finds neither candles nor anything
        that says there are none: ccxt takes what it does not know for an empty list.
        """
        bodies: list[bytes] = []

        def answer(client: Any, request: _Request) -> Any:
            bodies.append(self._send(client, request))
            return read_page(bodies[-1], self.name).reply

        rows = self._rows(answer, symbol, since, limit)
        if not rows and not re.search(rb"\[\s*\]|\{\s*\}", bodies[0]):
            raise UnexpectedReplyError(
                f"{self.name}: neither candles nor an empty list: {bodies[0][:120]!r}; something "
                "answers in its place, or it changed: check its address, then run again"
            )
        return bodies[0]

    def read(self, page: Page, symbol: str, since: int, limit: int) -> tuple[list[Candle], str]:
        """The candles of a reply to such a request, in its order, and the request's URL.

        Raises InexactNumberError and MalformedRowError.
        """
        urls: list[str] = []

        def answer(_: Any, request: _Request) -> Any:
            urls.append(self._http.url(self._placed(request.url)))
            return page.reply

        rows = self._rows(answer, symbol, since, limit)
        return [_candle(row, page.digits, self.name) for row in rows], urls[0]

    def _rows(self, answer: _Answer, symbol: str, since: int, limit: int) -> list[Any]:
        """What ccxt makes of a reply, as delivered: neither sorted, nor cut to what was asked."""
        asked = 0

        def once(client: Any, request: _Request) -> Any:
            nonlocal asked
            asked += 1
            if asked > 1:
                raise PermanentSourceError(
                    f"{self.name}: ccxt makes candles of several replies, which cannot be proven; "
                    "take the market out of markets.yaml"
                )
            return answer(client, request)

        client = self._client(once)
        client.set_markets_from_exchange(self._loaded)
        client.number = Decimal
        client.sort_by = lambda rows, *_, **__: list(rows)
        client.filter_by_since_limit = lambda rows, *_, **__: rows
        with self._named("a reply cannot be read", is_exact=True):
            rows: list[Any] = client.fetch_ohlcv(symbol, _TIMEFRAME, since, limit)
        if not asked:
            raise PermanentSourceError(f"{self.name}: ccxt makes candles without a request")
        return rows

    def _load(self) -> Any:
        """A client that knows the markets: spot ones only, where the exchange can tell them apart.

        Nothing of a market is stored, so that its numbers may be floats, as ccxt expects them.
        """
        client = self._client(lambda client, request: json.loads(self._send(client, request)))
        client.has["fetchCurrencies"] = False
        known = client.options.get("fetchMarkets")
        if isinstance(known, dict) and "spot" in known.get("types", ()):
            known["types"] = ["spot"]
        if not client.load_markets():
            raise UnexpectedReplyError(f"{self.name}: its reply lists no market; try again later")
        return client

    def _client(self, answer: _Answer) -> Any:
        """A ccxt client of its own for one call, since they hold state; it costs milliseconds."""
        client, costs = self._class(), [1.0]

        def fetch(url: str, method: str = "GET", headers: Any = None, body: Any = None) -> Any:
            if method != "GET" or body:
                raise PermanentSourceError(
                    f"{self.name}: ccxt sends a {method} with a body, which is not supported; take "
                    "the market out of markets.yaml"
                )
            return answer(client, _Request(url, headers or {}, costs[-1]))

        client.fetch = fetch
        client.throttle = lambda cost=None: costs.append(cost or 1.0)
        client.milliseconds = lambda: int(self._now().timestamp() * 1000)
        return client

    def _send(self, client: Any, request: _Request) -> bytes:
        reply = self._http.get_bytes(
            self._placed(request.url),
            headers=request.headers,
            weight=min(math.ceil(request.cost), _MOST_COST),
            max_bytes=_MAX_REPLY,
            check=partial(self._check_reply, client, request),
        )
        return reply.body

    def _check_reply(self, client: Any, request: _Request, reply: Reply) -> None:
        """Raise what ccxt sees in a reply with status 200: an error that the exchange put there."""
        text = reply.body.decode(errors="replace")
        try:
            parsed = json.loads(text)
        except ValueError as error:
            raise UnexpectedReplyError(f"{reply.url}: no JSON: {reply.excerpt}") from error
        with self._named("an error cannot be read"):
            client.handle_errors(
                200, "OK", request.url, "GET", dict(reply.headers), text, parsed,
                request.headers, None,
            )  # fmt: skip

    def _placed(self, url: str) -> str:
        """The URL at the address that replaces the exchange's own, if one does."""
        return re.sub(r"^https?://[^/]+", lambda own: self._url or own.group(), url)

    @contextmanager
    def _named(self, what: str, *, is_exact: bool = False) -> Iterator[None]:
        """Every error of ccxt under a name of ours; `is_exact` while numbers are Decimal."""
        try:
            yield
        except CryptoAssetsError:
            raise
        except Exception as error:
            for name, kind in _KINDS:
                if isinstance(error, getattr(self._library, name)):
                    what = f"{self.name}: {type(error).__name__}: {str(error)[:300]}"
                    raise kind(what) from error
            if is_exact and isinstance(error, TypeError | ArithmeticError):
                raise InexactNumberError(
                    f"{self.name}: ccxt computes with numbers, or they are none ({error!r})"
                ) from error
            raise UnexpectedReplyError(f"{self.name}: {what} by ccxt: {error!r:.300}") from error


def read_page(body: bytes, what: str) -> Page:
    """A reply's JSON without a float in it; raises UnexpectedReplyError."""
    try:
        text = body.decode()
        reply = json.loads(text, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError) as error:
        raise UnexpectedReplyError(f"{what}: expected JSON, got {body[:120]!r}") from error
    return Page(reply, frozenset(map(_digits, re.findall(r"[0-9][0-9.]*", text))))


def _candle(row: Any, digits: frozenset[str], name: str) -> Candle:
    if not isinstance(row, list) or len(row) != 6 or type(row[0]) is not int:
        raise MalformedRowError(
            f"{name}: a candle is no list of a time and {', '.join(_COLUMNS)}: {row!r}", rows=[row]
        )
    amounts = []
    for column, value in zip(_COLUMNS, row[1:], strict=True):
        if type(value) not in (Decimal, int, str):
            kind = InexactNumberError if type(value) is float else MalformedRowError
            raise kind(f"{name}: {column} of a candle is {value!r}: {row!r}", rows=[row])
        try:
            amount = Decimal(value)
        except ArithmeticError:
            amount = Decimal("NaN")
        if not amount.is_finite():
            raise MalformedRowError(f"{name}: {column} of a candle is no number: {row!r}")
        if _digits(f"{amount:f}") not in digits:
            raise InexactNumberError(
                f"{name}: {column} of a candle, {amount}, is not in the reply: ccxt computed it, "
                "so that it cannot be proven to be what the exchange published",
                rows=[row],
            )
        amounts.append(amount)
    return Candle(row[0], *amounts)


def _digits(text: str) -> str:
    """The digits of a number without its sign, its point and the zeros around them."""
    return text.lstrip("-").replace(".", "").strip("0")


def _library() -> Any:
    """ccxt, all exchanges at once: it takes 0.6 s and cannot be imported in part."""
    try:
        return importlib.import_module("ccxt")
    except ImportError as error:
        raise MissingLibraryError(
            "raw/ccxt_candles needs the optional library ccxt: run `pip install '.[ccxt]'` in the "
            f"project's folder, or take `ccxt` out of markets.yaml ({error})"
        ) from error


def _address(described: Any) -> str:
    """The first of an exchange's addresses; which of them is asked is said by each request."""
    address = described.urls["api"]
    while isinstance(address, dict):
        address = next(iter(address.values()))
    return str(described.implode_hostname(address))
