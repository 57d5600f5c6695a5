"""What proving costs: CPU milliseconds per block of 100 transactions and 221 logs."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.evm_blocks import blocks, wire
from crypto_assets.sources.evm_encoding import indexed
from crypto_assets.sources.evm_proof import PROOFS, prove_block, prove_link
from crypto_assets.sources.evm_types import Block, Receipt, read_block, read_receipts

_ALL = frozenset(PROOFS)


def costs(count: int, repeats: int = 3) -> dict[str, float]:
    """By step, the best of `repeats` passes over `count` blocks, each starting with cold caches.

    "parsing and all proofs" is one block at a time, as a fetch does it; "all proofs" is less than
    their sum, because what the bloom needs of an address or topic is kept for the receipts root.
    """
    replies = [(wire(block), wire(receipts)) for block, receipts in blocks(count)]
    delivered = [_read(*reply) for reply in replies]

    def parsed() -> None:
        for reply in replies:
            _read(*reply)

    def parsed_and_proven() -> None:
        for reply in replies:
            prove_block(*_read(*reply), _ALL)

    def proven(proofs: frozenset[str]) -> Callable[[], None]:
        def prove() -> None:
            for block, receipts in delivered:
                if "parent_links" in proofs:
                    prove_link(block.parent_hash, block)
                prove_block(block, receipts, proofs)

        return prove

    steps = {"parsing": parsed, "parsing and all proofs": parsed_and_proven}
    steps |= {"all proofs": proven(_ALL)} | {name: proven(frozenset({name})) for name in PROOFS}
    return {name: _best(step, repeats) / count for name, step in steps.items()}


def _read(block: bytes, receipts: bytes) -> tuple[Block, list[Receipt]]:
    read, listed = read_block(block, "block"), read_receipts(receipts, "receipts")
    if read is None or listed is None:
        raise AssertionError("a made block is not null")
    return read, listed


def _best(step: Callable[[], None], repeats: int) -> float:
    passes = []
    for _ in range(repeats):
        indexed.cache_clear()
        started = time.process_time()
        step()
        passes.append((time.process_time() - started) * 1000)
    return min(passes)


if __name__ == "__main__":
    for name, milliseconds in costs(200).items():
        print(f"{name:26} {milliseconds:7.3f} ms")
