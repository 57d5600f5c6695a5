"""Bringing market-days into the lake: what to skip, what to fetch, and what becomes of a failure.

No Dagster here; `raw` turns the outcomes into events.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from crypto_assets.catalog import Catalog, Dataset, Listing, MarketDay
from crypto_assets.errors import CryptoAssetsError, IntegrityError
from crypto_assets.lake import Gap, Lake, PartitionWriter, Proof, SourceFile, find_proof, quarantine
from crypto_assets.lake.durable import storage_errors
from crypto_assets.lake.proof import is_seal_intact
from crypto_assets.sources.venue import Extract, Venue

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Failure:
    """A market-day that could not be proven, and why."""

    part: MarketDay
    error: CryptoAssetsError


@dataclass(frozen=True, slots=True)
class CollectedDay:
    """What became of one day of a dataset: a proof per market, or failures."""

    day: date
    proofs: tuple[Proof, ...]
    failures: tuple[Failure, ...]
    fetched: int
    seconds: float


class Collector:
    """Collects market-days of the catalogue into a lake, several at the same time.

    `connect` makes a venue's source when it is first needed, so that building definitions opens
    nothing.
    """

    def __init__(
        self, lake: Lake, catalog: Catalog, connect: Callable[[str], Venue], *, workers: int
    ) -> None:
        self.lake = lake
        self.catalog = catalog
        self._connect = connect
        self._venues: dict[str, Venue] = {}
        self._workers = workers

    def collect(
        self, dataset: Dataset, days: Sequence[date], *, refetch: bool = False
    ) -> Iterator[CollectedDay]:
        """Bring days up to date; yields each as soon as all its markets are done.

        A failing market-day does not stop the others. Proven market-days are skipped, unless they
        are to be fetched again; what is committed then stays until its successor is proven.
        """
        listings = self.catalog.of_venue(dataset.venue)
        attempt = partial(self._attempt, self._venue(dataset.venue), dataset, refetch)
        with ThreadPoolExecutor(self._workers, thread_name_prefix=dataset.name) as pool:
            pending: dict[Future[_Outcome], date] = {}
            outcomes: dict[date, list[_Outcome]] = {day: [] for day in days}
            for day in outcomes:
                for listing in listings:
                    part = MarketDay(dataset.name, listing.market, day)
                    pending[pool.submit(attempt, listing, part)] = day
            try:
                for future in as_completed(pending):
                    day = pending[future]
                    outcomes[day].append(future.result())
                    if len(outcomes[day]) == len(listings):
                        yield _summary(day, outcomes.pop(day))
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def part_of(self, proof: Proof) -> MarketDay:
        """The partition that a proof is of."""
        return MarketDay(proof.dataset, proof.market, date.fromisoformat(proof.partition))

    def hourly_prices(self, dataset: Dataset, proof: Proof) -> list[Decimal | None]:
        """Last price in each of the day's 24 hours, None for an hour without a row."""
        assert dataset.time_column is not None  # noqa: S101 - a market's rows all have a time
        columns = [dataset.time_column, dataset.price_column]
        table = pq.read_table(
            self.lake.file(self.part_of(proof)), columns=columns, partitioning=None
        )
        hours = np.asarray(pc.hour(table[dataset.time_column]), dtype=np.int64)
        ends = np.flatnonzero(np.diff(hours, append=-1))
        prices: list[Decimal | None] = [None] * 24
        for hour, price in zip(hours[ends], table[dataset.price_column].take(ends), strict=True):
            prices[hour] = price.as_py()
        return prices

    def _venue(self, name: str) -> Venue:
        if name not in self._venues:
            self._venues[name] = self._connect(name)
        return self._venues[name]

    def _attempt(
        self, venue: Venue, dataset: Dataset, refetch: bool, listing: Listing, part: MarketDay
    ) -> _Outcome:
        started = time.monotonic()
        try:
            proof, is_new = self._prove(venue, dataset, refetch, listing, part)
        except CryptoAssetsError as error:
            return _Outcome(None, Failure(part, error), False, time.monotonic() - started)
        return _Outcome(proof, None, is_new, time.monotonic() - started)

    def _prove(
        self, venue: Venue, dataset: Dataset, refetch: bool, listing: Listing, part: MarketDay
    ) -> tuple[Proof, bool]:
        """The partition's proof, and whether it was committed just now."""
        workdir = self.lake.inflight(part)
        with storage_errors(workdir), self.lake.partition_lock(part):
            committed = None if refetch else self._committed(listing, part)
            if committed is not None:
                return committed, False
            workdir.mkdir(parents=True, exist_ok=True)
            try:
                with PartitionWriter(self.lake, dataset, part) as writer:
                    if not listing.is_listed_on(part.day):
                        return _commit_not_listed(writer, listing, part), True
                    return _commit(writer, venue.fetch(dataset, listing, part, workdir)), True
            except IntegrityError as error:
                kept = quarantine(self.lake, part, error)
                raise type(error)(
                    f"{error}. Nothing was committed; what was delivered is kept in {kept}. Run "
                    "the partition again; if it is refused again, the source itself is wrong",
                    **error.evidence,
                ) from error

    def _committed(self, listing: Listing, part: MarketDay) -> Proof | None:
        """The proof by which a partition may be skipped."""
        proof = find_proof(self.lake, part)
        if proof is None or not is_seal_intact(self.lake.file(part)):
            # Not what was committed, so the partition counts as missing; the commit replaces it.
            return None
        if proof.status == "not_listed" and listing.is_listed_on(part.day):
            # The catalogue has learned better since.
            return None
        # A run that was killed after its commit could not clean up.
        self.lake.clear_inflight(part)
        return proof


@dataclass(frozen=True, slots=True)
class _Outcome:
    proof: Proof | None
    failure: Failure | None
    is_new: bool
    seconds: float


def _summary(day: date, outcomes: list[_Outcome]) -> CollectedDay:
    proofs = [outcome.proof for outcome in outcomes if outcome.proof is not None]
    failures = [outcome.failure for outcome in outcomes if outcome.failure is not None]
    return CollectedDay(
        day=day,
        proofs=tuple(sorted(proofs, key=lambda proof: proof.market)),
        failures=tuple(sorted(failures, key=lambda failure: failure.part.market)),
        fetched=sum(outcome.is_new for outcome in outcomes),
        seconds=max(outcome.seconds for outcome in outcomes),
    )


def _commit(writer: PartitionWriter, extract: Extract) -> Proof:
    row_count = 0
    for batch in extract.batches:
        row_count += batch.num_rows
        writer.write(batch)
    return writer.commit(
        status="complete" if row_count else "empty",
        source_row_count=extract.row_count(),
        source=tuple(
            SourceFile(
                url=document.url, etag=document.etag, sha256=document.sha256, bytes=document.bytes
            )
            for document in extract.documents
        ),
        checks=extract.checks,
        gaps=tuple(
            Gap(
                started_at=_EPOCH + timedelta(microseconds=hole.started_at_us),
                ended_at=_EPOCH + timedelta(microseconds=hole.ended_at_us),
                reason=hole.reason,
                evidence=hole.evidence,
            )
            for hole in extract.holes
        ),
    )


def _commit_not_listed(writer: PartitionWriter, listing: Listing, part: MarketDay) -> Proof:
    until = listing.until or "now"
    return writer.commit(
        status="not_listed",
        source_row_count=0,
        source=(),
        checks={},
        gaps=(
            Gap(
                started_at=part.starts_at,
                ended_at=part.ends_at,
                reason="not_listed",
                evidence=f"the catalogue lists {listing.symbol} from {listing.since} to {until}",
            ),
        ),
    )
