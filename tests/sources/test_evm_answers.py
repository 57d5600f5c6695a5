"""Contracts are asked through real clients: what nodes say of them, alike or not, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from crypto_assets.catalog import BlockRange, Chain, TrustedToken, UniswapV4
from crypto_assets.errors import (
    BlockMissingError,
    EndpointsDisagreeError,
    HistoryPrunedError,
    NotFinalError,
    RateLimitedError,
    SourceError,
    UnexpectedReplyError,
)
from crypto_assets.sources.evm_answers import Interview
from crypto_assets.sources.evm_calls import Answer, ContractCall, is_lasting

from .chain_node import (
    CHAIN,
    OTHER_URL,
    URL,
    ChainNode,
    Json,
    Network,
    RpcFaultError,
    made_blocks,
    source,
)

BLOCKS = made_blocks(8, transactions=1, logs=1)
FIRST, NEWEST = min(BLOCKS), max(BLOCKS) - 2
RANGE = BlockRange(FIRST, FIRST + 3)
CONTRACT, UNLISTED = b"\xaa" * 20, b"\xbb" * 20
LISTED = TrustedToken(
    address=f"0x{CONTRACT.hex()}", symbol="AAA", decimals=18, role="stablecoin", asset=None
)
LISTING = CHAIN.model_copy(update={"tokens": (LISTED,)})
SYMBOL = ContractCall(CONTRACT, "symbol()", b"", "finalized")
DECIMALS = SYMBOL._replace(call="decimals()")
UNLISTED_SYMBOL = SYMBOL._replace(address=UNLISTED)
UNLISTED_DECIMALS = DECIMALS._replace(address=UNLISTED)
BEFORE = ContractCall(CONTRACT, "totalSupply()", b"", "before")
LAST = BEFORE._replace(as_of="last")
INPUTS = {SYMBOL.data: "0x5a", DECIMALS.data: "0x12", BEFORE.data: "0x64"}

Say = Callable[[bytes, int], str | None]


def node(say: Say = lambda data, number: None, *, blocks: int = 8) -> ChainNode:
    """A node that answers calls of contracts, or does what `say` says."""
    made = ChainNode({number: BLOCKS[number] for number in sorted(BLOCKS)[:blocks]})

    def act(method: str, params: list[Any]) -> bytes | None:
        if method != "eth_call":
            return None
        asked, number = params
        # All that a contract could tell one node's call from another's by.
        assert asked.keys() == {"from", "gas", "gasPrice", "to", "data"}
        assert (asked["from"], asked["gasPrice"]) == ("0x" + "00" * 20, "0x0")
        data = bytes.fromhex(asked["data"][2:])
        said = say(data, int(number, 16))
        return msgspec.json.encode(INPUTS[data] if said is None else said)

    made.act = act
    return made


def refusing(code: int, message: str, *, of: bytes | None = None) -> Say:
    def say(data: bytes, number: int) -> str | None:
        if of is None or data == of:
            raise RpcFaultError(code, message)
        return None

    return say


@pytest.fixture
def interview() -> Iterator[Callable[..., Interview]]:
    opened = []

    def begin(
        *nodes: ChainNode | Exception, blocks: BlockRange = RANGE, chain: Chain = LISTING
    ) -> Interview:
        names = ("node_a", "node_b", "node_c")
        network = Network(**dict(zip(names, nodes, strict=False)))
        urls = [URL, OTHER_URL, "https://node-c.test/"][: len(nodes)]
        context = source(network, *urls, chain=chain)
        opened.append(context)
        return context.__enter__().interview(blocks)

    yield begin
    for context in opened:
        context.__exit__(None, None, None)


def test_each_call_is_asked_as_of_its_own_block(interview: Callable[..., Interview]) -> None:
    asked: list[int] = []
    talk = interview(node(lambda data, number: asked.append(number)))
    answers = talk.ask({SYMBOL, DECIMALS, BEFORE, LAST})
    assert answers == {
        SYMBOL: Answer("returned", b"\x5a"),
        DECIMALS: Answer("returned", b"\x12"),
        BEFORE: Answer("returned", b"\x64"),
        LAST: Answer("returned", b"\x64"),
    }
    assert sorted(asked) == [FIRST - 1, RANGE.last, NEWEST, NEWEST]
    assert {one.url for one in talk.documents} == {
        f"https://node-a.test eth_call@{number}" for number in asked
    }
    assert all(len(one.sha256) == 64 and one.bytes for one in talk.documents)
    assert talk.checks == {"nodes_agree": "not computable: one node is configured"}


def test_nothing_is_asked_where_nothing_is_wanted(interview: Callable[..., Interview]) -> None:
    silent = node()
    talk = interview(silent)
    assert talk.ask([]) == {}
    assert not silent.calls
    assert (talk.documents, talk.checks) == ((), {"nodes_agree": "nothing was asked"})


def test_two_of_several_nodes_are_asked_about_one_block(
    interview: Callable[..., Interview],
) -> None:
    # The second is a block behind.
    nodes = node(), node(blocks=7), node()
    talk = interview(*nodes)
    talk.ask({SYMBOL})
    talk.ask({DECIMALS})
    assert [one.calls["eth_call"] for one in nodes] == [2, 2, 0]
    assert {one.url for one in talk.documents} == {
        f"https://{name} eth_call@{NEWEST - 1}" for name in ("node-a.test", "node-b.test (2)")
    }
    assert talk.checks == {"nodes_agree": "passed"}


@pytest.mark.parametrize(
    ("code", "message"),
    [(3, "execution reverted"), (-32000, "execution reverted: busy"), (-32000, "out of gas")],
)
def test_a_contract_may_have_no_answer(
    interview: Callable[..., Interview], code: int, message: str
) -> None:
    talk = interview(node(refusing(code, message, of=SYMBOL.data)), node())
    with pytest.raises(EndpointsDisagreeError):
        talk.ask({SYMBOL, DECIMALS})
    both = refusing(code, message, of=SYMBOL.data)
    asked = node(both)
    talk = interview(asked, node(both))
    assert talk.ask({SYMBOL, DECIMALS}) == {
        SYMBOL: Answer("reverted", None),
        DECIMALS: Answer("returned", b"\x12"),
    }
    assert asked.calls["eth_call"] == 2


@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.parametrize("calls", [{SYMBOL}, {SYMBOL, DECIMALS}])
def test_a_contract_without_an_answer_is_no_broken_node_whatever_the_status(
    interview: Callable[..., Interview], status: int, calls: set[ContractCall]
) -> None:
    asked = node(refusing(3, "execution reverted", of=SYMBOL.data))

    def under_status(calls: list[Json], replies: list[Json]) -> httpx.Response | None:
        if not any("error" in reply for reply in replies):
            return None
        body = replies if len(replies) > 1 else replies[0]
        return httpx.Response(status, content=msgspec.json.encode(body))

    asked.batch = under_status
    answers = interview(asked).ask(calls)
    assert answers[SYMBOL] == Answer("reverted", None)
    assert answers.keys() == calls
    assert asked.calls["eth_call"] == len(calls)


def test_nothing_where_there_is_no_contract_is_an_answer(
    interview: Callable[..., Interview],
) -> None:
    assert interview(node(lambda *_: "0x")).ask({SYMBOL}) == {SYMBOL: Answer("returned", b"")}


def test_nodes_that_differ_are_named_with_what_they_said(
    interview: Callable[..., Interview],
) -> None:
    liar = node(lambda data, number: "0x06" if data == DECIMALS.data else None)
    with pytest.raises(
        EndpointsDisagreeError, match=r"1 of 2 calls.*decimals.*node-b\.test"
    ) as why:
        interview(node(), liar).ask({SYMBOL, DECIMALS})
    (call,) = why.value.evidence["calls"]
    assert call["said"] == {"https://node-a.test": "0x12", "https://node-b.test (2)": "0x06"}


def differing(data: bytes, number: int) -> str | None:
    return "0x06" if data == DECIMALS.data else None


@pytest.mark.parametrize("say", [differing, refusing(3, "execution reverted", of=DECIMALS.data)])
def test_what_nodes_say_of_a_contract_that_is_not_listed_may_be_disputed(
    interview: Callable[..., Interview], say: Say
) -> None:
    talk = interview(node(), node(say))
    calls = {UNLISTED_DECIMALS, UNLISTED_SYMBOL, SYMBOL}
    assert talk.ask(calls) == {
        UNLISTED_DECIMALS: Answer("disputed", None),
        UNLISTED_SYMBOL: Answer("returned", b"\x5a"),
        SYMBOL: Answer("returned", b"\x5a"),
    }
    assert talk.checks == {"nodes_agree": "1 answers disputed"}
    talk.ask({UNLISTED_DECIMALS._replace(address=b"\xcc" * 20)})
    assert talk.checks == {"nodes_agree": "2 answers disputed"}
    assert len(talk.documents) == 2
    assert not is_lasting(UNLISTED_DECIMALS, Answer("disputed", None))


def test_a_contract_that_is_not_listed_excuses_no_other(
    interview: Callable[..., Interview],
) -> None:
    with pytest.raises(EndpointsDisagreeError) as why:
        interview(node(), node(differing)).ask({DECIMALS, UNLISTED_DECIMALS})
    (call,) = why.value.evidence["calls"]
    assert call["address"] == f"0x{CONTRACT.hex()}"


def test_nodes_may_not_differ_on_what_the_position_manager_knows(
    interview: Callable[..., Interview],
) -> None:
    uniswap = UniswapV4(
        like="uniswap_v4",
        pool_manager="0x" + "cc" * 20,
        position_manager=f"0x{UNLISTED.hex()}",
    )
    chain = CHAIN.model_copy(update={"protocols": {"uniswap_v4": uniswap}})
    with pytest.raises(EndpointsDisagreeError):
        interview(node(), node(differing), chain=chain).ask({UNLISTED_DECIMALS})


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (-32002, "No state available for block 36600 (0x985a2c91d049da6d)"),
        (-32000, "missing trie node"),
        (4444, "pruned history unavailable"),
    ],
)
def test_state_that_no_node_has_any_more_is_unavailable_for_supplies_alone(
    interview: Callable[..., Interview], code: int, message: str
) -> None:
    pruned = node(refusing(code, message))
    talk = interview(pruned)
    unavailable = Answer("unavailable", None)
    assert talk.ask({BEFORE, LAST}) == {BEFORE: unavailable, LAST: unavailable}
    assert talk.documents == ()
    both = interview(pruned, node(refusing(code, message)))
    assert both.ask({LAST}) == {LAST: unavailable}
    assert both.checks["nodes_agree"].endswith(f"have the state of block {RANGE.last}")
    with pytest.raises(HistoryPrunedError):
        talk.ask({SYMBOL})


def test_one_node_with_old_state_is_enough_for_supplies(
    interview: Callable[..., Interview],
) -> None:
    talk = interview(node(refusing(4444, "pruned")), node(), node(refusing(4444, "pruned")))
    assert talk.ask({BEFORE}) == {BEFORE: Answer("returned", b"\x64")}
    assert talk.checks["nodes_agree"].endswith(
        f"fewer than two have the state of block {FIRST - 1}"
    )
    assert [one.url for one in talk.documents] == [f"https://node-b.test (2) eth_call@{FIRST - 1}"]


@pytest.mark.parametrize("said", ["5a", "0x5", "0xzz", "0x5a ", "hello", ""])
def test_garbage_is_no_answer(interview: Callable[..., Interview], said: str) -> None:
    with pytest.raises(UnexpectedReplyError, match="no hex data"):
        interview(node(lambda *_: said)).ask({SYMBOL})


@pytest.mark.parametrize("said", [{"result": "0x"}, ["0x"], 7])
def test_other_json_is_no_answer(interview: Callable[..., Interview], said: Any) -> None:
    with pytest.raises(UnexpectedReplyError, match="no hex data"):
        interview(node(lambda *_: said)).ask({SYMBOL})


def test_a_third_node_stands_in_for_one_that_fails(interview: Callable[..., Interview]) -> None:
    talk = interview(node(), node(lambda *_: "garbage"), node())
    assert talk.ask({SYMBOL}) == {SYMBOL: Answer("returned", b"\x5a")}
    assert talk.checks == {"nodes_agree": "passed"}
    with pytest.raises(UnexpectedReplyError):
        interview(node(), node(lambda *_: "garbage")).ask({SYMBOL})


def test_a_range_that_is_not_final_for_both_nodes_is_not_asked_about(
    interview: Callable[..., Interview],
) -> None:
    with pytest.raises(NotFinalError, match="run this one again later"):
        interview(node(), node(blocks=5)).ask({SYMBOL})


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (refusing(429, "too many requests"), RateLimitedError),
        (refusing(-32000, "header not found"), BlockMissingError),
    ],
)
def test_what_time_heals_is_not_taken_for_an_answer(
    interview: Callable[..., Interview],
    monkeypatch: pytest.MonkeyPatch,
    said: Say,
    kind: type[SourceError],
) -> None:
    monkeypatch.setattr("crypto_assets.sources.http.HostPolicy.attempts", 1, raising=False)
    with pytest.raises(kind):
        interview(node(said), node(said)).ask({SYMBOL})


def test_many_calls_come_in_batches(interview: Callable[..., Interview]) -> None:
    asked = node(refusing(3, "execution reverted", of=SYMBOL.data))
    calls = {
        one._replace(address=number.to_bytes(20, "big")) for number in range(120)
        for one in (SYMBOL, DECIMALS)
    }  # fmt: skip
    answers = interview(asked).ask(calls)
    assert answers.keys() == calls
    assert sum(answer.status == "reverted" for answer in answers.values()) == 120
    assert max(asked.sizes) <= 50
    assert asked.calls["eth_call"] == 240


def test_real_refusals_of_state_are_understood(realdata: Path) -> None:
    body = (realdata / "bad_data/http_bodies/node_04_http200.json").read_bytes()
    error = msgspec.json.decode(body)["error"]
    say = refusing(error["code"], error["message"])
    with source(Network(node_a=node(say))) as evm:
        assert evm.interview(RANGE).ask({LAST}) == {LAST: Answer("unavailable", None)}
