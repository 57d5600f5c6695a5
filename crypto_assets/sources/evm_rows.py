"""What an EVM chain's rows are: its three datasets, and their columns from proven structs. Pure.

Every value keeps its full width: hashes, addresses and data are bytes; wei are decimals of 38
digits, and where a protocol sets no bound, a second column holds the bytes of what has more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain as chained
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import Struct
from msgspec.structs import astuple

from crypto_assets.catalog import Chain, Dataset
from crypto_assets.errors import MalformedRowError, MisplacedReceiptError, MissingReceiptError
from crypto_assets.sources.evm_types import (
    Block,
    HashedBlock,
    Header,
    Log,
    Receipt,
    Transaction,
)
from crypto_assets.sources.hex_columns import (
    WEI,
    binary,
    binary_numbers,
    fixed,
    fixed_array,
    integers,
    optional_integers,
    seconds,
    small_wei,
    timestamps,
    wei,
    words,
    words_of_numbers,
)

_TOPICS = 4
_OF_LOGS = {"transaction_index", "transaction_hash", "address", "topics", "data", "log_index"}
_T = TypeVar("_T")
_Given = Mapping[str, pa.Array]
_Fields = Mapping[str, Sequence[Any]]


class Rows(NamedTuple):
    """The rows of some blocks, one batch for each dataset of their chain, in key order."""

    blocks: pa.RecordBatch
    transactions: pa.RecordBatch
    logs: pa.RecordBatch


class _Kind(NamedTuple):
    type: pa.DataType
    make: Callable[[Sequence[Any]], pa.Array]


class _Column(NamedTuple):
    name: str
    kind: _Kind
    may_be_null: bool
    field: str


def _json(values: Sequence[Any]) -> pa.Array:
    texts = [
        None if value is None else "[]" if value == [] else msgspec.json.encode(value).decode()
        for value in values
    ]
    return pa.array(texts, pa.string())


_HASH = _Kind(pa.binary(32), partial(fixed, size=32))
_ADDRESS = _Kind(pa.binary(20), partial(fixed, size=20))
_NONCE = _Kind(pa.binary(8), partial(fixed, size=8))
_BLOOM = _Kind(pa.binary(256), partial(fixed, size=256))
_DATA = _Kind(pa.binary(), binary)
_NUMBER = _Kind(pa.binary(), binary_numbers)
_WORD = _Kind(pa.binary(32), words_of_numbers)
_INT = _Kind(pa.int64(), partial(optional_integers, data_type=pa.int64()))
_UINT = _Kind(pa.uint64(), partial(optional_integers, data_type=pa.uint64()))
_WEI = _Kind(WEI, small_wei)
_TIME = _Kind(pa.timestamp("us"), lambda values: timestamps(seconds(values)))
_JSON = _Kind(pa.string(), _json)


def _is(kind: _Kind, *names: str, **fields: str) -> list[_Column]:
    """Columns that are always there; `fields` say where one with another name comes from."""
    named = {name: name for name in names} | fields
    return [_Column(name, kind, False, field) for name, field in named.items()]


def _may(kind: _Kind, *names: str, **fields: str) -> list[_Column]:
    """Columns that some forks, nodes or rows lack."""
    return [column._replace(may_be_null=True) for column in _is(kind, *names, **fields)]


_BLOCKS = (
    *_is(_INT, "number"),
    *_is(_HASH, "hash", "parent_hash"),
    *_is(_TIME, "timestamp"),
    *_is(_ADDRESS, "miner"),
    *_is(_INT, "gas_limit", "gas_used"),
    *_may(_WEI, "base_fee_per_gas", "difficulty"),
    *_may(_NUMBER, "difficulty_overflow"),
    *_may(_INT, "size"),
    *_is(_INT, "transaction_count"),
    *_may(_INT, "log_count"),
    *_is(_INT, "uncle_count"),
    *_is(_NONCE, "nonce"),
    *_is(_HASH, "mix_hash"),
    *_is(_DATA, "extra_data"),
    *_is(_HASH, "sha3_uncles", "state_root", "transactions_root", "receipts_root"),
    *_is(_BLOOM, "logs_bloom"),
    *_may(_HASH, "withdrawals_root"),
    *_may(_INT, "withdrawal_count", "blob_gas_used", "excess_blob_gas"),
    *_may(_HASH, "parent_beacon_block_root", "requests_hash"),
    *_may(_JSON, "extra"),
)
# Of each transaction, what it says itself, and then what its receipt says.
_TRANSACTIONS = (
    *_is(_INT, "block_number", "transaction_index"),
    *_is(_HASH, "hash"),
    *_is(_TIME, "block_timestamp"),
    *_is(_INT, "type"),
    *_is(_ADDRESS, from_address="sender"),
    *_may(_ADDRESS, to_address="to"),
    *_is(_UINT, "nonce"),
    *_may(_WEI, "value"),
    *_may(_NUMBER, "value_overflow"),
    *_is(_INT, "gas"),
    *_may(_WEI, "gas_price", "max_fee_per_gas", "max_priority_fee_per_gas"),
    *_is(_DATA, "input"),
    *_may(_JSON, "access_list"),
    *_may(_WEI, "max_fee_per_blob_gas"),
    *_may(_JSON, "blob_versioned_hashes", "authorization_list"),
    *_may(_NUMBER, "v"),
    *_may(_WORD, "r", "s"),
)
_RECEIPTS = (
    *_may(_INT, "status"),
    *_may(_HASH, "root"),
    *_is(_INT, "cumulative_gas_used", "gas_used"),
    *_may(_WEI, "effective_gas_price"),
    *_may(_ADDRESS, "contract_address"),
    *_is(_INT, "log_count"),
    *_may(_INT, "blob_gas_used"),
    *_may(_WEI, "blob_gas_price"),
    *_may(_JSON, "extra"),
)
_LOGS = (
    *_is(_INT, "block_number", "log_index"),
    *_is(_TIME, "block_timestamp"),
    *_is(_INT, "transaction_index"),
    *_is(_HASH, "transaction_hash"),
    *_is(_ADDRESS, "address"),
    *_may(_HASH, *(f"topic{place}" for place in range(_TOPICS))),
    *_is(_DATA, "data"),
)


def _schema(columns: Iterable[_Column]) -> pa.Schema:
    return pa.schema([pa.field(name, kind.type, nullable=may) for name, kind, may, _ in columns])


BLOCKS = _schema(_BLOCKS)
TRANSACTIONS = _schema((*_TRANSACTIONS, *_RECEIPTS))
LOGS = _schema(_LOGS)


def datasets(chain: Chain) -> tuple[Dataset, Dataset, Dataset]:
    """The datasets of a chain: blocks, transactions with their receipts, logs."""
    return (
        Dataset(
            name=chain.dataset("blocks"),
            venue=chain.name,
            description=f"Headers of {chain.name}, one row per block.",
            schema=BLOCKS,
            key=("number",),
            time_column="timestamp",
            position_column="number",
        ),
        Dataset(
            name=chain.dataset("transactions"),
            venue=chain.name,
            description=f"Transactions of {chain.name} with their receipts, one row each.",
            schema=TRANSACTIONS,
            key=("block_number", "transaction_index"),
            time_column="block_timestamp",
            position_column="block_number",
        ),
        Dataset(
            name=chain.dataset("logs"),
            venue=chain.name,
            description=f"Logs that contracts of {chain.name} emitted, one row each.",
            schema=LOGS,
            key=("block_number", "log_index"),
            time_column="block_timestamp",
            position_column="block_number",
        ),
    )


def rows_of(blocks: Sequence[Block], receipts: Sequence[Sequence[Receipt]]) -> Rows:
    """The rows of blocks, and of the receipts of each.

    Raises MissingReceiptError or MisplacedReceiptError if those are not of its transactions,
    MalformedRowError for a value that does not fit its column.
    """
    what = _named(blocks)
    of_blocks = _fields(Block, blocks)
    own = _fields(Transaction, list(chained.from_iterable(of_blocks["transactions"])))
    all_receipts = list(chained.from_iterable(receipts))
    outcomes = _fields(Receipt, all_receipts)
    if own["hash"] != outcomes["transaction_hash"]:
        raise _mismatch(blocks, receipts)
    if any(outcomes["root"]):
        outcomes["root"] = [receipt.state_root for receipt in all_receipts]
        outcomes["status"] = [receipt.outcome for receipt in all_receipts]
    in_block, logged = _sizes(of_blocks["transactions"]), _sizes(outcomes["logs"])
    # Rows of transactions and logs say which block they are of by their place in it.
    numbers = np.repeat(_try(integers, of_blocks["number"], "number", what), in_block)
    times = np.repeat(_try(seconds, of_blocks["timestamp"], "timestamp", what), in_block)
    indexes = np.arange(len(numbers)) - np.repeat(np.cumsum(in_block) - in_block, in_block)
    hashes = _try(partial(words, size=32), own["hash"], "hash", what)
    value, value_overflow = _try(wei, own["value"], "value", what)
    parities = [
        parity if v is None else v for v, parity in zip(own["v"], own["y_parity"], strict=True)
    ]
    given = {
        "block_number": pa.array(numbers),
        "transaction_index": pa.array(indexes),
        "hash": fixed_array(hashes),
        "block_timestamp": timestamps(times),
        "value": value,
        "value_overflow": value_overflow,
        "v": _try(binary_numbers, parities, "v", what),
    }
    of_receipts = {
        "log_count": pa.array(logged),
        "extra": _extra(own["extra"], outcomes["extra"]),
    }
    log_counts = [sum(len(outcome.logs) for outcome in of_block) for of_block in receipts]
    return Rows(
        _blocks(of_blocks, pa.array(log_counts, pa.int64()), what),
        pa.RecordBatch.from_arrays(
            [
                *_arrays(_TRANSACTIONS, own, given, what),
                *_arrays(_RECEIPTS, outcomes, of_receipts, what),
            ],
            schema=TRANSACTIONS,
        ),
        _logs(
            list(chained.from_iterable(outcomes["logs"])),
            {
                "block_number": pa.array(np.repeat(numbers, logged)),
                "block_timestamp": timestamps(np.repeat(times, logged)),
                "transaction_index": pa.array(np.repeat(indexes, logged)),
                "transaction_hash": fixed_array(np.repeat(hashes, logged, axis=0)),
            },
            what,
        ),
    )


def light_rows_of(blocks: Sequence[HashedBlock], logs: Sequence[Sequence[Log]]) -> Rows:
    """The rows of blocks, and of those logs of each that were asked for: no transactions.

    How many logs a block has is not known, and null. Raises MalformedRowError.
    """
    what, counts = _named(blocks), _sizes(logs)
    of_blocks = _fields(HashedBlock, blocks)
    numbers = _try(integers, of_blocks["number"], "number", what)
    times = _try(seconds, of_blocks["timestamp"], "timestamp", what)
    given = {
        "block_number": pa.array(np.repeat(numbers, counts)),
        "block_timestamp": timestamps(np.repeat(times, counts)),
    }
    return Rows(
        _blocks(of_blocks, pa.nulls(len(blocks), pa.int64()), what),
        pa.RecordBatch.from_pylist([], schema=TRANSACTIONS),
        _logs(list(chained.from_iterable(logs)), given, what),
    )


def _blocks(fields: _Fields, log_counts: pa.Array, what: str) -> pa.RecordBatch:
    difficulty, overflow = _try(wei, fields["difficulty"], "difficulty", what)
    withdrawals = [None if each is None else len(each) for each in fields["withdrawals"]]
    given = {
        "difficulty": difficulty,
        "difficulty_overflow": overflow,
        "transaction_count": pa.array(_sizes(fields["transactions"])),
        "log_count": log_counts,
        "uncle_count": pa.array(_sizes(fields["uncles"])),
        "withdrawal_count": pa.array(withdrawals, pa.int64()),
    }
    return pa.RecordBatch.from_arrays(_arrays(_BLOCKS, fields, given, what), schema=BLOCKS)


def _logs(logs: Sequence[Log], given: _Given, what: str) -> pa.RecordBatch:
    # All ten fields would take four times as long as the few that are wanted.
    fields = {name: list(map(attrgetter(name), logs)) for name in _OF_LOGS - given.keys()}
    counts = _sizes(fields["topics"])
    if counts.size and counts.max() > _TOPICS:
        raise MalformedRowError(f"{what}: a log has {counts.max()} topics, the EVM knows {_TOPICS}")
    flat = list(chained.from_iterable(fields["topics"]))
    topics = _try(partial(fixed, size=32), flat, "topics", what)
    starts = np.cumsum(counts) - counts
    columns = {
        f"topic{place}": topics.take(pa.array(starts + place, mask=counts <= place))
        for place in range(_TOPICS)
    }
    arrays = _arrays(_LOGS, fields, {**given, **columns}, what)
    return pa.RecordBatch.from_arrays(arrays, schema=LOGS)


def _fields(kind: type[Struct], items: Sequence[Struct]) -> dict[str, Sequence[Any]]:
    """The values of each field of some structs: in one go, a quarter of what getattr takes."""
    names = kind.__struct_fields__
    if not items:
        return dict.fromkeys(names, ())
    return dict(zip(names, zip(*map(astuple, items), strict=True), strict=True))


def _arrays(
    columns: Iterable[_Column], fields: _Fields, given: _Given, what: str
) -> list[pa.Array]:
    """The columns, in order; those that do not come straight from a field are given."""
    arrays = []
    for column in columns:
        array = given.get(column.name)
        if array is None:
            array = _array(column, fields[column.field], what)
        if array.null_count and not column.may_be_null:
            raise MalformedRowError(f"{what}: {column.name} is missing", column=column.name)
        arrays.append(array)
    return arrays


def _array(column: _Column, values: Sequence[Any], what: str) -> pa.Array:
    if not any(values) and all(value is None for value in values):
        return pa.nulls(len(values), column.kind.type)
    return _try(column.kind.make, values, column.name, what)


def _try(make: Callable[[Any], _T], values: Sequence[Any], column: str, what: str) -> _T:
    try:
        return make(values)
    except (ValueError, OverflowError, TypeError) as error:  # pyarrow's errors are ValueErrors
        raise MalformedRowError(
            f"{what}: a value of {column} does not fit its column: {error}", column=column
        ) from error


def _mismatch(
    blocks: Sequence[Block], receipts: Sequence[Sequence[Receipt]]
) -> MisplacedReceiptError | MissingReceiptError:
    """A transaction and its receipt become one row, but of some block they do not belong together.

    Hashes of transactions are unique: if all are in order, those of each block are.
    """
    for block, of_block in zip(blocks, receipts, strict=True):
        own = [transaction.hash for transaction in block.transactions]
        if own != [receipt.transaction_hash for receipt in of_block]:
            break
    kind = MisplacedReceiptError if len(own) == len(of_block) else MissingReceiptError
    return kind(
        f"block {block.number}: its {len(of_block)} receipts are not those of its {len(own)} "
        "transactions; ask another endpoint for it",
        block=block.number,
    )


def _extra(own: Sequence[Any], of_receipts: Sequence[Any]) -> pa.Array:
    if not any(own) and not any(of_receipts):
        return pa.nulls(len(own), pa.string())
    return _json(
        [
            {"transaction": one or {}, "receipt": other or {}} if one or other else None
            for one, other in zip(own, of_receipts, strict=True)
        ]
    )


def _named(blocks: Sequence[Header]) -> str:
    return f"blocks {blocks[0].number} to {blocks[-1].number}" if blocks else "no blocks"


def _sizes(lists: Sequence[Sequence[Any]]) -> npt.NDArray[np.int64]:
    return np.fromiter(map(len, lists), np.int64, len(lists))
