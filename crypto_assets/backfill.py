"""Bringing days and block ranges up to date end to end, through Dagster, in this process.

Raw data, checks, marts, publishing: the same jobs, partitions and events as from the UI.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import dagster as dg
from more_itertools import split_when

from crypto_assets.assets.collect_ranges import RangeCollector
from crypto_assets.automation import MARTS
from crypto_assets.automation_marts import NETWORK, days_around, marts_of
from crypto_assets.catalog import KINDS, BlockRange, Chain, ChainRange
from crypto_assets.checks.asset_checks import guards_of
from crypto_assets.checks.results import refusals
from crypto_assets.definitions import build_definitions, connect_chains, connect_venues
from crypto_assets.errors import CryptoAssetsError, NotFinalError
from crypto_assets.lake import find_range, stale_ranges
from crypto_assets.partitions import check_grid, register_ranges
from crypto_assets.runs import RangeOutcome, chunks, run_range
from crypto_assets.settings import Settings
from crypto_assets.sources import VENUES

_A_DAY = timedelta(days=1)


class Backfill:
    """One command's runs; `outcomes` tells what each came to, in order.

    `on_event` is called with each event of Dagster's, and `expect` with the number of partitions
    of raw assets that are to follow. With `refetch`, what is proven is fetched again, and replaced.
    """

    def __init__(
        self,
        settings: Settings,
        instance: dg.DagsterInstance,
        *,
        refetch: bool = False,
        on_event: Callable[[dg.DagsterEvent], None] = lambda _: None,
        expect: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.outcomes: list[RangeOutcome] = []
        self._settings = settings
        self._instance = instance
        self._refetch = refetch
        self._on_event = on_event
        self._expect = expect
        collector = connect_venues(settings)
        self.ranges: RangeCollector = connect_chains(settings, collector.catalog)
        self._definitions = build_definitions(settings, collector=collector, ranges=self.ranges)

    @property
    def is_proven(self) -> bool:
        """Whether everything asked for is proven and no check of severity ERROR failed."""
        return all(outcome.is_proven for outcome in self.outcomes)

    def venues(self, venues: Sequence[str], days: Sequence[date]) -> None:
        """One venue in one run per chunk of days; several in one each, and one for their marts."""
        raw = {
            venue: [dg.AssetKey(["raw", dataset.name]) for dataset in VENUES[venue].datasets]
            for venue in venues
        }
        self._expect(len(days) * sum(map(len, raw.values())))
        steps = [(venue, keys if len(raw) > 1 else None) for venue, keys in raw.items()]
        if len(raw) > 1:
            steps.append((MARTS, None))
        for some in chunks(days, self._settings.max_partitions_per_run):
            for name, assets in steps:
                ops = [f"raw__{d.name}" for d in (VENUES[name].datasets if name in raw else ())]
                self._run(name, some, ops, assets)

    def chain(self, chain: Chain, ranges: Sequence[BlockRange]) -> list[date]:
        """Ranges that follow each other, and those beside them that turn out to be off the chain.

        What is made of them by range follows. Returns the days that they may have made whole, in
        order; see `network`.
        """
        lake = self.ranges.lake
        check_grid(self._instance, lake, chain)
        register_ranges(self._instance, chain.name, ranges)
        pending = [*ranges]
        done: set[BlockRange] = set()
        while pending:
            self._expect(len(pending) * len(KINDS))
            for stretch in split_when(pending, lambda one, other: one.beside(1) != other):
                for some in chunks(stretch, self._settings.max_partitions_per_run):
                    self._run(chain.name, some, [f"raw__{chain.name}"])
            done.update(pending)
            stale = [each.part.blocks for each in stale_ranges(lake, chain.name)]
            pending = [blocks for blocks in stale if blocks not in done]
            register_ranges(self._instance, chain.name, pending)
        return self._decode(chain, sorted(done))

    def _decode(self, chain: Chain, ranges: Sequence[BlockRange]) -> list[date]:
        """Make of ranges that passed every check what is made by range; returns their days."""
        lake = self.ranges.lake
        held = {blocks: find_range(lake, ChainRange(chain.name, blocks)) for blocks in ranges}
        of_blocks = {blocks: proofs["blocks"] for blocks, proofs in held.items() if proofs}
        sound = [
            blocks
            for blocks, proof in of_blocks.items()
            if not refusals(lake, guards_of(chain), [proof])
        ]
        self._expect(len(sound))
        ops = [f"raw__{chain.name}_calls"]
        for stretch in split_when(sound, lambda one, other: one.beside(1) != other):
            for some in chunks(stretch, self._settings.max_partitions_per_run):
                self._run(marts_of(chain), some, ops)
                if len(some) > 1 and not self.outcomes[-1].is_proven:
                    # One that cannot be decoded must not keep back the others.
                    del self.outcomes[-1]
                    for blocks in some:
                        self._run(marts_of(chain), [blocks], ops)
        return sorted(days_around(lake, chain, of_blocks.values()))

    def network(self, days: Sequence[date]) -> None:
        """What is made of chains by day, for days that at least one of them covers."""
        for stretch in split_when(sorted(set(days)), lambda one, other: one + _A_DAY != other):
            for some in chunks(stretch, self._settings.max_partitions_per_run):
                self._run(NETWORK, some)

    def fail(self, error: CryptoAssetsError) -> None:
        """Tell among the outcomes of something that could not even be begun."""
        self.outcomes.append(
            RangeOutcome("", ("", ""), problems=[f"{type(error).__name__}: {error}"])
        )

    def ranges_of_blocks(self, chain: Chain, first: int, last: int) -> list[BlockRange]:
        """All ranges that hold blocks `first` to `last`; raises NotFinalError if one is not yet."""
        return final_ranges(chain, first, last, self.ranges.source(chain).finalized())

    def ranges_of_days(self, chain: Chain, first: date, last: date) -> list[BlockRange]:
        """The ranges that cover the days from `first` to `last`, with the blocks on either side.

        Raises NotFinalError if the day after the last has no finalized block yet.
        """
        source = self.ranges.source(chain)
        start = source.first_block_since(_midnight(first)) - 1
        end = source.first_block_since(_midnight(last + _A_DAY))
        return self.ranges_of_blocks(chain, max(start, chain.first_block), end)

    def _run(
        self,
        job: str,
        partitions: Sequence[date] | Sequence[BlockRange],
        ops: Sequence[str] = (),
        assets: Sequence[dg.AssetKey] | None = None,
    ) -> None:
        config: dict[str, Any] = {op: {"config": {"refetch": self._refetch}} for op in ops}
        self.outcomes.append(
            run_range(
                self._instance,
                self._definitions.resolve_job_def(job),
                partitions,
                on_event=self._on_event,
                ops=config,
                assets=assets,
            )
        )


def final_ranges(chain: Chain, first: int, last: int, finalized: int) -> list[BlockRange]:
    """All ranges that hold blocks `first` to `last`; raises NotFinalError if one is not yet."""
    ranges = chain.ranges(first, last)
    if ranges[-1].last > finalized:
        final = chain.range_of(finalized + 1).beside(-1)
        raise NotFinalError(
            f"{chain.name} {ranges[-1]}: its last block is not finalized yet; the last range "
            f"that is, is {final}"
        )
    return ranges


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
