"""The packaged deployments make the pools that are known to be theirs; wrong entries are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from crypto_assets.catalog import (
    NATIVE,
    Chain,
    UniswapV2,
    UniswapV3,
    load_catalog,
    load_chains,
    project_and_version,
)
from crypto_assets.errors import CatalogError
from crypto_assets.sources.evm_pools import create2_pool, pool_id

# Pools of mainnet: deployment, tokens, fee, and the address that explorers show.
POOLS = [
    ("uniswap_v3", "USDC", "WETH", 500, "0x88e6A0c2dDD26FEEb64F039a2c41296FcB3f5640"),
    ("uniswap_v3", "USDC", "WETH", 3000, "0x8ad599c3A0ff1De082011EFDDc58f1908eb6e6D8"),
    ("uniswap_v3", "USDC", "WETH", 100, "0xE0554a476A092703abdB3Ef35c80e0D76d32939F"),
    ("uniswap_v3", "WETH", "USDT", 500, "0x11b815efB8f581194ae79006d24E0d814B7697F6"),
    ("uniswap_v3", "WETH", "USDT", 3000, "0x4e68Ccd3E89f51C3074ca5072bbAC773960dFa36"),
    ("uniswap_v3", "WBTC", "WETH", 500, "0x4585FE77225b41b697C938B018E2Ac67Ac5a20c0"),
    ("uniswap_v3", "WBTC", "WETH", 3000, "0xCBCdF9626bC03E24f779434178A73a0B4bad62eD"),
    ("uniswap_v3", "USDC", "USDT", 100, "0x3416cF6C708Da44DB2624D63ea0AAef7113527C6"),
    ("uniswap_v3", "DAI", "USDC", 100, "0x5777d92f208679DB4b9778590Fa3CAB3aC9e2168"),
    ("uniswap_v3", "WBTC", "USDC", 3000, "0x99ac8cA7087fA4A2A1FB6357269965A2014ABc35"),
    ("uniswap_v2", "USDC", "WETH", None, "0xB4e16d0168e52d35CaCD2c6185b44281Ec28C9Dc"),
    ("uniswap_v2", "WETH", "USDT", None, "0x0d4a11d5EEaaC28EC3F61d100daF4d40471f1852"),
    ("uniswap_v2", "DAI", "WETH", None, "0xA478c2975Ab1Ea89e8196811F51A7B7Ade33eB11"),
    ("uniswap_v2", "WBTC", "WETH", None, "0xBb2b8038a1640196FbE3e38816F3e67Cba72D940"),
    ("uniswap_v2", "USDC", "USDT", None, "0x3041CbD36888bECc7bbCBc0045E3B1f144466f5f"),
    ("sushiswap_v2", "USDC", "WETH", None, "0x397FF1542f962076d0BFE58eA045FfA2d347ACa0"),
]
HASH = "0x" + "ab" * 32
ONE, OTHER = "0x" + "11" * 20, "0x" + "22" * 20
V2 = f"uniswap_v2: {{factory: '{ONE}', init_code_hash: '{HASH}'}}"
TOKEN = f"{{address: '{ONE}', symbol: A, decimals: 18, role: major}}"


def unhex(address: str) -> bytes:
    return bytes.fromhex(address[2:])


def written(tmp_path: Path, protocols: str = "", tokens: str = "") -> Path:
    text = f"ethereum: {{chain_id: 1, protocols: {{{protocols}}}, tokens: [{tokens}]}}"
    (tmp_path / "chains.yaml").write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture(scope="module")
def ethereum() -> Chain:
    return load_chains().named("ethereum")


@pytest.mark.parametrize("known", POOLS)
def test_known_pools_follow_from_the_packaged_catalogue(
    ethereum: Chain, known: tuple[str, str, str, int | None, str]
) -> None:
    name, token0, token1, fee, pool = known
    deployment = ethereum.protocols[name]
    assert isinstance(deployment, UniswapV2 | UniswapV3)
    tokens = {token.symbol: unhex(token.address) for token in ethereum.tokens}
    assert create2_pool(deployment, tokens[token0], tokens[token1], fee) == unhex(pool)
    assert create2_pool(deployment, tokens[token1], tokens[token0], fee) != unhex(pool)


def test_a_pool_of_v4_has_the_id_that_it_is_known_by(ethereum: Chain) -> None:
    usdc = next(unhex(token.address) for token in ethereum.tokens if token.symbol == "USDC")
    native = bytes(20)
    found = pool_id(native, usdc, 500, 10, native)
    # ETH/USDC at 0.05 %, the largest pool of V4 on mainnet.
    assert found.hex() == "21c67e77068de97969ba93d4aab21826d33ca12bb9f565d8496e8fda8a82ca27"


def test_a_deployer_that_is_not_the_factory_makes_other_addresses(ethereum: Chain) -> None:
    deployment = ethereum.protocols["uniswap_v3"]
    assert isinstance(deployment, UniswapV3)
    forked = deployment.model_copy(update={"deployer": OTHER})
    same = deployment.model_copy(update={"deployer": deployment.factory})
    a, b = unhex(ONE), unhex(OTHER)
    assert create2_pool(forked, a, b, 500) != create2_pool(deployment, a, b, 500)
    assert create2_pool(same, a, b, 500) == create2_pool(deployment, a, b, 500)
    with pytest.raises(ValueError, match="has a fee"):
        create2_pool(deployment, a, b)


def test_tokens_have_the_price_of_an_asset_only_if_there_is_an_index_of_it(ethereum: Chain) -> None:
    bases = {listing.pair.partition("-")[0] for listing in load_catalog().listings}
    assets = {token.symbol: token.asset for token in ethereum.tokens}
    assert {asset for asset in assets.values() if asset is not None} <= bases
    assert (assets["WETH"], assets["ETH"], assets["WBTC"]) == ("ETH", "ETH", "BTC")
    assert (assets["USDC"], assets["USDT"], assets["DAI"]) == ("USDC", "USDT", None)
    stable = {token.symbol for token in ethereum.tokens if token.role == "stablecoin"}
    assert stable == {"USDC", "USDT", "DAI"}


def test_a_fork_says_what_it_is_like(tmp_path: Path) -> None:
    fork = f"a_swap_v3: {{like: uniswap_v2, factory: '{OTHER}', init_code_hash: '{HASH}'}}"
    chain = load_chains(written(tmp_path, f"{V2}, {fork}")).named("ethereum")
    found = chain.protocols["a_swap_v3"]
    assert isinstance(found, UniswapV2)
    assert (found.fee_pips, found.deployer, found.address) == (3000, None, OTHER)
    assert project_and_version("a_swap_v3") == ("a_swap", "3")


@pytest.mark.parametrize(
    ("protocols", "tokens", "words"),
    [
        (V2.replace("uniswap_v2", "curve_v1"), "", r"ethereum\.protocols\.curve_v1: .*uniswap_v2"),
        (V2.replace("{", "{like: curve_v1, "), "", r"protocols\.uniswap_v2: .*uniswap_v2"),
        (V2.replace("uniswap_v2", "uniswap"), "", "'uniswap' is no name of a deployment"),
        (V2.replace("uniswap_v2", "Uniswap_v2"), "", "'Uniswap_v2' is no name"),
        (V2.replace("uniswap_v2", "uniswap_v2_v"), "", "'uniswap_v2_v' is no name"),
        (V2.replace(ONE, "0x11"), "", r"factory: String should match"),
        (
            V2.replace(ONE, "0x5C69bEe701ef814a2B6a3EDD4B1652CB9cc5aA6F"),
            "",
            "0x5C69bEe701ef814a2B6a3EDD4B1652CB9cc5aA6f",
        ),
        (V2.replace(HASH, ONE), "", r"init_code_hash: String should match"),
        (V2.replace("}", ", pool_manager: 1}"), "", "pool_manager: Extra inputs"),
        (V2.replace("}", ", fee_pips: 1000000}"), "", "fee_pips"),
        (V2.replace("}", ", fee_pips: 0.3}"), "", "fee_pips"),
        ("uniswap_v4: {}", "", "pool_manager: Field required"),
        ("aave_v3: 1", "", r"protocols\.aave_v3"),
        (f"{V2}, a_v1: {{like: aave_v3, pool: '{ONE}'}}", "", "listed twice, as uniswap_v2 and as"),
        (f"{V2}, {V2}", "", "'uniswap_v2' is there twice"),
        ("", f"{TOKEN}, {TOKEN.replace('A', 'B')}", f"{ONE} is listed twice, as A and as B"),
        ("", TOKEN.replace("major", "minor"), r"tokens\.0\.role"),
        ("", TOKEN.replace("18", "78"), r"tokens\.0\.decimals"),
        ("", TOKEN.replace("18", "'18'"), r"tokens\.0\.decimals"),
        ("", TOKEN.replace("major", "native"), "A: role native is that of the address"),
        ("", TOKEN.replace(ONE, NATIVE), "A: role native is that of the address"),
        ("", TOKEN.replace("major", "major, asset: eth"), r"tokens\.0\.asset"),
        ("", TOKEN.replace("symbol: A, ", ""), "symbol: Field required"),
        (
            "",
            f"{TOKEN}, {TOKEN.replace(ONE, OTHER)}".replace("major", "wrapped_native"),
            "wrapped_native is listed twice",
        ),
    ],
)
def test_wrong_entry_is_named(tmp_path: Path, protocols: str, tokens: str, words: str) -> None:
    with pytest.raises(CatalogError, match=words) as caught:
        load_chains(written(tmp_path, protocols, tokens))
    assert str(tmp_path / "chains.yaml") in str(caught.value)


def test_addresses_are_lower_case_whatever_case_they_are_written_in(tmp_path: Path) -> None:
    for written_as in (ONE.replace("1", "a"), "0x" + "A" * 40):
        token = TOKEN.replace(ONE, written_as)
        (found,) = load_chains(written(tmp_path, "", token)).named("ethereum").tokens
        assert found.address == "0x" + "a" * 40
