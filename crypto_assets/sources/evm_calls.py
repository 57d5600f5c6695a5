"""Which contracts must be asked what, so that the events of a range can be understood. Pure.

An event of a pool does not say which tokens it trades, nor an amount how many decimals it has: only
the contracts know. Two rounds: pools, which name their tokens, and then those. Any contract may
emit any event and answer anything, so nothing here takes an answer for the truth.

Signatures: Uniswap's IUniswapV2Pair, IUniswapV3Pool and PositionManager of V4; EIP-20.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from crypto_assets.catalog import (
    CALLS,
    NATIVE,
    AaveV3,
    BlockRange,
    Chain,
    Dataset,
    UniswapV2,
    UniswapV3,
    UniswapV4,
)
from crypto_assets.sources.evm_pools import address_in, number_in, pool_id
from crypto_assets.sources.evm_rows import datasets
from crypto_assets.sources.trie import keccak256

# To be raised when other calls are asked for, so that ranges are asked again.
_RULES = 1

FINALIZED, BEFORE, LAST = "finalized", "before", "last"
RETURNED, REVERTED, UNAVAILABLE = "returned", "reverted", "unavailable"
# Two nodes say different things of a contract that anyone may have made.
DISPUTED = "disputed"

_TOKENS = ("token0()", "token1()")
_FACTORY, _FEE, _POOL_KEYS = "factory()", "fee()", "poolKeys(bytes25)"
_METADATA = ("symbol()", "decimals()")
_SUPPLY = "totalSupply()"
SELECTORS = {
    call: keccak256(call.encode())[:4]
    for call in (*_TOKENS, _FACTORY, _FEE, _POOL_KEYS, *_METADATA, _SUPPLY)
}
"""How the input of each call begins."""


def _topic(event: str) -> bytes:
    return keccak256(event.encode())


_V2_SWAP = _topic("Swap(address,uint256,uint256,uint256,uint256,address)")
_V2_SYNC = _topic("Sync(uint112,uint112)")
_V2_CREATED = _topic("PairCreated(address,address,address,uint256)")
_V3_SWAP = _topic("Swap(address,address,int256,int256,uint160,uint128,int24)")
_V3_CREATED = _topic("PoolCreated(address,address,uint24,int24,address)")
_V4_SWAP = _topic("Swap(bytes32,address,int128,int128,uint160,uint128,int24,uint24)")
_V4_CREATED = _topic("Initialize(bytes32,address,address,uint24,int24,address,uint160,int24)")
# By event of Aave the indexed fields that are reserves, of its three.
_RESERVES = {
    _topic("Supply(address,address,address,uint256,uint16)"): (1,),
    _topic("Withdraw(address,address,address,uint256)"): (1,),
    _topic("Borrow(address,address,address,uint256,uint8,uint256,uint16)"): (1,),
    _topic("Repay(address,address,address,uint256,bool)"): (1,),
    _topic("LiquidationCall(address,address,address,uint256,uint256,address,bool)"): (1, 2),
    _topic("ReserveDataUpdated(address,uint256,uint256,uint256,uint256,uint256)"): (1,),
    _topic("FlashLoan(address,address,address,uint256,uint8,uint256,uint16)"): (2,),
    _topic("DeficitCreated(address,address,uint256)"): (2,),
    _topic("MintedToTreasury(address,uint256)"): (1,),
}
_EVENTS = (_V2_SWAP, _V2_SYNC, _V2_CREATED, _V3_SWAP, _V3_CREATED, _V4_SWAP, _V4_CREATED)
_COLUMNS = ("address", "topic0", "topic1", "topic2", "topic3")

CALLS_SCHEMA = pa.schema(
    [
        pa.field("address", pa.binary(20), nullable=False),
        pa.field("call", pa.string(), nullable=False),
        pa.field("argument", pa.binary(), nullable=False),
        pa.field("as_of", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("result", pa.binary()),
    ]
)


class ContractCall(NamedTuple):
    """One call of a contract; `argument` is its encoded argument, or empty."""

    address: bytes
    call: str
    argument: bytes
    as_of: str

    @property
    def data(self) -> bytes:
        """The input of the call."""
        return SELECTORS[self.call] + self.argument


class Answer(NamedTuple):
    """What came of a call; `result` is None unless it returned."""

    status: str
    result: bytes | None


Answers = Mapping[ContractCall, Answer]


class Event(NamedTuple):
    """Of some logs that are alike in it, all that tells which contracts matter."""

    address: bytes
    topic0: bytes
    topic1: bytes | None
    topic2: bytes | None
    topic3: bytes | None


def calls_dataset(chain: Chain) -> Dataset:
    """The dataset of a chain's calls."""
    return Dataset(
        name=chain.dataset(CALLS),
        venue=chain.name,
        description=f"What contracts of {chain.name} answered about the logs, one row per call.",
        schema=CALLS_SCHEMA,
        key=("address", "call", "argument", "as_of"),
        time_column=None,
    )


def all_datasets(chain: Chain) -> tuple[Dataset, ...]:
    """The datasets of a chain in the order they are committed: the three, and the calls."""
    return (*datasets(chain), calls_dataset(chain))


def asked_for(chain: Chain) -> str:
    """What decides, beside the logs, which calls are asked for, as JSON."""
    protocols = {name: each.model_dump() for name, each in sorted(chain.protocols.items())}
    tokens = sorted((token.address, token.role) for token in chain.tokens)
    return msgspec.json.encode([_RULES, chain.chain_id, protocols, tokens]).decode()


def read_events(logs: str) -> list[Event]:
    """The events of a file of logs that may matter, each once."""
    wanted = pa.array([*_EVENTS, *_RESERVES], pa.binary(32))
    table = pq.read_table(
        logs, columns=[*_COLUMNS], filters=pc.field("topic0").isin(wanted), partitioning=None
    )
    distinct = table.group_by([*_COLUMNS], use_threads=False).aggregate([])
    return [Event(**row) for row in distinct.select([*_COLUMNS]).to_pylist()]


def pool_calls(chain: Chain, events: Iterable[Event]) -> set[ContractCall]:
    """The first round: what pools are."""
    events = list(events)
    pairs = {event.address for event in events if event.topic0 in (_V2_SWAP, _V2_SYNC)}
    pools = {event.address for event in events if event.topic0 == _V3_SWAP}
    wanted = {
        *(_call(pool, call) for pool in pairs | pools for call in (*_TOKENS, _FACTORY)),
        *(_call(pool, _FEE) for pool in pools),
    }
    for deployment in chain.protocols.values():
        if isinstance(deployment, UniswapV4) and deployment.position_manager is not None:
            own = [event for event in events if event.address == _bytes(deployment.pool_manager)]
            named = {event.topic1 for event in own if event.topic0 == _V4_CREATED}
            manager = _bytes(deployment.position_manager)
            wanted |= {
                ContractCall(manager, _POOL_KEYS, event.topic1[:25].ljust(32, b"\0"), FINALIZED)
                for event in own
                if event.topic0 == _V4_SWAP and event.topic1 and event.topic1 not in named
            }
    return wanted


def token_calls(
    chain: Chain, blocks: BlockRange, events: Iterable[Event], pools: Answers
) -> set[ContractCall]:
    """The second round: what the tokens of pools and reserves are, and supplies of stablecoins."""
    tokens = {*_named_by_events(chain, events), *_named_by_pools(pools)}
    tokens |= {_bytes(token.address) for token in chain.tokens}
    wanted = {_call(token, call) for token in tokens - {_bytes(NATIVE)} for call in _METADATA}
    for token in chain.tokens:
        if token.role == "stablecoin":
            wanted |= {
                ContractCall(_bytes(token.address), _SUPPLY, b"", as_of)
                for as_of in (BEFORE, LAST)
                # Before the first block of all there is no supply.
                if as_of == LAST or blocks.first > 0
            }
    return wanted


def listed_contracts(chain: Chain) -> set[bytes]:
    """The contracts that the catalogue names, and so are none that was made to mislead."""
    listed = {_bytes(token.address) for token in chain.tokens}
    for deployment in chain.protocols.values():
        listed.add(_bytes(deployment.address))
        if isinstance(deployment, UniswapV4) and deployment.position_manager is not None:
            listed.add(_bytes(deployment.position_manager))
    return listed


def block_of(as_of: str, blocks: BlockRange, finalized: int) -> int:
    """The number of the block whose state a call of a range asks for."""
    return {FINALIZED: finalized, BEFORE: blocks.first - 1, LAST: blocks.last}[as_of]


def rows_of(answers: Answers) -> pa.RecordBatch:
    """The rows of some answers, in key order."""
    rows = [(*call, *answers[call]) for call in sorted(answers)]
    columns = list(zip(*rows, strict=True)) or [()] * len(CALLS_SCHEMA)
    return pa.RecordBatch.from_arrays(
        [pa.array(column, field.type) for field, column in zip(CALLS_SCHEMA, columns, strict=True)],
        schema=CALLS_SCHEMA,
    )


def read_answers(calls: str) -> dict[ContractCall, Answer]:
    """The answers in a committed file."""
    table = pq.read_table(calls, columns=CALLS_SCHEMA.names, partitioning=None)
    columns = (table[name].to_pylist() for name in CALLS_SCHEMA.names)
    return {ContractCall(*row[:4]): Answer(*row[4:]) for row in zip(*columns, strict=True)}


def is_lasting(call: ContractCall, answer: Answer) -> bool:
    """Whether an answer may stand for that to the same call another time.

    Where nothing was answered there may be a contract, or a pool's key, by then.
    """
    is_known = key_of(call, answer) is not None if call.call == _POOL_KEYS else answer.result
    return call.as_of == FINALIZED and answer.status == RETURNED and bool(is_known)


def key_of(call: ContractCall, answer: Answer) -> tuple[bytes, bytes, int, int, bytes] | None:
    """The key of a V4 pool that `poolKeys` told: both currencies, fee, tick spacing, hooks.

    None if it is not one, or not that of the id that was asked about, of which only the first 25
    bytes are.
    """
    result = answer.result
    currency0, currency1, hooks = (address_in(result, place) for place in (0, 1, 4))
    fee = number_in(result, 2, bits=24)
    tick_spacing = number_in(result, 3, bits=24, signed=True)
    if call.call != _POOL_KEYS or currency0 is None or currency1 is None or hooks is None:
        return None
    if fee is None or tick_spacing is None:
        return None
    key = currency0, currency1, fee, tick_spacing, hooks
    return key if pool_id(*key)[:25] == call.argument[:25] else None


def _named_by_events(chain: Chain, events: Iterable[Event]) -> Iterator[bytes]:
    """Tokens of the indexed fields of events of the catalogue's contracts."""
    places: dict[tuple[bytes, bytes], tuple[int, ...]] = {}
    for deployment in chain.protocols.values():
        address = _bytes(deployment.address)
        match deployment:
            case UniswapV2():
                places[address, _V2_CREATED] = (1, 2)
            case UniswapV3():
                places[address, _V3_CREATED] = (1, 2)
            case UniswapV4():
                places[address, _V4_CREATED] = (2, 3)
            case AaveV3():
                places |= {(address, event): fields for event, fields in _RESERVES.items()}
    for event in events:
        for place in places.get((event.address, event.topic0), ()):
            token = address_in((event.topic1, event.topic2, event.topic3)[place - 1])
            if token is not None:
                yield token


def _named_by_pools(pools: Answers) -> Iterator[bytes]:
    """Tokens that pools say they trade; those of V4 only if that is proven."""
    for call, answer in pools.items():
        if call.call in _TOKENS and (token := address_in(answer.result)) is not None:
            yield token
        if (key := key_of(call, answer)) is not None:
            yield from key[:2]


def _call(address: bytes, call: str) -> ContractCall:
    return ContractCall(address, call, b"", FINALIZED)


def _bytes(address: str) -> bytes:
    return bytes.fromhex(address[2:])
