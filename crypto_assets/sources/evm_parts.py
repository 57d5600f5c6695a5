"""From what a node delivered for a few blocks to proven rows of them. Pure.

Every block is the one that was asked for, every proof that is switched on holds, and what could not
be computed is said by name. In the light mode there are no transactions and only the logs that were
asked for; that none of those is missing rests on blooms and on the node.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import pyarrow as pa
from msgspec import Raw

from crypto_assets.catalog import KINDS, Chain, Kind
from crypto_assets.errors import UnexpectedReplyError, WrongBlockError
from crypto_assets.sources.evm_pages import Delivery, Page
from crypto_assets.sources.evm_proof import (
    PASSED,
    PROOFS,
    prove_block,
    prove_header,
    prove_link,
    prove_logs_against_bloom,
)
from crypto_assets.sources.evm_rows import Rows, light_rows_of, rows_of
from crypto_assets.sources.evm_types import (
    Block,
    HashedBlock,
    Header,
    Log,
    Reader,
    T,
    read_block,
    read_hashed_block,
    read_logs,
    read_receipts,
)

PARENT_LINKS = "parent_links"
_B = TypeVar("_B", Block, HashedBlock)
_LOGS_AGAINST_BLOOMS = "logs_against_blooms"
# What is decoded of so few blocks stays in the processor's cache until it is columns: a sixth less
# time than decoding a whole part before anything is made of it.
_GROUP = 8
_NOT_LIGHT = "not computable: the light mode has no receipts"
_ADMITTED = "not computable: the bloom admits logs and none came, a false positive or one left out"
_UNPROVEN_LOGS = "not computable: in the light mode it rests on blooms and on the node"


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive blocks, proven: their rows, and what a range needs to know of them.

    `results` has the results of proofs, by name, for each block; `counts` the rows by dataset as
    the node delivered them.
    """

    rows: Rows
    counts: Mapping[Kind, int]
    results: Sequence[Mapping[str, str]]
    parent_hash: str
    last_hash: str
    origin: str
    sha256: str
    bytes: int


def read_part(
    delivery: Delivery, first: int, last: int, chain: Chain, proofs: frozenset[str]
) -> Part:
    """The proven part that a delivery is of.

    Raises UnexpectedReplyError for what is not of JSON-RPC's types, and the IntegrityError of the
    first claim that does not hold.
    """
    # What is decoded is gone again when the inner call returns, before anybody collects.
    with _paused_collection():
        return _read(delivery, range(first, last + 1), chain, proofs)


def read_blocks(
    reader: Reader[_B], raws: Sequence[Raw], numbers: Sequence[int], chain: Chain
) -> list[_B]:
    """The blocks of those numbers; WrongBlockError if one is of another."""
    blocks = []
    for raw, number in zip(raws, numbers, strict=True):
        what = f"block {number} of {chain.name}"
        block = _there(reader, raw, what)
        if as_number(block.number, what) != number:
            raise WrongBlockError(
                f"{what} was asked for, and block {block.number} delivered",
                block=number,
                delivered=block.number,
            )
        blocks.append(block)
    return blocks


def read_headers(
    raws: Sequence[Raw], numbers: Sequence[int], chain: Chain, proofs: frozenset[str]
) -> list[HashedBlock]:
    """Headers of those numbers, their hashes proven if that is on; raises as `read_part`."""
    headers = read_blocks(read_hashed_block, raws, numbers, chain)
    for header in headers:
        prove_header(header, proofs & {"header_hash"})
    return headers


def checks_of(tallied: Mapping[str, str], chain: Chain, proofs: frozenset[str]) -> dict[str, str]:
    """What is said of each claim of a range, every part of which was read, linked and tallied."""
    links = PASSED if PARENT_LINKS in proofs else "off"
    checks = dict.fromkeys(PROOFS, "off") | {PARENT_LINKS: links} | dict(tallied)
    return checks if chain.mode == "full" else checks | {"logs_are_complete": _UNPROVEN_LOGS}


def _read(delivery: Delivery, numbers: Sequence[int], chain: Chain, proofs: frozenset[str]) -> Part:
    page, is_light = delivery.page, chain.mode == "light"
    expected = len(numbers), 0 if is_light else len(numbers)
    if (len(page.blocks), len(page.receipts)) != expected:
        raise UnexpectedReplyError(f"{len(page.blocks)} blocks, expected {len(numbers)}")
    found = (_light if is_light else _full)(page, numbers, chain, proofs)
    return Part(
        rows=found.rows,
        counts=dict(zip(KINDS, found.counts, strict=True)),
        results=found.results,
        parent_hash=found.parent_hash.lower(),
        last_hash=found.last_hash.lower(),
        origin=delivery.origin,
        sha256=delivery.sha256,
        bytes=delivery.bytes,
    )


class _Found(NamedTuple):
    parent_hash: str
    last_hash: str
    rows: Rows
    counts: Sequence[int]
    results: list[dict[str, str]]


def _full(page: Page, numbers: Sequence[int], chain: Chain, proofs: frozenset[str]) -> _Found:
    parent = last = ""
    groups: list[Rows] = []
    counts: list[tuple[int, int, int]] = []
    results: list[dict[str, str]] = []
    for at in range(0, len(numbers), _GROUP):
        own = slice(at, at + _GROUP)
        blocks = read_blocks(read_block, page.blocks[own], numbers[own], chain)
        receipts = [
            _there(read_receipts, raw, f"receipts of block {number} of {chain.name}")
            for raw, number in zip(page.receipts[own], numbers[own], strict=True)
        ]
        for block, of_block in zip(blocks, receipts, strict=True):
            results.append(prove_block(block, of_block, proofs))
            counts.append(
                (1, len(block.transactions), sum(len(receipt.logs) for receipt in of_block))
            )
        parent = parent or blocks[0].parent_hash
        last = _linked(blocks, last, proofs)
        groups.append(rows_of(blocks, receipts))
    rows = Rows(*(pa.concat_batches(batches) for batches in zip(*groups, strict=True)))
    return _Found(parent, last, rows, [sum(each) for each in zip(*counts, strict=True)], results)


def _linked(headers: Sequence[Header], previous: str, proofs: frozenset[str]) -> str:
    """The hash of the last header, each of which names the one before it; `previous` if known."""
    for header in headers:
        if previous and PARENT_LINKS in proofs:
            prove_link(previous, header)
        previous = header.hash
    return previous


def _light(page: Page, numbers: Sequence[int], chain: Chain, proofs: frozenset[str]) -> _Found:
    blocks = read_blocks(read_hashed_block, page.blocks, numbers, chain)
    logs: dict[int, list[Log]] = {number: [] for number in numbers}
    what = f"logs of {chain.name}"
    for raw in page.logs:
        for log in _there(read_logs, raw, what):
            _of_number(logs, log, what).append(log)
    results = []
    of_receipts = proofs - {PARENT_LINKS}
    for block, of_block in zip(blocks, logs.values(), strict=True):
        proven = prove_header(block, proofs)
        is_doubtful = prove_logs_against_bloom(block, of_block, chain.logs_of)
        results.append(
            dict.fromkeys(of_receipts, _NOT_LIGHT)
            | proven
            | {_LOGS_AGAINST_BLOOMS: _ADMITTED if is_doubtful else PASSED}
        )
    last = _linked(blocks, "", proofs)
    rows = light_rows_of(blocks, list(logs.values()))
    counts = len(blocks), 0, sum(map(len, logs.values()))
    return _Found(blocks[0].parent_hash, last, rows, counts, results)


def _of_number(logs: dict[int, list[Log]], log: Log, what: str) -> list[Log]:
    number = as_number(log.block_number, what)
    if number not in logs:
        raise WrongBlockError(
            f"{what} of blocks {min(logs)} to {max(logs)} were asked for, and one of block "
            f"{number} delivered",
            log_index=log.log_index,
            delivered=number,
        )
    return logs[number]


def as_number(text: str, what: str) -> int:
    """A quantity of the wire; raises UnexpectedReplyError for text that is none."""
    try:
        return int(text, 16)
    except ValueError as error:
        raise UnexpectedReplyError(f"{what}: {text[:80]!r} is no number") from error


def _there(reader: Reader[T], raw: Raw, what: str) -> T:
    found = reader(raw, what)
    if found is None:
        raise UnexpectedReplyError(f"{what}: null, where a result was expected")
    return found


@contextmanager
def _paused_collection() -> Iterator[None]:
    """Without the garbage collector, which finds nothing in structs that hold no cycles.

    Passing through the lists of topics in them again and again it takes a third of their decoding.
    """
    is_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if is_on:
            gc.enable()
