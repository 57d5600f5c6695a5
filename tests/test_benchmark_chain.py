"""The benchmark of a chain works at a size where it measures nothing, with peers and without."""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import chain
from benchmarks.evm_blocks import FIRST_BLOCK
from benchmarks.peers import CRYO, ETHEREUM_ETL, Cost, Peer
from benchmarks.replay import Replay, replayed, serving
from benchmarks.report import SCALES, rate
from crypto_assets.catalog import BlockRange
from crypto_assets.sources.evm import PROOFS

TINY = replace(SCALES["small"], blocks=3, repeats=1)
BLOCKS = BlockRange(FIRST_BLOCK, FIRST_BLOCK + 2)


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Because starting processes takes seconds."""
    monkeypatch.setattr(chain, "alone", lambda _log, function, *args: (function(*args), 10**8))


def pretending(name: str, work: str) -> Peer:
    """A peer that writes whatever it is told to."""
    return Peer(name, "BENCHMARK_NOBODY", name, "", work)


def writing(blocks: int, transactions: int, logs: int) -> str:
    counts = {"blocks": blocks, "transactions": transactions, "logs": logs}
    return f"""
for kind, count in {counts}.items():
    (folder / f"{{kind}}.csv").write_text("\\n" * (count + 1))
"""


def test_chain_is_measured_without_peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for peer in (CRYO, ETHEREUM_ETL):
        monkeypatch.setenv(peer.variable, os.devnull)
    lines = list(chain.measure(TINY, tmp_path))
    assert "3 blocks (966 rows)" in lines[0].name
    assert [line.peer for line in lines[:2]] == [
        f"cryo skipped: no Python here has it (pip install cryo; {CRYO.variable}=<python>)",
        "ethereum-etl skipped: no Python here has it (pip install ethereum-etl; "
        f"{ETHEREUM_ETL.variable}=<python>)",
    ]
    assert [line.is_within for line in lines[:2]] == [None, None]
    (judged,) = [line for line in lines if line.limit]
    assert judged.limit == "<= 8 ms"
    assert isinstance(judged.is_within, bool)
    assert [line.name.strip() for line in lines[-len(PROOFS) :]] == [
        f"of which {x}" for x in PROOFS
    ]


def test_chain_is_measured_beside_peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "CRYO", pretending("cryo", writing(3, 300, 663)))
    monkeypatch.setattr(chain, "ETHEREUM_ETL", pretending("etl", writing(3, 300, 663)))
    lines = list(chain.measure(TINY, tmp_path))
    assert [line.limit for line in lines if line.limit] == [">= 1.3 x", ">= 5 x", "<= 8 ms"]
    assert lines[0].peer.startswith("cryo ")
    assert lines[1].peer.startswith("etl ")
    assert sum("peak memory" in line.name for line in lines) == 4


@pytest.mark.parametrize("counts", [(2, 300, 663), (3, 299, 663), (3, 300, 0)])
def test_peer_that_wrote_other_rows_is_no_comparison(
    tmp_path: Path, counts: tuple[int, int, int]
) -> None:
    peer, target, log = pretending("peer", writing(*counts)), tmp_path / "peer", tmp_path / "log"
    cost = peer.fetch(sys.executable, "http://127.0.0.1:1", BLOCKS, target, log)
    assert cost.seconds > 0
    assert cost.peak > 10**6
    with pytest.raises(AssertionError, match="peer wrote"):
        chain.compare(peer, target, {"blocks": 3, "transactions": 300, "logs": 663})


def test_peer_that_fails_says_why(tmp_path: Path) -> None:
    peer = pretending("peer", "raise SystemExit('no blocks today')")
    with pytest.raises(AssertionError, match=r"peer failed \(1\): no blocks today"):
        peer.fetch(
            sys.executable, "http://127.0.0.1:1", BLOCKS, tmp_path / "peer", tmp_path / "log"
        )


def test_python_of_a_peer_is_the_one_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = pretending("peer-that-nobody-has", "")
    assert peer.python() is not None
    monkeypatch.setenv(peer.variable, sys.executable)
    assert peer.python() == sys.executable
    monkeypatch.setenv(peer.variable, os.devnull)
    assert peer.python() is None
    nowhere = replace(peer, imports="import module_that_nobody_has", variable="BENCHMARK_UNSET")
    assert nowhere.python() is None


def ask(url: str, method: str, *params: Any) -> Any:
    body = json.dumps({"jsonrpc": "2.0", "id": "a", "method": method, "params": params}).encode()
    with urllib.request.urlopen(urllib.request.Request(url, body), timeout=10) as reply:  # noqa: S310
        answer = json.load(reply)
    assert answer["id"] == "a"
    return answer.get("result", answer.get("error"))


def test_replay_gives_the_same_blocks_in_every_way_that_peers_ask() -> None:
    with serving(Replay(3, transactions=4, logs=9)) as port:
        url = f"http://127.0.0.1:{port}"
        whole = ask(url, "eth_getBlockByNumber", hex(FIRST_BLOCK + 1), True)
        named = ask(url, "eth_getBlockByNumber", hex(FIRST_BLOCK + 1), False)
        receipts = ask(url, "eth_getBlockReceipts", hex(FIRST_BLOCK + 1))
        assert named["transactions"] == [one["hash"] for one in whole["transactions"]]
        assert [ask(url, "eth_getTransactionReceipt", each) for each in named["transactions"]] == (
            receipts
        )
        span = {"fromBlock": hex(FIRST_BLOCK + 1), "toBlock": hex(FIRST_BLOCK + 1)}
        logs = [log for receipt in receipts for log in receipt["logs"]]
        assert ask(url, "eth_getLogs", span) == logs
        assert len(ask(url, "eth_getLogs", span | {"toBlock": "latest"})) == 2 * len(logs) == 18
        assert ask(url, "eth_getBlockByNumber", "latest", False)["number"] == hex(FIRST_BLOCK + 2)
        assert ask(url, "eth_getBlockByNumber", hex(FIRST_BLOCK + 3), True) is None
        assert ask(url, "eth_mining")["code"] == -32601


def test_replay_ends_with_whoever_started_it(tmp_path: Path) -> None:
    with replayed(1, tmp_path / "log") as url:
        assert ask(url, "eth_chainId") == "0x1"
    with pytest.raises(OSError, match="refused"):
        ask(url, "eth_chainId")


def test_rate_is_held_against_its_limit() -> None:
    line = rate("work", 130.0, 100.0, "peer", unit="rows/s", at_least=1.3)
    assert (line.figure, line.is_within) == ("1.30 x", True)
    assert rate("work", 129.0, 100.0, "peer", unit="rows/s", at_least=1.3).is_within is False
    assert Cost(1.0, 2.0, 3).cpu == 2.0
