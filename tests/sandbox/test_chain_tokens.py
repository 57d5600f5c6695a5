"""Supplies of stablecoins, and what contracts of the sandbox chain answer."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from eth_hash.auto import keccak

from crypto_assets.sandbox.chain_calls import address
from crypto_assets.sandbox.chain_contracts import answers
from crypto_assets.sandbox.chain_world import ChainSpec

from .chain_events import (
    DAI,
    FIRST,
    NOBODY,
    USDC,
    USDT,
    WBTC,
    WETH,
    asked,
    events,
    in_first_range,
    named,
)
from .chain_truth import data

END = FIRST + 2000
SUPPLY = "totalSupply()"


def made(name: str) -> str:
    return f"0x{address(f'token {name}').hex()}"


def call(to: str, signature: str, number: int = END, argument: bytes = b"") -> bytes | None:
    return answers(data(to), keccak(signature.encode())[:4] + argument, number)


@pytest.mark.parametrize("coin", [USDC, USDT, DAI])
def test_a_supply_changes_by_what_is_minted_and_burned(coin: str) -> None:
    changes: dict[int, int] = defaultdict(int)
    kinds = Counter[str]()
    for one in events():
        if one.address != coin:
            continue
        if one.name == "Transfer":
            sender, receiver, amount = one.values
            assert amount > 0
            sign = (sender == NOBODY) - (receiver == NOBODY)
            changes[one.block] += sign * amount
            kinds["minted" if sign > 0 else "burned" if sign < 0 else "moved"] += 1
        elif one.name in ("Issue", "Redeem", "DestroyedBlackFunds"):
            changes[one.block] += one.values[-1] * (1 if one.name == "Issue" else -1)
            kinds[one.name] += 1 if one.block < FIRST + 1000 else 0
    supplies = [asked(coin, SUPPLY, "uint256", number) for number in range(FIRST - 1, END)]
    for number in range(FIRST, END):
        at = number - FIRST
        assert supplies[at + 1] - supplies[at] == changes[number]
    assert len({*supplies}) > 100
    expected = {"Issue", "Redeem", "DestroyedBlackFunds"} if coin == USDT else {"minted", "burned"}
    assert {*kinds} - {"moved"} == expected
    assert min(kinds[name] for name in expected) >= 2


def test_some_blocks_have_both_a_mint_and_a_burn() -> None:
    minted = {one.block for one in named("Transfer", of=USDC) if one.values[0] == NOBODY}
    burned = {one.block for one in named("Transfer", of=USDC) if one.values[1] == NOBODY}
    assert len(minted & burned) > 10
    assert minted ^ burned


def test_seizures_are_rare() -> None:
    seen = Counter(
        one.name for one in in_first_range(named("Issue", "Redeem", "DestroyedBlackFunds"))
    )
    assert 2 <= seen["DestroyedBlackFunds"] < seen["Redeem"]


def test_tokens_answer_symbol_and_decimals() -> None:
    known = {USDC: ("USDC", 6), USDT: ("USDT", 6), WETH: ("WETH", 18), WBTC: ("WBTC", 8)}
    for token, (symbol, decimals) in known.items():
        assert asked(token, "symbol()", "string", FIRST) == symbol
        assert asked(token, "decimals()", "uint8", FIRST) == decimals
        assert asked(token, SUPPLY, "uint256", FIRST) > 0


def test_some_tokens_answer_nonsense_or_nothing() -> None:
    maker = "0x9f8f72aa9304c8b593d555f12ef6589cc3a579a2"
    assert call(maker, "symbol()") == b"MKR".ljust(32, b"\0")
    assert call(made("MUTE"), "decimals()") is None
    assert asked(made("MUTE"), "symbol()", "string", END) == "MUTE"
    assert asked(made("ABSURD"), "decimals()", "uint256", END) == 255
    assert call(USDC, "nothing()") is None
    assert call(WETH, "nothing()") == b""  # its fallback takes it for a deposit


def test_nothing_answers_where_no_code_is_or_not_yet() -> None:
    spark = made("SPARK")
    (created,) = {one.block for one in named("Transfer", of=spark) if one.values[0] == NOBODY}
    assert call(spark, "decimals()", created - 1) == b""
    assert asked(spark, "decimals()", "uint8", created) == 18
    (pair,) = (one for one in named("PairCreated"))
    (pool,) = (one for one in named("PoolCreated"))
    for one, contract in ((pair, pair.values[2]), (pool, pool.values[4])):
        assert call(contract, "token0()", one.block - 1) == b""
        assert asked(contract, "token0()", "address", one.block) == one.values[0]
    assert call(NOBODY, "decimals()") == b""
    assert call("0x" + "12" * 20, "token0()") == b""
    assert call(pair.values[2], "fee()") is None
    assert call("0x000000000004444c5dc75cb358380d2e3de08a90", "token0()") is None


def test_a_pool_key_is_known_from_its_initialize_on() -> None:
    positions = "0xbd216513d74c8cf14cf4747e6aaa6420ff64ee9e"
    for one in named("V4Initialize"):
        shortened = data(one.values[0])[:25].ljust(32, b"\0")
        kind = "address,address,uint24,int24,address"
        found = asked(positions, "poolKeys(bytes25)", kind, one.block, shortened)
        assert found == one.values[1:6]
        assert call(positions, "poolKeys(bytes25)", one.block - 1, shortened) == bytes(160)
    assert call(positions, "poolKeys(bytes25)", END, bytes(32)) == bytes(160)
    assert call(positions, "poolKeys(bytes25)") is None


def test_every_contract_that_emits_an_event_has_code() -> None:
    silent = {one.address for one in events() if call(one.address, "nothing()") == b""}
    assert silent <= {WETH}


def test_the_chain_answers_unless_told_otherwise() -> None:
    assert ChainSpec().answers is answers
