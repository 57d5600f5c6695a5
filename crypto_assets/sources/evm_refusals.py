"""What a node means by an error object: is it to be asked later, for less, or not at all?

Providers share no codes, so the text decides wherever it says something; a code alone decides only
where all agree on it. Texts are those that nodes and providers really send; sources: EIP-1474
(codes), execution-apis (4444, -39001), geth `rpc/errors.go` and `rpc/handler.go`, erigon
#7072, jsonrpsee `types/src/error.rs`, ethers #4703, ponder `getLogsRetryHelper.ts`.
"""

from __future__ import annotations

import re
from typing import Any

from msgspec import Struct

from crypto_assets.errors import (
    AskedTooMuchError,
    BlockMissingError,
    CallRevertedError,
    FinalityUnknownError,
    HistoryPrunedError,
    MethodMissingError,
    RateLimitedError,
    RpcRefusedError,
    ServerFaultError,
    SourceError,
)

_SHOWN = 300
_LIMIT_EXCEEDED = -32005

# Before even that: a contract may put any words behind these. Texts of geth `core/vm/errors.go`,
# reth, erigon, anvil, besu and nethermind ("VM execution error." with data "Reverted 0x…").
_REVERTED = re.compile(
    r"^.{0,40}execution reverted|^vm execution error|^(transaction )?reverted\b|^vm exception"
    # What revm, in reth and anvil, calls each end.
    r"|^evm error:? (opcodenotfound|invalid(fe)?(opcode|jump)|notactivated|stack(under|over)flow"
    r"|\w*(outofgas|oog)\b|outof(offset|funds)|statechangeduringstaticcall|calltoodeep|precompile"
    r"|callnotallowedinsidestatic|create|overflowpayment|nonceoverflow)"
    r"|^(invalid (opcode|jump)|opcode 0x|bad (instruction|jump)|stack (underflow|overflow|limit)"
    r"|(contract creation code storage )?out of gas|gas uint64 overflow|write protection"
    r"|return data out of bounds|max (call depth|code size|initcode size)|insufficient balance for)"
)
_REVERT_CODE = 3

# Before anything else: "limited to a maximum of 10 requests per second" is not a range of 10.
_PER_TIME = re.compile(
    r"\brate\b|rate-?limit|too many requests|requests? per|per (second|minute|hour|day|month)"
    r"|\d ?/ ?s(ec(ond)?)?\b|compute units|throughput|capacity|credits|quota|daily|request count"
)
_BATCH_LIMIT = re.compile(
    r"(?:limit(?: of)?|more than|at most|max(?:imum)?(?: batch)?(?: size)?:?)\D{0,12}(\d+)"
)
_RESPONSE_SIZE = re.compile(
    r"(response|result|request|body)s?( body| entity)?( size)? ?(is|was|should)? ?"
    r"(too (large|big)|exceed|not greater|larger|over)|oversized"
)
_SPAN_REFUSED = re.compile(
    r"range|too many blocks|blocks distance|requested blocks|limit the query|smaller than size"
    r"|more than .{0,24}(results|logs)|max results|size exceeded|exceeds limit|no backend"
    r"|quer(y|ies) .{0,12}(timeout|timed out|time limit)|timeout exceeded"
)
_SUGGESTED = re.compile(r"\[\s*0x([0-9a-f]+)\s*,\s*0x([0-9a-f]+)\s*\]")
# A number counts only beside words that say it is of blocks: providers limit results as well.
_SPAN_LIMIT = re.compile(
    r"(?:up to an?|limited to(?: an?)?(?: 0 -)?|max(?:imum)?(?: block)? range(?: is|:)?"
    r"|block range (?:greater than|exceeds)|wide \(maximum|maximum is set to|max is|at most"
    r"|blocks distance:|range \d+ (?:exceeds (?:the )?limit of|is bigger than range limit)"
    r"|the limit is|smaller than size|requested blocks is|\d+ >|ranges over) ?(\d[\d,]*)(k?)\b"
)
_NOT_YET = re.compile(
    r"beyond (the )?(current )?head|header not found|unknown block|block not found"
    r"|after last accepted|could not find block|not (yet )?available yet|height is not available"
)
_PRUNED = re.compile(
    r"prun|archive|history (is )?(un|not )available"
    r"|state .{0,40}(not (available|found)|unavailable)|no (historical )?state (is )?available"
    r"|missing trie node|state recreation"
)
_NO_METHOD = re.compile(
    r"method .{0,60}(not|n't)|not (supported|whitelisted|allowed|available|implemented)|unsupported"
)
_BUSY = re.compile(
    r"time(d)? ?out|temporar|try again|unavailable|overload|busy|internal|upstream|unhealthy"
    r"|deadline|connection|capacity|server error"
)
_BUSY_CODES = {-32603, -32002, -32009}


class RpcError(Struct):
    """The error object of a reply, of whatever types a node gives."""

    code: Any = None
    message: Any = None
    data: Any = None


def judge_refusal(error: RpcError, what: str, *, calls: int = 1, blocks: int = 1) -> SourceError:
    """The error to raise for an error object, of one of `calls` calls.

    `blocks` is the span of an eth_getLogs, more than one only for that. Where less can be asked,
    what may be a complaint about size is one: `AskedTooMuchError.limit` is the number of calls or
    blocks that is allowed, or None. `what` names node and call in the message.
    """
    text = f"{error.message} {error.data or ''}".strip()
    said, code = text.lower(), error.code
    kind, advice = _kind(said, code, calls > 1, blocks > 1)
    message = f"{what} is refused: {text[:_SHOWN]} (code {code}); {advice}"
    if kind is AskedTooMuchError:
        return AskedTooMuchError(message, limit=_limit(said, calls, blocks))
    return kind(message)


def suggested_span(text: str) -> int | None:
    """How many blocks a provider suggests that a query for logs should span, if it does."""
    if pair := _SUGGESTED.search(text):
        return int(pair[2], 16) - int(pair[1], 16) + 1
    if stated := _SPAN_LIMIT.search(text):
        return int(stated[1].replace(",", "")) * (1000 if stated[2] else 1)
    return None


def _kind(  # noqa: PLR0911 - one return per line of the table
    said: str, code: Any, is_batch: bool, is_span: bool
) -> tuple[type[SourceError], str]:
    if _REVERTED.search(said) or (code == _REVERT_CODE and "revert" in said):
        return CallRevertedError, "the contract has no answer"
    if code == 429 or _PER_TIME.search(said):
        return RateLimitedError, "lower the rate limit"
    if code == -39001 or "finalized" in said:
        return FinalityUnknownError, "use a node that knows what is final"
    if _NOT_YET.search(said):
        return BlockMissingError, "wait for the node, or ask another one"
    if code == 4444 or _PRUNED.search(said):
        return HistoryPrunedError, "use an archive node"
    if "batch" in said or _RESPONSE_SIZE.search(said) or (is_span and _SPAN_REFUSED.search(said)):
        return AskedTooMuchError, "ask for less at once"
    if code == _LIMIT_EXCEEDED:
        if is_batch or is_span:
            return AskedTooMuchError, "ask for less at once"
        return RateLimitedError, "lower the rate limit"
    if code == -32601 or _NO_METHOD.search(said):
        return MethodMissingError, "use another node"
    if code in _BUSY_CODES or _BUSY.search(said):
        return ServerFaultError, "try again later"
    return RpcRefusedError, "use another node if it stays"


def _limit(said: str, calls: int, blocks: int) -> int | None:
    """The limit that a text states, if it is one that the request was above."""
    if blocks > 1:
        limit = suggested_span(said)
    else:
        # Beside a complaint about a response alone it would be of bytes.
        stated = _BATCH_LIMIT.search(said) if "batch" in said else None
        limit = int(stated[1]) if stated else None
    return limit if limit is not None and 0 < limit < max(calls, blocks) else None
