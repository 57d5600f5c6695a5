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


class SourceMissingError(PermanentSourceError):
    """The source does not have a partition that must exist."""


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
    """Ids do not continue from, or into, the committed partition beside this one."""


class RowCountMismatchError(IntegrityError):
    """The number of rows differs from what the source says it has."""


class OffGridError(IntegrityError):
    """A candle does not open on its interval's grid, or its close time does not fit."""


class BrokenCandleError(IntegrityError):
    """A candle contradicts itself, for example a high below its low."""
