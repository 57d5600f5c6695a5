"""Collecting a chain in a test: the real collector, source and lake, over the sandbox's nodes."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from starlette.applications import Starlette

from crypto_assets.assets.collect_ranges import CollectedRange, RangeCollector
from crypto_assets.catalog import BlockRange, Catalog, Chain, ChainRange, Chains
from crypto_assets.lake import Lake, find_range
from crypto_assets.sandbox import create_app
from crypto_assets.sandbox import transport as sandbox_transport
from crypto_assets.sources.evm import Evm

FIRST = 21_516_000
SIZE = 10
CHAIN = Chain(name="ethereum", chain_id=1, range_size=SIZE, slot_seconds=12)
ONE = ("http://sandbox/ethereum",)
TWO = (*ONE, "http://sandbox/ethereum-b")


def nth(*numbers: int) -> list[BlockRange]:
    """Ranges of the sandbox chain, counted from its first."""
    return [CHAIN.range_of(FIRST + SIZE * number) for number in numbers]


class ChainHouse:
    """A lake in a folder of its own, and collectors for it; closes all that it opened."""

    def __init__(self, home: Path) -> None:
        self.lake = Lake(home)
        self.app: Starlette
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._opened.close()

    def collector(
        self,
        faults: str = "",
        *,
        urls: tuple[str, ...] = ONE,
        chain: Chain = CHAIN,
        workers: int = 2,
        **options: Any,
    ) -> RangeCollector:
        """A collector of one chain, whose nodes are those of a new sandbox (`app`)."""
        self.app = create_app(Catalog(()), faults=faults)
        source = Evm(chain, urls=urls, transport=sandbox_transport(self.app), **options)
        self._opened.callback(source.close)
        return RangeCollector(self.lake, Chains((chain,)), lambda _: source, workers=workers)

    def collect(
        self, ranges: Iterable[BlockRange], faults: str = "", **options: Any
    ) -> dict[str, CollectedRange]:
        """What became of each range, by its key."""
        collector = self.collector(faults, **options)
        found = collector.collect(CHAIN, [*ranges])
        return {done.part.partition: done for done in found}

    def digests(self, *numbers: int) -> list[dict[str, str] | None]:
        """The content of committed ranges; None for one that is not there."""
        held = [find_range(self.lake, ChainRange(CHAIN.name, blocks)) for blocks in nth(*numbers)]
        return [
            proofs and {kind: proof.content_digest for kind, proof in proofs.items()}
            for proofs in held
        ]
