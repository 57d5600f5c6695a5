"""What real refusals of nodes and providers mean."""

from __future__ import annotations

from typing import Any

import pytest

from crypto_assets.errors import (
    AskedTooMuchError,
    BlockMissingError,
    CallRevertedError,
    FinalityUnknownError,
    HistoryPrunedError,
    MethodMissingError,
    RateLimitedError,
    RpcRefusedError,
    ServerFaultError,
    SourceError,
)
from crypto_assets.sources.evm_refusals import RpcError, judge_refusal

# Refusals of an eth_getLogs over 20,000 blocks, and how many blocks they leave (None: unsaid).
TOO_WIDE: list[tuple[int, str, Any, int | None]] = [
    (-32602, "Log response size exceeded. You can make eth_getLogs requests with up to a 2K block "
     "range and no limit on the response size, or you can request any block range with a cap of "
     "10K logs in the response. Based on your parameters and the response size limit, this block "
     "range should work: [0x0, 0x3e7]", None, 1000),
    (-32600, "You can make eth_getLogs requests with up to a 10 block range. Based on your "
     "parameters, this block range should work: [0x18b0000, 0x18b0009]", None, 10),
    (-32005, "query returned more than 10000 results. Try with this block range [0x10, 0x1F].",
     {"from": "0x10", "limit": 10000, "to": "0x1F"}, 16),
    (-32602, "invalid params", "Query returned more than 50000 results. Try with this block range "
     "[0x1000000, 0x1000fff].", 4096),
    (-32602, "Invalid params", "requested block range 16777217 exceeds the limit of 200; narrow "
     "your fromBlock/toBlock", 200),
    (-32614, "eth_getLogs is limited to a 10,000 range", None, 10_000),
    (-32614, "eth_getLogs is limited to a 5 range", None, 5),
    (-32000, "eth_getLogs is limited to a 1000 blocks range", None, 1000),
    (-32602, "eth_getLogs is limited to 0 - 50 blocks range", None, 50),
    (-32000, "eth_getLogs is limited to 1024 block range. Please check the parameter requirements",
     None, 1024),
    (-32600, "block range is too wide", None, None),
    (-32000, "block range is too wide (maximum 1024)", None, 1024),
    (-32047, "Invalid eth_getLogs request. 'fromBlock'-'toBlock' range too large. Max range: 800",
     None, 800),
    (-32000, "Block range limit exceeded. See more details at https://docs.chainstack.com/docs/"
     "limits#evm-range-limits", None, None),
    (-32000, "please limit the query to at most 1000 blocks", None, 1000),
    (-32701, "exceed maximum block range: 5000", None, 5000),
    (-32000, "block range too large, max range: 10000", None, 10_000),
    (-32602, "query exceeds range, retry smaller (max block range 5000, got 16777216)", None, 5000),
    (-32602, "query exceeds max block range 1000", None, 1000),
    (-32602, "block range greater than 10000 max", None, 10_000),
    (-32000, "block range exceeds 1000", None, 1000),
    (-32602, "range 47440 exceeds limit of 10000", None, 10_000),
    (-32602, "invalid params", {"payload": "range 9009594 is bigger than range limit 2000"}, 2000),
    (-32000, "requested too many blocks from 50331648 to 51380224, maximum is set to 2048", None,
     2048),
    (-32000, "eth_getLogs range is too large, max is 1k blocks", None, 1000),
    (-32000, "eth_getLogs range is too large, max is 10k blocks", None, 10_000),
    (-32000, "maximum [from, to] blocks distance: 2000", None, 2000),
    (-32000, "too wide blocks range, the limit is 100", None, 100),
    (-32000, "GetLogs query must be smaller than size 1024", None, 1024),
    (-32005, "Maximum allowed number of requested blocks is 10000", None, 10_000),
    (-32600, "exceeds the range allowed for your plan (20000 > 3500)", None, 3500),
    (35, "ranges over 10000 blocks are not supported on freetier", None, 10_000),
    (-32000, "logs matched by query exceeds limit of 10000", None, None),
    (-32000, "query returned more than allowed number of logs, try with smaller block range", None,
     None),
    (-32000, "query exceeds max results 20000", None, None),
    (-32000, "response size should not greater than 10000000 bytes", None, None),
    (-32000, "backend response too large", None, None),
    (-32000, "query timeout exceeded", None, None),
    (-32005, "limit exceeded", None, None),
]  # fmt: skip

# Refusals of a batch of 500, and how many calls they leave.
BATCH_TOO_LARGE: list[tuple[int, str, Any, int | None]] = [
    (-32600, "batch too large", None, None),
    (-32000, "batch limit 100 exceeded (can increase by --rpc.batch.limit). Requested batch of "
     "size: 401", None, 100),
    (-32000, "batch limit 100 exceeded: 142 requests given", None, 100),
    (-32005, "Batch size limit exceeded", None, None),
    (-32005, "Batched requests are not supported by this server", None, None),
    (-32010, "The batch request was too large", "Exceeded max limit of 50", 50),
    (-32011, "The batch response was too large", "Exceeded max limit of 26214400", None),
    (31, "Batch of more than 3 requests are not allowed on free tier", None, 3),
    (-32600, "maximum batch size: 20", None, 20),
    (-32003, "response too large", None, None),
    (-32008, "Response is too big", "Exceeded max limit of 10", None),
    (-32005, "limit exceeded", None, None),
]  # fmt: skip

OTHERS: list[tuple[Any, str, type[SourceError]]] = [
    (429, "Too Many Requests", RateLimitedError),
    (429, "Your app has exceeded its compute units per second capacity", RateLimitedError),
    (-32005, "daily request count exceeded, request rate limited", RateLimitedError),
    (-32005, "rate limit exceeded", RateLimitedError),
    (-32005, "limit exceeded", RateLimitedError),
    (-32007, "50/second request limit reached - reduce calls per second", RateLimitedError),
    (-32000, "requests are limited to a maximum of 10 per second", RateLimitedError),
    (-32000, "limited to a rate of 25 range queries", RateLimitedError),
    (-32005, "batch limit: 100 requests per second", RateLimitedError),
    (-32029, "Too many requests, block range queries need a plan", RateLimitedError),
    (4444, "pruned history unavailable", HistoryPrunedError),
    (-32000, "history has been pruned for this block", HistoryPrunedError),
    (-32602, "Archive requests require a personal token", HistoryPrunedError),
    (-39001, "Unknown block", FinalityUnknownError),
    (-32000, "finalized block not found", FinalityUnknownError),
    (-32601, "the method eth_getBlockReceipts does not exist/is not available", MethodMissingError),
    (-32600, "Unsupported method: eth_getBlockReceipts on ETH_MAINNET", MethodMissingError),
    (-32000, "header not found", BlockMissingError),
    (-32602, "block range extends beyond current head block", BlockMissingError),
    (-32603, "Internal error", ServerFaultError),
    (-32002, "request timed out", ServerFaultError),
    (-32000, "upstream connect error", ServerFaultError),
    (3, "RPC Request failed.", RpcRefusedError),
    (None, "", RpcRefusedError),
    ("x", "weird", RpcRefusedError),
]


def judged(code: Any, message: Any, data: Any = None, **asked: int) -> SourceError:
    return judge_refusal(RpcError(code, message, data), "https://node.test: it", **asked)


@pytest.mark.parametrize(("code", "message", "data", "limit"), TOO_WIDE)
def test_too_wide_a_range_is_told_from_the_text(
    code: int, message: str, data: Any, limit: int | None
) -> None:
    error = judged(code, message, data, blocks=20_000)
    assert isinstance(error, AskedTooMuchError)
    assert error.limit == limit
    assert str(error).startswith("https://node.test: it is refused: ")


@pytest.mark.parametrize(("code", "message", "data", "limit"), BATCH_TOO_LARGE)
def test_too_large_a_batch_is_told_from_the_text(
    code: int, message: str, data: Any, limit: int | None
) -> None:
    error = judged(code, message, data, calls=500)
    assert isinstance(error, AskedTooMuchError)
    assert error.limit == limit


@pytest.mark.parametrize(("code", "message", "kind"), OTHERS)
@pytest.mark.parametrize("asked", [{}, {"calls": 50}, {"blocks": 2000}], ids=str)
def test_any_other_refusal_has_its_name(
    code: Any, message: str, kind: type[SourceError], asked: dict[str, int]
) -> None:
    error = judged(code, message, **asked)
    if message == "limit exceeded" and asked:
        assert isinstance(error, AskedTooMuchError)  # which of the two it is shows when asking less
    else:
        assert type(error) is kind


def test_limit_that_the_request_was_not_above_is_none() -> None:
    error = judged(-32000, "exceed maximum block range: 5000", blocks=5000)
    assert isinstance(error, AskedTooMuchError)
    assert error.limit is None
    assert judged(-32614, "eth_getLogs is limited to a 0 range", blocks=10).limit is None  # type: ignore[attr-defined]


def test_message_and_data_may_be_of_any_type() -> None:
    assert "{'a': [1]}" in str(judged(1, None, {"a": [1]}))
    assert len(str(judged(1, "x" * 5000))) < 600


@pytest.mark.parametrize(
    ("code", "message", "data"),
    [
        (3, "execution reverted", "0x"),
        (3, "execution reverted: rate limit exceeded, too many requests", None),
        (-32000, "execution reverted", None),
        (-32000, "Execution reverted: archive not available", None),
        (-32000, "err: execution reverted: caller is busy", None),
        (-32015, "VM execution error.", "Reverted 0x"),
        (-32000, "VM Exception while processing transaction: revert", None),
        (-32000, "invalid opcode: opcode 0xfe not defined", None),
        (-32000, "invalid opcode: INVALID", None),
        (-32000, "invalid jump destination", None),
        (-32000, "stack underflow (0 <=> 1)", None),
        (-32000, "out of gas", None),
        (-32003, "EVM error: InvalidFEOpcode", None),
        (-32003, "EVM error: StackUnderflow", None),
        (-32603, "EVM error OpcodeNotFound", None),
        (-32603, "EVM error MemoryOOG", None),
        (-32003, "out of gas: gas required exceeds: 10000000", None),
        (-32000, "write protection", None),
        (-32000, "gas uint64 overflow", None),
        (-32000, "return data out of bounds", None),
        (-32000, "transaction reverted", None),
    ],
)
@pytest.mark.parametrize("calls", [1, 50])
def test_a_contract_that_has_no_answer_is_no_fault_of_the_node(
    code: int, message: str, data: Any, calls: int
) -> None:
    error = judge_refusal(RpcError(code, message, data), "call", calls=calls)
    assert type(error) is CallRevertedError


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (-32002, "No state available for block 36600 (0x985a2c91d049da6d8f54533284bbc905ba89)"),
        (-32000, "missing trie node 1f3c (path ) state 0x1f3c is not available, not found"),
        (-32000, "required historical state unavailable (reexec=128)"),
        (-32000, "historical state 9b7c2f0e1d is not available"),
        (-32000, "state at block #100 is pruned"),
        (-32000, "World state unavailable"),
        (4444, "pruned history unavailable"),
    ],
)
def test_state_that_a_node_has_no_longer_is_history(code: int, message: str) -> None:
    assert type(judge_refusal(RpcError(code, message), "call", calls=3)) is HistoryPrunedError


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        (-32000, "execution aborted (timeout = 5s)", ServerFaultError),
        (-32603, "Internal error", ServerFaultError),
        (-32005, "daily request count exceeded, request rate limited", RateLimitedError),
        (3, "unknown account", RpcRefusedError),
        (-32000, "header not found", BlockMissingError),
    ],
)
def test_what_a_node_cannot_do_is_no_answer_of_a_contract(
    code: int, message: str, kind: type[SourceError]
) -> None:
    assert type(judge_refusal(RpcError(code, message), "call")) is kind
