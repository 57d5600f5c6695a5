"""Binance spot: daily archives of trades and one-minute klines, and REST for what they lack.

Archive: https://github.com/binance/binance-public-data (files, columns, `.CHECKSUM`, the change to
microseconds on 2025-01-01). REST: https://developers.binance.com/docs/binance-spot-api-docs
(weights, `fromId` and `startTime` both inclusive). Daily archives only: monthly ones disagree with
them (binance-public-data #475, #253, #140, #403).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple

import httpx

from crypto_assets.catalog import Dataset, Listing, MarketDay
from crypto_assets.errors import (
    BadArchiveError,
    ChecksumMismatchError,
    MissingIdError,
    NotFinalError,
    NotFoundError,
    PermanentSourceError,
    SourceMissingError,
    UnknownSymbolError,
)
from crypto_assets.sources.binance_rows import (
    KLINES,
    REST_KLINES,
    TRADES,
    Aggregate,
    candles_of,
    klines_of_archive,
    klines_of_page,
    parse_aggregates,
    parse_checksum,
    quiet_day,
    rest_scale,
    sniff_header,
    trade_ids_of_page,
    trades_of_archive,
    trades_of_pages,
)
from crypto_assets.sources.candles import MINUTE_US
from crypto_assets.sources.columns import int64, micros
from crypto_assets.sources.http import HostPolicy, HttpClient
from crypto_assets.sources.pages import Pages
from crypto_assets.sources.venue import Document, Extract
from crypto_assets.sources.zipped_csv import ZippedCsv

__all__ = ["KLINES", "REST_KLINES", "TRADES", "Binance"]

_AGG_TRADES, _OLD_TRADES, _KLINES = (
    f"/api/v3/{name}" for name in ("aggTrades", "historicalTrades", "klines")
)
_REST_LIMIT = 1000
_MAX_REPLY = 4 << 20
_MAX_ARCHIVE = 8 << 30
_MAX_CHECKSUM = 4096
# Archives appear the day after; freqtrade counts on two days. A week later one that is still
# missing is not late but gone, and taking it from REST would hide that.
_REST_FALLBACK_DAYS = 7

_ARCHIVE_POLICY = HostPolicy("binance-archive")
# 6,000 a minute and address (REST documentation, "LIMITS"); a sixth is left to other programs.
_REST_POLICY = HostPolicy(
    "binance-rest", limits=((5000, 60.0),), used_weight=("X-MBX-USED-WEIGHT-1M", 5800)
)


class Binance:
    """Fetches one market-day of trades or klines; see `sources.venue.Venue`.

    `limits_folder` holds what all processes of this machine share of the rate limit; `transport`
    replaces the network; `now` tells the time, UTC.
    """

    datasets: tuple[Dataset, ...] = (TRADES, KLINES, REST_KLINES)

    def __init__(
        self,
        *,
        archive_url: str,
        rest_url: str,
        api_key: str | None = None,
        limits_folder: Path | None = None,
        transport: httpx.BaseTransport | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._archive = HttpClient(
            base_url=archive_url, policy=_ARCHIVE_POLICY, limits_path=None, transport=transport
        )
        self._rest = HttpClient(
            base_url=rest_url,
            policy=_REST_POLICY,
            limits_path=limits_folder / "binance-rest.sqlite" if limits_folder else None,
            headers={"X-MBX-APIKEY": api_key} if api_key else None,
            transport=transport,
        )
        self._now = now

    def close(self) -> None:
        """End requests under way and give connections back."""
        self._archive.close()
        self._rest.close()

    def fetch(self, dataset: Dataset, listing: Listing, part: MarketDay, workdir: Path) -> Extract:
        """Deliver one market-day from the archive, or from REST while the archive is still due."""
        if part.ends_at > self._now():
            raise NotFinalError(
                f"{part} ends at {part.ends_at.isoformat()}; a day is fetched once it is over"
            )
        if dataset is REST_KLINES:
            return self._klines_of_rest(listing, part, workdir)
        try:
            path, document = self._download(dataset, listing, part, workdir)
        except NotFoundError as missing:
            if dataset is TRADES:
                return self._trades_of_rest(listing, part, workdir, missing)
            extract = self._klines_of_rest(listing, part, workdir)
            if extract.row_count():
                self._refuse_stale(part, missing)
            return extract
        archive = ZippedCsv(path, f"{path.stem}.csv")
        head = archive.head(2)
        has_header = sniff_header(head, dataset, part)
        if len(head) == has_header:
            return self._empty(dataset, listing, part, document)
        if dataset is TRADES:
            return trades_of_archive(archive, part, document, has_header=has_header)
        return klines_of_archive(archive, listing, part, document, has_header=has_header)

    def _download(
        self, dataset: Dataset, listing: Listing, part: MarketDay, workdir: Path
    ) -> tuple[Path, Document]:
        """The archive with the checksum that is published for it; a mismatch is tried once more."""
        symbol = listing.symbol
        folder, kind = ("trades", "trades") if dataset is TRADES else ("klines", "1m")
        name = f"{symbol}-{kind}-{part.partition}.zip"
        inner = "" if dataset is TRADES else f"{kind}/"
        address = f"/data/spot/daily/{folder}/{symbol}/{inner}{name}"
        target = workdir / name
        for _ in range(2):
            published = self._archive.get_bytes(f"{address}.CHECKSUM", max_bytes=_MAX_CHECKSUM)
            expected = parse_checksum(published.body, name, published.url)
            if target.exists() and _sha256(target) == expected:
                # Downloaded by a run that died before it could commit.
                size = target.stat().st_size
                return target, Document(self._archive.url(address), None, expected, size)
            got = self._archive.download(address, target, max_bytes=_MAX_ARCHIVE, expect=b"PK")
            if got.sha256 == expected:
                return target, Document(got.url, got.etag, got.sha256, got.bytes)
        raise ChecksumMismatchError(
            f"{part}: {got.url} has SHA-256 {got.sha256}, its .CHECKSUM says {expected}, twice in "
            "a row; one of the two is stale at the source",
            url=got.url,
            sha256=got.sha256,
            published_sha256=expected,
        )

    def _trades_of_rest(
        self, listing: Listing, part: MarketDay, workdir: Path, missing: NotFoundError
    ) -> Extract:
        """Trades by id, 1,000 a page; each page is kept in `workdir` as a checkpoint."""
        span = self._id_span(listing, part)
        if span.first is None:
            return quiet_day("rest_has_no_trades", span.document)
        self._refuse_stale(part, missing)
        pages = Pages(workdir, str(part))
        cursor, last = span.first, span.last
        while last is None or cursor <= last:
            params: dict[str, str | int] = {
                "symbol": listing.symbol,
                "fromId": cursor,
                "limit": _REST_LIMIT,
            }
            rows = pages.get(
                f"trades-{cursor:020d}", partial(self._ask, _OLD_TRADES, params, part, weight=25)
            )
            if not rows and last is None:
                break
            ids = trade_ids_of_page(rows, part)
            if not rows or ids[0] != cursor:
                raise MissingIdError(
                    f"{part}: REST was asked for trades from id {cursor} on and gave "
                    f"{f'them from {ids[0]} on' if rows else 'none'}",
                    asked=cursor,
                )
            cursor = int(ids.max()) + 1  # ever onwards, also where a page repeats itself
            if len(rows) < _REST_LIMIT:
                break
        if last is None:
            # Nobody had traded after midnight; by now somebody may have, and be in the last page.
            last = self._id_span(listing, part).last
        last = cursor - 1 if last is None else last
        row_count = last - span.first + 1
        return Extract(
            batches=trades_of_pages(pages, part, last),
            row_count=lambda: row_count,
            documents=(
                span.document,
                pages.document(f"{self._rest.url(_OLD_TRADES)}?symbol={listing.symbol}"),
            ),
            checks={"values_are_possible": "passed", "ids_span_the_day_at_rest": "passed"},
        )

    def _klines_of_rest(self, listing: Listing, part: MarketDay, workdir: Path) -> Extract:
        pages = Pages(workdir, str(part))
        batches = []
        cursor = micros(part.starts_at)
        while cursor < micros(part.ends_at):
            params: dict[str, str | int] = {
                "symbol": listing.symbol,
                "interval": "1m",
                "startTime": cursor // 1000,
                "endTime": micros(part.ends_at) // 1000 - 1,
                "limit": _REST_LIMIT,
            }
            rows = pages.get(
                f"klines-{cursor}", partial(self._ask, _KLINES, params, part, weight=2)
            )
            batches.append(klines_of_page(rows, part))
            if len(rows) < _REST_LIMIT:
                break
            cursor = max(cursor, int(int64(batches[-1]["open_time"]).max())) + MINUTE_US
        row_count = sum(batch.num_rows for batch in batches)
        if not row_count and (span := self._id_span(listing, part)).first is not None:
            raise SourceMissingError(
                f"{part}: REST has trades of that day from id {span.first} on, but no candle; run "
                "the partition again later"
            )
        document = pages.document(f"{self._rest.url(_KLINES)}?symbol={listing.symbol}&interval=1m")
        return candles_of(
            batches,
            listing,
            part,
            scale=rest_scale(part),
            row_count=row_count,
            documents=(document,),
            checks={} if row_count else {"rest_has_no_candles": "passed"},
        )

    def _empty(
        self, dataset: Dataset, listing: Listing, part: MarketDay, document: Document
    ) -> Extract:
        """An archive without a row is believed only if REST knows of no trade that day either."""
        span = self._id_span(listing, part)
        if span.first is not None:
            raise BadArchiveError(
                f"{part}: {document.url} is empty, but REST has trades of that day from id "
                f"{span.first} on; the archive is broken at the source",
                url=document.url,
                first_id=span.first,
            )
        documents = (document, span.document)
        if dataset is TRADES:
            return quiet_day("rest_has_no_trades", *documents)
        return candles_of(
            [],
            listing,
            part,
            scale=rest_scale(part),
            row_count=0,
            documents=documents,
            checks={"rest_has_no_trades": "passed"},
        )

    def _id_span(self, listing: Listing, part: MarketDay) -> _IdSpan:
        """First and last trade id of a day as REST's aggregated trades tell them.

        That a day has no trade is believed only if the trades before and after it have ids that
        join: REST does not keep all of history (binance-public-data #376), and where it has
        forgotten, every day looks quiet.
        """
        replies = []

        def aggregate(**params: int) -> Aggregate | None:
            asked: dict[str, str | int] = {"symbol": listing.symbol, **params, "limit": 1}
            replies.append(self._get(_AGG_TRADES, asked, weight=4))
            return next(iter(parse_aggregates(replies[-1], part)), None)

        def span(first: int | None, last: int | None) -> _IdSpan:
            body = b"".join(replies)
            url = f"{self._rest.url(_AGG_TRADES)}?symbol={listing.symbol}"
            sha256 = hashlib.sha256(body).hexdigest()
            return _IdSpan(first, last, Document(url, None, sha256, len(body)))

        starts, ends = micros(part.starts_at) // 1000, micros(part.ends_at) // 1000
        first = aggregate(startTime=starts)
        if first is not None and first.time < ends:
            after = aggregate(startTime=ends)
            return span(first.first_id, after.first_id - 1 if after else None)
        if first is None:
            newest = aggregate()
            is_quiet = newest is None or newest.time < starts
        elif first.id > 0:
            before = aggregate(fromId=first.id - 1)
            is_quiet = (
                before is not None and before.time < starts and before.last_id + 1 == first.first_id
            )
        else:
            is_quiet = True
        if not is_quiet:
            raise SourceMissingError(
                f"{part}: REST gives no trade of that day, but nothing that joins before it "
                "either, so that it may have forgotten them; correct `since` in markets.yaml if "
                "the market was not listed then"
            )
        return span(None, None)

    def _ask(
        self, path: str, params: Mapping[str, str | int], part: MarketDay, *, weight: int
    ) -> bytes:
        """One page, its times in the unit that the archive of that day has."""
        unit = "MICROSECOND" if rest_scale(part) == 1 else "MILLISECOND"
        return self._get(path, params, headers={"X-MBX-TIME-UNIT": unit}, weight=weight)

    def _get(
        self,
        path: str,
        params: Mapping[str, str | int],
        *,
        weight: int,
        headers: dict[str, str] | None = None,
    ) -> bytes:
        try:
            reply = self._rest.get_bytes(
                path, params=params, headers=headers, max_bytes=_MAX_REPLY, weight=weight
            )
        except PermanentSourceError as error:
            if re.search(r'"code":\s*-1121\b', str(error)):
                raise UnknownSymbolError(
                    f"Binance does not know the symbol {params['symbol']}; correct it in "
                    f"markets.yaml ({error})"
                ) from error
            raise
        return reply.body

    def _refuse_stale(self, part: MarketDay, missing: NotFoundError) -> None:
        if self._now() - part.ends_at > timedelta(days=_REST_FALLBACK_DAYS):
            raise SourceMissingError(
                f"{part}: REST has data of that day but the archive has none ({missing}); after "
                f"{_REST_FALLBACK_DAYS} days an archive is no longer late. If the market was not "
                "listed then, correct `since` or `until` in markets.yaml"
            ) from missing


class _IdSpan(NamedTuple):
    """First and last trade id of a day; no first: no trade, no last: none has come after it."""

    first: int | None
    last: int | None
    document: Document


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
