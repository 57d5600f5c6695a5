"""Bringing block ranges into the lake: what to skip, what to fetch, and which side is wrong.

No Dagster here; `chain` turns the outcomes into events.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from typing import Any

from crypto_assets.assets.collect_calls import CollectedCalls, collect_calls
from crypto_assets.catalog import BlockRange, Chain, ChainRange, Chains, Kind
from crypto_assets.errors import (
    CryptoAssetsError,
    EndpointsDisagreeError,
    IntegrityError,
    NeighbourMismatchError,
    NotFinalError,
)
from crypto_assets.lake import (
    Lake,
    Proof,
    RangeWriter,
    SourceFile,
    StaleRange,
    find_range,
    is_range_intact,
    mark_stale,
    quarantine,
    tidy_range,
)
from crypto_assets.lake.durable import storage_errors
from crypto_assets.sources.evm import Evm, RangeExtract
from crypto_assets.sources.hex_columns import fixed

# Blocks of a range, beside its first and last, that every node is asked about.
_SAMPLED = 3


@dataclass(frozen=True, slots=True)
class CollectedRange:
    """What became of one block range: a proof for each dataset, or an error."""

    part: ChainRange
    proofs: Mapping[Kind, Proof]
    error: CryptoAssetsError | None
    is_new: bool
    seconds: float


class RangeCollector:
    """Collects block ranges of the catalogue's chains into a lake, several at the same time.

    `connect` makes a chain's source when it is first needed, so that building definitions opens
    nothing.
    """

    def __init__(
        self, lake: Lake, chains: Chains, connect: Callable[[Chain], Evm], *, workers: int
    ) -> None:
        self.lake = lake
        self.chains = chains
        self._connect = connect
        self._sources: dict[str, Evm] = {}
        self._workers = workers

    def source(self, chain: Chain) -> Evm:
        """The source of a chain, the same at each call."""
        if chain.name not in self._sources:
            self._sources[chain.name] = self._connect(chain)
        return self._sources[chain.name]

    def collect(
        self, chain: Chain, ranges: Sequence[BlockRange], *, refetch: bool = False
    ) -> Iterator[CollectedRange]:
        """Bring ranges up to date; yields each as soon as it is done.

        A failing range does not stop the others. Proven ranges are skipped, unless they were asked
        for otherwise than the catalogue says now, or are to be fetched again; what is committed
        then stays until its successor is proven. A committed range beside one of them that is found
        to be off the chain is marked stale.
        """
        finalized = _Once(self.source(chain).finalized)
        attempt = partial(self._attempt, chain, finalized, refetch)
        with ThreadPoolExecutor(self._workers, thread_name_prefix=chain.name) as pool:
            pending = [pool.submit(attempt, ChainRange(chain.name, blocks)) for blocks in ranges]
            try:
                for future in as_completed(pending):
                    yield future.result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def collect_calls(
        self, chain: Chain, ranges: Sequence[BlockRange], *, refetch: bool = False
    ) -> Iterator[CollectedCalls]:
        """Ask contracts about the logs of committed ranges; see `collect_calls`."""
        return collect_calls(
            self.lake,
            chain,
            self.source(chain),
            ranges,
            workers=self._workers,
            refetch=refetch,
        )

    def finalized_ranges(
        self, chain: Chain, first: int, last: int | None = None
    ) -> list[BlockRange]:
        """Whole ranges from that of block `first` on whose last block is finalized.

        Up to that of block `last`, or up to now.
        """
        finalized = self.source(chain).finalized()
        until = finalized if last is None else min(last, finalized)
        return [blocks for blocks in chain.ranges(first, until) if blocks.last <= finalized]

    def recheck(self, chain: Chain, newest: int) -> list[StaleRange]:
        """Ask the chain whether the newest committed ranges are still part of it.

        Those that are not are marked stale, and returned; the next run of them fetches them again.
        """
        parts = self.lake.ranges(chain.name)[-newest:]
        held = [proofs for part in parts if (proofs := find_range(self.lake, part)) is not None]
        return [
            stale
            for proofs in held
            if (stale := self._judge(chain, proofs["blocks"], "the scheduled re-check")) is not None
        ]

    def node_facts(self, chain: Chain, ranges: Sequence[BlockRange]) -> list[dict[str, Any]]:
        """What every node says now of some blocks of each range; nothing if there is only one.

        The first and the last block of a range, and some between that its key decides on.
        """
        source = self.source(chain)
        if source.node_count < 2:
            return []
        return [
            {
                "venue": chain.name,
                "node": node,
                "partition": blocks.key,
                "number": fact.number,
                "hash": fixed([fact.hash], 32)[0].as_py(),
                "log_count": fact.log_count,
            }
            for blocks in ranges
            for node, facts in source.facts(_sample(blocks)).items()
            for fact in facts
        ]

    def _attempt(
        self, chain: Chain, finalized: _Once, refetch: bool, part: ChainRange
    ) -> CollectedRange:
        started = time.monotonic()
        try:
            proofs, is_new = self._prove(chain, finalized, refetch, part)
        except CryptoAssetsError as error:
            return CollectedRange(part, {}, error, False, time.monotonic() - started)
        return CollectedRange(part, proofs, None, is_new, time.monotonic() - started)

    def _prove(
        self, chain: Chain, finalized: _Once, refetch: bool, part: ChainRange
    ) -> tuple[Mapping[Kind, Proof], bool]:
        """The proofs of a range, and whether they were committed just now."""
        workdir = self.lake.inflight(part)
        source = self.source(chain)
        with storage_errors(workdir), self.lake.partition_lock(part):
            committed = None if refetch else find_range(self.lake, part)
            if (
                committed is not None
                and committed["blocks"].asked == source.asked
                and is_range_intact(self.lake, part)
            ):
                # A run that was killed after its commit could not clean up.
                tidy_range(self.lake, part)
                return committed, False
            if part.blocks.last > (newest := finalized()):
                raise NotFinalError(
                    f"{part}: finalized is block {newest}; a range is fetched once its last block "
                    "is, so run this one again later"
                )
            workdir.mkdir(parents=True, exist_ok=True)
            try:
                with RangeWriter(self.lake, source.datasets, part) as writer:
                    extract = source.fetch(part.blocks, workdir)
                    for rows in extract:
                        writer.write(rows)
                    return self._commit(chain, writer, extract), True
            except IntegrityError as error:
                kept = quarantine(self.lake, part, error)
                raise type(error)(
                    f"{error}. Nothing was committed; what was delivered is kept in {kept}. Run "
                    "the partition again; if it is refused again, the nodes themselves are wrong",
                    **error.evidence,
                ) from error

    def _commit(
        self, chain: Chain, writer: RangeWriter, extract: RangeExtract
    ) -> Mapping[Kind, Proof]:
        """Commit a range; a neighbour that does not join and is off the chain gives way.

        Raises NeighbourMismatchError if it is the range itself that the chain does not have.
        """
        while True:
            try:
                return writer.commit(
                    source_row_counts=extract.counts,
                    source=tuple(
                        SourceFile(
                            url=document.url,
                            etag=document.etag,
                            sha256=document.sha256,
                            bytes=document.bytes,
                        )
                        for document in extract.documents
                    ),
                    checks=extract.checks,
                    asked=self.source(chain).asked,
                )
            except NeighbourMismatchError as error:
                beside = ChainRange(chain.name, BlockRange.parse(error.evidence["neighbour"]))
                proofs = find_range(self.lake, beside)
                why = "a range beside it, whose hashes do not join"
                if proofs is not None and self._judge(chain, proofs["blocks"], why) is None:
                    raise

    def _judge(self, chain: Chain, proof: Proof, found_by: str) -> StaleRange | None:
        """Mark a range stale if the chain does not have its first or last block (any more).

        Raises EndpointsDisagreeError if one node says so and another one does not.
        """
        committed = {proof.first_id: proof.first_hash, proof.last_id: proof.last_hash}
        numbers = [number for number in committed if number is not None]
        source = self.source(chain)
        for header in source.headers(numbers):
            ours = committed[header.number]
            if header.hash == ours:
                continue
            said = {node: facts[0].hash for node, facts in source.facts([header.number]).items()}
            if ours in said.values():
                raise EndpointsDisagreeError(
                    f"{chain.name} block {header.number}: {ours} is committed, and nodes do not "
                    "agree whether it still is the chain's: "
                    + "; ".join(f"{node}: {hash_}" for node, hash_ in said.items())
                    + ". Nothing was marked stale; take the node that is wrong out of the settings",
                    block=header.number,
                    said=said,
                )
            return mark_stale(
                self.lake,
                proof,
                f"{chain.name} {proof.partition}: block {header.number} is {header.hash} on the "
                f"chain now, but {ours} here; found by {found_by}",
                block=header.number,
                committed_hash=ours,
                chain_hash=header.hash,
            )
        return None


class _Once:
    """A number that is asked for once, when it is first needed, by several threads."""

    def __init__(self, ask: Callable[[], int]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._answer: int | None = None

    def __call__(self) -> int:
        with self._lock:
            if self._answer is None:
                self._answer = self._ask()
            return self._answer


def _sample(blocks: BlockRange) -> list[int]:
    """Blocks that stand for a range, the same each time."""
    between = range(blocks.first + 1, blocks.last)
    chosen = random.Random(blocks.key).sample(between, min(_SAMPLED, len(between)))  # noqa: S311
    return sorted({blocks.first, *chosen, blocks.last})
