"""What a node says about blocks, held against their hashes: the node need not be trusted.

Which proofs run is the caller's choice, by name; the result says of each whether it passed or why
it could not be computed. The claims themselves are in `evm_claims`. Pure: structs in, results out.

Out of reach, because no hash covers them: `size`, `totalDifficulty`, `blockTimestamp`, the
`chainId` of a legacy transaction, `blobGasPrice`, and which uncles there were. The sender follows
from the signature, which is not recovered here: transaction and receipt only have to agree on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from msgspec import to_builtins

from crypto_assets.catalog import LogFilter
from crypto_assets.errors import (
    BlockBodyMismatchError,
    BrokenParentLinkError,
    DerivedValueMismatchError,
    IntegrityError,
    LogIndexGapError,
    LogOutsideBloomError,
    MalformedRowError,
    MisplacedLogError,
    UnknownHeaderFieldError,
    UnrequestedLogError,
)
from crypto_assets.sources.evm_claims import OF_BLOCK, OF_HEADER, OF_RECEIPTS, Why, differ
from crypto_assets.sources.evm_encoding import bloom, indexed
from crypto_assets.sources.evm_types import Block, HashedBlock, Header, Log, Receipt

PROOFS = ("parent_links", *OF_HEADER, *OF_BLOCK, *OF_RECEIPTS)
"""Names of all proofs. "parent_links" is `prove_link`, which takes two blocks; the others are of
`prove_block`, in the order they run."""

PASSED = "passed"
_ASK_ANOTHER = "ask another endpoint for it"
_ADVICE: dict[type[IntegrityError], str] = {
    BlockBodyMismatchError: f"{_ASK_ANOTHER}, or run without the proof block_body if this chain "
    "has rules of its own",
    UnknownHeaderFieldError: "upgrade, or run without the proof header_hash until then",
    DerivedValueMismatchError: f"{_ASK_ANOTHER}, or run without the proof derived_values if this "
    "chain has rules of its own",
}


def prove_link(previous_hash: str, header: Header) -> None:
    """Raise BrokenParentLinkError unless `header` names the block before it as its parent."""
    if differ(header.parent_hash, previous_hash):
        raise BrokenParentLinkError(
            f"block {_number(header)}: its parent is {header.parent_hash}, but the block before it "
            f"is {previous_hash}; the chain was reorganised in between, or the node mixes two "
            "forks: fetch both again, from another endpoint if it stays",
            block=_number(header),
            parent_hash=header.parent_hash,
            previous_hash=previous_hash,
        )


def prove_header(header: Header, proofs: frozenset[str]) -> dict[str, str]:
    """Results, by name, of those `proofs` for which a header is enough; as `prove_block`."""
    results: dict[str, str] = {}
    _run(OF_HEADER, proofs, results, header)
    return results


def prove_block(
    block: Block, receipts: Sequence[Receipt] | None, proofs: frozenset[str]
) -> dict[str, str]:
    """Results of `proofs` by name: "passed", or "not computable: " and why.

    Raises the IntegrityError of the first proof that fails, or MalformedRowError for a field that
    is missing or not hex; its message and evidence say which proofs held until then.
    """
    results = prove_header(block, proofs)
    _run(OF_BLOCK, proofs, results, block)
    if receipts is None:
        results |= dict.fromkeys(OF_RECEIPTS.keys() & proofs, "not computable: no receipts")
    else:
        _run(OF_RECEIPTS, proofs, results, block, receipts)
    return results


class Tally:
    """Results of many blocks, put together as one text for each proof."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {}

    def add(self, results: Mapping[str, str]) -> None:
        """Count the results of one block."""
        for name, result in results.items():
            self._counts.setdefault(name, Counter())[result] += 1

    def checks(self) -> dict[str, str]:
        """By proof: "passed" if all blocks did, else each result and its number of blocks."""
        texts = {}
        for name, counts in self._counts.items():
            parts = [f"{result} ({count} blocks)" for result, count in counts.most_common()]
            texts[name] = PASSED if counts.keys() == {PASSED} else "; ".join(parts)
        return texts


def prove_logs_against_bloom(header: Header, logs: Sequence[Log], asked: LogFilter) -> bool:
    """Whether the header's bloom admits logs that were asked for, although none came.

    That is a false positive of the bloom, or a node that dropped them: only receipts could tell.
    Raises an IntegrityError for a log that is of another block, was not asked for, is out of order
    or there twice, or is ruled out by the bloom; MalformedRowError for a field that is not hex.
    """
    last = -1
    for log in logs:
        try:
            fault = _fault(log, header, asked, last)
            last = int(log.log_index, 16)
        except ValueError as error:
            fault = MalformedRowError, str(error)
        if fault is not None:
            kind, what = fault
            raise kind(
                f"block {_number(header)}: log {log.log_index} of transaction "
                f"{log.transaction_hash}: {what}; nothing of the block is kept, {_ASK_ANOTHER}",
                block=_number(header),
                log=to_builtins(log),
            )
    return not logs and _admits(int(header.logs_bloom, 16), asked)


def _admits(bits: int, asked: LogFilter) -> bool:
    """Whether a bloom admits a log that was asked for; where it does not, there is none."""
    return all(
        not any_of or any(indexed(each)[1] & ~bits == 0 for each in any_of)
        for any_of in (asked.addresses, asked.topics)
    )


def _was_asked(log: Log, asked: LogFilter) -> bool:
    return (not asked.addresses or log.address.lower() in asked.addresses) and (
        not asked.topics or (bool(log.topics) and log.topics[0].lower() in asked.topics)
    )


def _fault(
    log: Log, header: Header, asked: LogFilter, last: int
) -> tuple[type[IntegrityError], str] | None:
    """What is wrong with a log of the light mode that came after the log with index `last`."""
    if differ(log.block_hash, header.hash) or differ(log.block_number, header.number):
        return MisplacedLogError, f"it says that it is of block {log.block_hash}"
    if log.removed or _is_of_another(log, header):
        return MisplacedLogError, "it is of another transaction, or a reorganisation removed it"
    if int(log.log_index, 16) <= last:
        return LogIndexGapError, f"it comes after log {last}, so it is there twice or out of order"
    if not _was_asked(log, asked):
        return UnrequestedLogError, "it was not asked for"
    if bloom([log]) & ~int(header.logs_bloom, 16):
        return LogOutsideBloomError, "its address or a topic of it is ruled out by the bloom"
    return None


def _is_of_another(log: Log, header: Header) -> bool:
    """Whether the block has another transaction at the place that a log names, if it lists them."""
    if not isinstance(header, HashedBlock):
        return False
    index = int(log.transaction_index, 16)
    return header.transactions[index : index + 1] != [log.transaction_hash]


def _run(
    claims: Mapping[str, Callable[..., Why]],
    proofs: frozenset[str],
    results: dict[str, str],
    block: Header,
    *receipts: Sequence[Receipt],
) -> None:
    """Add the results of `claims`; an error says which block it is of, and what held before."""
    for name, prove in claims.items():
        if name not in proofs:
            continue
        try:
            why = prove(block, *receipts)
        except (IntegrityError, ValueError, OverflowError) as error:
            held = [proof for proof, result in results.items() if result == PASSED]
            although = f", although {', '.join(held)} hold" if held else ""
            kind = type(error) if isinstance(error, IntegrityError) else MalformedRowError
            raise kind(
                f"block {_number(block)}: {error}{although}; nothing of the block is kept, "
                f"{_ADVICE.get(kind, _ASK_ANOTHER)}",
                block=_number(block),
                proof=name,
                held=held,
                **getattr(error, "evidence", {}),
            ) from error
        results[name] = PASSED if why is None else f"not computable: {why}"


def _number(header: Header) -> int | str:
    try:
        return int(header.number, 16)
    except ValueError:
        return header.number
