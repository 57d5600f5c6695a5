"""A node of the chain by the documented wire format, and by recorded replies of geth."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_hash.auto import keccak

from crypto_assets.catalog import Catalog
from crypto_assets.sandbox import create_app, transport
from crypto_assets.sandbox.chain_calls import USDC, WETH
from crypto_assets.sandbox.chain_world import branch

from .chain_truth import FIRST, PLAIN, Json, block_of

URL = "http://sandbox/ethereum"
HEAD = FIRST + 9_999
ABSENT = "0x" + "00" * 31 + "01"
TRANSFER = f"0x{keccak(b'Transfer(address,address,uint256)').hex()}"
APPROVAL = f"0x{keccak(b'Approval(address,address,uint256)').hex()}"
PAIRS = "ethereum/execution_apis_io"


@pytest.fixture(scope="module")
def node() -> Iterator[httpx.Client]:
    app = transport(create_app(Catalog(()), chain=PLAIN))
    with httpx.Client(transport=app, timeout=60) as client:  # the first `latest` takes 2 s
        yield client


def reply_of(client: httpx.Client, method: str, *params: Any) -> Json:
    body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": list(params)}
    response = client.post(URL, json=body)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    reply: Json = response.json()
    assert (reply["jsonrpc"], reply["id"]) == ("2.0", 7)
    return reply


def call(client: httpx.Client, method: str, *params: Any) -> Any:
    return reply_of(client, method, *params)["result"]


def error(client: httpx.Client, method: str, *params: Any) -> tuple[int, str]:
    (kept,) = (
        value for name, value in reply_of(client, method, *params).items() if name == "error"
    )
    return kept["code"], kept["message"]


def recorded(realdata: Path, name: str) -> Json:
    """The reply of a pair of execution-apis."""
    (line,) = (
        line for line in (realdata / PAIRS / name).read_text().splitlines() if line[:2] == "<<"
    )
    reply: Json = json.loads(line[3:])
    return reply


# --- what is right -------------------------------------------------------------------------------


def test_plain_values(node: httpx.Client) -> None:
    assert call(node, "eth_chainId") == "0x1"
    assert call(node, "eth_blockNumber") == hex(HEAD)
    assert call(node, "web3_clientVersion").startswith("Sandbox/")
    assert call(node, "eth_call", {"to": ABSENT[:42], "data": "0x"}, "latest") == "0x"


def test_blocks_by_number_and_hash(node: httpx.Client) -> None:
    block, receipts = block_of(FIRST + 5)
    brief = block | {"transactions": [one["hash"] for one in block["transactions"]]}
    number = hex(FIRST + 5)
    assert call(node, "eth_getBlockByNumber", number, True) == block
    assert call(node, "eth_getBlockByNumber", number, False) == brief
    assert call(node, "eth_getBlockByHash", block["hash"], True) == block
    assert call(node, "eth_getBlockByHash", block["hash"].upper().replace("X", "x"), False) == brief
    assert call(node, "eth_getBlockReceipts", number) == receipts
    assert call(node, "eth_getBlockReceipts", block["hash"]) == receipts


@pytest.mark.parametrize(
    ("tag", "number"),
    [("earliest", FIRST), ("latest", HEAD), ("safe", HEAD - 32), ("finalized", HEAD - 64)],
)
def test_tags(node: httpx.Client, tag: str, number: int) -> None:
    assert call(node, "eth_getBlockByNumber", tag, False)["number"] == hex(number)
    assert all(one["blockNumber"] == hex(number) for one in call(node, "eth_getBlockReceipts", tag))


def test_transactions_and_their_receipts(node: httpx.Client) -> None:
    block, receipts = block_of(FIRST + 5)
    for sent, receipt in zip(block["transactions"], receipts, strict=True):
        assert call(node, "eth_getTransactionByHash", sent["hash"]) == sent
        assert call(node, "eth_getTransactionReceipt", sent["hash"]) == receipt


def test_what_there_is_not_is_null(node: httpx.Client) -> None:
    block, _ = block_of(FIRST + 5)
    for number in (0, FIRST - 1, HEAD + 1):
        assert call(node, "eth_getBlockByNumber", hex(number), True) is None
        assert call(node, "eth_getBlockReceipts", hex(number)) is None
    assert call(node, "eth_getBlockReceipts", ABSENT) is None
    assert call(node, "eth_getBlockByHash", ABSENT, True) is None
    assert call(node, "eth_getBlockByHash", block["transactions"][0]["hash"], True) is None
    for method in ("eth_getTransactionByHash", "eth_getTransactionReceipt"):
        assert call(node, method, ABSENT) is None
        assert call(node, method, block["hash"]) is None


def test_the_head_moves(node: httpx.Client) -> None:
    app = create_app(Catalog(()), chain=PLAIN)
    app.state.nodes["ethereum"].head = FIRST + 100
    with httpx.Client(transport=transport(app)) as client:
        assert call(client, "eth_blockNumber") == hex(FIRST + 100)
        finalized = call(client, "eth_getBlockByNumber", "finalized", False)
        assert finalized["number"] == hex(FIRST + 36)
        assert call(client, "eth_getBlockByNumber", hex(FIRST + 101), False) is None
        unborn = f"0x{branch(PLAIN).hash(FIRST + 101).hex()}"
        assert call(client, "eth_getBlockByHash", unborn, False) is None
        app.state.nodes["ethereum"].head += 1
        assert call(client, "eth_getBlockByHash", unborn, False)["number"] == hex(FIRST + 101)


def test_the_second_node_has_the_same_chain(node: httpx.Client) -> None:
    body = {
        "jsonrpc": "2.0",
        "id": 7,
        "method": "eth_getBlockByNumber",
        "params": ["0x1484ee5", True],
    }
    assert node.post(f"{URL}-b", json=body).content == node.post(URL, json=body).content


# --- logs ----------------------------------------------------------------------------------------


def logs_between(first: int, last: int) -> list[Json]:
    return [
        log
        for number in range(first, last + 1)
        for receipt in block_of(number)[1]
        for log in receipt["logs"]
    ]


def test_logs_of_a_range_a_block_and_the_newest(node: httpx.Client) -> None:
    span = {"fromBlock": hex(FIRST), "toBlock": hex(FIRST + 50)}
    assert call(node, "eth_getLogs", span) == logs_between(FIRST, FIRST + 50)
    block, _ = block_of(FIRST + 5)
    assert call(node, "eth_getLogs", {"blockHash": block["hash"]}) == logs_between(
        FIRST + 5, FIRST + 5
    )
    assert call(node, "eth_getLogs", {}) == logs_between(HEAD, HEAD)
    assert call(node, "eth_getLogs", {"fromBlock": "safe", "toBlock": "latest"}) == logs_between(
        HEAD - 32, HEAD
    )


def test_logs_of_addresses_and_topics(node: httpx.Client) -> None:
    span = {"fromBlock": "earliest", "toBlock": hex(FIRST + 200)}
    every = logs_between(FIRST, FIRST + 200)
    weth, usdc = (f"0x{token.address.hex()}" for token in (WETH, USDC))
    (receiver,) = {log["topics"][2] for log in every[:1]}

    def found(**wanted: Any) -> list[Json]:
        logs: list[Json] = call(node, "eth_getLogs", span | wanted)
        assert logs
        return logs

    of_weth = [log for log in every if log["address"] == weth]
    assert found(address=weth) == found(address=[weth.upper().replace("X", "x")]) == of_weth
    assert found(address=[weth, usdc]) == [log for log in every if log["address"] in (weth, usdc)]
    assert found(topics=[]) == found(address=[]) == found(topics=None) == every
    transfers = [log for log in every if log["topics"][:1] == [TRANSFER]]
    assert found(topics=[TRANSFER]) == found(topics=[[TRANSFER]]) == transfers
    assert found(topics=[[TRANSFER, APPROVAL]]) == [
        log for log in every if log["topics"] and log["topics"][0] in (TRANSFER, APPROVAL)
    ]
    received = [log for log in every if log["topics"][2:3] == [receiver]]
    assert found(topics=[None, None, receiver]) == received
    assert found(topics=[[], [], [receiver]]) == received
    assert found(topics=[None] * 4) == [log for log in every if len(log["topics"]) == 4]
    assert found(address=weth, topics=[TRANSFER]) == [log for log in of_weth if log in transfers]


# --- contracts -----------------------------------------------------------------------------------

SYMBOL, DECIMALS, SUPPLY = "0x95d89b41", "0x313ce567", "0x18160ddd"
OF_USDC = {"to": f"0x{USDC.address.hex()}", "data": DECIMALS}


def test_a_contract_is_called_at_any_block_with_state(node: httpx.Client) -> None:
    block, _ = block_of(FIRST + 5)
    at = [
        "latest", "finalized", "earliest", hex(FIRST), hex(HEAD), {"blockNumber": hex(FIRST)},
        {"blockHash": block["hash"]},
    ]  # fmt: skip
    assert {int(call(node, "eth_call", OF_USDC, one), 16) for one in at} == {6}
    assert int(call(node, "eth_call", OF_USDC), 16) == 6
    as_input = {"to": OF_USDC["to"].upper().replace("X", "x"), "input": SYMBOL, "gas": "0x1"}
    assert bytes.fromhex(call(node, "eth_call", as_input, "safe")[2:])[64:68] == b"USDC"
    supplies = {
        call(node, "eth_call", OF_USDC | {"data": SUPPLY}, hex(number))
        for number in range(FIRST, FIRST + 100)
    }
    assert len(supplies) > 5


def test_calls_without_an_answer(node: httpx.Client) -> None:
    assert call(node, "eth_call", {"to": ABSENT[:42], "data": DECIMALS}, "latest") == "0x"
    assert error(node, "eth_call", OF_USDC | {"data": "0x12345678"}, "latest") == (
        3, "execution reverted",
    )  # fmt: skip
    for number in (0, FIRST - 1):
        code, message = error(node, "eth_call", OF_USDC, hex(number))
        assert code == -32000
        assert message.startswith("missing trie node ")
        assert message.endswith(" is not available")
    for at in (hex(HEAD + 1), {"blockHash": ABSENT}):
        assert error(node, "eth_call", OF_USDC, at) == (-32000, "header not found")


# --- what is wrong -------------------------------------------------------------------------------

NUMBER_ERROR = "invalid argument 0: neither a block number in hex nor one of earliest, finalized, "
SPAN = {"fromBlock": hex(FIRST), "toBlock": hex(FIRST + 1)}


@pytest.mark.parametrize(
    ("method", "params", "code", "message"),
    [
        ("eth_mine", [], -32601, "the method eth_mine does not exist/is not available"),
        ("eth_getBlockByNumber", [], -32602, "missing value for required argument 0"),
        ("eth_getBlockByNumber", ["latest"], -32602, "missing value for required argument 1"),
        ("eth_getBlockByNumber", ["0x1", 1], -32602, "invalid argument 1: not a boolean"),
        ("eth_getBlockByNumber", ["newest", True], -32602, NUMBER_ERROR),
        ("eth_getBlockByNumber", [FIRST, True], -32602, NUMBER_ERROR),
        ("eth_getBlockByNumber", ["0x01", True], -32602, NUMBER_ERROR),
        ("eth_getBlockReceipts", ["21516000"], -32602, NUMBER_ERROR),
        ("eth_getBlockByHash", ["0x12", True], -32602, "invalid argument 0: not 32 bytes in hex"),
        ("eth_getTransactionReceipt", [None], -32602, "invalid argument 0: not 32 bytes in hex"),
        ("eth_call", ["0x"], -32602, "invalid argument 0: not a call object"),
        ("eth_call", [{"data": "0x"}], -32602, "invalid argument 0: not 20 bytes in hex"),
        ("eth_call", [OF_USDC | {"data": "0x1"}], -32602, "invalid argument 0: not bytes in hex"),
        ("eth_call", [OF_USDC, "newest"], -32602, "invalid argument 1: neither a block number"),
        ("eth_chainId", [1], -32602, "too many arguments, want at most 0"),
        ("eth_getLogs", ["latest"], -32602, "invalid argument 0: not a filter object"),
        ("eth_getLogs", [{"address": "0x1"}], -32602, "invalid argument 0: not 20 bytes in hex"),
        ("eth_getLogs", [{"topics": [5]}], -32602, "invalid argument 0: not 32 bytes in hex"),
        ("eth_getLogs", [{"topics": [None] * 5}], -32602, "invalid argument 0: topics are not a "),
        ("eth_getLogs", [{"topics": TRANSFER}], -32602, "invalid argument 0: topics are not a "),
        ("eth_getLogs", [{"blockHash": ABSENT}], -32000, "unknown block"),
        ("eth_getLogs", [SPAN | {"fromBlock": "0x0"}], 4444, "pruned history unavailable"),
        ("eth_getLogs", [SPAN | {"fromBlock": "latest"}], -32602, "invalid block range params"),
    ],
)
def test_errors(
    node: httpx.Client, method: str, params: list[Any], code: int, message: str
) -> None:
    actual, text = error(node, method, *params)
    assert (actual, text[: len(message)]) == (code, message)


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b"{", -32700, "parse error"),
        (b"", -32700, "parse error"),
        (b"7", -32600, "invalid request"),
        (b'{"jsonrpc":"2.0","id":1}', -32600, "invalid request"),
        (b"[]", -32600, "empty batch"),
    ],
)
def test_what_is_no_call(node: httpx.Client, body: bytes, code: int, message: str) -> None:
    assert node.post(URL, content=body).json() == {
        "jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message},
    }  # fmt: skip


def test_parameters_by_name_are_refused_and_get_is_not_allowed(node: httpx.Client) -> None:
    body = {"jsonrpc": "2.0", "id": 7, "method": "eth_chainId", "params": {"a": 1}}
    assert node.post(URL, json=body).json()["error"]["message"] == "non-array args"
    assert node.get(URL).status_code == 405


def test_a_batch_is_answered_call_by_call(node: httpx.Client) -> None:
    calls = [
        {"jsonrpc": "2.0", "id": "x", "method": "eth_chainId"},
        {"jsonrpc": "2.0", "id": 0, "method": "eth_nothing", "params": []},
        7,
        {"jsonrpc": "2.0", "id": None, "method": "eth_getBlockByNumber", "params": ["0x1", True]},
    ]
    replies = node.post(URL, json=calls).json()
    assert [reply["id"] for reply in replies] == ["x", 0, None, None]
    assert replies[0]["result"] == "0x1"
    assert [reply["error"]["code"] for reply in replies[1:3]] == [-32601, -32600]
    assert replies[3]["result"] is None
    many = [calls[0] | {"id": at} for at in range(1000)]
    assert [reply["id"] for reply in node.post(URL, json=many).json()] == list(range(1000))


# --- as geth has it ------------------------------------------------------------------------------


def test_blocks_receipts_and_logs_have_the_fields_of_geth(
    node: httpx.Client, realdata: Path
) -> None:
    theirs = recorded(realdata, "eth_getBlockByNumber/get-latest.io")["result"]
    blocks = [call(node, "eth_getBlockByNumber", hex(FIRST + at), True) for at in range(40)]
    assert {tuple(sorted(block)) for block in blocks} == {tuple(sorted(theirs))}
    (legacy,) = {tuple(sorted(one)) for one in theirs["transactions"]}
    ours = [one for block in blocks for one in block["transactions"]]
    assert {tuple(sorted(one)) for one in ours if one["type"] == "0x0"} == {legacy}

    (theirs,) = {
        tuple(sorted(one))
        for one in recorded(realdata, "eth_getBlockReceipts/get-block-receipts-latest.io")["result"]
    }
    receipts = [one for at in range(40) for one in block_of(FIRST + at)[1]]
    assert {tuple(sorted(one)) for one in receipts if one["type"] != "0x3"} == {theirs}

    (theirs,) = {
        tuple(sorted(log)) for log in recorded(realdata, "eth_getLogs/contract-addr.io")["result"]
    }
    assert {tuple(sorted(log)) for one in receipts for log in one["logs"]} == {theirs}


def test_typed_transactions_have_the_fields_of_mainnet(realdata: Path) -> None:
    path = realdata / "ethereum/rpc_blocks/contiguous_22431080_22431090/22431084.json"
    mainnet, ours = (
        {one["type"]: {*one} - {"blockTimestamp"} for one in transactions}
        for transactions in (
            json.loads(path.read_text())["transactions"],
            [one for at in range(300) for one in block_of(FIRST + at)[0]["transactions"]],
        )
    )
    ours["0x0"].discard("chainId")  # this node gives none of the first type
    assert mainnet == {kind: ours[kind] for kind in mainnet}
    assert {"0x0", "0x2", "0x3"} <= set(mainnet)


@pytest.mark.parametrize(
    ("name", "method", "params"),
    [
        ("eth_getBlockByNumber/get-block-notfound.io", "eth_getBlockByNumber", ["0x3e8", True]),
        ("eth_getBlockReceipts/get-block-receipts-future.io", "eth_getBlockReceipts", ["0x37"]),
        ("eth_getBlockReceipts/get-block-receipts-not-found.io", "eth_getBlockReceipts", [ABSENT]),
        (
            "eth_getLogs/filter-error-future-block-range.io",
            "eth_getLogs",
            [{"fromBlock": hex(HEAD), "toBlock": hex(HEAD + 1)}],
        ),
        (
            "eth_getLogs/filter-error-invalid-blockHash-and-range.io",
            "eth_getLogs",
            [{"blockHash": ABSENT, "fromBlock": "0x3", "toBlock": "0x4"}],
        ),
    ],
)
def test_replies_are_those_of_geth(
    node: httpx.Client, realdata: Path, name: str, method: str, params: list[Any]
) -> None:
    assert reply_of(node, method, *params) | {"id": 1} == recorded(realdata, name)
