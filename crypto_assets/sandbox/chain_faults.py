"""What can go wrong at a node of the chain, by name; `faults` switches it on.

A block fault changes how the node shows one block: the block and its receipts, in every method
alike. A call fault refuses calls, an answer fault changes what contracts return, a logs fault
refuses wide eth_getLogs, a batch fault acts on batches. A reorg puts blocks of another branch in
the place of these; a second node that disagrees is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import msgspec
from starlette.exceptions import HTTPException

from crypto_assets.sandbox.chain_tamper import (
    adjust_blooms,
    changed_hex,
    drop,
    logs_of,
    renumber,
    swap,
)

Json = dict[str, Any]
Batch = Sequence[Any]
Replies = Callable[[], list[bytes]]
_Act = TypeVar("_Act", bound=Callable[..., Any])

_DECIMALS = bytes.fromhex("313ce567")  # the selector of decimals()
BATCH_LIMIT = 10
LOGS_SPAN = 100


class RpcError(Exception):
    """What the error object of a reply says."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message

    def reply(self, call_id: Any) -> bytes:
        """The whole reply to a call."""
        error = {"code": self.code, "message": self.message}
        return msgspec.json.encode({"jsonrpc": "2.0", "id": call_id, "error": error})


@dataclass(frozen=True, slots=True)
class BlockFault:
    """Changes a block and its receipts in place; a block that it empties is null on the wire."""

    description: str
    act: Callable[[Json, list[Json]], object]


@dataclass(frozen=True, slots=True)
class CallFault:
    """Answers a call with an error, if it is of one of these methods (empty: of any)."""

    description: str
    code: int
    message: str
    methods: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class AnswerFault:
    """Changes what eth_call returns: of the data of the call, and the sound answer."""

    description: str
    act: Callable[[bytes, bytes], bytes]


@dataclass(frozen=True, slots=True)
class LogsFault:
    """Answers eth_getLogs over more than LOGS_SPAN blocks with an error.

    The message may name `{first}` and `{last}`, a range that would do, in hex.
    """

    description: str
    code: int
    message: str


@dataclass(frozen=True, slots=True)
class BatchFault:
    """Acts on a batch: its calls, and what gives their replies."""

    description: str
    act: Callable[[Batch, Replies], list[bytes]]


@dataclass(frozen=True, slots=True)
class Reorg:
    """The blocks of its range are those of the branch that begins at the first of them."""

    description: str


ChainFault = BlockFault | CallFault | AnswerFault | LogsFault | BatchFault | Reorg
CHAINED: dict[str, ChainFault] = {
    "reorg": Reorg(
        "from the first block of the range on it has another branch; a range with an end comes "
        "back to the old one, which only the next block's parent hash tells"
    ),
    "rpc_rate_limit": CallFault(
        "a call is answered with status 200 and an error: too many",
        -32005,
        "daily request count exceeded, request rate limited",
    ),
    "rpc_internal_error": CallFault(
        "a call is answered with status 200 and an error: internal", -32603, "Internal error"
    ),
    "no_block_receipts": CallFault(
        "a node without eth_getBlockReceipts",
        -32601,
        "the method eth_getBlockReceipts does not exist/is not available",
        frozenset({"eth_getBlockReceipts"}),
    ),
    "logs_range_suggested": LogsFault(
        f"no eth_getLogs over more than {LOGS_SPAN} blocks; the error suggests a range (Alchemy)",
        -32602,
        "Log response size exceeded. You can make eth_getLogs requests with up to a 2K block range "
        "and no limit on the response size, or you can request any block range with a cap of 10K "
        "logs in the response. Based on your parameters and the response size limit, this block "
        "range should work: [{first}, {last}]",
    ),
    "logs_too_many": LogsFault(
        f"the same of more than {LOGS_SPAN} blocks, for the number of results (Infura)",
        -32005,
        "query returned more than 10000 results. Try with this block range [{first}, {last}].",
    ),
    "logs_range_limited": LogsFault(
        f"the same of more than {LOGS_SPAN} blocks, with the limit in decimal (publicnode)",
        -32701,
        f"exceed maximum block range: {LOGS_SPAN}",
    ),
    "logs_range_too_wide": LogsFault(
        f"the same of more than {LOGS_SPAN} blocks, without a figure (Ankr)",
        -32600,
        "block range is too wide",
    ),
}


_ByFunction = type[BlockFault] | type[AnswerFault] | type[BatchFault]


def _fault(kind: _ByFunction, description: str) -> Callable[[_Act], _Act]:
    """Enters the decorated function, without its underscore, as a fault of that kind."""

    def enter(act: _Act) -> _Act:
        CHAINED[act.__name__[1:]] = kind(description, act)
        return act

    return enter


_block = partial(_fault, BlockFault)
_answer = partial(_fault, AnswerFault)
_batch = partial(_fault, BatchFault)


# --- how a block is shown; what acts on logs leaves one without logs as it is --------------------


@_block("the middle log of a block is gone, its number with it")
def _dropped_log(_: Json, receipts: list[Json]) -> None:
    for receipt, at in _middle(receipts):
        drop(receipt, at)


@_block("the middle log of a block is gone, the later ones renumbered")
def _dropped_log_renumbered(block: Json, receipts: list[Json]) -> None:
    _dropped_log(block, receipts)
    renumber(receipts)


@_block("the same, and the bloom of its receipt does not know of it")
def _dropped_log_unbloomed(block: Json, receipts: list[Json]) -> None:
    _dropped_log_renumbered(block, receipts)
    adjust_blooms(receipts)


@_block("the same, and the bloom of the block neither")
def _dropped_log_unbloomed_block(block: Json, receipts: list[Json]) -> None:
    _dropped_log_renumbered(block, receipts)
    adjust_blooms(receipts, block)


@_block("a digit in the data of a block's middle log is another; the blooms hold")
def _altered_log(_: Json, receipts: list[Json]) -> None:
    for receipt, at in _middle(receipts):
        log = receipt["logs"][at]
        log["data"] = changed_hex(log["data"], -1)


@_block("a digit in the address of a block's middle log is another, in the receipt's bloom too")
def _altered_log_bloomed(_: Json, receipts: list[Json]) -> None:
    for receipt, at in _middle(receipts):
        log = receipt["logs"][at]
        log["address"] = changed_hex(log["address"], -1)
    adjust_blooms(receipts)


@_block("the middle log of a block comes twice, the later ones renumbered")
def _duplicated_log(_: Json, receipts: list[Json]) -> None:
    for receipt, at in _middle(receipts):
        receipt["logs"].insert(at, deepcopy(receipt["logs"][at]))
    renumber(receipts)


@_block("the middle log of a block has changed places with another, of its transaction if it can")
def _swapped_logs(_: Json, receipts: list[Json]) -> None:
    for receipt, at in _middle(receipts):
        swap([receipt, *receipts], receipt["logs"][at])


@_block("the last receipt of a block is missing")
def _missing_receipt(_: Json, receipts: list[Json]) -> None:
    del receipts[-1:]


@_block("the last transaction of a block is missing, and its receipt")
def _missing_transaction(block: Json, receipts: list[Json]) -> None:
    del block["transactions"][-1:], receipts[-1:]


@_block("every transaction has failed though there are logs, and gas is garbage; the blooms hold")
def _garbage_receipts(_: Json, receipts: list[Json]) -> None:
    for receipt in receipts:
        receipt |= {"status": "0x0", "gasUsed": "0x1", "cumulativeGasUsed": hex(2**64 - 1)}


@_block("the status of a block's last transaction is the opposite; all else holds")
def _flipped_status(_: Json, receipts: list[Json]) -> None:
    for receipt in receipts[-1:]:
        receipt["status"] = "0x0" if receipt["status"] == "0x1" else "0x1"


@_block("a block names another parent")
def _wrong_parent(block: Json, _: list[Json]) -> None:
    block["parentHash"] = changed_hex(block["parentHash"], -1)


@_block("a block that must exist is null, its receipts too")
def _null_block(block: Json, _: list[Json]) -> None:
    block.clear()


def _middle(receipts: list[Json]) -> list[tuple[Json, int]]:
    """The receipt with a block's middle log and where it is there, if the block has any."""
    places = logs_of(receipts)
    return places[len(places) // 2 :][:1]


# --- what contracts return -----------------------------------------------------------------------


@_answer("eth_call says that a token has one decimal more than it has")
def _lying_call(data: bytes, answer: bytes) -> bytes:
    if data[:4] != _DECIMALS or not answer:
        return answer
    return (int.from_bytes(answer, "big") + 1).to_bytes(len(answer), "big")


# --- batches -------------------------------------------------------------------------------------


@_batch(f"a batch of more than {BATCH_LIMIT} is refused with one error in a list, as by geth")
def _batch_refused(calls: Batch, answer: Replies) -> list[bytes]:
    if len(calls) <= BATCH_LIMIT:
        return answer()
    first = next((call.get("id") for call in calls if isinstance(call, dict)), None)
    return [RpcError(-32600, "batch too large").reply(first)]


@_batch(f"a batch of more than {BATCH_LIMIT} is refused with status 413")
def _batch_413(calls: Batch, answer: Replies) -> list[bytes]:
    if len(calls) > BATCH_LIMIT:
        raise HTTPException(413)
    return answer()


@_batch("any batch is refused, with an error that is not in a list")
def _batch_unsupported(_: Batch, __: Replies) -> list[bytes]:
    raise RpcError(-32600, "batch requests are not supported")


@_batch("the replies of a batch are in the opposite order")
def _batch_reversed(_: Batch, answer: Replies) -> list[bytes]:
    return answer()[::-1]


@_batch("the last reply of a batch is missing")
def _batch_short(_: Batch, answer: Replies) -> list[bytes]:
    return answer()[:-1]
