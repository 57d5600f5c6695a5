"""The face of an EVM chain's node in the sandbox: JSON-RPC 2.0 over POST, single calls and batches.

https://ethereum.github.io/execution-apis, errors worded as by geth. What is on the chain comes from
`chain_world`, what is broken on purpose from `faults`. Blocks below the first are pruned: null,
without logs and without state. A call of a contract is answered by the chain's `answers`, on any
branch alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from crypto_assets.sandbox.chain_faults import (
    LOGS_SPAN,
    AnswerFault,
    Batch,
    BatchFault,
    BlockFault,
    CallFault,
    Json,
    LogsFault,
    Replies,
    RpcError,
)
from crypto_assets.sandbox.chain_world import Block, ChainSpec, branch
from crypto_assets.sandbox.faults import Faults, Part, Target
from crypto_assets.sources.trie import keccak256

BLOCKS = 10_000
SAFE_BEHIND, FINALIZED_BEHIND = 32, 64
_INVALID_PARAMS, _REVERTED = -32602, 3
_TOPICS = 4
_BOTH = "cannot specify both BlockHash and FromBlock/ToBlock, choose one or the other"

_decode = msgspec.json.decode


class Node:
    """One node: how far it is, what it answers, and where it lies.

    While it runs, `head` may be moved, and `altered` given a function by block number that changes
    the block and its receipts in place, as JSON, each time before it is shown.
    """

    def __init__(self, name: str, spec: ChainSpec, faults: Faults) -> None:
        self.name = name
        self.head = spec.first + BLOCKS - 1
        self.altered: dict[int, Callable[[Json, list[Json]], object]] = {}
        self._spec = spec
        self._faults = faults

    def route(self) -> Route:
        """Its address, the path of which is its name."""

        async def endpoint(request: Request) -> Response:
            return await run_in_threadpool(self._respond, await request.body())

        return Route(f"/{self.name}", endpoint, methods=["POST"])

    def chain_id(self) -> str:
        """Which chain."""
        return hex(self._spec.chain_id)

    def block_number(self) -> str:
        """The number of the newest block."""
        return hex(self.head)

    def block_by_number(self, at: Any, full: Any) -> Any:
        """A block, or null."""
        return _block(self._view("eth_getBlockByNumber", self._number(at)), full)

    def block_by_hash(self, block_hash: Any, full: Any) -> Any:
        """A block of the branch that this node is on, or null."""
        found = self._view("eth_getBlockByHash", self._find(block_hash))
        if found is None or _decode(found.block)["hash"] != block_hash.lower():
            return None
        return _block(found, full)

    def block_receipts(self, at: Any) -> Any:
        """The receipts of a block by number, tag or hash, or null."""
        number = self._find(at) if isinstance(at, str) and len(at) == 66 else self._number(at)
        found = self._view("eth_getBlockReceipts", number)
        return None if found is None else msgspec.Raw(found.receipts)

    def receipt(self, transaction: Any) -> Any:
        """The receipt of a transaction, or null."""
        found = self._view("eth_getTransactionReceipt", self._find(transaction))
        receipts = [] if found is None else _decode(found.receipts)
        return next(
            (one for one in receipts if one["transactionHash"] == transaction.lower()), None
        )

    def transaction(self, transaction: Any) -> Any:
        """A transaction, or null."""
        found = self._view("eth_getTransactionByHash", self._find(transaction))
        transactions = [] if found is None else _decode(found.block)["transactions"]
        return next((one for one in transactions if one["hash"] == transaction.lower()), None)

    def logs(self, wanted: Any) -> Any:
        """The logs of a range or of one block, of given addresses and topics."""
        if not isinstance(wanted, dict):
            raise _invalid(0, "not a filter object")
        first, last = self._span(wanted)
        addresses = _hex_set(wanted.get("address"), 20)
        topics = _topics(wanted.get("topics"))
        if last - first >= LOGS_SPAN:
            for fault in self._faults.struck(LogsFault, self._target("eth_getLogs")):
                suggested = {"first": hex(first), "last": hex(first + LOGS_SPAN - 1)}
                raise RpcError(fault.code, fault.message.format(**suggested))
        views = (self._view("eth_getLogs", number) for number in range(first, last + 1))
        return [
            log
            for view in views
            if view is not None
            for receipt in _decode(view.receipts)
            for log in receipt["logs"]
            if (not addresses or log["address"] in addresses) and _has(log["topics"], topics)
        ]

    def call(self, wanted: Any, at: Any = "latest") -> str:
        """What a contract returns to a call after a block, given by number, tag or hash."""
        if not isinstance(wanted, dict):
            raise _invalid(0, "not a call object")
        to = _hex(wanted.get("to"), 20)
        data = _any_hex(wanted.get("input") or wanted.get("data") or "0x")
        number = self._state(at)
        target = self._target("eth_call", number)
        answer = self._spec.answers(to, data, number)
        if answer is None:
            raise RpcError(_REVERTED, "execution reverted")
        for fault in self._faults.struck(AnswerFault, target):
            answer = fault.act(data, answer)
        return f"0x{answer.hex()}"

    # --- what every call goes through ------------------------------------------------------------

    def _respond(self, body: bytes) -> Response:
        try:
            asked = _decode(body)
        except msgspec.DecodeError:
            return _json(RpcError(-32700, "parse error").reply(None))
        method = str(asked.get("method")) if isinstance(asked, dict) else "batch"
        return self._faults.reply(self._target(method), lambda: _json(self._answer(asked)))

    def _answer(self, asked: Any) -> bytes:
        if not isinstance(asked, list):
            return self._reply(asked)
        answer: Replies = partial(self._replies, asked)
        for fault in self._faults.struck(BatchFault, self._target("batch")):
            answer = partial(fault.act, asked, answer)
        try:
            return b"[" + b",".join(answer()) + b"]"
        except RpcError as error:
            return error.reply(None)

    def _replies(self, calls: Batch) -> list[bytes]:
        if not calls:
            raise RpcError(-32600, "empty batch")
        return [self._reply(call) for call in calls]

    def _reply(self, call: Any) -> bytes:
        match call:
            case {"method": str(method), "id": call_id}:
                try:
                    result = self._result(method, call.get("params") or [])
                except RpcError as error:
                    return error.reply(call_id)
                return msgspec.json.encode({"jsonrpc": "2.0", "id": call_id, "result": result})
        return RpcError(-32600, "invalid request").reply(None)

    def _result(self, method: str, params: Any) -> Any:
        if method not in _METHODS:
            raise RpcError(-32601, f"the method {method} does not exist/is not available")
        content, least, most = _METHODS[method]
        if not isinstance(params, list):
            raise RpcError(_INVALID_PARAMS, "non-array args")
        if len(params) < least:
            raise RpcError(_INVALID_PARAMS, f"missing value for required argument {len(params)}")
        if len(params) > most:
            raise RpcError(_INVALID_PARAMS, f"too many arguments, want at most {most}")
        for fault in self._faults.struck(CallFault, self._target(method)):
            if not fault.methods or method in fault.methods:
                raise RpcError(fault.code, fault.message)
        return content(self, *params)

    def _target(self, method: str, number: int | None = None) -> Target:
        address = f"{self.name}/{method}" + ("" if number is None else f"/{number}")
        return Target(address, Part.RPC, method, self.name, block=number)

    # --- the chain as this node has it -----------------------------------------------------------

    def _view(self, method: str, number: int | None) -> Block | None:
        if number is None or not self._spec.first <= number <= self.head:
            return None
        sound = branch(self._spec, self._fork(number)).block(number)
        changes = [one.act for one in self._faults.struck(BlockFault, self._target(method, number))]
        if number in self.altered:
            changes.append(self.altered[number])
        if not changes:
            return sound
        block, receipts = _decode(sound.block), _decode(sound.receipts)
        for change in changes:
            change(block, receipts)
            if not block:
                return None
        return Block(msgspec.json.encode(block), msgspec.json.encode(receipts))

    def _fork(self, number: int) -> int | None:
        """Where the branch begins that this node has the block of; None for the trunk."""
        for first, last in self._faults.reorgs(self.name):
            if first <= number <= last:
                return max(first, self._spec.first)
        return None

    def _find(self, wanted: Any) -> int | None:
        """The block of that hash, or with a transaction of that hash."""
        data = _hex(wanted, 32)
        forks = [max(first, self._spec.first) for first, _ in self._faults.reorgs(self.name)]
        for fork in (None, *forks):
            number = branch(self._spec, fork).number_of(data, self.head)
            if number is not None:  # no other branch has it
                return number if self._fork(number) == fork else None
        return None

    def _number(self, at: Any, argument: int = 0) -> int:
        """A block parameter: a tag, or a number in hex. It may be one that does not exist."""
        tags = {
            "earliest": self._spec.first,
            "finalized": max(self._spec.first, self.head - FINALIZED_BEHIND),
            "safe": max(self._spec.first, self.head - SAFE_BEHIND),
            "latest": self.head,
        }
        if isinstance(at, str) and re.fullmatch("0x(0|[1-9a-f][0-9a-f]{0,15})", at.lower()):
            return int(at, 16)
        if not isinstance(at, str) or at not in tags:
            raise _invalid(argument, f"neither a block number in hex nor one of {', '.join(tags)}")
        return tags[at]

    def _state(self, at: Any) -> int:
        """A block parameter of a call: of a block whose state this node has (EIP-1898)."""
        match at:
            case {"blockHash": wanted}:
                number = self._find(wanted)
            case {"blockNumber": wanted}:
                number = self._number(wanted, 1)
            case _:
                number = self._number(at, 1)
        if number is None or number > self.head:
            raise RpcError(-32000, "header not found")
        if number < self._spec.first:
            root = keccak256(f"state {number}".encode()).hex()
            raise RpcError(
                -32000, f"missing trie node {root} (path ) state 0x{root} is not available"
            )
        return number

    def _span(self, wanted: Json) -> tuple[int, int]:
        """The first and the last block of a filter."""
        if "blockHash" in wanted:
            if "fromBlock" in wanted or "toBlock" in wanted:
                raise _invalid(0, _BOTH)
            number = self._find(wanted["blockHash"])
            if number is None:
                raise RpcError(-32000, "unknown block")
            return number, number
        first, last = (
            self._number(wanted.get(key) or "latest") for key in ("fromBlock", "toBlock")
        )
        if first > last:
            raise RpcError(_INVALID_PARAMS, "invalid block range params")
        if last > self.head:
            raise RpcError(_INVALID_PARAMS, "block range extends beyond current head block")
        if first < self._spec.first:
            raise RpcError(4444, "pruned history unavailable")
        return first, last


# By name: what it does, and how many parameters it takes at least and at most.
_METHODS: dict[str, tuple[Callable[..., Any], int, int]] = {
    "eth_chainId": (Node.chain_id, 0, 0),
    "eth_blockNumber": (Node.block_number, 0, 0),
    "eth_getBlockByNumber": (Node.block_by_number, 2, 2),
    "eth_getBlockByHash": (Node.block_by_hash, 2, 2),
    "eth_getBlockReceipts": (Node.block_receipts, 1, 1),
    "eth_getTransactionReceipt": (Node.receipt, 1, 1),
    "eth_getTransactionByHash": (Node.transaction, 1, 1),
    "eth_getLogs": (Node.logs, 1, 1),
    "eth_call": (Node.call, 1, 2),
    "web3_clientVersion": (lambda _: "Sandbox/v1", 0, 0),
}


def _block(found: Block | None, full: Any) -> Any:
    if not isinstance(full, bool):
        raise _invalid(1, "not a boolean")
    if found is None or full:
        return None if found is None else msgspec.Raw(found.block)
    block = _decode(found.block)
    block["transactions"] = [one["hash"] for one in block["transactions"]]
    return block


def _topics(wanted: Any) -> list[set[str]]:
    """Of each position, which topics will do; an empty set: any."""
    if not isinstance(wanted, list | None) or len(wanted or []) > _TOPICS:
        raise _invalid(0, f"topics are not a list of at most {_TOPICS}")
    return [_hex_set(topic, 32) for topic in wanted or []]


def _has(topics: list[str], wanted: list[set[str]]) -> bool:
    return len(topics) >= len(wanted) and all(
        not any_of or topic in any_of for topic, any_of in zip(topics, wanted, strict=False)
    )


def _hex_set(wanted: Any, size: int) -> set[str]:
    """One value or several, of which any will do; none: anything."""
    values = wanted if isinstance(wanted, list) else [] if wanted is None else [wanted]
    return {f"0x{_hex(value, size).hex()}" for value in values}


def _hex(value: Any, size: int) -> bytes:
    if not isinstance(value, str) or not re.fullmatch(f"0x[0-9a-fA-F]{{{2 * size}}}", value):
        raise _invalid(0, f"not {size} bytes in hex with prefix 0x")
    return bytes.fromhex(value[2:])


def _any_hex(value: Any) -> bytes:
    if not isinstance(value, str) or not re.fullmatch("0x([0-9a-fA-F]{2})*", value):
        raise _invalid(0, "not bytes in hex with prefix 0x")
    return bytes.fromhex(value[2:])


def _invalid(argument: int, why: str) -> RpcError:
    return RpcError(_INVALID_PARAMS, f"invalid argument {argument}: {why}")


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")
