"""Bringing block ranges into the lake: skipped, fetched, refused, and which of two is wrong."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from collecting_ranges import CHAIN, FIRST, SIZE, TWO, ChainHouse, nth

from crypto_assets.catalog import Chain, ChainRange, LogFilter
from crypto_assets.errors import (
    EndpointsDisagreeError,
    IntegrityError,
    NeighbourMismatchError,
    NotFinalError,
)
from crypto_assets.lake import Lake, find_range, find_stale, stale_ranges
from crypto_assets.sandbox.chain_tamper import tamper

# Contracts of which the first range has logs.
USDC = "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"
WETH = "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[ChainHouse]:
    with ChainHouse(tmp_path / "home") as built:
        yield built


def test_ranges_are_committed_joined_and_found_again(house: ChainHouse) -> None:
    first = house.collect(nth(0, 1, 2))
    again = house.collect(nth(0, 1, 2))

    assert [done.error for done in first.values()] == [None] * 3
    assert all(done.is_new for done in first.values())
    assert not any(done.is_new for done in again.values())
    for key, done in again.items():
        assert done.proofs == first[key].proofs
        assert done.proofs["blocks"].row_count == SIZE
        assert done.proofs["blocks"].checks["receipts_root"] == "passed"
    middle = house.collect(nth(1), urls=TWO)[nth(1)[0].key].proofs["logs"]
    assert middle.source[0].url == "http://sandbox"
    assert not list((house.lake.home / "inflight").rglob("*.page"))


def test_fetching_again_gives_the_same_content(house: ChainHouse) -> None:
    house.collect(nth(0, 1))
    before = house.digests(0, 1)

    collector = house.collector()
    done = [*collector.collect(CHAIN, nth(0, 1), refetch=True)]

    assert all(each.is_new for each in done)
    assert house.digests(0, 1) == before
    assert None not in before


def light(*addresses: str) -> Chain:
    change = {"mode": "light", "logs_of": LogFilter(addresses=addresses)}
    return CHAIN.model_copy(update=change)


def ask(house: ChainHouse, chain: Chain) -> bool:
    """Bring the first range, and say whether it was fetched."""
    [done] = house.collector(chain=chain).collect(chain, nth(0))
    assert done.error is None
    return done.is_new


def contracts(house: ChainHouse) -> set[str]:
    """Those of which the first range holds logs."""
    part = ChainRange(CHAIN.name, nth(0)[0])
    logs = pq.read_table(house.lake.file(part.of("logs")), partitioning=None)
    return {f"0x{address.hex()}" for address in pc.unique(logs["address"]).to_pylist()}


def test_a_range_asked_for_with_another_filter_is_fetched_anew(house: ChainHouse) -> None:
    assert ask(house, light(USDC))
    assert contracts(house) == {USDC}
    assert not ask(house, light(USDC))

    assert ask(house, light(USDC, WETH))
    assert contracts(house) == {USDC, WETH}
    assert not ask(house, light(USDC, WETH))
    assert not ask(house, light(WETH, USDC)), "the same question"


def test_a_range_of_the_other_mode_is_fetched_anew(house: ChainHouse) -> None:
    assert ask(house, CHAIN)
    everything = contracts(house)
    assert ask(house, light(WETH))
    assert contracts(house) == {WETH}
    assert ask(house, CHAIN)
    assert contracts(house) == everything > {USDC, WETH}
    assert not ask(house, CHAIN)


def test_what_was_asked_for_otherwise_stays_until_its_successor_is_proven(
    house: ChainHouse,
) -> None:
    assert ask(house, light(USDC))
    before = house.digests(0)

    [done] = house.collector("dropped_log").collect(CHAIN, nth(0))

    assert isinstance(done.error, IntegrityError)
    assert house.digests(0) == before
    assert contracts(house) == {USDC}


def test_a_range_that_is_not_final_is_not_fetched(house: ChainHouse) -> None:
    collector = house.collector()
    finalized = collector.source(CHAIN).finalized()
    last = CHAIN.range_of(finalized + 1)

    [done] = collector.collect(CHAIN, [last])

    assert isinstance(done.error, NotFinalError)
    assert str(finalized) in str(done.error)
    assert house.lake.ranges(CHAIN.name) == []
    assert collector.finalized_ranges(CHAIN, finalized - 3 * SIZE)[-1] == last.beside(-1)
    assert collector.finalized_ranges(CHAIN, FIRST, FIRST + SIZE) == nth(0, 1)


def test_a_refused_range_is_kept_with_its_reason_and_leaves_the_others_alone(
    house: ChainHouse,
) -> None:
    bad = nth(1)[0]
    done = house.collect(nth(0, 1, 2), f"garbage_receipts@ethereum@{bad.first}-{bad.last}")

    refused = done[bad.key].error
    assert isinstance(refused, IntegrityError)
    assert "Run the partition again" in str(refused)
    assert [found is not None for found in house.digests(0, 1, 2)] == [True, False, True]
    [evidence] = (house.lake.home / "quarantine").rglob("evidence.json")
    kept = json.loads(evidence.read_text())
    assert (kept["chain"], kept["partition"]) == ("ethereum", bad.key)
    assert kept["reason"] == type(refused).__name__
    assert len([*evidence.parent.iterdir()]) > 1, "what was delivered is kept"
    # Once the node is mended, the next run brings it.
    assert house.collect([bad])[bad.key].error is None
    assert None not in house.digests(0, 1, 2)


def test_a_refused_refetch_leaves_what_was_committed(house: ChainHouse) -> None:
    house.collect(nth(0))
    before = house.digests(0)

    [done] = house.collector("dropped_log").collect(CHAIN, nth(0), refetch=True)

    assert isinstance(done.error, IntegrityError)
    assert house.digests(0) == before


def test_one_log_dropped_or_changed_is_never_committed_in_a_thousand_tries(
    house: ChainHouse,
) -> None:
    """Each try is a range of one block, of which the node misstates one log at random."""
    chain = CHAIN.model_copy(update={"range_size": 1})
    collector = house.collector(chain=chain, workers=1)
    node = house.app.state.nodes["ethereum"]
    rng = random.Random(20250101)
    tried = 0
    told = []
    number = FIRST
    while tried < 1000:
        number += 1
        if not collector.source(chain).facts([number])["http://sandbox"][0].log_count:
            continue
        block = chain.range_of(number)
        node.altered = {number: lambda block, receipts: told.append(tamper(block, receipts, rng))}
        for _ in range(5):
            [done] = collector.collect(chain, [block])
            assert isinstance(done.error, IntegrityError), told[-1]
            tried += 1
        node.altered = {}
    assert house.lake.ranges(CHAIN.name) == []
    assert {text.split(" ", 5)[0] for text in told} == {"log"}


def test_two_collectors_at_once_end_in_one_proven_range(house: ChainHouse) -> None:
    collectors = [house.collector(), house.collector()]
    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda c=each: results.extend(c.collect(CHAIN, nth(0, 1))))
        for each in collectors
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [done.error for done in results] == [None] * 4
    assert sum(done.is_new for done in results) == 2
    assert None not in house.digests(0, 1)


class TestReorganised:
    """The chain goes another way from the middle of range 1 on, after 0 to 2 were committed."""

    FORK = f"reorg@*@{FIRST + SIZE + 5}-"

    @pytest.fixture
    def committed(self, house: ChainHouse) -> ChainHouse:
        house.collect(nth(0, 1, 2))
        return house

    @pytest.fixture
    def expected(self, tmp_path: Path) -> list[dict[str, str] | None]:
        """What a lake holds that never saw another chain."""
        with ChainHouse(tmp_path / "other") as other:
            other.collect(nth(0, 1, 2, 3), self.FORK)
            return other.digests(0, 1, 2, 3)

    def test_a_neighbour_that_is_fetched_finds_it_range_by_range(
        self, committed: ChainHouse, expected: list[dict[str, str] | None]
    ) -> None:
        collector = committed.collector(self.FORK)

        found = []
        pending = nth(3)
        while pending:
            assert [done.error for done in collector.collect(CHAIN, pending)] == [None]
            pending = [each.part.blocks for each in stale_ranges(committed.lake, CHAIN.name)]
            found.append(pending)

        assert found == [nth(2), nth(1), []]
        assert committed.digests(0, 1, 2, 3) == expected

    def test_a_stale_range_is_not_there_and_says_why(self, committed: ChainHouse) -> None:
        stale = committed.collector(self.FORK).recheck(CHAIN, newest=2)

        assert [each.part.blocks for each in stale] == nth(1, 2)
        assert [found is not None for found in committed.digests(0, 1, 2)] == [True, False, False]
        for each in stale:
            assert find_stale(committed.lake, each.part) == each
            assert each.evidence["block"] == each.part.blocks.first or each == stale[0]
            assert each.evidence["committed_hash"] != each.evidence["chain_hash"]
            assert each.evidence["chain_hash"] in each.message
        assert committed.collector(self.FORK).recheck(CHAIN, newest=10) == []

    def test_a_recheck_of_the_same_chain_finds_nothing(self, committed: ChainHouse) -> None:
        assert committed.collector(urls=TWO).recheck(CHAIN, newest=10) == []

    def test_a_range_that_is_itself_off_the_chain_is_refused(self, house: ChainHouse) -> None:
        house.collect(nth(0, 2))
        middle = nth(1)[0]

        # Of another branch as a whole: every proof inside the range holds.
        done = house.collect([middle], f"reorg@*@{middle.first}-{middle.last}")[middle.key]

        assert isinstance(done.error, NeighbourMismatchError)
        assert stale_ranges(house.lake, CHAIN.name) == []
        assert [found is not None for found in house.digests(0, 1, 2)] == [True, False, True]

    def test_nothing_is_stale_while_nodes_disagree(self, committed: ChainHouse) -> None:
        fork = self.FORK.replace("@*@", "@ethereum@")
        collector = committed.collector(fork, urls=TWO)

        with pytest.raises(EndpointsDisagreeError, match="Nothing was marked stale") as raised:
            collector.recheck(CHAIN, newest=3)

        assert len(set(raised.value.evidence["said"].values())) == 2
        assert None not in committed.digests(0, 1, 2)


def test_facts_are_asked_of_every_node_if_there_are_several(house: ChainHouse) -> None:
    house.collect(nth(0))

    assert house.collector().node_facts(CHAIN, nth(0)) == []
    facts = house.collector(urls=TWO).node_facts(CHAIN, nth(0))

    assert {row["partition"] for row in facts} == {nth(0)[0].key}
    by_node = {row["node"]: [] for row in facts}
    for row in facts:
        by_node[row["node"]].append((row["number"], row["hash"], row["log_count"]))
    one, other = by_node.values()
    assert one == other
    assert [number for number, *_ in one][:: len(one) - 1] == [FIRST, FIRST + SIZE - 1]
    proofs = find_range(Lake(house.lake.home), ChainRange(CHAIN.name, nth(0)[0]))
    assert proofs is not None
    assert f"0x{one[0][1].hex()}" == proofs["blocks"].first_hash
