"""What a node of an EVM chain is asked: its blocks, receipts and logs, and how far it is.

Methods: https://ethereum.github.io/execution-apis
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from crypto_assets.catalog import Chain
from crypto_assets.errors import (
    FinalityUnknownError,
    HistoryPrunedError,
    MethodMissingError,
    NotFinalError,
    RpcRefusedError,
)
from crypto_assets.sources.evm_pages import Page
from crypto_assets.sources.evm_parts import as_number, read_blocks, read_headers
from crypto_assets.sources.evm_rpc import NULL, Call, Endpoint, Refused
from crypto_assets.sources.evm_types import (
    read_block,
    read_hashed_block,
    read_logs,
    read_receipts,
)

_log = logging.getLogger(__name__)

# What a contract can see of who calls it and at what cost, which each node fills in its own way if
# it is not given: then one that looks at it may answer each node differently. With a price of zero
# the base fee is zero as well; gas, of which each node has a limit of its own, runs out alike.
_CALLER = {"from": "0x" + "00" * 20, "gas": hex(10_000_000), "gasPrice": "0x0"}


class BlockId(NamedTuple):
    """Which block a number stands for; `timestamp` in Unix seconds."""

    number: int
    hash: str
    parent_hash: str
    timestamp: int


class BlockFacts(NamedTuple):
    """What two nodes must say alike of a block; in the light mode, of the logs asked for."""

    number: int
    hash: str
    log_count: int


class Node(Endpoint):
    """One node of a chain. What it delivers is not proven, but for the hashes of `headers`."""

    def __init__(self, chain: Chain, url: str, proofs: frozenset[str], **options: Any) -> None:
        super().__init__(url, chain_id=chain.chain_id, **options)
        self._chain = chain
        self._proofs = proofs
        self._has_block_receipts = True

    def finalized(self) -> int:
        """Number of the newest block that will not be reorganised out; FinalityUnknownError."""
        what = f"finalized block of {self._chain.name}"
        advice = f"use a node that knows it; {self._chain.name} may have none"
        try:
            raw = self.call(Call("eth_getBlockByNumber", ("finalized", False), what))
        except RpcRefusedError as error:  # of a node that does not know this tag
            raise FinalityUnknownError(f"{error}; {advice}") from error
        header = read_hashed_block(raw, what)
        if header is None:
            raise FinalityUnknownError(f"{self.name}: has no {what}; {advice}")
        return as_number(header.number, what)

    def headers(self, numbers: Sequence[int]) -> list[BlockId]:
        """Which blocks those numbers stand for now, each hash recomputed from its header."""
        headers = read_headers(self._hashed(numbers), numbers, self._chain, self._proofs)
        return [
            BlockId(number, header.hash, header.parent_hash, as_number(header.timestamp, "time"))
            for number, header in zip(numbers, headers, strict=True)
        ]

    def first_block_since(self, instant: datetime) -> int:
        """The chain's first final block that is not older; see `Evm.first_block_since`."""
        name, wanted = self._chain.name, instant.timestamp()
        low, high = self._chain.first_block, self.finalized()
        newest = self._time(high)
        if low > high or newest is None or newest < wanted:
            raise NotFinalError(
                f"{self.name}: no block of {name} since {instant} is final yet; the newest that "
                f"is, block {high}, is of {_shown(newest)}: wait, or ask for an earlier time"
            )
        found, is_before_there = newest, True
        while low < high:
            middle = (low + high) // 2
            time = self._time(middle)
            if time is not None and time >= wanted:
                high, found = middle, time
            else:
                low, is_before_there = middle + 1, time is not None
        if not is_before_there:
            raise HistoryPrunedError(
                f"{self.name}: has no block of {name} before {low}, which is of {_shown(found)}, "
                f"and cannot show which is the first since {instant}; ask for a later time, or "
                "use an archive node"
            )
        return low

    def page(self, first: int, last: int) -> Page:
        """Consecutive blocks, and what the chain's mode wants to know of them."""
        numbers = range(first, last + 1)
        if self._chain.mode == "light":
            return Page(self._hashed(numbers), logs=self.logs(self._filter, first, last))
        blocks = self.batch([_block(number, is_full=True) for number in numbers])

        def hashes() -> list[list[str]]:
            found = read_blocks(read_block, blocks, numbers, self._chain)
            return [[one.hash for one in block.transactions] for block in found]

        return Page(blocks, receipts=self._receipts(numbers, hashes))

    def contract_calls(
        self, calls: Sequence[tuple[bytes, bytes]], number: int
    ) -> list[Raw | Refused]:
        """What contracts answer as of a block, to calls as pairs of address and input."""
        return self.outcomes([_eth_call(to, given, number) for to, given in calls])

    def facts(self, numbers: Sequence[int]) -> list[BlockFacts]:
        """Hash and number of logs of each block, whatever its proofs would say."""
        blocks = read_blocks(read_hashed_block, self._hashed(numbers), numbers, self._chain)
        if self._chain.mode == "light":
            counts = [
                sum(len(read_logs(raw, "logs") or ()) for raw in found)
                for found in (self.logs(self._filter, number, number) for number in numbers)
            ]
        else:
            found = self._receipts(numbers, lambda: [block.transactions for block in blocks])
            counts = [
                sum(len(receipt.logs) for receipt in read_receipts(raw, "receipts") or ())
                for raw in found
            ]
        return [
            BlockFacts(number, block.hash.lower(), count)
            for number, block, count in zip(numbers, blocks, counts, strict=True)
        ]

    @property
    def _filter(self) -> dict[str, Any]:
        """The filter object of eth_getLogs, without its blocks."""
        asked = self._chain.logs_of
        return {
            **({"address": asked.addresses} if asked.addresses else {}),
            **({"topics": [asked.topics]} if asked.topics else {}),
        }

    def _time(self, number: int) -> int | None:
        """When a block was made, in Unix seconds, by its proven header; None if it is not there."""
        try:
            raw = self.call(_block(number, is_full=False))
        except HistoryPrunedError:
            return None
        if memoryview(raw) == NULL:
            return None
        (header,) = read_headers([raw], [number], self._chain, self._proofs)
        return as_number(header.timestamp, f"time of block {number}")

    def _hashed(self, numbers: Sequence[int]) -> list[Raw]:
        return self.batch([_block(number, is_full=False) for number in numbers])

    def _receipts(self, numbers: Sequence[int], hashes: Callable[[], list[list[str]]]) -> list[Raw]:
        """A list of receipts for each block; by transaction from a node that knows no other way.

        `hashes` gives those of the transactions of each block.
        """
        if self._has_block_receipts:
            try:
                return self.batch([_block_receipts(number) for number in numbers])
            except MethodMissingError as error:
                _log.info("%s; receipts are asked for by transaction", error)
                self._has_block_receipts = False
        of_blocks = hashes()
        receipts = iter(self.batch([_receipt(each) for block in of_blocks for each in block]))
        return [Raw(msgspec.json.encode([next(receipts) for _ in block])) for block in of_blocks]


def _block(number: int, *, is_full: bool) -> Call:
    return Call("eth_getBlockByNumber", (hex(number), is_full), f"block {number}")


def _eth_call(to: bytes, given: bytes, number: int) -> Call:
    asked = {**_CALLER, "to": f"0x{to.hex()}", "data": f"0x{given.hex()}"}
    what = f"answer of 0x{to.hex()} to 0x{given[:4].hex()} as of block {number}"
    return Call("eth_call", (asked, hex(number)), what)


def _block_receipts(number: int) -> Call:
    return Call("eth_getBlockReceipts", (hex(number),), f"receipts of block {number}")


def _receipt(transaction: str) -> Call:
    return Call("eth_getTransactionReceipt", (transaction,), f"receipt of {transaction}")


def _shown(seconds: int | None) -> str:
    return "unknown time" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC)}"
