"""The chain, held against libraries that share no code with it."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import rlp  # type: ignore[import-untyped]
from eth_hash.auto import keccak

from crypto_assets.sandbox.chain_block import logs_bloom
from crypto_assets.sandbox.chain_calls import EVERYDAY, WETH, Call, Log, Moment, event, word
from crypto_assets.sandbox.chain_world import Branch, ChainSpec, branch
from crypto_assets.sandbox.world import SCALE, World

from .chain_truth import (
    FIRST,
    HEADER,
    PLAIN,
    block_of,
    bloom,
    broken,
    data,
    fields,
    transaction_envelope,
)


def test_every_hash_root_and_bloom_is_right() -> None:
    blocks = [block_of(number) for number in range(FIRST, FIRST + 150)]
    for block, receipts in blocks:
        assert broken(block, receipts) == set(), block["number"]
    for (parent, _), (child, _) in itertools.pairwise(blocks):
        assert child["parentHash"] == parent["hash"]
        assert int(child["timestamp"], 16) == int(parent["timestamp"], 16) + 60


def test_size_is_that_of_the_encoded_block() -> None:
    for number in range(FIRST, FIRST + 30):
        block, _ = block_of(number)
        transactions = [
            rlp.decode(transaction_envelope(one)) if one["type"] == "0x0" else
            transaction_envelope(one)
            for one in block["transactions"]
        ]  # fmt: skip
        withdrawals = [
            fields(one, "d:index d:validatorIndex address d:amount") for one in block["withdrawals"]
        ]
        whole = rlp.encode([fields(block, HEADER), transactions, [], withdrawals])
        assert int(block["size"], 16) == len(whole)


def test_two_days_are_covered_by_three_ranges() -> None:
    spec = ChainSpec()
    times = [spec.first_time + at * spec.block_seconds for at in (0, 2_999)]
    first, last = (datetime.fromtimestamp(at, UTC) for at in times)
    assert first < datetime(2024, 12, 31, tzinfo=UTC)
    assert last > datetime(2025, 1, 2, tzinfo=UTC)
    assert (spec.first_time - 1_606_824_023) % 12 == 0  # the beacon chain's genesis, its slots


def test_there_is_everything_that_a_client_has_to_cope_with() -> None:
    blocks = [block_of(number) for number in range(FIRST, FIRST + 1000)]
    sizes = Counter(len(block["transactions"]) for block, _ in blocks)
    transactions = [one for block, _ in blocks for one in block["transactions"]]
    receipts = [one for _, some in blocks for one in some]
    logs = [log for receipt in receipts for log in receipt["logs"]]
    assert set(sizes) == set(range(7))
    assert {one["type"] for one in transactions} == {"0x0", "0x1", "0x2", "0x3", "0x4"}
    assert {one["status"] for one in receipts} == {"0x0", "0x1"}
    assert {len(log["topics"]) for log in logs} == {0, 1, 2, 3, 4}
    assert any(one["to"] is None for one in transactions)
    assert any(log["data"] == "0x" for log in logs)
    assert any(len(data(log["data"])) % 32 for log in logs)
    assert any(one["accessList"] for one in transactions if one["type"] == "0x1")
    assert len({one["hash"] for one in transactions}) == len(transactions)
    created = [one for one in receipts if one["contractAddress"]]
    assert created
    nonces = {one["hash"]: int(one["nonce"], 16) for one in transactions}
    for one in created:
        pair = [data(one["from"]), nonces[one["transactionHash"]]]
        assert one["contractAddress"] == f"0x{keccak(rlp.encode(pair))[12:].hex()}"
    for receipt in receipts:
        if receipt["type"] == "0x3":
            assert receipt["blobGasPrice"] == "0x1"
            assert 0 < int(receipt["blobGasUsed"], 16) <= 6 * 2**17


def test_fees_are_consistent() -> None:
    for number in range(FIRST, FIRST + 100):
        block, receipts = block_of(number)
        base_fee = int(block["baseFeePerGas"], 16)
        for sent, receipt in zip(block["transactions"], receipts, strict=True):
            paid = int(sent["gasPrice"], 16)
            assert int(receipt["effectiveGasPrice"], 16) == paid > base_fee
            assert int(sent["gas"], 16) >= int(receipt["gasUsed"], 16)
            if "maxFeePerGas" in sent:
                most, tip = (
                    int(sent[name], 16) for name in ("maxFeePerGas", "maxPriorityFeePerGas")
                )
                assert paid == min(most, base_fee + tip)


def test_our_bloom_is_that_of_the_library() -> None:
    _, receipts = block_of(FIRST + 5)
    logs = [log for receipt in receipts for log in receipt["logs"]]
    ours = logs_bloom((data(log["address"]), map(data, log["topics"])) for log in logs)
    assert len(logs) > 3
    assert f"0x{ours.hex()}" == bloom(logs)


_DIGEST = """
import hashlib
from crypto_assets.sandbox.chain_calls import EVERYDAY
from crypto_assets.sandbox.chain_world import ChainSpec, branch
digest = hashlib.sha256()
for fork in (None, 21516040):
    for number in reversed(range(21516000, 21516100)):
        digest.update(b"".join(branch(ChainSpec(emitters=EVERYDAY), fork).block(number)))
print(digest.hexdigest())
"""


def test_another_process_gets_the_same_bytes() -> None:
    here = hashlib.sha256()
    for line in (Branch(PLAIN), branch(PLAIN, FIRST + 40)):
        for number in reversed(range(FIRST, FIRST + 100)):
            here.update(b"".join(line.block(number)))
    there = subprocess.run(
        [sys.executable, "-c", _DIGEST], check=True, capture_output=True, text=True,
        env={"PYTHONHASHSEED": "1"},
    )  # fmt: skip
    assert there.stdout.strip() == here.hexdigest()


def test_the_chain_never_changes() -> None:
    assert branch(PLAIN).hash(FIRST + 999).hex() == (
        "f88758ba0d2dd44e96559945c3edf91e20f7db309476ba9159c6fe35ff29642a"
    )


def test_seed_and_chain_id_make_another_chain() -> None:
    chains = [PLAIN, ChainSpec(seed=1), ChainSpec(chain_id=5)]
    assert len({branch(spec).hash(FIRST) for spec in chains}) == 3
    block, receipts = block_of(FIRST + 7, branch(chains[2]))
    assert {one["chainId"] for one in block["transactions"]} == {"0x5"}
    assert broken(block, receipts) == set()


def test_equal_specs_share_their_blocks() -> None:
    assert branch(ChainSpec()) is branch(ChainSpec())
    assert branch(ChainSpec(), FIRST + 5) is branch(ChainSpec(), FIRST + 5)
    assert branch(ChainSpec()).block(FIRST) is branch(ChainSpec()).block(FIRST)


def test_a_thousand_blocks_take_about_a_second() -> None:
    line = Branch(ChainSpec())
    started = time.process_time()
    for number in range(FIRST, FIRST + 1000):
        line.block(number)
    assert time.process_time() - started < 3  # 0.6 s on the machine this was written on


def test_a_branch_is_equal_up_to_its_fork_and_valid_after_it() -> None:
    trunk, fork = branch(PLAIN), branch(PLAIN, FIRST + 40)
    assert fork.block(FIRST + 39) == trunk.block(FIRST + 39)
    parent = trunk.hash(FIRST + 39)
    for number in range(FIRST + 40, FIRST + 60):
        block, receipts = block_of(number, fork)
        assert broken(block, receipts) == set()
        assert block["parentHash"] == f"0x{parent.hex()}"
        parent = fork.hash(number)
        assert parent != trunk.hash(number)
        assert fork.number_of(parent, number) == number
        assert trunk.number_of(parent, number) is None
    assert fork.number_of(trunk.hash(FIRST), FIRST + 60) == FIRST
    assert fork.number_of(parent, FIRST + 58) is None


def test_many_threads_get_the_same_blocks() -> None:
    line = Branch(PLAIN)
    numbers = [*range(FIRST, FIRST + 200)] * 3
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(line.block, reversed(numbers)))
    assert together == [branch(PLAIN).block(number) for number in reversed(numbers)]


def test_an_emitter_is_plugged_in_and_leaves_the_others_as_they_were() -> None:
    def oracle(moment: Moment) -> Iterator[Call]:
        if moment.number % 2:
            answer = word(moment.usd("ETH")) + word(moment.time)
            log = Log(WETH.address, (event("Answer(uint256,uint256)"),), answer)
            yield Call(WETH.address, WETH.address, (log,))

    line = branch(ChainSpec(emitters=(*EVERYDAY, oracle)))
    for number in (FIRST + 10, FIRST + 11):
        (block, receipts), (plain, _) = block_of(number, line), block_of(number)
        assert broken(block, receipts) == set()
        inputs = [[one["input"] for one in of["transactions"]] for of in (plain, block)]
        assert inputs[1] == inputs[0] + ["0x"] * (number % 2)
    (log,) = receipts[-1]["logs"]
    price, at = int(log["data"][2:66], 16), int(log["data"][66:], 16)
    assert at == int(block["timestamp"], 16)
    minute = (at - 1_735_516_800) // 60  # of 2024-12-30
    levels = World(0).levels("ETH", datetime.fromtimestamp(at, UTC).date())[minute : minute + 2]
    low, high = sorted(int(level) * 2_500 * SCALE // 10**9 for level in levels)
    assert low <= price <= high
