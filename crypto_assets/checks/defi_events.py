"""The first topics of the events that DeFi suites count, made from their signatures.

The models take them from a list (macro `topic0`): counting by hashes of our own finds an entry that
is wrong there.
"""

from __future__ import annotations

from crypto_assets.sources.trie import keccak256


def topic(signature: str) -> str:
    """The first topic of an event, by its signature, as a BLOB in SQL."""
    return f"from_hex('{keccak256(signature.encode()).hex()}')"


TRANSFER = topic("Transfer(address,address,uint256)")
# Protocol of a Swap event, as in raw.deployments, and its topic.
SWAPS = {
    "uniswap_v2": topic("Swap(address,uint256,uint256,uint256,uint256,address)"),
    "uniswap_v3": topic("Swap(address,address,int256,int256,uint160,uint128,int24)"),
    "uniswap_v4": topic("Swap(bytes32,address,int128,int128,uint160,uint128,int24,uint24)"),
}
# Three topics and so many words of data: what calls itself a Swap and has others is another event.
SWAP_WORDS = {"uniswap_v2": 4, "uniswap_v3": 5, "uniswap_v4": 6}


def swap_protocol() -> str:
    """The protocol of a log in SQL, by its first topic and its shape; NULL if it is no Swap."""
    whens = " ".join(
        f"when topic0 = {first} and octet_length(data) >= {32 * SWAP_WORDS[name]} then '{name}'"
        for name, first in SWAPS.items()
    )
    return f"case when topic2 is null or topic3 is not null then null {whens} end"


SUPPLY = topic("Supply(address,address,address,uint256,uint16)")
WITHDRAW = topic("Withdraw(address,address,address,uint256)")
BORROW = topic("Borrow(address,address,address,uint256,uint8,uint256,uint16)")
REPAY = topic("Repay(address,address,address,uint256,bool)")
LIQUIDATION = topic("LiquidationCall(address,address,address,uint256,uint256,address,bool)")
DEFICIT = topic("DeficitCreated(address,address,uint256)")
RESERVE_UPDATE = topic("ReserveDataUpdated(address,uint256,uint256,uint256,uint256,uint256)")
