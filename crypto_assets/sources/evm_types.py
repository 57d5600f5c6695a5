"""Blocks, transactions, receipts and logs as a node's JSON-RPC delivers them.

Values stay the hex strings of the wire. A field that some node, fork or chain leaves out is None.
A field that is not named here goes into `extra` of its block, transaction or receipt. Nothing is
checked beyond the JSON types; what the values claim is proven in `evm_proof`.

Fields: https://github.com/ethereum/execution-apis (src/schemas)
"""

from __future__ import annotations

from typing import Any, Generic, TypeAlias, TypeVar

import msgspec
from msgspec import Struct, field

from crypto_assets.errors import UnexpectedReplyError

Json: TypeAlias = bytes | msgspec.Raw
T = TypeVar("T")

# The name that unknown fields are put under between JSON and struct; no node has a field like it.
_EXTRA = " extra"
_HASH_DIGITS = len("0x") + 2 * 32


class Wire(Struct, frozen=True, kw_only=True, gc=False, rename="camel", omit_defaults=True):
    """An object of the wire: camelCase there, snake_case here. It holds no cycles, so no GC."""


class AccessListEntry(Wire, frozen=True, kw_only=True, gc=False):
    """One contract of a transaction's access list (EIP-2930)."""

    address: str
    storage_keys: list[str] | None = None


class Authorization(Wire, frozen=True, kw_only=True, gc=False):
    """One signed delegation of an account to code (EIP-7702)."""

    chain_id: str
    address: str
    nonce: str
    y_parity: str
    r: str
    s: str


class Withdrawal(Wire, frozen=True, kw_only=True, gc=False):
    """One payment from the beacon chain (EIP-4895); `amount` in Gwei."""

    index: str
    validator_index: str
    address: str
    amount: str


class Transaction(Wire, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """A transaction of any type in its block.

    `v`, `r` and `s` are None only in types that nobody signs, such as deposits of rollups.
    """

    hash: str
    block_hash: str
    block_number: str
    transaction_index: str
    type: str = "0x0"
    chain_id: str | None = None
    sender: str = field(name="from")
    to: str | None = None
    nonce: str
    value: str
    gas: str
    gas_price: str | None = None
    max_fee_per_gas: str | None = None
    max_priority_fee_per_gas: str | None = None
    max_fee_per_blob_gas: str | None = None
    input: str
    access_list: list[AccessListEntry] | None = None
    blob_versioned_hashes: list[str] | None = None
    authorization_list: list[Authorization] | None = None
    y_parity: str | None = None
    v: str | None = None
    r: str | None = None
    s: str | None = None
    block_timestamp: str | None = None
    extra: dict[str, Any] | None = field(default=None, name=_EXTRA)

    @property
    def parity(self) -> str | None:
        """What is signed last but two, by whichever name the node delivers it."""
        return self.y_parity if self.v is None else self.v


class Log(Wire, frozen=True, kw_only=True, gc=False):
    """An event that a contract emitted."""

    address: str
    topics: list[str]
    data: str
    block_hash: str
    block_number: str
    transaction_hash: str
    transaction_index: str
    log_index: str
    removed: bool = False
    block_timestamp: str | None = None


class Receipt(Wire, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """What came of one transaction: a state `root` before Byzantium, a `status` since.

    Some nodes deliver both, or an empty root; `state_root` and `outcome` are what is hashed.
    """

    transaction_hash: str
    transaction_index: str
    block_hash: str
    block_number: str
    type: str | None = None
    sender: str | None = field(default=None, name="from")
    to: str | None = None
    contract_address: str | None = None
    status: str | None = None
    root: str | None = None
    cumulative_gas_used: str
    gas_used: str
    effective_gas_price: str | None = None
    blob_gas_used: str | None = None
    blob_gas_price: str | None = None
    logs: list[Log]
    logs_bloom: str
    extra: dict[str, Any] | None = field(default=None, name=_EXTRA)

    @property
    def state_root(self) -> str | None:
        """State after the transaction, before Byzantium."""
        return self.root if self.root and len(self.root) == _HASH_DIGITS else None

    @property
    def outcome(self) -> str | None:
        """Whether it succeeded, since Byzantium."""
        return None if self.state_root else self.status


class Header(Wire, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """A block without its transactions; the fields of its header in the order they are hashed.

    From `base_fee_per_gas` on, each is there since the fork that brought it.
    """

    parent_hash: str
    sha3_uncles: str
    miner: str
    state_root: str
    transactions_root: str
    receipts_root: str
    logs_bloom: str
    difficulty: str
    number: str
    gas_limit: str
    gas_used: str
    timestamp: str
    extra_data: str
    mix_hash: str
    nonce: str
    base_fee_per_gas: str | None = None
    withdrawals_root: str | None = None
    blob_gas_used: str | None = None
    excess_blob_gas: str | None = None
    parent_beacon_block_root: str | None = None
    requests_hash: str | None = None

    hash: str
    size: str | None = None
    total_difficulty: str | None = None
    uncles: list[str] = []
    withdrawals: list[Withdrawal] | None = None
    extra: dict[str, Any] | None = field(default=None, name=_EXTRA)


class Block(Header, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """A block with its transactions in full."""

    transactions: list[Transaction]


class HashedBlock(Header, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """A block that only names its transactions, which is enough where only logs are wanted."""

    transactions: list[str]


class Reader(Generic[T]):
    """Reads one kind of result from its JSON; None for null, which is how a node says "not here".

    Raises UnexpectedReplyError if it is something else. Structs refuse unknown fields, which costs
    nothing; only a result that has some is read again, slower, to put them into `extra`.
    """

    def __init__(self, result: Any, item: type[Wire]) -> None:
        self._decoder: msgspec.json.Decoder[T | None] = msgspec.json.Decoder(result | None)
        self._item = item

    def __call__(self, data: Json, what: str) -> T | None:
        """The result in `data`; `what` names it in an error, for example "block 17 of ethereum"."""
        try:
            try:
                return self._decoder.decode(data)
            except msgspec.ValidationError as error:
                if "unknown field" not in str(error):
                    raise
            result = msgspec.json.decode(data)
            _set_aside(result, self._item)
            return msgspec.convert(result, self._decoder.type)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UnexpectedReplyError(
                f"{what}: the reply is not what JSON-RPC of Ethereum documents ({error}); another "
                f"endpoint may do better: {bytes(data)[:120]!r}"
            ) from error


read_block: Reader[Block] = Reader(Block, Block)
read_hashed_block: Reader[HashedBlock] = Reader(HashedBlock, HashedBlock)
read_receipts: Reader[list[Receipt]] = Reader(list[Receipt], Receipt)
read_receipt: Reader[Receipt] = Reader(Receipt, Receipt)
read_logs: Reader[list[Log]] = Reader(list[Log], Log)


def _set_aside(result: Any, kind: type[Wire]) -> None:
    """Move the fields that `kind` does not know into one field that it knows, in place."""
    for item in result if isinstance(result, list) else [result]:
        if not isinstance(item, dict):
            continue
        unknown = item.keys() - set(kind.__struct_encode_fields__)
        if unknown:
            item[_EXTRA] = {name: item.pop(name) for name in sorted(unknown)}
        if kind is Block:
            _set_aside(item.get("transactions"), Transaction)
