"""A lending market of Aave V3 on the sandbox chain: what users do, and the rates of its reserves.

The indexes of a reserve are a function of time that never falls; its rates are those by which it
gets from one update to the next, so that an index is always the one before it, grown by the rates
in between as Aave grows it: linearly for suppliers, compounded for borrowers
(https://github.com/aave-dao/aave-v3-origin, MathUtils.sol). Rates and indexes are in ray, 1e-27.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from crypto_assets.sandbox.chain_calls import (
    USDC,
    USDT,
    WETH,
    Call,
    Log,
    Moment,
    Timeline,
    Token,
    account,
    amount_of,
    drawn,
    event,
    selector,
    transfer,
    word,
)
from crypto_assets.sandbox.chain_tokens import NOBODY

AAVE_POOL = bytes.fromhex("87870bca3f3fd6335c3f4ce8392d69350b4fa4e2")
RAY = 10**27
YEAR = 365 * 86_400
_SINCE = 1_674_777_600  # 2023-01-27, when the market opened: indexes were one then
_VARIABLE = 2
_FLASH_PREMIUM = 5  # in 1e-4
_BONUS = 105  # what a liquidator gets for 100


@dataclass(frozen=True, slots=True, eq=False)
class Reserve:
    """A token that is lent, its aToken, and about what it yields and costs in a year, in bps.

    Something is done with it in one block of every `period`.
    """

    token: Token
    receipt: bytes
    period: int
    supply_bps: int
    borrow_bps: int

    def turn(self, number: int) -> int | None:
        """Which update of the reserve a block has, counted from block 0, if it has one."""
        turn = number // self.period
        return turn if number == self.block_of(turn) else None

    def block_of(self, turn: int) -> int:
        """The block of an update."""
        return turn * self.period + drawn("reserve", self.token.asset, turn) % self.period

    def last_turn(self, number: int) -> int:
        """The newest update in or before a block."""
        turn = number // self.period
        return turn if self.block_of(turn) <= number else turn - 1


RESERVES = (
    Reserve(WETH, bytes.fromhex("4d5f47fa6a74757f35c14fd3a6ef8e3c9bc514e8"), 8, 205, 268),
    Reserve(USDC, bytes.fromhex("98c23e9d8f34fefb1b7bd6a91b7ff122f4e16f5c"), 7, 462, 611),
    Reserve(USDT, bytes.fromhex("23878914efe38d27c4d67ab83ed1b93a74d4086a"), 10, 518, 664),
)
_WETH, _USDC, _ = RESERVES


class State(NamedTuple):
    """A reserve after a block: rates from then on, and indexes up to then, in ray."""

    supply_rate: int
    borrow_rate: int
    supply_index: int
    borrow_index: int


def state_after(reserve: Reserve, number: int, timeline: Timeline) -> State:
    """What ReserveDataUpdated says in a block."""
    turn = reserve.last_turn(number)
    at = _at_turn(reserve, turn, timeline)
    passed = timeline.time(number) - timeline.time(reserve.block_of(turn))
    if passed == 0:
        return at
    grown = at.borrow_rate * passed // YEAR
    compounded = grown + grown**2 // (2 * RAY) + grown**3 // (6 * RAY**2)
    return State(
        at.supply_rate,
        at.borrow_rate,
        at.supply_index + at.supply_index * at.supply_rate * passed // (YEAR * RAY),
        at.borrow_index + at.borrow_index * compounded // RAY,
    )


@lru_cache(maxsize=1024)
def _at_turn(reserve: Reserve, turn: int, timeline: Timeline) -> State:
    passed = timeline.time(reserve.block_of(turn + 1)) - timeline.time(reserve.block_of(turn))
    yearly = reserve.supply_bps, reserve.borrow_bps
    (supply, next_supply), (borrow, next_borrow) = (
        [_index(reserve, bps, at, timeline) for at in (turn, turn + 1)] for bps in yearly
    )
    grown = (next_supply - supply) * RAY // supply
    owed = (next_borrow - borrow) * RAY // borrow
    owed_evenly = owed - owed**2 // (2 * RAY) + owed**3 // (3 * RAY**2)  # the logarithm
    return State(grown * YEAR // passed, owed_evenly * YEAR // passed, supply, borrow)


def _index(reserve: Reserve, bps: int, turn: int, timeline: Timeline) -> int:
    """An index: a straight line in time, early or late by up to half a block."""
    share = drawn("index", reserve.token.asset, turn) % 1000
    halves = 2000 * (timeline.time(reserve.block_of(turn)) - _SINCE)
    return RAY + RAY * bps * (halves + share * timeline.block_seconds) // (2000 * 10**4 * YEAR)


# --- what users do -------------------------------------------------------------------------------


def lending(moment: Moment) -> Iterator[Call]:
    """What is done with the reserves whose turn it is."""
    for reserve in RESERVES:
        turn = reserve.turn(moment.number)
        if turn is not None:
            yield _action(reserve, turn, moment)


def _action(reserve: Reserve, turn: int, moment: Moment) -> Call:
    dice, token = moment.dice, reserve.token
    user, amount = account(dice), amount_of(token, 10**4 + dice.below(10**7), moment)
    other = account(dice) if dice.below(4) == 0 else user
    kind = drawn("action", token.asset, turn) % 100
    if kind >= 96:
        return _flash_loan(reserve, kind, user, amount, moment)
    if kind >= 90:
        return _liquidation(reserve, kind, user, amount, moment)
    moved = transfer(token, user, reserve.receipt, amount)
    if kind < 30:
        signature = "Supply(address,address,address,uint256,uint16)"
        done = _event(signature, (token.address, other, 0), (user, amount))
    elif kind < 48:
        moved = transfer(token, reserve.receipt, user, amount)
        signature = "Withdraw(address,address,address,uint256)"
        done = _event(signature, (token.address, user, user), (amount,))
    elif kind < 66:
        moved = transfer(token, reserve.receipt, user, amount)
        done = _borrowed(reserve, user, other, amount, moment)
    elif kind < 85:
        done = _repaid(token, other, user, amount, has_a_tokens=False)
    else:
        moved = transfer(_receipt(reserve), user, NOBODY, amount)
        done = _repaid(token, user, user, amount, has_a_tokens=True)
    return _aave_call(user, (reserve_updated(reserve, moment), moved, done), moment)


def reserve_updated(reserve: Reserve, moment: Moment) -> Log:
    """ReserveDataUpdated, as of a block; the stable rate has been abolished."""
    state = state_after(reserve, moment.number, moment.timeline)
    signature = "ReserveDataUpdated(address,uint256,uint256,uint256,uint256,uint256)"
    rates = state.supply_rate, 0, state.borrow_rate
    return _event(
        signature, (reserve.token.address,), (*rates, state.supply_index, state.borrow_index)
    )


def _liquidation(reserve: Reserve, kind: int, user: bytes, debt: int, moment: Moment) -> Call:
    """Kinds 90 to 95: the liquidator takes aTokens or the token itself; one leaves a deficit."""
    liquidator, takes_receipt, has_deficit = account(moment.dice), kind % 2 == 0, kind == 95
    collateral = _USDC if reserve is _WETH else _WETH
    token, held = reserve.token, collateral.token
    worth = debt * moment.usd(token.asset) * 10**held.decimals
    seized = worth * _BONUS // (100 * moment.usd(held.asset) * 10**token.decimals)
    logs = [reserve_updated(reserve, moment), transfer(token, liquidator, reserve.receipt, debt)]
    if takes_receipt:
        logs.append(transfer(_receipt(collateral), user, liquidator, seized))
    else:
        logs.insert(1, reserve_updated(collateral, moment))
        logs.append(transfer(held, collateral.receipt, liquidator, seized))
    if has_deficit:
        signature = "DeficitCreated(address,address,uint256)"
        logs.append(_event(signature, (user, token.address), (debt // 5,)))
    signature = "LiquidationCall(address,address,address,uint256,uint256,address,bool)"
    indexed = held.address, token.address, user
    logs.append(_event(signature, indexed, (debt, seized, liquidator, int(takes_receipt))))
    return _aave_call(liquidator, tuple(logs), moment)


def _flash_loan(reserve: Reserve, kind: int, user: bytes, amount: int, moment: Moment) -> Call:
    """Kinds 96 to 99: paid back with a premium, or at 99 kept as a debt."""
    token, opens_debt = reserve.token, kind == 99
    premium = 0 if opens_debt else -(-amount * _FLASH_PREMIUM // 10**4)
    logs = [
        transfer(token, reserve.receipt, user, amount),
        reserve_updated(reserve, moment),
        _borrowed(reserve, user, user, amount, moment)
        if opens_debt
        else transfer(token, user, reserve.receipt, amount + premium),
    ]
    signature = "FlashLoan(address,address,address,uint256,uint8,uint256,uint16)"
    mode = _VARIABLE if opens_debt else 0
    logs.append(_event(signature, (user, token.address, 0), (user, amount, mode, premium)))
    return _aave_call(user, tuple(logs), moment)


def _borrowed(reserve: Reserve, user: bytes, debtor: bytes, amount: int, moment: Moment) -> Log:
    rate = state_after(reserve, moment.number, moment.timeline).borrow_rate
    signature = "Borrow(address,address,address,uint256,uint8,uint256,uint16)"
    indexed = reserve.token.address, debtor, 0
    return _event(signature, indexed, (user, amount, _VARIABLE, rate))


def _repaid(token: Token, debtor: bytes, payer: bytes, amount: int, *, has_a_tokens: bool) -> Log:
    signature = "Repay(address,address,address,uint256,bool)"
    return _event(signature, (token.address, debtor, payer), (amount, int(has_a_tokens)))


def _receipt(reserve: Reserve) -> Token:
    """The aToken of a reserve."""
    return reserve.token._replace(address=reserve.receipt)


def _event(signature: str, indexed: tuple[int | bytes, ...], rest: tuple[int | bytes, ...]) -> Log:
    topics = (event(signature), *map(word, indexed))
    return Log(AAVE_POOL, topics, b"".join(map(word, rest)))


def _aave_call(sender: bytes, logs: tuple[Log, ...], moment: Moment) -> Call:
    data = selector("multicall(bytes[])") + moment.dice.bytes(32)
    return Call(sender, AAVE_POOL, logs, data, gas_used=180_000 + 20_000 * len(logs))
