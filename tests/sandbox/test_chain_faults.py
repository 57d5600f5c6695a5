"""Every fault of a node by its effect: on the claims of a block, or on the wire."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from crypto_assets.catalog import Catalog
from crypto_assets.errors import SettingsError
from crypto_assets.sandbox import create_app, transport
from crypto_assets.sandbox.chain_faults import (
    BATCH_LIMIT,
    CHAINED,
    LOGS_SPAN,
    BatchFault,
    BlockFault,
    CallFault,
    LogsFault,
)
from crypto_assets.sandbox.chain_tamper import tamper

from .chain_truth import FIRST, PLAIN, Json, block_of, broken, logs_in

AT = FIRST + 5  # a block of four transactions with 1, 3, 3 and 0 logs
OTHER = FIRST + 6
Node = Callable[..., "Client"]


class Client:
    """Asks both nodes of a sandbox."""

    def __init__(self, faults: str) -> None:
        self.app: Starlette = create_app(Catalog(()), faults=faults, chain=PLAIN)
        for node in self.app.state.nodes.values():
            node.head = FIRST + 500  # a hash that nobody has is looked for up to here
        self.http = httpx.Client(transport=transport(self.app))

    def post(self, body: Any, node: str = "ethereum") -> httpx.Response:
        return self.http.post(f"http://sandbox/{node}", json=body)

    def reply(self, method: str, *params: Any, node: str = "ethereum") -> Json:
        reply: Json = self.post(asking(method, *params), node).json()
        return reply

    def call(self, method: str, *params: Any, node: str = "ethereum") -> Any:
        return self.reply(method, *params, node=node)["result"]

    def shown(self, number: int = AT, node: str = "ethereum") -> tuple[Json, list[Json]]:
        """A block and its receipts."""
        return (
            self.call("eth_getBlockByNumber", hex(number), True, node=node),
            self.call("eth_getBlockReceipts", hex(number), node=node),
        )

    def logs(self, first: int, last: int, **wanted: Any) -> Json:
        return self.reply("eth_getLogs", {"fromBlock": hex(first), "toBlock": hex(last), **wanted})


@pytest.fixture
def node() -> Iterator[Node]:
    """Builds clients of new sandboxes: `node("null_block")`."""
    opened: list[Client] = []

    def client(faults: str = "") -> Client:
        opened.append(Client(faults))
        return opened[-1]

    yield client
    for one in opened:
        one.http.close()


def asking(method: str, *params: Any, call_id: Any = 1) -> Json:
    return {"jsonrpc": "2.0", "id": call_id, "method": method, "params": list(params)}


# --- how a block is shown ------------------------------------------------------------------------

# Which claims of block AT no longer hold; all others do.
BROKEN: dict[str, set[str]] = {
    "dropped_log": {"receipts root", "receipt blooms", "block bloom", "log index"},
    "dropped_log_renumbered": {"receipts root", "receipt blooms", "block bloom"},
    "dropped_log_unbloomed": {"receipts root", "block bloom"},
    "dropped_log_unbloomed_block": {"receipts root", "hash"},
    "altered_log": {"receipts root"},
    "altered_log_bloomed": {"receipts root", "block bloom"},
    "duplicated_log": {"receipts root"},
    "swapped_logs": {"receipts root"},
    "missing_receipt": {"receipts root", "receipts", "gas"},
    "missing_transaction": {"receipts root", "transactions root", "gas"},
    "garbage_receipts": {"receipts root", "gas"},
    "flipped_status": {"receipts root"},
    "wrong_parent": {"hash"},
}


@pytest.mark.parametrize("name", BROKEN)
def test_block_faults_break_just_these_claims(node: Node, name: str) -> None:
    assert broken(*node(name).shown()) == BROKEN[name]
    assert broken(*node().shown()) == set()


def test_every_block_fault_is_tested() -> None:
    named = {name for name, fault in CHAINED.items() if isinstance(fault, BlockFault)}
    assert {*BROKEN, "null_block"} == named
    assert all(fault.description for fault in CHAINED.values())


def test_one_log_is_dropped_altered_or_doubled(node: Node) -> None:
    sound = logs_in(block_of(AT)[1])
    assert len(sound) == 7
    assert logs_in(node("dropped_log").shown()[1]) == sound[:3] + sound[4:]
    for name, count in {"dropped_log_renumbered": 6, "duplicated_log": 8}.items():
        logs = logs_in(node(name).shown()[1])
        assert [int(log["logIndex"], 16) for log in logs] == list(range(count))
    (pair,) = (
        (a, b)
        for a, b in zip(sound, logs_in(node("altered_log").shown()[1]), strict=True)
        if a != b
    )
    assert {key for key in pair[0] if pair[0][key] != pair[1][key]} == {"data"}


def test_every_method_shows_a_block_alike(node: Node) -> None:
    client = node("altered_log_bloomed, missing_transaction")
    block, receipts = client.shown()
    sound, _ = block_of(AT)
    assert client.logs(AT, AT)["result"] == logs_in(receipts)
    assert client.call("eth_getBlockByHash", block["hash"], True) == block
    for sent, receipt in zip(block["transactions"], receipts, strict=True):
        assert client.call("eth_getTransactionReceipt", sent["hash"]) == receipt
    gone = sound["transactions"][-1]["hash"]
    assert client.call("eth_getTransactionByHash", gone) is None
    assert client.call("eth_getTransactionReceipt", gone) is None


def test_a_null_block_is_null_in_every_method(node: Node) -> None:
    client, (sound, _) = node(f"null_block@ethereum@{AT}"), block_of(AT)
    assert client.shown() == (None, None)
    assert client.call("eth_getBlockByHash", sound["hash"], True) is None
    assert client.call("eth_getTransactionReceipt", sound["transactions"][0]["hash"]) is None
    assert {log["blockNumber"] for log in client.logs(AT - 5, AT + 5)["result"]}.isdisjoint(
        {hex(AT)}
    )
    only = node(f"null_block@ethereum@{AT}@eth_getBlockReceipts")
    assert only.shown() == (sound, None)


def test_faults_leave_a_block_alone_that_has_nothing_to_break(node: Node) -> None:
    quiet = next(at for at in range(FIRST, FIRST + 200) if not block_of(at)[1])
    for name in {*BROKEN} - {"wrong_parent"}:
        assert node(name).shown(quiet) == block_of(quiet), name


def test_a_fault_is_limited_to_node_blocks_and_method(node: Node) -> None:
    for faults, hit in (
        ("altered_log", [True, True, True]),
        ("altered_log@ethereum", [True, True, False]),
        (f"altered_log@ethereum@{AT}", [True, False, False]),
        (f"altered_log@*@{AT}-{OTHER}", [True, True, True]),
        (f"altered_log@*@{OTHER}-", [False, True, False]),
        (f"altered_log@*@{OTHER}-@eth_getBlockReceipts", [False, True, False]),
        ("altered_log@*@*@eth_getLogs", [False, False, False]),
        ("altered_log@*@2025-01-01", [False, False, False]),
        ("altered_log@ethereum-b", [False, False, True]),
    ):
        client = node(faults)
        shown = [client.shown(AT), client.shown(OTHER), client.shown(AT, "ethereum-b")]
        assert [broken(*one) != set() for one in shown] == hit, faults


def test_a_fault_with_a_number_heals_by_method_and_block(node: Node) -> None:
    client = node("altered_log:1")
    assert [broken(*client.shown(at)) != set() for at in (AT, OTHER, AT, OTHER)] == [
        True, True, False, False,
    ]  # fmt: skip
    assert client.logs(AT, AT)["result"] != client.logs(AT, AT)["result"]


def test_a_wrong_name_of_a_node_is_a_settings_error() -> None:
    with pytest.raises(SettingsError, match=r"etherium.*known are ethereum, ethereum-b"):
        create_app(Catalog(()), faults="altered_log@etherium")


# --- reorgs and nodes that disagree --------------------------------------------------------------


def test_a_reorg_is_another_valid_branch_from_a_block_on(node: Node) -> None:
    client = node()
    before = {at: client.shown(at) for at in range(AT - 2, AT + 5)}
    client.app.state.faults.switch(f"reorg@ethereum@{AT}-")
    after = {at: client.shown(at) for at in before}
    assert [before[at] == after[at] for at in before] == [True, True] + 5 * [False]
    for at in before:
        assert broken(*after[at]) == set()
        if at - 1 in before:
            assert after[at][0]["parentHash"] == after[at - 1][0]["hash"]
    assert client.shown(AT, "ethereum-b") == before[AT]
    old, new = before[AT][0], after[AT][0]
    assert client.call("eth_getBlockByHash", old["hash"], True) is None
    assert client.call("eth_getBlockByHash", new["hash"], True) == new
    assert client.call("eth_getBlockReceipts", new["hash"]) == after[AT][1]
    assert client.call("eth_getTransactionReceipt", old["transactions"][0]["hash"]) is None
    assert client.logs(AT, AT)["result"] == logs_in(after[AT][1])
    client.app.state.faults.switch("")
    assert client.shown(AT) == before[AT]


def test_a_reorg_that_ends_is_told_by_the_next_parent_alone(node: Node) -> None:
    client = node(f"reorg@*@{AT}")
    forged, _ = client.shown(AT)
    assert broken(*client.shown(AT)) == set()
    assert forged["parentHash"] == client.shown(AT - 1)[0]["hash"]
    assert client.shown(AT + 1) == block_of(AT + 1)
    assert client.shown(AT + 1)[0]["parentHash"] != forged["hash"]


def test_a_second_node_may_have_another_chain_from_its_first_block_on(node: Node) -> None:
    client = node("reorg@ethereum-b")
    assert client.shown(FIRST) == block_of(FIRST)
    other, receipts = client.shown(FIRST, "ethereum-b")
    assert broken(other, receipts) == set()
    assert other["hash"] != block_of(FIRST)[0]["hash"]


# --- calls ---------------------------------------------------------------------------------------


def test_call_faults_are_errors_with_status_200(node: Node) -> None:
    for name, fault in CHAINED.items():
        if isinstance(fault, CallFault):
            reply = node(name).post(asking("eth_getBlockReceipts", hex(AT), call_id="x"))
            assert (reply.status_code, reply.json()["id"]) == (200, "x")
            assert reply.json()["error"] == {"code": fault.code, "message": fault.message}


def test_a_node_without_block_receipts_has_receipts_by_transaction(node: Node) -> None:
    client, (block, receipts) = node("no_block_receipts"), block_of(AT)
    assert client.reply("eth_getBlockReceipts", hex(AT))["error"]["code"] == -32601
    hashes = [one["hash"] for one in block["transactions"]]
    assert [client.call("eth_getTransactionReceipt", one) for one in hashes] == receipts


def test_a_rate_limit_strikes_calls_of_a_batch_or_the_request(node: Node) -> None:
    batch = [asking("eth_chainId", call_id=at) for at in range(3)]
    replies = node("rpc_rate_limit@*@*@eth_chainId:2").post(batch).json()
    assert [reply.get("result") for reply in replies] == [None, None, "0x1"]
    limited = node("rate_limit@ethereum:1")
    assert [limited.post(batch).status_code for _ in range(2)] == [429, 200]
    assert node("rate_limit@ethereum").post(batch, "ethereum-b").status_code == 200


def test_a_node_lies_about_decimals_alone(node: Node) -> None:
    usdc = "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"
    client = node("lying_call@ethereum-b")

    def answers(name: str, data: str) -> str:
        answer: str = client.call("eth_call", {"to": usdc, "data": data}, hex(AT), node=name)
        return answer

    sound, lie = (answers(name, "0x313ce567") for name in ("ethereum", "ethereum-b"))
    assert (int(sound, 16), int(lie, 16), len(lie)) == (6, 7, 66)
    for other in ("0x95d89b41", "0x18160ddd"):
        assert answers("ethereum", other) == answers("ethereum-b", other)


def test_http_faults_strike_a_node(node: Node) -> None:
    assert node("server_error@ethereum").post([]).status_code == 503
    assert "<html>" in node("html_body@*@*@batch").post([]).text
    with pytest.raises(httpx.ReadTimeout):
        node("slow@ethereum").http.post("http://sandbox/ethereum", content=b"{}", timeout=0.1)


def test_wide_ranges_of_logs_are_refused_as_providers_do(node: Node) -> None:
    sound, last = node(), FIRST + LOGS_SPAN
    for name, fault in CHAINED.items():
        if isinstance(fault, LogsFault):
            client = node(name)
            refused = client.logs(FIRST, last)["error"]
            assert refused["code"] == fault.code
            assert "{" not in refused["message"]
            assert client.logs(FIRST, last - 1) == sound.logs(FIRST, last - 1)
            if name in ("logs_range_suggested", "logs_too_many"):
                assert f"[{hex(FIRST)}, {hex(last - 1)}]" in refused["message"]


# --- batches -------------------------------------------------------------------------------------


def batch_of(size: int) -> list[Json]:
    return [asking("eth_chainId", call_id=f"call {at}") for at in range(size)]


def test_batches_are_refused_reordered_and_cut(node: Node) -> None:
    few, many = batch_of(BATCH_LIMIT), batch_of(BATCH_LIMIT + 1)
    sound = node().post(few).json()
    too_large = {"code": -32600, "message": "batch too large"}
    unsupported = {"code": -32600, "message": "batch requests are not supported"}
    seen: Counter[str] = Counter()
    for name, small, large in (
        ("batch_refused", sound, [{"jsonrpc": "2.0", "id": "call 0", "error": too_large}]),
        ("batch_413", sound, 413),
        ("batch_unsupported", None, {"jsonrpc": "2.0", "id": None, "error": unsupported}),
        ("batch_reversed", sound[::-1], None),
        ("batch_short", sound[:-1], None),
    ):
        client = node(name)
        for calls, expected in ((few, small), (many, large)):
            reply = client.post(calls)
            if isinstance(expected, int):
                assert reply.status_code == expected
            elif expected is not None:
                assert reply.json() == expected
        assert client.post(few[0]).json() == sound[0]
        seen[name] += 1
    assert set(seen) == {name for name, one in CHAINED.items() if isinstance(one, BatchFault)}


# --- any lie about a log -------------------------------------------------------------------------


def test_no_lie_about_a_log_leaves_every_claim_standing() -> None:
    blocks = [block_of(at) for at in range(FIRST, FIRST + 60)]
    with_logs = [json.dumps(one) for one in blocks if logs_in(one[1])]
    kinds: Counter[str] = Counter()
    for seed in range(1000):
        rng = random.Random(seed)
        block, receipts = json.loads(rng.choice(with_logs))
        said = tamper(block, receipts, rng)
        kinds[said.split(", ")[1].split()[0]] += 1
        assert broken(block, receipts), f"seed {seed}: {said}"
    assert {"dropped", "repeated", "exchanged", "moved", "address", "topic", "data"} <= set(kinds)
    assert {"logIndex", "transactionHash", "blockNumber", "removed"} <= set(kinds)


def test_a_lie_is_the_same_for_the_same_seed_and_needs_a_log() -> None:
    lies = [block_of(AT), block_of(AT)]
    said = {tamper(*one, random.Random(3)) for one in lies}
    assert len(said) == 1
    assert said.pop().startswith("log 0x")
    assert lies[0] == lies[1] != block_of(AT)
    quiet = next(at for at in range(FIRST, FIRST + 200) if not logs_in(block_of(at)[1]))
    with pytest.raises(ValueError, match="has no logs"):
        tamper(*block_of(quiet), random.Random(0))


def test_a_node_tells_the_lies_that_it_is_given(node: Node) -> None:
    client, lie = node(), block_of(AT)
    tamper(*lie, random.Random(5))
    altered = client.app.state.nodes["ethereum"].altered
    altered[AT] = lambda block, receipts: tamper(block, receipts, random.Random(5))
    assert client.shown() == lie == client.shown()
    assert client.logs(AT, AT)["result"] == logs_in(lie[1])
    assert client.shown(OTHER) == block_of(OTHER)
    assert client.shown(AT, "ethereum-b") == block_of(AT)
    altered.clear()
    assert client.shown() == block_of(AT)
