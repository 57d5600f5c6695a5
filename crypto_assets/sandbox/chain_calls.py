"""What people do on the sandbox chain: emitters give the calls of a block, and the logs of each.

An emitter is a pure function of a `Moment`: any block can be made without those before it, so it
keeps no state, and whatever it follows (a pool's price) it derives from the latent prices. Each has
dice of its own: adding one to `ChainSpec.emitters` leaves the draws of the others as they were.
Nothing here knows how a block is encoded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeVar

from crypto_assets.sandbox.world import SCALE
from crypto_assets.sources.trie import keccak256

_Option = TypeVar("_Option")

ACCOUNTS = 64
BLOB_GAS = 2**17
MOST_BLOBS = 6  # the target of a block: at or under it a blob's gas costs 1 wei for ever


class Dice:
    """Draws of one key, the same on any machine for ever: a stream of bytes from SHAKE-128."""

    def __init__(self, *key: object) -> None:
        self._key = "/".join(map(str, key)).encode()
        self._bytes, self._at = b"", 0

    def bytes(self, count: int) -> bytes:
        """So many random bytes."""
        at, end = self._at, self._at + count
        if end > len(self._bytes):
            self._bytes = hashlib.shake_128(self._key).digest(max(512, 2 * end))
        self._at = end
        return self._bytes[at:end]

    def below(self, limit: int) -> int:
        """An integer in [0, limit)."""
        return int.from_bytes(self.bytes(8 + limit.bit_length() // 8), "big") % limit

    def choice(self, options: Sequence[_Option]) -> _Option:
        """One of the options."""
        return options[self.below(len(options))]


class Log(NamedTuple):
    """An event: up to four topics of 32 bytes, and data of any length."""

    address: bytes
    topics: tuple[bytes, ...] = ()
    data: bytes = b""


class Call(NamedTuple):
    """One transaction: who calls what, and what comes of it. `to` None creates a contract."""

    sender: bytes
    to: bytes | None
    logs: tuple[Log, ...] = ()
    input: bytes = b""
    value: int = 0
    type: int = 2
    gas_used: int = 21_000
    has_failed: bool = False
    blobs: int = 0


class Timeline:
    """When every block is, and what an asset is worth then, in 1e-8 USD. Equal to itself alone.

    It is what an emitter derives the state before a block from: a function of numbers, not a memory
    of blocks.
    """

    def __init__(
        self, first: int, first_time: int, block_seconds: int, usd: Callable[[str, int], int]
    ) -> None:
        self._first, self._first_time, self.block_seconds = first, first_time, block_seconds
        self._usd_at = usd
        self.usd: Callable[[str, int], int] = lru_cache(maxsize=4096)(self._usd)

    def time(self, number: int) -> int:
        """Seconds since 1970 of a block, also of one before the chain's first."""
        return self._first_time + (number - self._first) * self.block_seconds

    def _usd(self, asset: str, number: int) -> int:
        return self._usd_at(asset, self.time(number))


class Moment(NamedTuple):
    """The block that is being made: its number, its time in seconds, what assets are worth.

    `usd` gives the latent price of an asset in 1e-8 USD, `timeline` those of the other blocks.
    """

    number: int
    time: int
    usd: Callable[[str], int]
    dice: Dice
    timeline: Timeline


Emitter = Callable[[Moment], Iterable[Call]]


class Token(NamedTuple):
    """An ERC-20 contract of mainnet, and the asset whose latent price it has."""

    address: bytes
    asset: str
    decimals: int


USDC = Token(bytes.fromhex("a0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"), "USDC", 6)
USDT = Token(bytes.fromhex("dac17f958d2ee523a2206206994597c13d831ec7"), "USDT", 6)
WETH = Token(bytes.fromhex("c02aaa39b223fe8d0a0e5c4f27ead9083c756cc2"), "ETH", 18)
TOKENS = (USDC, USDT, WETH)


@lru_cache(maxsize=1024)
def address(name: str) -> bytes:
    """The address of somebody or something invented."""
    return keccak256(name.encode())[12:]


_ACCOUNTS = tuple(address(f"account {at}") for at in range(ACCOUNTS))


def account(dice: Dice) -> bytes:
    """One of a few ordinary accounts."""
    return dice.choice(_ACCOUNTS)


@lru_cache(maxsize=16384)
def drawn(*key: object) -> int:
    """Eight bytes drawn for a key: for what must not depend on a block's dice, such as state."""
    text = "/".join(map(str, key)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


@lru_cache(maxsize=256)
def event(signature: str) -> bytes:
    """The first topic of an event: `event("Transfer(address,address,uint256)")`."""
    return keccak256(signature.encode())


def selector(signature: str) -> bytes:
    """The first four bytes of a call's input."""
    return event(signature)[:4]


def word(value: int | bytes) -> bytes:
    """A number, also a negative one, or an address as the 32 bytes of the ABI."""
    if isinstance(value, bytes):
        return value.rjust(32, b"\0")
    return (value % 2**256).to_bytes(32, "big")


def transfer(token: Token, sender: bytes, receiver: bytes, amount: int) -> Log:
    """ERC-20 Transfer."""
    topics = (event("Transfer(address,address,uint256)"), word(sender), word(receiver))
    return Log(token.address, topics, word(amount))


def amount_of(token: Token, cents: int, moment: Moment) -> int:
    """How much of a token so many US cents are worth, in its smallest unit."""
    return cents * SCALE * int(10**token.decimals) // (100 * moment.usd(token.asset))


def payments(moment: Moment) -> Iterator[Call]:
    """Ether from account to account."""
    dice = moment.dice
    for _ in range(dice.below(3)):
        value = dice.below(10**19)
        yield Call(account(dice), account(dice), value=value, type=dice.choice((0, 2)))


def tokens(moment: Moment) -> Iterator[Call]:
    """What is done with ERC-20 tokens: mostly transfers, some of which fail."""
    for _ in range(moment.dice.below(4)):
        yield _token_call(moment)


def _token_call(moment: Moment) -> Call:
    dice = moment.dice
    token, sender, receiver = dice.choice(TOKENS), account(dice), account(dice)
    amount = amount_of(token, 100 + dice.below(10**6), moment)
    kind, transaction_type = dice.below(10), dice.choice((0, 1, 2, 2))
    arguments = word(receiver) + word(amount)
    call = selector("transfer(address,uint256)") + arguments
    logs: tuple[Log, ...] = (transfer(token, sender, receiver, amount),)
    if kind == 0:
        return Call(sender, token.address, (), call, 0, transaction_type, 29_111, has_failed=True)
    if kind == 1:
        call = selector("approve(address,uint256)") + arguments
        topics = (event("Approval(address,address,uint256)"), word(sender), word(receiver))
        logs = (Log(token.address, topics, word(amount)),)
    elif kind == 2:
        logs += tuple(
            transfer(token, sender, account(dice), amount // 7) for _ in range(1 + dice.below(4))
        )
    elif kind == 3:
        amount = amount_of(WETH, 100 + dice.below(10**6), moment)
        deposit = Log(WETH.address, (event("Deposit(address,uint256)"), word(sender)), word(amount))
        call = selector("deposit()")
        return Call(sender, WETH.address, (deposit,), call, amount, transaction_type, 45_038)
    gas_used = 30_000 + 15_000 * len(logs)
    return Call(sender, token.address, logs, call, 0, transaction_type, gas_used)


def rarities(moment: Moment) -> Iterator[Call]:
    """In half of the blocks one thing that is seldom seen: the remaining types and forms of log."""
    dice, kind = moment.dice, moment.dice.below(10)
    sender = account(dice)
    if kind == 0:  # the creation of a contract, which makes another one log without a topic
        log = Log(address("registry"), (), dice.bytes(5))
        yield Call(sender, None, (log,), dice.bytes(200), 0, 2, 91_000)
    elif kind == 1:  # an NFT, whose transfer has four topics and no data
        topics = (event("Transfer(address,address,uint256)"), *map(word, (sender, account(dice))))
        log = Log(address("nft"), (*topics, word(dice.below(10**4))))
        yield Call(sender, log.address, (log,), dice.bytes(100), 0, 1, 61_234)
    elif kind == 2:
        yield Call(sender, address("rollup"), type=3, blobs=1 + dice.below(MOST_BLOBS))
    elif kind == 3:
        yield Call(sender, sender, type=4, gas_used=46_000)
    elif kind == 4:  # one topic, and data that is not a number of words
        log = Log(address("oracle"), (event("Report(bytes)"),), dice.bytes(33 + dice.below(200)))
        yield Call(sender, log.address, (log, log), dice.bytes(68), 0, 0, 70_000)


EVERYDAY: tuple[Emitter, ...] = (payments, tokens, rarities)
