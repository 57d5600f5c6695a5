"""The logs of the sandbox chain, and what its contracts answer of pools and tokens.

The logs come from what makes blocks, without the hashing that seals them. What contracts answer is
asked of the sandbox; which pools are genuine says another CREATE2 than the project's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from chain_logs import Log
from dex_events import PROTOCOLS, V4_SWAP, Pool
from dex_tables import POOL_MANAGER, POSITION_MANAGER, V2_FACTORY, V3_FACTORY
from eth_abi.abi import encode
from eth_hash.auto import keccak
from sandbox.chain_events import SUSHI, create2

from crypto_assets.catalog import load_chains
from crypto_assets.sandbox.chain_calls import Call, Dice, Moment, Timeline
from crypto_assets.sandbox.chain_contracts import answers
from crypto_assets.sandbox.chain_world import ChainSpec
from crypto_assets.sandbox.world import World

SPEC = ChainSpec()
BLOCKS = range(SPEC.first, SPEC.first + 8_000)
FACTORIES = {V2_FACTORY: "uniswap_v2", SUSHI: "sushiswap_v2", V3_FACTORY: "uniswap_v3"}
(TRUSTED,) = (chain.tokens for chain in load_chains(None).chains)


@dataclass(frozen=True)
class SandboxLog(Log):
    """A log whose transaction is the one that the chain has it in."""

    transaction: int = 0

    @property
    def transaction_index(self) -> int:
        return self.transaction


class Key(NamedTuple):
    """What the position manager of V4 knows of a pool."""

    token0: str
    token1: str
    fee: int
    spacing: int
    hooks: str


def calls_of(number: int, timeline: Timeline) -> Iterator[Call]:
    """What happens in a block, before it is sealed."""
    for emitter in SPEC.emitters:
        dice = Dice(f"chain/{SPEC.seed}/{SPEC.chain_id}/None", number, emitter.__qualname__)
        yield from emitter(
            Moment(
                number,
                timeline.time(number),
                lambda asset: timeline.usd(asset, number),
                dice,
                timeline,
            )
        )


def sandbox_logs() -> Iterator[SandboxLog]:
    timeline = Timeline(SPEC.first, SPEC.first_time, SPEC.block_seconds, World(SPEC.seed).usd)
    for number in BLOCKS:
        at = datetime(1970, 1, 1) + timedelta(seconds=timeline.time(number))
        log_index = 0
        for index, call in enumerate(calls_of(number, timeline)):
            transaction = keccak(f"{number} {index}".encode())
            for log in call.logs:
                yield SandboxLog(
                    f"0x{log.address.hex()}", number, log_index, log.topics, log.data,
                    at=at, transaction_hash=transaction, transaction=index,
                )  # fmt: skip
                log_index += 1


def asked(address: str, signature: str, argument: bytes = b"") -> bytes | None:
    """What a contract answers after the last block."""
    data = keccak(signature.encode())[:4] + argument
    return answers(bytes.fromhex(address[2:]), data, BLOCKS[-1])


def address_in(answer: bytes | None) -> str | None:
    return f"0x{answer[12:].hex()}" if answer is not None and len(answer) == 32 else None


class Contracts:
    """What is known of the contracts in some logs, each asked once."""

    def __init__(self, logs: Iterable[Log]) -> None:
        swaps = [log for log in logs if log.topics and log.topics[0] in PROTOCOLS]
        self.v4 = sorted({log.topics[1] for log in swaps if log.topics[0] == V4_SWAP.topic0})
        self.pools = sorted({log.address for log in swaps} - {POOL_MANAGER})
        self.keys = {pool: key for pool in self.v4 if (key := self._key(pool)) is not None}
        tokens = {address for pool in self.pools for address in self._pair(pool)}
        self.tokens = sorted(tokens | {a for key in self.keys.values() for a in key[:2]})

    def _pair(self, pool: str) -> list[str]:
        pair = [address_in(asked(pool, f"token{place}()")) for place in (0, 1)]
        return [address for address in pair if address is not None]

    @staticmethod
    def _key(pool: bytes) -> Key | None:
        answer = asked(POSITION_MANAGER, "poolKeys(bytes25)", pool[:25].ljust(32, b"\0"))
        assert answer is not None
        words = [answer[at : at + 32] for at in range(0, 160, 32)]
        token0, token1, hooks = (f"0x{words[at][12:].hex()}" for at in (0, 1, 4))
        fee, spacing = (int.from_bytes(words[at], "big") for at in (2, 3))
        key = Key(token0, token1, fee, spacing, hooks)
        kinds = ("address", "address", "uint24", "int24", "address")
        return key if keccak(encode(kinds, key)) == pool else None

    def deployment(self, pool: str) -> str | None:
        """Of a pool of V2 or V3 the deployment that its address follows from."""
        factory = address_in(asked(pool, "factory()"))
        pair = self._pair(pool)
        fee = asked(pool, "fee()")
        if factory not in FACTORIES or len(pair) != 2:
            return None
        salt = "".join(token[2:] for token in pair)
        if fee:
            salt = "".join(f"{token[2:]:0>64}" for token in pair) + fee.hex()
        return FACTORIES[factory] if create2(factory, salt) == pool else None

    def decimals(self, token: str) -> int | None:
        for one in TRUSTED:
            if one.address.lower() == token:
                return one.decimals
        answer = asked(token, "decimals()")
        said = int.from_bytes(answer, "big") if answer and len(answer) == 32 else 256
        return said if said <= 77 else None

    def known(self) -> dict[str, Pool]:
        """Tokens and decimals by pool, as a swap needs them."""
        pairs = {pool: self._pair(pool) for pool in self.pools}
        pairs |= {f"0x{pool.hex()}": [*key[:2]] for pool, key in self.keys.items()}
        return {
            pool: Pool(pair[0], pair[1], *(self.decimals(token) for token in pair))
            for pool, pair in pairs.items()
            if len(pair) == 2
        }

    def answers(self) -> Iterator[tuple[str, str, bytes, bytes | None]]:
        """Address, call, argument and result of all that must be asked."""
        for pool in self.pools:
            for call in ("token0()", "token1()", "factory()", "fee()"):
                yield pool, call, b"", asked(pool, call)
        for token in self.tokens:
            for call in ("symbol()", "decimals()"):
                yield token, call, b"", asked(token, call)
        for pool_id in self.v4:
            argument = pool_id[:25].ljust(32, b"\0")
            call = "poolKeys(bytes25)"
            yield POSITION_MANAGER, call, argument, asked(POSITION_MANAGER, call, argument)

    def derived(self) -> Iterator[tuple[str, str]]:
        for pool in self.pools:
            if deployment := self.deployment(pool):
                yield pool, deployment
        for pool_id in self.keys:
            yield f"0x{pool_id.hex()}", "uniswap_v4"
