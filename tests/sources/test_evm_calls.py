"""Which contracts a range's events ask about, and what is made of what they answer."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_assets.catalog import BlockRange, Chain, load_chains
from crypto_assets.sources.evm_calls import (
    CALLS_SCHEMA,
    Answer,
    ContractCall,
    Event,
    all_datasets,
    asked_for,
    block_of,
    calls_dataset,
    is_lasting,
    key_of,
    pool_calls,
    read_answers,
    read_events,
    rows_of,
    token_calls,
)
from crypto_assets.sources.evm_pools import address_in, number_in, pool_id, word
from crypto_assets.sources.evm_rows import LOGS

CHAIN = load_chains().named("ethereum")
BARE = Chain(name="ethereum", chain_id=1)
BLOCKS = BlockRange(1000, 1999)
TRUSTED = {bytes.fromhex(token.address[2:]) for token in CHAIN.tokens}
# Topics as explorers show them.
V2_SWAP = bytes.fromhex("d78ad95fa46c994b6551d0da85fc275fe613ce37657fb8d5e3d130840159d822")
V2_SYNC = bytes.fromhex("1c411e9a96e071241c2f21f7726b17ae89e3cab4c78be50e062b03a9fffbbad1")
V2_CREATED = bytes.fromhex("0d3648bd0f6ba80134a33ba9275ac585d9d315f0ad8355cddefde31afa28d0e9")
V3_SWAP = bytes.fromhex("c42079f94a6350d7e6235f29174924f928cc2ac818eb64fed8004e115fbcca67")
V3_CREATED = bytes.fromhex("783cca1c0412dd0d695e784568c96da2e9c22ff989357a2e8b1d9b2b4e6b7118")
V4_SWAP = bytes.fromhex("40e9cecb9f5f1f1c5b9c97dec2917b7ee92e57ba5563708daca94dd84ad7112f")
V4_CREATED = bytes.fromhex("dd466e674ea557f56295e2d0218a125ea4b4f0f6f3307b95f85e6110838d6438")
SUPPLY = bytes.fromhex("2b627736bca15cd5381dcf80b0bf11fd197d01a037c52b927a881a10fb73ba61")
FLASH_LOAN = bytes.fromhex("efefaba5e921573100900a3ad9cf29f222d995fb3b6045797eaea7521bd8d6f0")
LIQUIDATION = bytes.fromhex("e413a321e8681d831f4dbccbca790d2952b56f977908e45be37335533e005286")
TRANSFER = bytes.fromhex("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef")
A, B, C, POOL = (bytes([n]) * 20 for n in (0xAA, 0xBB, 0xCC, 0xDD))
ID = bytes(range(32))


def at(name: str) -> bytes:
    return bytes.fromhex(CHAIN.protocols[name].address[2:])


def event(address: bytes, topic0: bytes, *topics: bytes) -> Event:
    return Event(address, topic0, *topics, *[None] * (3 - len(topics)))


def asked(calls: set[ContractCall]) -> dict[bytes, set[str]]:
    found: dict[bytes, set[str]] = {}
    for call in calls:
        found.setdefault(call.address, set()).add(call.call)
    return found


def tokens_asked(*events: Event, pools: dict[ContractCall, Answer] | None = None) -> set[bytes]:
    calls = token_calls(CHAIN, BLOCKS, events, pools or {})
    found = {call.address for call in calls if call.call in {"symbol()", "decimals()"}}
    assert all({"symbol()", "decimals()"} <= asked(calls)[token] for token in found)
    return found - TRUSTED


@pytest.mark.parametrize("topic0", [V2_SWAP, V2_SYNC])
def test_a_pair_is_asked_for_its_tokens_and_its_maker(topic0: bytes) -> None:
    calls = pool_calls(BARE, [event(POOL, topic0)])
    assert asked(calls) == {POOL: {"token0()", "token1()", "factory()"}}
    assert {(call.argument, call.as_of) for call in calls} == {(b"", "finalized")}
    assert {call.data.hex() for call in calls} == {"0dfe1681", "d21220a7", "c45a0155"}


def test_a_pool_of_v3_has_a_fee_of_its_own_too() -> None:
    calls = pool_calls(BARE, [event(POOL, V3_SWAP, word(A), word(B)), event(POOL, V2_SYNC)])
    assert asked(calls) == {POOL: {"token0()", "token1()", "factory()", "fee()"}}
    assert "ddca3f43" in {call.data.hex() for call in calls}


def test_other_events_ask_nothing() -> None:
    assert pool_calls(CHAIN, [event(POOL, TRANSFER), event(POOL, V4_SWAP, ID, A)]) == set()


def test_a_pool_of_v4_is_looked_up_unless_its_key_is_in_the_range() -> None:
    manager = at("uniswap_v4")
    swap = event(manager, V4_SWAP, ID, word(A))
    (call,) = pool_calls(CHAIN, [swap])
    assert call.address.hex() == "bd216513d74c8cf14cf4747e6aaa6420ff64ee9e"
    assert (call.call, call.argument) == ("poolKeys(bytes25)", ID[:25] + bytes(7))
    assert call.data.hex()[:8] == "86b6be7d"
    assert pool_calls(CHAIN, [swap, event(manager, V4_CREATED, ID, word(A), word(B))]) == set()
    # Whoever else says so has initialised nothing.
    assert len(pool_calls(CHAIN, [swap, event(POOL, V4_CREATED, ID, word(A), word(B))])) == 1
    v4 = {name: one for name, one in CHAIN.protocols.items() if name == "uniswap_v4"}
    alone = v4["uniswap_v4"].model_copy(update={"position_manager": None})
    without = CHAIN.model_copy(update={"protocols": {"uniswap_v4": alone}})
    assert pool_calls(without, [swap]) == set()


def test_tokens_are_those_that_pools_say() -> None:
    said = {
        ContractCall(POOL, "token0()", b"", "finalized"): Answer("returned", word(A)),
        ContractCall(POOL, "token1()", b"", "finalized"): Answer("returned", b"\1" * 32),
        ContractCall(POOL, "factory()", b"", "finalized"): Answer("returned", word(C)),
        ContractCall(C, "token0()", b"", "finalized"): Answer("returned", b""),
        ContractCall(C, "token1()", b"", "finalized"): Answer("reverted", None),
    }
    assert tokens_asked(pools=said) == {A}


def test_tokens_of_a_v4_pool_are_asked_only_if_its_key_is_proven() -> None:
    key = (bytes(20), A, 500, -10, C)
    result = b"".join((word(bytes(20)), word(A), (500).to_bytes(32, "big"),
                       (-10).to_bytes(32, "big", signed=True), word(C)))  # fmt: skip
    argument = pool_id(*key)[:25].ljust(32, b"\0")
    call = ContractCall(POOL, "poolKeys(bytes25)", argument, "finalized")
    assert key_of(call, Answer("returned", result)) == key
    assert tokens_asked(pools={call: Answer("returned", result)}) == {A}
    other = call._replace(argument=ID)
    for wrong in (bytes(160), result[:-1], b"", result[:64] + b"\xff" * 32 + result[96:]):
        assert key_of(call, Answer("returned", wrong)) is None
    assert key_of(other, Answer("returned", result)) is None
    assert tokens_asked(pools={other: Answer("returned", result)}) == set()
    assert is_lasting(call, Answer("returned", result))
    assert not is_lasting(call, Answer("returned", bytes(160)))


def test_tokens_are_those_of_events_of_the_catalogue_and_of_no_other() -> None:
    pool = at("aave_v3")
    assert tokens_asked(event(pool, SUPPLY, word(A), word(B))) == {A}
    assert tokens_asked(event(pool, FLASH_LOAN, word(C), word(A))) == {A}
    assert tokens_asked(event(pool, LIQUIDATION, word(A), word(B), word(C))) == {A, B}
    assert tokens_asked(event(at("uniswap_v4"), V4_CREATED, ID, bytes(32), word(B))) == {B}
    assert tokens_asked(event(at("sushiswap_v2"), V2_CREATED, word(A), word(B))) == {A, B}
    assert tokens_asked(event(at("uniswap_v3"), V3_CREATED, word(A), word(B), word(C))) == {A, B}
    assert tokens_asked(event(C, SUPPLY, word(A), word(B))) == set()
    assert tokens_asked(event(pool, SUPPLY)) == set()


def test_trusted_tokens_are_asked_and_stablecoins_for_their_supply() -> None:
    calls = token_calls(CHAIN, BLOCKS, [], {})
    found = asked(calls)
    assert found.keys() == TRUSTED - {bytes(20)}
    supplied = {call.address for call in calls if call.call == "totalSupply()"}
    stable = {token.address for token in CHAIN.tokens if token.role == "stablecoin"}
    assert {f"0x{address.hex()}" for address in supplied} == stable
    as_of = {call.as_of for call in calls if call.call == "totalSupply()"}
    assert as_of == {"before", "last"}
    assert [block_of(each, BLOCKS, 5000) for each in ("before", "last", "finalized")] == [
        999, 1999, 5000,
    ]  # fmt: skip
    first = token_calls(CHAIN, BlockRange(0, 999), [], {})
    assert {call.as_of for call in first if call.call == "totalSupply()"} == {"last"}


def test_only_answers_of_contracts_about_themselves_last() -> None:
    symbol = ContractCall(A, "symbol()", b"", "finalized")
    assert is_lasting(symbol, Answer("returned", b"\1"))
    assert not is_lasting(symbol, Answer("returned", b""))
    assert not is_lasting(symbol, Answer("reverted", None))
    assert not is_lasting(symbol._replace(as_of="last"), Answer("returned", b"\1"))


def test_events_are_read_once_each_from_a_file_of_logs(tmp_path: Path) -> None:
    def log(address: bytes, *topics: bytes) -> dict[str, object]:
        names = [f"topic{place}" for place in range(4)]
        return dict(zip(names, [*topics, *[None] * (4 - len(topics))], strict=True)) | {
            "block_number": 1, "log_index": 1, "block_timestamp": 0, "transaction_index": 0,
            "transaction_hash": bytes(32), "address": address, "data": b"",
        }  # fmt: skip

    logs = [log(POOL, V2_SYNC), log(POOL, V2_SYNC), log(POOL, TRANSFER), log(POOL)]
    logs += [log(at("uniswap_v4"), V4_SWAP, ID, word(A))] * 3
    pq.write_table(pa.Table.from_pylist(logs, schema=LOGS), tmp_path / "logs.parquet")
    assert sorted(read_events(str(tmp_path / "logs.parquet")), key=lambda one: one.topic0) == [
        event(POOL, V2_SYNC),
        event(at("uniswap_v4"), V4_SWAP, ID, word(A)),
    ]
    pq.write_table(LOGS.empty_table(), tmp_path / "none.parquet")
    assert read_events(str(tmp_path / "none.parquet")) == []


@given(
    st.dictionaries(
        st.builds(
            ContractCall,
            st.binary(min_size=20, max_size=20),
            st.sampled_from(["token0()", "symbol()"]),
            st.binary(max_size=32),
            st.sampled_from(["finalized", "before"]),
        ),
        st.builds(Answer, st.just("returned"), st.binary(max_size=40))
        | st.just(Answer("reverted", None)),
        max_size=9,
    )
)
def test_rows_are_in_key_order_and_read_as_written(answers: dict[ContractCall, Answer]) -> None:
    rows = rows_of(answers)
    assert rows.schema == CALLS_SCHEMA
    keys = [tuple(row.values())[:4] for row in rows.to_pylist()]
    assert keys == sorted(answers)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_batches([rows]), sink)
    assert read_answers(pa.BufferReader(sink.getvalue())) == answers  # type: ignore[arg-type]


@given(st.binary(max_size=100), st.integers(0, 3))
def test_words_are_read_or_refused(encoded: bytes, place: int) -> None:
    content = encoded[32 * place : 32 * place + 32]
    is_whole = len(content) == 32
    assert (address_in(encoded, place) is None) == (not is_whole or any(content[:12]))
    number = number_in(encoded, place, bits=256)
    assert number == (int.from_bytes(content, "big") if is_whole else None)
    assert address_in(None) is None


def test_numbers_are_of_the_size_that_is_asked() -> None:
    assert number_in(b"\xff" * 32, bits=24, signed=True) == -1
    assert number_in(b"\xff" * 32, bits=24) is None
    assert number_in((1 << 23).to_bytes(32, "big"), bits=24, signed=True) is None
    assert number_in((1 << 24).to_bytes(32, "big"), bits=24) is None


def test_what_decides_the_calls_is_told_apart() -> None:
    assert asked_for(CHAIN) == asked_for(Chain(**CHAIN.model_dump()))
    fewer = CHAIN.model_copy(update={"tokens": CHAIN.tokens[:-1]})
    none = CHAIN.model_copy(update={"protocols": {}})
    assert len({asked_for(CHAIN), asked_for(fewer), asked_for(none)}) == 3
    assert asked_for(CHAIN.model_copy(update={"tokens": CHAIN.tokens[::-1]})) == asked_for(CHAIN)


def test_the_dataset_is_one_of_the_chain() -> None:
    dataset = calls_dataset(CHAIN)
    assert all_datasets(CHAIN)[-1] == dataset
    assert (dataset.name, dataset.venue) == ("ethereum_calls", "ethereum")
    assert set(dataset.key) <= set(dataset.schema.names)
