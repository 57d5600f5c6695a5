"""Events of decentralised exchanges, and what a swap of each must become, by Python's integers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

from chain_logs import Event, Log

MAX_AMOUNT = 10**38 - 1
NATIVE = "0x" + "00" * 20

V2_CREATED = Event("PairCreated", ("address", "address", "address", "uint256"), (0, 1))
V2_SWAP = Event("Swap", ("address", *("uint256",) * 4, "address"), (0, 5))
V2_SYNC = Event("Sync", ("uint112", "uint112"))
V3_CREATED = Event("PoolCreated", ("address", "address", "uint24", "int24", "address"), (0, 1, 2))
V3_SWAP = Event(
    "Swap", ("address", "address", "int256", "int256", "uint160", "uint128", "int24"), (0, 1)
)
V4_CREATED = Event(
    "Initialize",
    ("bytes32", "address", "address", "uint24", "int24", "address", "uint160", "int24"),
    (0, 1, 2),
)
V4_SWAP = Event(
    "Swap",
    ("bytes32", "address", "int128", "int128", "uint160", "uint128", "int24", "uint24"),
    (0, 1),
)
PROTOCOLS = {
    V2_SWAP.topic0: ("uniswap_v2", V2_SWAP),
    V3_SWAP.topic0: ("uniswap_v3", V3_SWAP),
    V4_SWAP.topic0: ("uniswap_v4", V4_SWAP),
}

SWAP_COLUMNS = (
    "block_number",
    "log_index",
    "transaction_hash",
    "protocol",
    "contract_address",
    "pool",
    "sender",
    "recipient",
    "taker",
    "maker",
    "amount0_in_raw",
    "amount1_in_raw",
    "amount0_out_raw",
    "amount1_out_raw",
    "amount_overflow",
    "token_bought_address",
    "token_sold_address",
    "token_bought_amount_raw",
    "token_sold_amount_raw",
    "token_bought_amount",
    "token_sold_amount",
    "sqrt_price_x96",
    "price_after",
    "liquidity",
    "liquidity_overflow",
    "tick",
    "is_empty",
)


@dataclass(frozen=True)
class Pool:
    """What a swap needs to know of its pool; decimals are None where nobody knows them."""

    token0: str | None = None
    token1: str | None = None
    decimals0: int | None = None
    decimals1: int | None = None


def expected_swap(log: Log, pools: Mapping[str, Pool]) -> tuple[Any, ...]:
    """The row of int_dex_swaps, in SWAP_COLUMNS, that eth-abi and integers make of a log."""
    protocol, event = PROTOCOLS[log.topics[0]]
    arguments = event.arguments(log.topics, log.data)
    if event is V2_SWAP:
        sender, in0, in1, out0, out1, recipient = arguments
        pool, taker, maker = log.address, recipient, log.address
        words = [*(f"{amount:064x}" for amount in (in0, in1, out0, out1))]
        is_large = [amount > MAX_AMOUNT for amount in (in0, in1, out0, out1)]
        root = liquidity = tick = None
        bought = 0 if out0 else 1
        sold = 0 if in0 and out1 else 1
    else:
        if event is V3_SWAP:
            sender, recipient, change0, change1, root, liquidity, tick = arguments
            pool, taker, maker = log.address, recipient, log.address
            given = (change0, change1)
        else:
            identity, sender, paid0, paid1, root, liquidity, tick, _ = arguments
            pool = maker = f"0x{identity.hex()}"
            recipient, taker = None, sender
            change0, change1 = -paid0, -paid1
            given = (paid0, paid1)
        in0, in1, out0, out1 = (max(n, 0) for n in (change0, change1, -change0, -change1))
        words = [f"{amount % 2**256:064x}" for amount in given]
        is_large = [abs(amount) > MAX_AMOUNT for amount in given]
        bought = 0 if out0 or (in1 and not out1) else 1
        sold = 1 - bought
    known = pools.get(pool, Pool())
    tokens = (known.token0, known.token1)
    decimals = (known.decimals0, known.decimals1)
    return (
        log.number,
        log.log_index,
        f"0x{log.hash.hex()}",
        protocol,
        log.address,
        pool,
        sender,
        recipient,
        taker,
        maker,
        *(fitting(amount) for amount in (in0, in1, out0, out1)),
        ",".join(f"0x{word}" for word, large in zip(words, is_large, strict=True) if large) or None,
        tokens[bought],
        tokens[sold],
        fitting((out0, out1)[bought]),
        fitting((in0, in1)[sold]),
        units((out0, out1)[bought], decimals[bought]),
        units((in0, in1)[sold], decimals[sold]),
        None if root is None else f"0x{root:064x}",
        price_of(root, *decimals),
        None if liquidity is None else fitting(liquidity),
        f"0x{liquidity:064x}" if liquidity is not None and liquidity > MAX_AMOUNT else None,
        tick,
        not (in0 or in1 or out0 or out1),
    )


def fitting(amount: int) -> int | None:
    """The amount, if it has at most 38 digits."""
    return amount if amount <= MAX_AMOUNT else None


def units(amount: int, decimals: int | None) -> Decimal | None:
    """The amount in units of its token, if exactly a DECIMAL(38,18)."""
    if decimals is None or amount > MAX_AMOUNT:
        return None
    return _decimal(Fraction(amount, 10**decimals), is_exact=True)


def price_of(root: int | None, decimals0: int | None, decimals1: int | None) -> Decimal | None:
    """The price that a sqrtPriceX96 says, rounded once at 18 digits, half away from zero."""
    if root is None or decimals0 is None or decimals1 is None:
        return None
    return _decimal(Fraction(root, 2**96) ** 2 * Fraction(10) ** (decimals0 - decimals1))


def quotient(numerator: Decimal, denominator: Decimal) -> Decimal | None:
    """A price, rounded once at 18 digits, half away from zero."""
    return _decimal(Fraction(numerator) / Fraction(denominator)) if denominator else None


def _decimal(value: Fraction, *, is_exact: bool = False) -> Decimal | None:
    scaled = value * 10**18
    rounded = (scaled * 2 + 1) // 2
    if rounded > MAX_AMOUNT or (is_exact and rounded != scaled):
        return None
    with localcontext(prec=60):
        return Decimal(int(rounded)).scaleb(-18)


def padded(values: Sequence[int]) -> bytes:
    """Words of unsigned or signed integers, as a call returns them."""
    return b"".join((value % 2**256).to_bytes(32, "big") for value in values)
