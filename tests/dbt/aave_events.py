"""Events of an Aave V3 pool, and the rows that each of them must become, by Python's integers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal, localcontext
from typing import Any

from chain_logs import Event, Log

POOL = "0x87870bca3f3fd6335c3f4ce8392d69350b4fa4e2"

_ADDRESSES = ("address", "address", "address")
SUPPLY = Event("Supply", (*_ADDRESSES, "uint256", "uint16"), (0, 2, 4))
WITHDRAW = Event("Withdraw", (*_ADDRESSES, "uint256"), (0, 1, 2))
BORROW = Event("Borrow", (*_ADDRESSES, "uint256", "uint8", "uint256", "uint16"), (0, 2, 6))
REPAY = Event("Repay", (*_ADDRESSES, "uint256", "bool"), (0, 1, 2))
LIQUIDATION = Event(
    "LiquidationCall", (*_ADDRESSES, "uint256", "uint256", "address", "bool"), (0, 1, 2)
)
DEFICIT = Event("DeficitCreated", ("address", "address", "uint256"), (0, 1))
RESERVE = Event("ReserveDataUpdated", ("address", *("uint256",) * 5), (0,))

EVENTS = (SUPPLY, WITHDRAW, BORROW, REPAY, LIQUIDATION, DEFICIT, RESERVE)
BY_TOPIC = {event.topic0: event for event in EVENTS}

# Type, token, four parties and raw amount, as int_lending_supply and int_lending_borrow have them.
Leg = tuple[str, str, str | None, str | None, str | None, str | None, int]


def supply_legs(event: Event, arguments: Sequence[Any]) -> Iterator[Leg]:
    """Of deposits: type, token, depositor, on behalf of, withdrawn to, liquidator, raw amount."""
    if event is SUPPLY:
        reserve, user, on_behalf_of, amount, _ = arguments
        yield "deposit", reserve, user, on_behalf_of, None, None, amount
    elif event is WITHDRAW:
        reserve, user, recipient, amount = arguments
        yield "withdraw", reserve, user, None, recipient, None, -amount
    elif event is REPAY:
        reserve, _, repayer, amount, uses_atokens = arguments
        if uses_atokens:
            yield "repay_with_atokens", reserve, repayer, None, repayer, None, -amount
    elif event is LIQUIDATION:
        collateral, _, user, _, amount, liquidator, receives_atokens = arguments
        yield "deposit_liquidation", collateral, user, None, liquidator, liquidator, -amount
        if receives_atokens:
            yield "liquidation_proceeds", collateral, liquidator, None, None, liquidator, amount


def borrow_legs(event: Event, arguments: Sequence[Any]) -> Iterator[Leg]:
    """Of debts: type, token, borrower, on behalf of, repayer, liquidator, raw amount."""
    if event is BORROW:
        reserve, user, on_behalf_of, amount, *_ = arguments
        yield "borrow", reserve, user, on_behalf_of, None, None, amount
    elif event is REPAY:
        reserve, user, repayer, amount, _ = arguments
        yield "repay", reserve, user, None, repayer, None, -amount
    elif event is LIQUIDATION:
        _, debt, user, amount, _, liquidator, _ = arguments
        yield "borrow_liquidation", debt, user, None, liquidator, liquidator, -amount
    elif event is DEFICIT:
        user, debt, amount = arguments
        yield "deficit", debt, user, None, None, None, -amount


def loan_type(event: Event, arguments: Sequence[Any]) -> str | None:
    return {1: "stable", 2: "variable"}.get(arguments[4]) if event is BORROW else None


def stored(amount: int) -> tuple[Decimal | None, str | None]:
    """An amount and, if it has more than 38 digits, its hex instead."""
    fits = abs(amount) < 10**38
    return (Decimal(amount), None) if fits else (None, f"0x{abs(amount):064x}")


def in_units(amount: int, decimals: int | None) -> Decimal | None:
    """An amount in units of its token, if they are known and DECIMAL(38,18) has room."""
    with localcontext(prec=120):
        if decimals is None or abs(amount) >= 10**38:
            return None
        value = Decimal(amount).scaleb(-decimals)
        return value if abs(value) < 10**20 else None


def rows_of(
    log: Log, arguments: Sequence[Any], decimals: dict[str, int], *, is_borrow: bool
) -> Iterator[tuple[Any, ...]]:
    """What a log becomes in int_lending_supply or int_lending_borrow, from block_number on."""
    event = BY_TOPIC[log.topics[0]]
    for kind, token, *parties, amount in (borrow_legs if is_borrow else supply_legs)(
        event, arguments
    ):
        head = (log.number, log.block_time, log.log_index, "0x" + log.hash.hex(), kind)
        loan = (loan_type(event, arguments),) if is_borrow else ()
        units = in_units(amount, decimals.get(token))
        yield (*head, *loan, token, *parties, *stored(amount), units)


COLUMNS_OF_SUPPLY = (
    "block_number, block_time, log_index, transaction_hash, transaction_type, token_address, "
    "depositor, on_behalf_of, withdrawn_to, liquidator, amount_raw, amount_overflow, amount"
)
COLUMNS_OF_BORROW = (
    "block_number, block_time, log_index, transaction_hash, transaction_type, loan_type, "
    "token_address, borrower, on_behalf_of, repayer, liquidator, "
    "amount_raw, amount_overflow, amount"
)
