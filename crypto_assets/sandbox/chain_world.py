"""The sandbox chain: small, deterministic, and true in every hash, root and bloom.

One block a minute (four of five slots of 12 s are missed), so that 3,000 blocks cover two days from
end to end; below the first block there is nothing, as on a pruned node. A block is made from its
number and its parent's hash alone. What is kept is therefore one hash a block, found in order once
per process, and the JSON of the blocks served last.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import msgspec

from crypto_assets.sandbox.chain_block import Draft, Sealed, seal
from crypto_assets.sandbox.chain_calls import EVERYDAY, Dice, Emitter, Moment, Timeline
from crypto_assets.sandbox.chain_contracts import answers
from crypto_assets.sandbox.chain_dex import creations, swaps
from crypto_assets.sandbox.chain_lending import lending
from crypto_assets.sandbox.chain_oddities import oddities
from crypto_assets.sandbox.chain_tokens import stablecoins
from crypto_assets.sandbox.world import World
from crypto_assets.sources.trie import keccak256

EVERYTHING: tuple[Emitter, ...] = (*EVERYDAY, creations, swaps, oddities, lending, stablecoins)
"""What happens on the chain unless another one is asked for."""

Answers = Callable[[bytes, bytes, int], bytes | None]

_LEVEL = 10**9
_MEAN_BASE_FEE = 8 * 10**9
_CACHED_BLOCKS = 1024
_BEFORE_THE_FIRST = keccak256(b"the block before the first")


@dataclass(frozen=True, slots=True)
class ChainSpec:
    """Which chain: two of equal parameters have equal blocks, on any machine.

    `first_time` is that of the first block, 2024-12-30T23:00:11 UTC, a slot of mainnet. `answers`
    is what a call of a contract returns: of its address, the call's data and the number of the
    block after which it is asked; None reverts.
    """

    seed: int = 0
    chain_id: int = 1
    first: int = 21_516_000
    first_time: int = 1_735_599_611
    block_seconds: int = 60
    emitters: tuple[Emitter, ...] = EVERYTHING
    answers: Answers = answers


class Block(NamedTuple):
    """A block, with full transactions, and its receipts, as JSON."""

    block: bytes
    receipts: bytes


class Branch:
    """One line of blocks without an end. Get it from `branch`, which makes each only once.

    With `forked_at` it is another branch of the same chain: equal before that block, and from it on
    other blocks with other, equally valid hashes. Made from many threads at once, each block is
    hashed once.
    """

    def __init__(self, spec: ChainSpec, forked_at: int | None = None) -> None:
        self._spec = spec
        self._world = _world(spec.seed)
        self._timeline = Timeline(spec.first, spec.first_time, spec.block_seconds, self._world.usd)
        self._trunk = None if forked_at is None else branch(spec)
        self._start = spec.first if forked_at is None else max(forked_at, spec.first)
        self._key = f"chain/{spec.seed}/{spec.chain_id}/{forked_at}"
        self._lock = threading.RLock()
        self._hashes: list[bytes] = []
        self._numbers: dict[bytes, int] = {}
        self._sealed: Callable[[int], Sealed] = lru_cache(maxsize=4)(self._seal)
        self.block: Callable[[int], Block] = lru_cache(maxsize=_CACHED_BLOCKS)(self._block)

    def hash(self, number: int) -> bytes:
        """The hash of a block that is not below the first one."""
        if self._trunk is not None and number < self._start:
            return self._trunk.hash(number)
        with self._lock:
            while (last := self._start + len(self._hashes)) <= number:
                sealed = self._sealed(last)
                self._hashes.append(sealed.hash)
                self._numbers[sealed.hash] = last
                self._numbers |= {one["hash"]: last for one in sealed.transactions}
            return self._hashes[number - self._start]

    def number_of(self, block_or_transaction: bytes, last: int) -> int | None:
        """The block of that hash, or with a transaction of that hash, if it is not above `last`."""
        if block_or_transaction not in self._numbers:
            self.hash(last)
        number = self._numbers.get(block_or_transaction)
        if number is None and self._trunk is not None:
            number = self._trunk.number_of(block_or_transaction, self._start - 1)
        return number if number is not None and number <= last else None

    def _block(self, number: int) -> Block:
        """A block that is not below the first one."""
        if self._trunk is not None and number < self._start:
            return self._trunk.block(number)
        self.hash(number)
        sealed = self._sealed(number)
        encode = msgspec.json.encode
        return Block(encode(sealed.block_json()), encode(sealed.receipts_json()))

    def _seal(self, number: int) -> Sealed:
        spec = self._spec
        timeline = self._timeline
        time = timeline.time(number)

        def usd(asset: str) -> int:
            return timeline.usd(asset, number)

        calls = [
            call
            for emitter in spec.emitters
            for call in emitter(
                Moment(number, time, usd, self._dice(number, emitter.__qualname__), timeline)
            )
        ]
        return seal(
            Draft(
                chain_id=spec.chain_id,
                number=number,
                time=time,
                parent_hash=self.hash(number - 1) if number > spec.first else _BEFORE_THE_FIRST,
                # Not by the rule of EIP-1559, which runs away on a chain that nobody competes for.
                base_fee=_MEAN_BASE_FEE * self._world.level("GAS", time) // _LEVEL,
                calls=calls,
                dice=self._dice(number, "block"),
            )
        )

    def _dice(self, number: int, what: str) -> Dice:
        return Dice(self._key, number, what)


@lru_cache(maxsize=4)
def _world(seed: int) -> World:
    """Shared by the branches, for an asset's closing levels take 5 ms to draw."""
    return World(seed)


@lru_cache(maxsize=16)
def branch(spec: ChainSpec, forked_at: int | None = None) -> Branch:
    """The chain, or the branch of it that begins at a block; the same object every time."""
    return Branch(spec, forked_at)
