"""The ERC-20 contracts of the sandbox chain: what they answer, and how stablecoins grow and shrink.

A `Token` is what is traded and priced; what its contract says of itself, which may be nothing or
nonsense, is here too. The supply of a stablecoin is a function of the block's number; what is
minted and burned in a block is its difference. Transfers alone never change a supply.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from crypto_assets.sandbox.chain_calls import (
    USDC,
    USDT,
    WETH,
    Call,
    Log,
    Moment,
    Token,
    account,
    address,
    drawn,
    event,
    selector,
    transfer,
    word,
)

NOBODY = bytes(20)

DAI = Token(bytes.fromhex("6b175474e89094c44da98b954eedeac495271d0f"), "DAI", 18)
WBTC = Token(bytes.fromhex("2260fac5e5542a773aa44fbcfedf7c193bc2c599"), "BTC", 8)
MKR = Token(bytes.fromhex("9f8f72aa9304c8b593d555f12ef6589cc3a579a2"), "MKR", 18)
ETHER = Token(NOBODY, "ETH", 18)
"""The chain's own currency as Uniswap V4 names it; it is no contract and emits nothing."""

# Invented ones. They share one latent price with MKR, for each costs time to draw; the decimals are
# those of the unit that has this price, whatever the contract says.
SPARK = Token(address("token SPARK"), "SPARK", 18)
MUTE = Token(address("token MUTE"), "SPARK", 18)
ABSURD = Token(address("token ABSURD"), "SPARK", 18)
TITHE = Token(address("token TITHE"), "SPARK", 18)
HUGE = Token(address("token HUGE"), "SPARK", 36)

SPARK_SINCE = 21_517_083
"""The block from which on the contract of SPARK exists."""


class Metadata(NamedTuple):
    """What a token's contract answers; decimals of None: the call reverts.

    A symbol of bytes is answered as bytes32, as the first tokens did.
    """

    token: Token
    symbol: str | bytes
    decimals: int | None
    since: int = 0


METADATA = {
    one.token.address: one
    for one in (
        Metadata(USDC, "USDC", 6),
        Metadata(USDT, "USDT", 6),
        Metadata(DAI, "DAI", 18),
        Metadata(WETH, "WETH", 18),
        Metadata(WBTC, "WBTC", 8),
        Metadata(MKR, b"MKR", 18),
        Metadata(SPARK, "SPARK", 18, SPARK_SINCE),
        Metadata(MUTE, "MUTE", None),
        Metadata(ABSURD, "ABSURD", 255),
        Metadata(TITHE, "TITHE", 18),
        Metadata(HUGE, "HUGE", 18),
    )
}


@dataclass(frozen=True, slots=True, eq=False)
class Stablecoin:
    """A token whose supply changes once in every `period` blocks, by up to some whole coins."""

    token: Token
    period: int
    coins: int
    most_change: int

    def supply(self, number: int) -> int:
        """The total supply after a block, in the token's smallest unit."""
        window = number // self.period
        return self._supply(window if number >= self._turn(window) else window - 1)

    def change(self, number: int) -> int:
        """By how much a block changes it."""
        window = number // self.period
        if number != self._turn(window):
            return 0
        return self._supply(window) - self._supply(window - 1)

    def _turn(self, window: int) -> int:
        """The block of a window in which the supply changes."""
        return window * self.period + drawn("supply turn", self.token.asset, window) % self.period

    def _supply(self, window: int) -> int:
        cents = drawn("supply", self.token.asset, window) % (100 * self.most_change)
        return (self.coins * 100 + cents) * int(10**self.token.decimals) // 100


STABLECOINS = (
    Stablecoin(USDC, 8, 41_000_000_000, 4_000_000),
    Stablecoin(DAI, 12, 4_500_000_000, 800_000),
    Stablecoin(USDT, 16, 75_000_000_000, 60_000_000),
)
_SUPPLIES = {one.token.address: one for one in STABLECOINS}


def total_supply(token: bytes, number: int) -> int:
    """What totalSupply() of a token answers after a block; of all but stablecoins a constant."""
    if token in _SUPPLIES:
        return _SUPPLIES[token].supply(number)
    return 10**6 * int(10 ** METADATA[token].token.decimals)


def stablecoins(moment: Moment) -> Iterator[Call]:
    """What changes supplies; in every fourth block of those as much again is burned and minted."""
    for coin in STABLECOINS:
        change = coin.change(moment.number)
        if change == 0:
            continue
        kind = drawn("supply kind", coin.token.asset, moment.number) % 4
        extra = abs(change) // 3 if kind == 0 else 0
        minted, burned = max(change, 0) + extra, max(-change, 0) + extra
        if minted:
            yield _issue(coin.token, minted, moment)
        if burned:
            yield _redeem(coin.token, burned, moment, is_seizure=kind == 1)


def _issue(token: Token, amount: int, moment: Moment) -> Call:
    if token is USDT:
        log = Log(token.address, (event("Issue(uint256)"),), word(amount))
        return _by("tether", token, log, "issue(uint256)", word(amount))
    receiver = account(moment.dice)
    log = transfer(token, NOBODY, receiver, amount)
    return _by("issuer", token, log, "mint(address,uint256)", word(receiver) + word(amount))


def _redeem(token: Token, amount: int, moment: Moment, *, is_seizure: bool) -> Call:
    if token is not USDT:
        log = transfer(token, account(moment.dice), NOBODY, amount)
        return _by("issuer", token, log, "burn(uint256)", word(amount))
    if is_seizure:
        thief = word(account(moment.dice))
        signature = "DestroyedBlackFunds(address,uint256)"
        log = Log(token.address, (event(signature),), thief + word(amount))
        return _by("tether", token, log, "destroyBlackFunds(address)", thief)
    log = Log(token.address, (event("Redeem(uint256)"),), word(amount))
    return _by("tether", token, log, "redeem(uint256)", word(amount))


def _by(who: str, token: Token, log: Log, signature: str, arguments: bytes) -> Call:
    return Call(
        address(who), token.address, (log,), selector(signature) + arguments, gas_used=61_000
    )
