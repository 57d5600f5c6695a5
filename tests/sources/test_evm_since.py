"""Which block is the first of a day, asked of nodes that have all of a chain or its end only."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crypto_assets.catalog import Catalog, Chain
from crypto_assets.errors import (
    FinalityUnknownError,
    HeaderHashMismatchError,
    HistoryPrunedError,
    NotFinalError,
)
from crypto_assets.sandbox import create_app, transport

from .chain_node import (
    CHAIN,
    OTHER_URL,
    URL,
    ChainNode,
    Network,
    RpcFaultError,
    changed,
    made_blocks,
    source,
)

BLOCKS = made_blocks(40, transactions=0, logs=0)
FIRST, FINAL = min(BLOCKS), max(BLOCKS) - 2
COLLECTED = CHAIN.model_copy(update={"first_block": FIRST})
SLOT = timedelta(seconds=12)


def time_of(number: int) -> datetime:
    return datetime.fromtimestamp(int(json.loads(BLOCKS[number][0])["timestamp"], 16), UTC)


def since(instant: datetime, *nodes: ChainNode, chain: Chain = COLLECTED) -> int:
    network = Network(**dict(zip(("node_a", "node_b"), nodes, strict=False)))
    with source(network, *(URL, OTHER_URL)[: len(nodes)], chain=chain) as evm:
        return evm.first_block_since(instant)


@pytest.mark.parametrize("number", [FIRST, FIRST + 1, FIRST + 19, FINAL - 1, FINAL])
def test_block_at_an_instant_is_of_it_and_one_before_is_not(number: int) -> None:
    node, instant = ChainNode(BLOCKS), time_of(number)
    assert since(instant, node) == number
    assert since(instant - timedelta(microseconds=1), node) == number
    assert since(instant - SLOT + timedelta(microseconds=1), node) == number


def test_nothing_before_the_first_block_that_is_collected_is_asked_for() -> None:
    node = ChainNode(BLOCKS)
    chain = CHAIN.model_copy(update={"first_block": FIRST + 20})
    asked: list[int] = []

    def act(method: str, params: list[Any]) -> None:
        if method == "eth_getBlockByNumber" and params[0] != "finalized":
            asked.append(int(params[0], 16))

    node.act = act
    assert since(time_of(FIRST + 3), node, chain=chain) == FIRST + 20
    assert min(asked) >= FIRST + 20
    assert len(asked) < 8


@pytest.mark.parametrize("instant", [time_of(FINAL) + timedelta(seconds=1), time_of(FINAL + 1)])
def test_block_that_is_not_final_yet_is_not_found(instant: datetime) -> None:
    with pytest.raises(NotFinalError, match=rf"node-a.test: .*block {FINAL}, is of 2025-05-11"):
        since(instant, ChainNode(BLOCKS))


def test_chain_that_begins_after_its_final_block_has_none() -> None:
    chain = CHAIN.model_copy(update={"first_block": FINAL + 1})
    with pytest.raises(NotFinalError):
        since(time_of(FIRST), ChainNode(BLOCKS), chain=chain)


def pruned(kept_since: int, refusal: Exception | None = None) -> ChainNode:
    """A node without old blocks, which are null, or an error."""
    node = ChainNode({number: block for number, block in BLOCKS.items() if number >= kept_since})

    def act(method: str, params: list[Any]) -> bytes | None:
        is_old = method == "eth_getBlockByNumber" and params[0] != "finalized"
        if refusal and is_old and int(params[0], 16) < kept_since:
            raise refusal
        return None

    node.act = act
    return node


GONE = [None, RpcFaultError(4444, "pruned history unavailable")]


@pytest.mark.parametrize("refusal", GONE, ids=["null", "4444"])
def test_node_without_old_blocks_is_searched_from_its_first(refusal: Exception | None) -> None:
    kept_since = FIRST + 17
    for first_block in (0, FIRST):  # the catalogue need not know what the node has
        chain = CHAIN.model_copy(update={"first_block": first_block})
        for number in (kept_since + 1, kept_since + 5, FINAL):
            assert since(time_of(number), pruned(kept_since, refusal), chain=chain) == number


@pytest.mark.parametrize("refusal", GONE, ids=["null", "4444"])
@pytest.mark.parametrize("number", [FIRST, FIRST + 17])
def test_what_a_node_without_old_blocks_cannot_show_is_named(
    number: int, refusal: Exception | None
) -> None:
    with pytest.raises(
        HistoryPrunedError, match=rf"no block of ethereum before {FIRST + 17}, which is of 2025-"
    ):
        since(time_of(number), pruned(FIRST + 17, refusal))


def test_another_node_with_all_blocks_is_asked_then() -> None:
    assert since(time_of(FIRST + 3), pruned(FIRST + 17), ChainNode(BLOCKS)) == FIRST + 3


def test_times_are_those_of_proven_headers() -> None:
    node = ChainNode(BLOCKS)
    later: Callable[[bytes], bytes] = lambda said: changed(said, timestamp="0x7fffffff")  # noqa: E731
    node.act = lambda method, params: (
        later(BLOCKS[FIRST + 20][0]) if params and params[0] == hex(FIRST + 20) else None
    )
    chain = CHAIN.model_copy(update={"first_block": FIRST + 20})
    with pytest.raises(HeaderHashMismatchError, match=rf"block {FIRST + 20}"):
        since(time_of(FIRST + 20), node, chain=chain)


def test_without_finality_nothing_is_found() -> None:
    node = ChainNode(BLOCKS)
    node.act = lambda method, params: b"null" if params and params[0] == "finalized" else None
    with pytest.raises(FinalityUnknownError):
        since(time_of(FIRST), node)


def test_days_of_the_sandbox_chain_are_found_though_it_has_no_old_blocks() -> None:
    app = transport(create_app(Catalog(())))
    with source(app, "http://sandbox.test/ethereum") as evm:
        first = evm.first_block_since(datetime(2024, 12, 31, tzinfo=UTC))
        before, at = evm.headers([first - 1, first])
        assert before.timestamp < datetime(2024, 12, 31, tzinfo=UTC).timestamp() <= at.timestamp
        with pytest.raises(HistoryPrunedError, match="before 21516000, which is of 2024-12-30"):
            evm.first_block_since(datetime(2024, 12, 30, tzinfo=UTC))
