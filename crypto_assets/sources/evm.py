"""Any EVM chain, by block range: blocks, transactions with receipts, and logs, each proven.

A range is fetched in parts of a few blocks, several at the same time. A part comes from one node as
a whole, so that a node is to blame for what does not fit together, and is kept on disk once it is
proven.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pyarrow as pa

from crypto_assets.catalog import KINDS, BlockRange, Chain, Dataset, Kind
from crypto_assets.errors import (
    BrokenParentLinkError,
    IntegrityError,
    SettingsError,
    SourceError,
    UnexpectedReplyError,
)
from crypto_assets.sources.evm_answers import Interview
from crypto_assets.sources.evm_endpoints import Endpoints
from crypto_assets.sources.evm_node import BlockFacts, BlockId, Node
from crypto_assets.sources.evm_pages import Delivery, find, keep
from crypto_assets.sources.evm_parts import PARENT_LINKS, Part, checks_of, read_part
from crypto_assets.sources.evm_proof import PROOFS, Tally
from crypto_assets.sources.evm_rows import Rows, datasets
from crypto_assets.sources.venue import Document

__all__ = ["PROOFS", "BlockFacts", "BlockId", "Evm", "RangeExtract"]

_log = logging.getLogger(__name__)


class RangeExtract:
    """One block range as delivered: iterate over it for the rows of its parts, in block order.

    Each item has one batch for each dataset; only a few are in memory at a time. Iterating again
    reads what is kept on disk. The properties tell of the range once its end has been reached.
    """

    def __init__(self, evm: Evm, blocks: BlockRange, workdir: Path) -> None:
        self._evm, self._blocks, self._workdir = evm, blocks, workdir
        self._begin()

    def _begin(self) -> None:
        self.counts: dict[Kind, int] = dict.fromkeys(KINDS, 0)
        """Rows by dataset, counted in what nodes delivered, not in the columns made of it."""
        self._tally = Tally()
        self._origins: dict[str, tuple[Any, int]] = {}

    def __iter__(self) -> Iterator[Rows]:
        self._begin()
        for part in self._evm.parts(self._blocks, self._workdir):
            self._add(part)
            yield part.rows

    def _add(self, part: Part) -> None:
        for kind, count in part.counts.items():
            self.counts[kind] += count
        for results in part.results:
            self._tally.add(results)
        digest, size = self._origins.setdefault(part.origin, (hashlib.sha256(), 0))
        digest.update(bytes.fromhex(part.sha256))
        self._origins[part.origin] = digest, size + part.bytes

    @property
    def checks(self) -> dict[str, str]:
        """By claim: "passed", "not computable: …" or "off"."""
        return checks_of(self._tally.checks(), self._evm.chain, self._evm.proofs)

    @property
    def documents(self) -> tuple[Document, ...]:
        """One for each node: scheme and host, and the SHA-256 over those of its parts in order."""
        return tuple(
            Document(origin, None, digest.hexdigest(), size)
            for origin, (digest, size) in self._origins.items()
        )


class Evm:
    """The source of one chain; share it among threads, and close it.

    Of each URL only scheme and host are ever shown. `limits_folder` holds what all processes of
    this machine share of `calls_per_second`, a limit for each URL; `transport` replaces the
    network, and lifts the limit. `blocks_per_request` and `concurrency` bound the memory: so many
    blocks in a part, and so many parts at a time, over all ranges that are being fetched.
    """

    def __init__(
        self,
        chain: Chain,
        *,
        urls: Sequence[str],
        limits_folder: Path | None = None,
        transport: httpx.BaseTransport | None = None,
        proofs: Collection[str] = PROOFS,
        blocks_per_request: int = 50,
        concurrency: int = 4,
        calls_per_second: int | None = None,
    ) -> None:
        if not urls:
            raise SettingsError(f"{chain.name} has no RPC URL")
        self.chain = chain
        self.datasets: tuple[Dataset, ...] = datasets(chain)
        self.proofs = frozenset(proofs)
        self._part_size = blocks_per_request
        self._concurrency = concurrency
        logs_of = {name: sorted({*given}) for name, given in chain.logs_of.model_dump().items()}
        self.asked = msgspec.json.encode([chain.chain_id, chain.mode, logs_of]).decode()
        """What of a range is asked for; kept pages and ranges asked for otherwise do not count."""
        self._nodes = Endpoints(
            [
                Node(
                    chain,
                    url,
                    self.proofs,
                    batch_size=blocks_per_request,
                    calls_per_second=calls_per_second,
                    limits_folder=limits_folder,
                    transport=transport,
                    number=number,
                    has_others=len(urls) > 1,
                )
                for number, url in enumerate(urls, start=1)
            ]
        )
        # Arrow's own pool gives freed pages back to the system at once; to get them again and again
        # takes a tenth of the CPU of a fetch.
        pa.set_memory_pool(pa.system_memory_pool())
        # Threads that all decode at once only take the interpreter away from each other.
        self._reading = threading.Lock()
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix=chain.name)

    def close(self) -> None:
        """End calls under way and give connections back."""
        self._nodes.close()
        self._pool.shutdown(cancel_futures=True)

    @property
    def set_aside(self) -> dict[str, str]:
        """Nodes whose data could not be proven, and why; not asked until all of them are."""
        return self._nodes.set_aside

    @property
    def node_count(self) -> int:
        """How many nodes are configured."""
        return len(self._nodes.all)

    def finalized(self) -> int:
        """Number of the newest block that will not be reorganised out.

        Raises FinalityUnknownError if the chain or its nodes have no such block.
        """
        return self._nodes.ask(Node.finalized)

    def headers(self, numbers: Sequence[int]) -> list[BlockId]:
        """Which blocks those numbers stand for now, each hash recomputed from its header."""
        return self._nodes.ask(lambda node: node.headers(numbers))

    def first_block_since(self, instant: datetime) -> int:
        """The first final block of the chain, not before its `first_block`, that is not older.

        Raises NotFinalError if that block is not final yet, HistoryPrunedError if no node has the
        block before it, without which nobody knows that it is the first.
        """
        return self._nodes.ask(lambda node: node.first_block_since(instant))

    def facts(self, numbers: Sequence[int]) -> dict[str, list[BlockFacts]]:
        """What each node says of those blocks, by its name; nothing of it is proven or compared.

        Raises SourceError or IntegrityError, naming the node, if one of them does not deliver.
        """
        return {node.name: _facts(node, numbers) for node in self._nodes.all}

    def interview(self, blocks: BlockRange) -> Interview:
        """To ask contracts about what happened in a range; nothing is asked yet."""
        return Interview(self.chain, self._nodes, blocks)

    def fetch(self, blocks: BlockRange, workdir: Path) -> RangeExtract:
        """Deliver one range. Nothing is asked before its rows are.

        `workdir` is a folder that outlives a killed run: parts that it proved are found there, and
        proven again. Raises SourceError, IntegrityError, or StorageError if the disk refuses.
        """
        return RangeExtract(self, blocks, workdir)

    def parts(self, blocks: BlockRange, workdir: Path) -> Iterator[Part]:
        """The parts of a range in block order, each linked to the one before."""
        firsts = deque(range(blocks.first, blocks.last + 1, self._part_size))
        pending: deque[tuple[int, int, Future[Part]]] = deque()
        previous = None
        try:
            while firsts or pending:
                while firsts and len(pending) < self._concurrency:
                    first = firsts.popleft()
                    last = min(first + self._part_size - 1, blocks.last)
                    future = self._pool.submit(self._part, first, last, workdir)
                    pending.append((first, last, future))
                first, last, future = pending.popleft()
                part = future.result()
                if PARENT_LINKS in self.proofs and previous not in (None, part.parent_hash):
                    part = self._part(first, last, workdir, previous)
                previous = part.last_hash
                yield part
        finally:
            futures = [future for *_, future in pending]
            for future in futures:
                future.cancel()
            wait(futures)

    def _part(self, first: int, last: int, workdir: Path, previous: str | None = None) -> Part:
        """A part from disk, or else from the first node whose data can be proven.

        `previous` is the hash that its first block must name as its parent, where that is known.
        """
        path = workdir / f"{first:09}-{last:09}.page"
        delivery = find(path, self.asked)
        if delivery is not None:
            try:
                return self._proven(delivery, first, last, previous)
            except (IntegrityError, UnexpectedReplyError) as error:
                _log.warning("%s is fetched again: %s", path, error)
        return self._nodes.ask(
            partial(self._delivered, first=first, last=last, path=path, previous=previous)
        )

    def _delivered(
        self, node: Node, *, first: int, last: int, path: Path, previous: str | None
    ) -> Part:
        delivery = Delivery.of(node.page(first, last), node.origin)
        try:
            part = self._proven(delivery, first, last, previous)
        except IntegrityError:
            # Beside the pages, where it is evidence if no other node does better.
            keep(path.with_suffix(f".{delivery.sha256[:12]}.refused"), delivery, self.asked)
            raise
        keep(path, delivery, self.asked)
        return part

    def _proven(self, delivery: Delivery, first: int, last: int, previous: str | None) -> Part:
        with self._reading:
            part = read_part(delivery, first, last, self.chain, self.proofs)
        if previous not in (None, part.parent_hash):
            raise BrokenParentLinkError(
                f"block {first} of {self.chain.name}: its parent is {part.parent_hash}, but the "
                f"block before it is {previous}; the chain was reorganised in between, or nodes "
                "are on different forks: run the range again",
                block=first,
                parent_hash=part.parent_hash,
                previous_hash=previous,
            )
        return part


def _facts(node: Node, numbers: Sequence[int]) -> list[BlockFacts]:
    try:
        return node.facts(numbers)
    except (SourceError, IntegrityError) as error:
        # What went wrong below JSON-RPC names the address, which several nodes may share.
        if not str(error).startswith(f"{node.name}: "):
            error.args = (f"{node.name}: {error}", *error.args[1:])
        raise
