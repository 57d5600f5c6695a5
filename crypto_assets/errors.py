"""Every error that this package raises on purpose, and what a caller may do about each kind.

    CryptoAssetsError
    ├── SettingsError            the environment or a command is wrong: fix it, nothing was started
    ├── CatalogError             markets.yaml or chains.yaml is wrong: fix it, nothing was started
    ├── StorageError             the data folder cannot be written: fix it, then run again
    ├── SourceError              a source did not deliver
    │   ├── TransientSourceError     worth another attempt, after `retry_after` seconds if set
    │   └── PermanentSourceError     the same request will fail again
    └── IntegrityError           a source delivered something that cannot be proven: quarantined

An integrity error is named after the claim that broke; its class name is the quarantine reason.
`lake` and `sources` raise from this one tree and neither imports the other, so it lives above both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class CryptoAssetsError(Exception):
    """Root of the tree. The message says what went wrong, where, and what to do."""


class SettingsError(CryptoAssetsError):
    """A setting, environment variable or command argument is missing or wrong."""


class CatalogError(CryptoAssetsError):
    """A catalogue file cannot be read or contradicts itself."""


class StorageError(CryptoAssetsError):
    """The data folder refused a write (read-only, full, wrong owner). Nothing was committed."""


class SourceError(CryptoAssetsError):
    """A source did not deliver what was asked."""


class TransientSourceError(SourceError):
    """A fault that time heals: rate limit, server error, connection lost.

    `retry_after` is the pause in seconds that the source asked for, if it did.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RateLimitedError(TransientSourceError):
    """The source said 429: slow down."""


class BannedError(TransientSourceError):
    """The source said 418: this address is banned for `retry_after` seconds."""


class ServerFaultError(TransientSourceError):
    """The source answered with a server error."""


class ConnectionFaultError(TransientSourceError):
    """The connection failed, timed out, or ended in the middle of the body."""


class CircuitOpenError(TransientSourceError):
    """The host failed too often in a row and is left alone for `retry_after` seconds."""


class BlockMissingError(TransientSourceError):
    """The node has not this block yet, or no longer: ask later, or another node."""


class PermanentSourceError(SourceError):
    """The same request would fail again: wrong address, unknown symbol, refused."""


class NotFoundError(PermanentSourceError):
    """The source has nothing at this address (404)."""


class UnknownSymbolError(PermanentSourceError):
    """The venue does not know a symbol that the catalogue lists."""


class UnknownExchangeError(PermanentSourceError):
    """ccxt does not have an exchange that the catalogue names, or no minute candles of it."""


class MissingLibraryError(PermanentSourceError):
    """A source needs an optional library that is not installed."""


class UnexpectedReplyError(PermanentSourceError):
    """The body is not what the source documents, for example HTML or an error object."""


class MismatchedReplyError(UnexpectedReplyError):
    """The replies to a batch are not one for each of its calls."""


class RpcRefusedError(PermanentSourceError):
    """A node answered a call with an error object that no other class here stands for."""


class MethodMissingError(PermanentSourceError):
    """The node does not offer this method."""


class WrongChainError(PermanentSourceError):
    """The node is of another chain than the one that its URL is set for."""


class HistoryPrunedError(PermanentSourceError):
    """The node has thrown away, or never had, blocks or the state of blocks as old as this one."""


class CallRevertedError(PermanentSourceError):
    """The contract that was called has no answer: every node says so, each time."""


class FinalityUnknownError(PermanentSourceError):
    """The node or its chain has no finalized block."""


class AskedTooMuchError(PermanentSourceError):
    """The source refuses a request of this size; `limit` is the size it allows, if it said so."""

    def __init__(self, message: str, *, limit: int | None = None) -> None:
        super().__init__(message)
        self.limit = limit


class SourceMissingError(PermanentSourceError):
    """The source does not have a partition that must exist."""


class LogsMissingError(PermanentSourceError):
    """The logs of a range, which decide what contracts are asked, are not committed (any more)."""


class NotFinalError(PermanentSourceError):
    """The partition is not over yet; a partial one is never committed."""


class IntegrityError(CryptoAssetsError):
    """What was delivered contradicts a claim about it. `evidence` goes to the quarantine."""

    def __init__(self, message: str, **evidence: Any) -> None:
        super().__init__(message)
        self.evidence: Mapping[str, Any] = evidence


class ChecksumMismatchError(IntegrityError):
    """The bytes differ from the checksum that the source publishes."""


class BadArchiveError(IntegrityError):
    """The archive is truncated, or its members are not what its name promises."""


class MalformedRowError(IntegrityError):
    """A row has other columns, or a value that does not fit its exact type."""


class InexactNumberError(IntegrityError):
    """A number was computed on its way here: it is not, digit by digit, what the source printed."""


class WrongTimeUnitError(IntegrityError):
    """Timestamps are neither milliseconds nor microseconds of the partition's day."""


class OutsidePartitionError(IntegrityError):
    """A timestamp lies outside the partition."""


class ValueOutOfRangeError(IntegrityError):
    """A price or size that no trade can have."""


class MissingIdError(IntegrityError):
    """Ids that the source numbers without holes have a hole."""


class DuplicateIdError(IntegrityError):
    """The same row was delivered twice."""


class ConflictingDuplicateError(IntegrityError):
    """The same id was delivered with different content."""


class UnorderedIdError(IntegrityError):
    """Ids run backwards."""


class StuckCursorError(IntegrityError):
    """The cursor of a page does not lead on: asking with it would give the same page for ever."""


class ClockJumpError(IntegrityError):
    """Times run backwards from one id to the next, or lie in the future."""


class UnorderedTimeError(IntegrityError):
    """Time runs backwards while ids go on."""


class NeighbourMismatchError(IntegrityError):
    """Ids or hashes do not continue from, or into, the committed partition beside this one."""


class RowCountMismatchError(IntegrityError):
    """The number of rows differs from what the source says it has."""


class OffGridError(IntegrityError):
    """A candle does not open on its interval's grid, or its close time does not fit."""


class BrokenCandleError(IntegrityError):
    """A candle contradicts itself, for example a high below its low."""


class HeaderHashMismatchError(IntegrityError):
    """A header does not hash to the hash that its block is delivered under."""


class UnknownHeaderFieldError(IntegrityError):
    """A header hashes right only with a field that this version does not know: a newer fork."""


class BrokenParentLinkError(IntegrityError):
    """A block does not name the block before it as its parent."""


class BlockBodyMismatchError(IntegrityError):
    """The uncles or withdrawals of a block are not those of its header."""


class MisplacedTransactionError(IntegrityError):
    """A transaction is not where, or not of the block, that it says."""


class TransactionHashMismatchError(IntegrityError):
    """A transaction does not hash to the hash that it is delivered under."""


class TransactionsRootMismatchError(IntegrityError):
    """The transactions of a block, each valid, are not all or not only those of its header."""


class MissingReceiptError(IntegrityError):
    """A block has more or fewer receipts than transactions."""


class MisplacedReceiptError(IntegrityError):
    """A receipt is not of the transaction at its place."""


class MisplacedLogError(IntegrityError):
    """A log is not of the block or transaction it came with, or a reorganisation removed it."""


class LogIndexGapError(IntegrityError):
    """The log indexes of a block do not run 0, 1, 2, …, so a log is missing or there twice."""


class GasMismatchError(IntegrityError):
    """The gas of receipts does not add up to what they or the header say."""


class LogsBloomMismatchError(IntegrityError):
    """Logs do not make the bloom of their receipt or header: one is missing, added or altered."""


class ReceiptsRootMismatchError(IntegrityError):
    """Receipts are not those of the header: a status, gas or log of one of them is wrong."""


class DerivedValueMismatchError(IntegrityError):
    """A price, blob gas or contract address is not what follows from its transaction."""


class LogOutsideBloomError(IntegrityError):
    """A log has an address or topic that the header's bloom rules out."""


class UnrequestedLogError(IntegrityError):
    """A log is not one that was asked for."""


class WrongBlockError(IntegrityError):
    """A node answered with another block, or other blocks' logs, than was asked for."""


class EndpointsDisagreeError(IntegrityError):
    """Two nodes of one chain do not say the same of a block, or of what a contract answers."""


class UnansweredCallError(IntegrityError):
    """A call that the logs of a range ask for has no answer, or more than one."""
