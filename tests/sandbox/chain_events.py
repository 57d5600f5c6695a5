"""Events and calls of the sandbox chain, decoded by eth-abi, which shares no code with it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from eth_abi.abi import decode
from eth_hash.auto import keccak

from crypto_assets.sandbox.chain_contracts import answers
from crypto_assets.sandbox.chain_world import ChainSpec, branch

from .chain_truth import Json, block_of, data

FIRST = ChainSpec().first
USDC = "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"
USDT = "0xdac17f958d2ee523a2206206994597c13d831ec7"
WETH = "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2"
WBTC = "0x2260fac5e5542a773aa44fbcfedf7c193bc2c599"
DAI = "0x6b175474e89094c44da98b954eedeac495271d0f"
LAST = FIRST + 2000
NOBODY = "0x" + "00" * 20

V2_FACTORY = "0x5c69bee701ef814a2b6a3edd4b1652cb9cc5aa6f"
V3_FACTORY = "0x1f98431c8ad98523631ae4a59f267346ea31f984"
SUSHI = "0xc0aee478e3658e2610c5f7a4a2e1777ce9e4f2ac"
MANAGER = "0x000000000004444c5dc75cb358380d2e3de08a90"
POSITIONS = "0xbd216513d74c8cf14cf4747e6aaa6420ff64ee9e"
CODE = {
    V2_FACTORY: "96e8ac4277198ff8b6f785478aa9a39f403cb768dd02cbee326c3e7da348845f",
    SUSHI: "e18a34eb0e04b04f7a0ac29a6e80748dca96319b42c54d679cb821dca90c6303",
    V3_FACTORY: "e34f199b19b2b4f47f68442619d555527d244f78a3297ea89325f843f87b8b54",
}
# The project's own table of addresses, which come from the documentation of Uniswap.
OF_MAINNET = {
    "0x88e6a0c2ddd26feeb64f039a2c41296fcb3f5640", "0x11b815efb8f581194ae79006d24e0d814b7697f6",
    "0xcbcdf9626bc03e24f779434178a73a0b4bad62ed", "0x3416cf6c708da44db2624d63ea0aaef7113527c6",
    "0xb4e16d0168e52d35cacd2c6185b44281ec28c9dc", "0x0d4a11d5eeaac28ec3f61d100daf4d40471f1852",
    "0x397ff1542f962076d0bfe58ea045ffa2d347aca0",
}  # fmt: skip

# FACTS: which of the parameters are topics, marked by "*".
_SIGNATURES = """
Transfer *address *address uint256
PairCreated *address *address address uint256
V2Swap *address uint256 uint256 uint256 uint256 *address
Sync uint112 uint112
V2Mint *address uint256 uint256
V2Burn *address uint256 uint256 *address
PoolCreated *address *address *uint24 int24 address
V3Initialize uint160 int24
V3Swap *address *address int256 int256 uint160 uint128 int24
V3Mint address *address *int24 *int24 uint128 uint256 uint256
Flash *address *address uint256 uint256 uint256 uint256
V4Initialize *bytes32 *address *address uint24 int24 address uint160 int24
V4Swap *bytes32 *address int128 int128 uint160 uint128 int24 uint24
Supply *address address *address uint256 *uint16
Withdraw *address *address *address uint256
Borrow *address address *address uint256 uint8 uint256 *uint16
Repay *address *address *address uint256 bool
LiquidationCall *address *address *address uint256 uint256 address bool
DeficitCreated *address *address uint256
FlashLoan *address address *address uint256 uint8 uint256 *uint16
ReserveDataUpdated *address uint256 uint256 uint256 uint256 uint256
Issue uint256
Redeem uint256
DestroyedBlackFunds address uint256
"""


class Event(NamedTuple):
    """One event: what it is, who emitted it, its values in the order of the signature, where."""

    name: str
    address: str
    values: tuple[Any, ...]
    block: int
    log_index: int
    transaction: str
    time: int


def _signatures() -> dict[str, tuple[str, list[str]]]:
    known = {}
    for line in _SIGNATURES.strip().splitlines():
        name, *types = line.split()
        plain = ",".join(one.lstrip("*") for one in types)
        written = f"{name.removeprefix('V2').removeprefix('V3').removeprefix('V4')}({plain})"
        known[f"0x{keccak(written.encode()).hex()}"] = (name, types)
    return known


KNOWN = _signatures()


@lru_cache(maxsize=1)
def events() -> tuple[Event, ...]:
    """Every known event of the first 2,000 blocks."""
    return tuple(_events(FIRST, FIRST + 2000))


def named(*names: str, of: str | None = None) -> list[Event]:
    return [one for one in events() if one.name in names and of in (None, one.address)]


def in_first_range(found: list[Event]) -> list[Event]:
    return [one for one in found if one.block < FIRST + 1000]


def _events(first: int, end: int) -> Iterator[Event]:
    for number in range(first, end):
        block, receipts = block_of(number, branch(ChainSpec()))
        for receipt in receipts:
            for log in receipt["logs"]:
                if log["topics"] and log["topics"][0] in KNOWN:
                    is_nft = KNOWN[log["topics"][0]][0] == "Transfer" and log["data"] == "0x"
                    if not is_nft:
                        yield decoded(log, int(block["timestamp"], 16))


def decoded(log: Json, time: int) -> Event:
    """Raises unless topics and data are exactly what the signature says."""
    name, types = KNOWN[log["topics"][0]]
    topics = [data(topic) for topic in log["topics"][1:]]
    indexed = [one[1:] for one in types if one[0] == "*"]
    rest = [one for one in types if one[0] != "*"]
    assert len(topics) == len(indexed), name
    assert len(data(log["data"])) == 32 * len(rest), name
    from_topics = iter(
        [decode([kind], topic)[0] for kind, topic in zip(indexed, topics, strict=True)]
    )
    from_data = iter(decode(rest, data(log["data"])))
    values = tuple(next(from_topics) if one[0] == "*" else next(from_data) for one in types)
    return Event(
        name,
        log["address"],
        tuple(f"0x{one.hex()}" if isinstance(one, bytes) else one for one in values),
        int(log["blockNumber"], 16),
        int(log["logIndex"], 16),
        log["transactionHash"],
        time,
    )


def asked(to: str, signature: str, kind: str, number: int, argument: bytes = b"") -> Any:
    """What a contract answers, decoded; `kind` is the types of it, with commas between."""
    answer = answers(data(to), keccak(signature.encode())[:4] + argument, number)
    assert answer is not None, (to, signature)
    found = decode(kind.split(","), answer)
    return found if "," in kind else found[0]


def create2(factory: str, salt: str) -> str:
    packed = bytes.fromhex(f"ff{factory[2:]}{keccak(bytes.fromhex(salt)).hex()}{CODE[factory]}")
    return f"0x{keccak(packed)[12:].hex()}"


@lru_cache(maxsize=64)
def pair(pool: str) -> tuple[str, str, str]:
    token0, token1, factory = (
        asked(pool, f"{name}()", "address", LAST) for name in ("token0", "token1", "factory")
    )
    return token0, token1, factory


@lru_cache(maxsize=64)
def pool_key(pool_id: str) -> tuple[str, str, int, int, str]:
    shortened = bytes.fromhex(pool_id[2:52]).ljust(32, b"\0")
    kind = "address,address,uint24,int24,address"
    found: tuple[str, str, int, int, str] = asked(
        POSITIONS, "poolKeys(bytes25)", kind, LAST, shortened
    )
    return found


@lru_cache(maxsize=64)
def fee_of(pool: str) -> int:
    found: int = asked(pool, "fee()", "uint24", LAST)
    return found


@lru_cache(maxsize=64)
def is_genuine(pool: str, fee: int | None = None) -> bool:
    token0, token1, factory = pair(pool)
    salt = token0[2:] + token1[2:]
    if fee is not None:
        salt = f"{token0[2:]:0>64}{token1[2:]:0>64}{fee:064x}"
    return factory in CODE and create2(factory, salt) == pool
