"""Lies about logs: one block and its receipts, as JSON, changed in place at random.

`tamper` is for tests that hold a client against every way in which a node can misstate a log. The
rest are its parts, which `chain_faults` uses by name.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from crypto_assets.sandbox.chain_block import logs_bloom

Json = dict[str, Any]

_CONTENT = ("address", "topics", "data")
# Where a log says that it is: nothing of it is in the receipts root.
PLACES = (
    "logIndex", "transactionIndex", "transactionHash", "blockHash", "blockNumber", "blockTimestamp",
    "removed",
)  # fmt: skip


def tamper(block: Json, receipts: list[Json], rng: random.Random) -> str:
    """Drop, repeat, move, exchange or change one log of a block, and say what was done.

    Afterwards, at random, logs are renumbered or not, and blooms are adjusted: of the receipts, of
    the block too, or not at all. ValueError if there are no logs.
    """
    places = logs_of(receipts)
    if not places:
        raise ValueError(f"block {block['number']} has no logs to tamper with")
    receipt, at = rng.choice(places)
    where = f"log {receipt['logs'][at]['logIndex']} of block {block['number']}"
    done = rng.choice(_LIES)(receipts, receipt, at, rng)
    changed = [done]
    if not done.startswith("logIndex") and rng.random() < 0.5:
        renumber(receipts)
        changed.append("logs renumbered")
    blooms = rng.choice(("blooms as they were", "receipt blooms adjusted", "all blooms adjusted"))
    if blooms != "blooms as they were":
        adjust_blooms(receipts, block if blooms.startswith("all") else None)
    return ", ".join((where, *changed, blooms))


def logs_of(receipts: list[Json]) -> list[tuple[Json, int]]:
    """Every log of a block, as the receipt that has it and its position there."""
    return [(receipt, at) for receipt in receipts for at in range(len(receipt["logs"]))]


def drop(receipt: Json, at: int) -> None:
    """Take a log away."""
    del receipt["logs"][at]


def swap(receipts: list[Json], log: Json) -> bool:
    """Exchange what a log says with that of another one that says something else, if there is."""
    for receipt, at in logs_of(receipts):
        other = receipt["logs"][at]
        if any(log[name] != other[name] for name in _CONTENT):
            for name in _CONTENT:
                log[name], other[name] = other[name], log[name]
            return True
    return False


def renumber(receipts: list[Json]) -> None:
    """Make log indexes contiguous."""
    for index, (receipt, at) in enumerate(logs_of(receipts)):
        receipt["logs"][at]["logIndex"] = hex(index)


def adjust_blooms(receipts: list[Json], block: Json | None = None) -> None:
    """Make the blooms of the receipts, and of the block if given, those of the logs."""
    for holder, of in [(one, [one]) for one in receipts] + ([(block, receipts)] if block else []):
        logs = (log for receipt in of for log in receipt["logs"])
        bloom = logs_bloom((_data(log["address"]), map(_data, log["topics"])) for log in logs)
        holder["logsBloom"] = f"0x{bloom.hex()}"


def changed_hex(text: str, at: int) -> str:
    """Hex with another last bit in one digit (never one of its prefix); "0x" gets a byte."""
    if text == "0x":
        return "0x01"
    digits = list(text[2:])
    digits[at] = f"{int(digits[at], 16) ^ 1:x}"
    return "0x" + "".join(digits)


def _data(text: str) -> bytes:
    return bytes.fromhex(text[2:])


_Lie = Callable[[list[Json], Json, int, random.Random], str]


def _dropped(_: list[Json], receipt: Json, at: int, __: random.Random) -> str:
    drop(receipt, at)
    return "dropped"


def _repeated(_: list[Json], receipt: Json, at: int, __: random.Random) -> str:
    receipt["logs"].insert(at, deepcopy(receipt["logs"][at]))
    return "repeated"


def _swapped(receipts: list[Json], receipt: Json, at: int, rng: random.Random) -> str:
    if swap(receipts, receipt["logs"][at]):
        return "exchanged with another"
    return _changed_data(receipts, receipt, at, rng)


def _moved(receipts: list[Json], receipt: Json, at: int, rng: random.Random) -> str:
    others = [other for other in receipts if other is not receipt]
    if not others:
        return _dropped(receipts, receipt, at, rng)
    log, other = receipt["logs"].pop(at), rng.choice(others)
    log |= {name: other[name] for name in ("transactionHash", "transactionIndex")}
    other["logs"].append(log)
    return f"moved to transaction {other['transactionIndex']}"


def _changed_address(_: list[Json], receipt: Json, at: int, rng: random.Random) -> str:
    log = receipt["logs"][at]
    log["address"] = changed_hex(log["address"], rng.randrange(40))
    return "address changed"


def _changed_topics(_: list[Json], receipt: Json, at: int, rng: random.Random) -> str:
    topics = receipt["logs"][at]["topics"]
    kind = rng.choice(["changed", "gone"] if len(topics) == 4 else ["changed", "gone", "added"])
    if kind == "added" or not topics:
        topics.append("0x" + rng.randbytes(32).hex())
        return "topic added"
    which = rng.randrange(len(topics))
    if kind == "gone":
        del topics[which]
    else:
        topics[which] = changed_hex(topics[which], rng.randrange(64))
    return f"topic {which} {kind}"


def _changed_data(_: list[Json], receipt: Json, at: int, rng: random.Random) -> str:
    log = receipt["logs"][at]
    data = log["data"]
    kind = rng.choice(["changed", "longer", "shorter", "empty"] if data != "0x" else ["longer"])
    if kind == "changed":
        log["data"] = changed_hex(data, rng.randrange(len(data) - 2))
    else:
        log["data"] = {"longer": data + "00", "shorter": data[:-2], "empty": "0x"}[kind]
    return f"data {kind}"


def _changed_place(_: list[Json], receipt: Json, at: int, rng: random.Random) -> str:
    log, name = receipt["logs"][at], rng.choice(PLACES)
    log[name] = True if name == "removed" else changed_hex(log[name], -1)
    return f"{name} changed"


_LIES: tuple[_Lie, ...] = (
    _dropped, _repeated, _swapped, _moved,
    _changed_address, _changed_topics, _changed_data, _changed_place,
)  # fmt: skip
