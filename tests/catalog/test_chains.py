"""Block ranges are aligned, and each wrong entry of a catalogue of chains is named."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_assets.catalog import KINDS, BlockRange, Chain, LogFilter, load_catalog, load_chains
from crypto_assets.errors import CatalogError

ETHEREUM = Chain(name="ethereum", chain_id=1, slot_seconds=12)
ADDRESS, TOPIC = "0x" + "Ab" * 20, "0x" + "cd" * 32
blocks = st.integers(0, 400_000_000)


def written(tmp_path: Path, text: str) -> Path:
    (tmp_path / "chains.yaml").write_text(text, encoding="utf-8")
    return tmp_path


def test_packaged_catalogue_is_sound() -> None:
    chains = load_chains()
    assert chains.names == ("ethereum",)
    ethereum = chains.named("ethereum")
    assert Chain(**(ethereum.model_dump() | {"protocols": {}, "tokens": ()})) == ETHEREUM
    assert Chain(**ethereum.model_dump()) == ethereum
    assert hash(Chain(**ethereum.model_dump())) == hash(ethereum)


def test_a_chain_is_an_entry_and_nothing_else(tmp_path: Path) -> None:
    text = f"""
    base: {{chain_id: 8453, first_block: 1500, range_size: 500, slot_seconds: 2}}
    gnosis: {{chain_id: 100, mode: light, logs_of: {{addresses: ["{ADDRESS}"]}}}}
    polygon: {{chain_id: 137, mode: light, logs_of: {{topics: ["{TOPIC}"], addresses: []}}}}
    """
    base, gnosis, polygon = load_chains(written(tmp_path, text)).chains
    assert [base.dataset(kind) for kind in KINDS] == [
        "base_blocks",
        "base_transactions",
        "base_logs",
    ]
    assert (base.chain_id, base.first_block, base.range_size) == (8453, 1500, 500)
    assert (gnosis.mode, gnosis.logs_of) == ("light", LogFilter(addresses=(ADDRESS.lower(),)))
    assert polygon.logs_of == LogFilter(topics=(TOPIC,))


def test_a_folder_replaces_only_the_file_that_it_holds(tmp_path: Path) -> None:
    written(tmp_path, "base: {chain_id: 8453}")
    assert load_chains(tmp_path).names == ("base",)
    assert load_catalog(tmp_path) == load_catalog()
    (tmp_path / "chains.yaml").rename(tmp_path / "kept")
    (tmp_path / "markets.yaml").write_text(
        "kraken: [{market: BTC-USD, symbol: XBTUSD, since: 2013-09-10}]"
    )
    assert load_chains(tmp_path) == load_chains()
    assert load_catalog(tmp_path).venues == ("kraken",)


def test_a_folder_without_a_catalogue_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"chains\.yaml.*set CRYPTO_ASSETS_CATALOG"):
        load_chains(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "valid dictionary"),
        ("[]", "valid dictionary"),
        ("ethereum: 1", "ethereum: Input should"),
        ("ethereum: {chain_id: 1", "is not valid YAML"),
        ("ethereum: {}", "ethereum.chain_id: Field required"),
        ("Ethereum: {chain_id: 1}", "Ethereum"),
        ("eth-1: {chain_id: 1}", "eth-1"),
        ("../x: {chain_id: 1}", r"\.\./x"),
        ("ethereum: {chain_id: '1'}", "ethereum.chain_id: Input should be a valid integer"),
        ("ethereum: {chain_id: true}", "ethereum.chain_id: Input should be a valid integer"),
        ("ethereum: {chain_id: 0}", "ethereum.chain_id"),
        ("ethereum: {chain_id: 1, first_block: -1}", "ethereum.first_block"),
        ("ethereum: {chain_id: 1, first_block: 1.5}", "ethereum.first_block"),
        ("ethereum: {chain_id: 1, range_size: 0}", "ethereum.range_size"),
        ("ethereum: {chain_id: 1, slot_seconds: 0}", "ethereum.slot_seconds"),
        ("ethereum: {chain_id: 1, size: 1000}", "ethereum.size: Extra inputs"),
        ("ethereum: {chain_id: 1, mode: archive}", "ethereum.mode"),
        ("ethereum: {chain_id: 1, mode: light}", "mode light needs logs_of"),
        ("ethereum: {chain_id: 1, mode: light, logs_of: {}}", "mode light needs logs_of"),
        (f"ethereum: {{chain_id: 1, logs_of: {{topics: ['{TOPIC}']}}}}", "without it"),
        (
            f"ethereum: {{chain_id: 1, mode: light, logs_of: {{topics: ['{ADDRESS}']}}}}",
            "ethereum.logs_of.topics.0",
        ),
        (
            "ethereum: {chain_id: 1, mode: light, logs_of: {addresses: [0xab]}}",
            "ethereum.logs_of.addresses.0",
        ),
    ],
)
def test_wrong_entry_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(CatalogError, match=words) as caught:
        load_chains(written(tmp_path, text))
    assert str(tmp_path / "chains.yaml") in str(caught.value)


def test_every_wrong_entry_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(CatalogError) as caught:
        load_chains(written(tmp_path, "a: {chain_id: 0}\nb: {range_size: 5}"))
    message = str(caught.value)
    assert "a.chain_id" in message
    assert "b.chain_id" in message
    assert "An entry looks like ethereum: {chain_id: 1" in message


def test_unknown_chain_is_named_with_those_there_are() -> None:
    with pytest.raises(CatalogError, match=r"chain 'solana' is not in chains\.yaml.*ethereum"):
        load_chains().named("solana")


def test_a_range_is_written_as_its_key() -> None:
    found = ETHEREUM.range_of(18_426_500)
    assert found == BlockRange(18_426_000, 18_426_999)
    assert found.key == str(found) == "018426000-018426999"
    assert (found.size, found.beside(1).key) == (1000, "018427000-018427999")
    assert found.beside(1).beside(-1) == found


@given(blocks, st.integers(1, 100_000))
def test_every_block_is_in_exactly_one_range(block: int, size: int) -> None:
    chain = Chain(name="x", chain_id=1, range_size=size)
    found = chain.range_of(block)
    assert found.first <= block <= found.last
    assert (found.size, found.first % size) == (size, 0)
    assert chain.range_of(found.first) == chain.range_of(found.last) == found
    assert chain.range_of(found.last + 1) == found.beside(1)
    assert BlockRange.parse(found.key) == found


@given(blocks, st.integers(0, 5_000), st.integers(100, 3_000))
def test_blocks_are_widened_to_whole_ranges_without_a_hole(
    first: int, more: int, size: int
) -> None:
    chain = Chain(name="x", chain_id=1, range_size=size)
    found = chain.ranges(first, first + more)
    assert found[0] == chain.range_of(first)
    assert found[-1] == chain.range_of(first + more)
    assert all(one.beside(1) == other for one, other in pairwise(found))


@given(st.lists(blocks, max_size=20))
def test_keys_sort_as_ranges_do(numbers: list[int]) -> None:
    ranges = [ETHEREUM.range_of(number) for number in numbers]
    assert [found.key for found in sorted(ranges)] == sorted(found.key for found in ranges)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "2024-01-01",
        "18426000-18426999",
        "018426999-018426000",
        "018426000-018426999 ",
        "018426000-018426999\n",
        "-00001000--00000001",
        "\u066018426000-018426999",
        "0018426000-0018426999",
    ],
)
def test_other_keys_are_no_ranges(key: str) -> None:
    with pytest.raises(ValueError, match="is no block range"):
        BlockRange.parse(key)
