"""JSON-RPC 2.0 over HTTP: batches matched by id, requests that shrink when refused.

Knows the envelope (https://www.jsonrpc.org/specification); results are passed on as the JSON that
came. An RPC URL is a secret but for its scheme and host: nothing else of it appears in a message.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import httpx
import msgspec
from msgspec import Raw, Struct

from crypto_assets.errors import (
    AskedTooMuchError,
    BlockMissingError,
    CallRevertedError,
    HistoryPrunedError,
    MismatchedReplyError,
    RateLimitedError,
    SourceError,
    TransientSourceError,
    UnexpectedReplyError,
    WrongChainError,
)
from crypto_assets.sources.bulk import bulk_transport
from crypto_assets.sources.evm_refusals import RpcError, judge_refusal
from crypto_assets.sources.evm_urls import secrets_in, split_url
from crypto_assets.sources.http import HostPolicy, HttpClient, Reply

NULL = b"null"
_MAX_REPLY = 1 << 30
_HEADERS = {"Content-Type": "application/json"}
CAN_WAIT = 2

_log = logging.getLogger(__name__)
# What a node says of one call, and not of itself.
Refused = CallRevertedError | HistoryPrunedError


class Call(NamedTuple):
    """One call, and what it asks for, in words."""

    method: str
    params: Sequence[Any]
    what: str


class _Answer(Struct, gc=False):
    id: Any = None
    result: Raw = Raw()
    # Gateways in front of nodes give a text alone.
    error: RpcError | str | None = None


_batch_of = msgspec.json.Decoder(list[_Answer])
_single = msgspec.json.Decoder(_Answer)


class Endpoint:
    """One node of a chain; share it among threads. Remembers what it refused as too much.

    `name` is its scheme and host, all that is ever shown of its URL; `number` is added to tell it
    from others of the same host.
    """

    def __init__(
        self,
        url: str,
        *,
        chain_id: int,
        batch_size: int,
        calls_per_second: int | None = None,
        limits_folder: Path | None = None,
        transport: httpx.BaseTransport | None = None,
        number: int = 1,
        has_others: bool = False,
    ) -> None:
        parts = split_url(url)
        host = f"{parts.hostname}:{parts.port}" if parts.port else f"{parts.hostname}"
        self.origin = f"{parts.scheme}://{host}"
        self.name = self.origin if number == 1 else f"{self.origin} ({number})"
        self._path = parts._replace(scheme="", netloc="", fragment="").geturl() or "/"
        self._batch_size = min(batch_size, calls_per_second or batch_size)
        self._span: int | None = None
        self._chain_id = chain_id
        self._is_of_chain = False
        self._lock = threading.Lock()
        self._http = HttpClient(
            base_url=parts._replace(path="", query="", fragment="").geturl(),
            policy=HostPolicy(
                host,
                limits=((calls_per_second, 1.0),) if calls_per_second and not transport else (),
                # Another endpoint is the better cure for one that fails.
                attempts=3 if has_others else HostPolicy.attempts,
                patience=10.0 if has_others else HostPolicy.patience,
            ),
            limits_path=limits_folder / f"rpc-{host}.sqlite" if limits_folder else None,
            secrets=secrets_in(parts),
            transport=transport or bulk_transport(),
        )

    def __repr__(self) -> str:
        return f"Endpoint({self.name!r})"

    def close(self) -> None:
        """End calls under way and give connections back."""
        self._http.close()

    def call(self, call: Call) -> Raw:
        """The result of one call, which may be null."""
        self._check_chain()
        return self._answered([call], may_be_null=True)[0]

    def batch(self, calls: Sequence[Call]) -> list[Raw]:
        """A result for each call; BlockMissingError if one stays null, as what is asked must be."""
        self._check_chain()
        return self._answered(calls, may_be_null=False)

    def outcomes(self, calls: Sequence[Call]) -> list[Raw | Refused]:
        """For each call, which asks a contract, its result or why there is none."""
        self._check_chain()
        return self._outcomes(calls, may_be_null=False, may_be_refused=True)

    def logs(self, wanted: Mapping[str, Any], first: int, last: int) -> list[Raw]:
        """Results of eth_getLogs that together cover the blocks `first` to `last`, in order.

        A limit that the node states is kept to from then on; otherwise a refused span is halved.
        """
        self._check_chain()
        results = []
        while first <= last:
            size = min(last - first + 1, self._span or last - first + 1)
            while True:
                bounds = {"fromBlock": hex(first), "toBlock": hex(first + size - 1)}
                what = f"logs of blocks {first} to {first + size - 1}"
                call = Call("eth_getLogs", [{**wanted, **bounds}], what)
                try:
                    results += self._answered([call], may_be_null=False, blocks=size)
                    break
                except AskedTooMuchError as error:
                    if size == 1:
                        raise
                    if error.limit is not None:
                        self._span = error.limit
                    size = error.limit or size // 2
            first += size
        return results

    def _answered(self, calls: Sequence[Call], *, may_be_null: bool, blocks: int = 1) -> list[Raw]:
        outcomes = self._outcomes(calls, may_be_null=may_be_null, blocks=blocks)
        return cast("list[Raw]", outcomes)

    def _outcomes(
        self,
        calls: Sequence[Call],
        *,
        may_be_null: bool,
        may_be_refused: bool = False,
        blocks: int = 1,
    ) -> list[Raw | Refused]:
        results: dict[int, Raw | Refused] = {}
        while unanswered := [at for at in range(len(calls)) if at not in results]:
            asked = {at: calls[at] for at in unanswered[: self._batch_size]}
            requests = [
                {"jsonrpc": "2.0", "id": at, "method": call.method, "params": call.params}
                for at, call in asked.items()
            ]
            read = partial(
                self._read,
                calls=asked,
                results=results,
                may_be_null=may_be_null,
                may_be_refused=may_be_refused,
                blocks=blocks,
            )
            try:
                self._http.post_bytes(
                    self._path,
                    # Some nodes know no batches at all, not even of one.
                    msgspec.json.encode(requests if len(asked) > 1 else requests[0]),
                    max_bytes=_MAX_REPLY,
                    headers=_HEADERS,
                    weight=len(asked),
                    check=read,
                )
            except AskedTooMuchError as error:
                if len(asked) == 1:
                    raise
                self._shrink(len(asked), error.limit)
            except RateLimitedError:
                self._shrink(len(asked))
                raise
        return [results[at] for at in range(len(calls))]

    def _check_chain(self) -> None:
        """Raise WrongChainError if the node is of another chain; asks until it has said it."""
        with self._lock:
            if self._is_of_chain:
                return
            (answer,) = self._answered([Call("eth_chainId", [], "chain id")], may_be_null=False)
            try:
                chain_id = int(msgspec.json.decode(answer, type=str), 16)
            except (ValueError, msgspec.DecodeError) as error:
                said = self._http.redacted(bytes(answer).decode(errors="replace"))
                raise UnexpectedReplyError(
                    f"{self.name}: says {said[:80]} for its chain id; is it a node?"
                ) from error
            if chain_id != self._chain_id:
                raise WrongChainError(
                    f"{self.name}: is of chain {chain_id}, expected {self._chain_id}; correct the "
                    "RPC URL, or chain_id in chains.yaml"
                )
            self._is_of_chain = True

    def _shrink(self, size: int, limit: int | None = None) -> None:
        self._batch_size = min(self._batch_size, limit or max(1, size // 2))
        _log.info("%s: batches of %d from now on", self.name, self._batch_size)

    def _read(
        self,
        reply: Reply,
        *,
        calls: Mapping[int, Call],
        results: dict[int, Raw | Refused],
        may_be_null: bool,
        may_be_refused: bool,
        blocks: int,
    ) -> bool:
        """Put what a reply answers into `results`; raise what it refuses, if nothing was answered.

        Returns whether every call was answered, be it under the status of an error. A refusal that
        time heals is not raised as long as other calls were answered: whoever asks for the rest
        makes progress.
        """
        answers = self._answers(reply, calls)
        if answers is None:
            return False
        refusals: list[SourceError] = []
        met: set[int] = set()
        before = len(results)
        for answer in answers:
            call = calls.get(answer.id) if isinstance(answer.id, int) else None
            if answer.error is None and (call is None or answer.id in met):
                problem = "twice" if answer.id in met else "though it was not asked"
                raise MismatchedReplyError(f"{self.name}: answers id {answer.id!r} {problem}")
            what = call.what if call else "a batch"
            outcome = self._outcome(answer, what, len(calls), blocks, may_be_null=may_be_null)
            if not isinstance(outcome, SourceError) or (
                may_be_refused and call is not None and isinstance(outcome, Refused)
            ):
                results[answer.id] = outcome
            else:
                refusals.append(outcome)
            if call is not None:
                met.add(answer.id)
        if not refusals and len(met) < len(calls):
            missing = [call.what for at, call in calls.items() if at not in met]
            raise MismatchedReplyError(
                f"{self.name}: left out {len(missing)} of {len(calls)} replies: {missing[0]} …"
            )
        refusals.sort(key=urgency)
        if refusals and (urgency(refusals[0]) < CAN_WAIT or len(results) == before):
            raise refusals[0]
        if any(not isinstance(refusal, BlockMissingError) for refusal in refusals):
            self._shrink(len(calls))
        return not refusals

    def _answers(self, reply: Reply, calls: Mapping[int, Call]) -> list[_Answer] | None:
        """The answers in a reply; None if a refusal by status has a body that is not JSON-RPC."""
        is_list = reply.body.lstrip()[:1] == b"["
        try:
            answers = _batch_of.decode(reply.body) if is_list else [_single.decode(reply.body)]
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if reply.status != 200:
                return None
            raise UnexpectedReplyError(
                f"{self.name}: no JSON-RPC ({error}): {reply.excerpt}; is this the right address?"
            ) from error
        if all(answer.error is None for answer in answers):
            if reply.status != 200:
                return None
            if not is_list and len(calls) > 1:
                raise MismatchedReplyError(
                    f"{self.name}: answers a batch of {len(calls)} calls with one reply"
                )
        return answers

    def _outcome(
        self, answer: _Answer, what: str, calls: int, blocks: int, *, may_be_null: bool
    ) -> Raw | SourceError:
        """The result in an answer, or what it refuses."""
        if answer.error is not None:
            return self._judged(answer.error, f"{self.name}: {what}", calls, blocks)
        if not memoryview(answer.result):
            raise MismatchedReplyError(f"{self.name}: {what}: neither result nor error")
        if not may_be_null and memoryview(answer.result) == NULL:
            return BlockMissingError(
                f"{self.name}: has no {what}; it is not that far yet, or has pruned it"
            )
        return answer.result

    def _judged(self, error: RpcError | str, what: str, calls: int, blocks: int) -> SourceError:
        if isinstance(error, str):
            error = RpcError(message=error)
        shown = RpcError(
            error.code,
            self._http.redacted(str(error.message)),
            self._http.redacted(str(error.data or "")),
        )
        return judge_refusal(shown, what, calls=calls, blocks=blocks)


def urgency(error: SourceError) -> int:
    """What must be said first: that it will never work, that less may, that it may later."""
    if isinstance(error, TransientSourceError):
        return CAN_WAIT
    return 1 if isinstance(error, AskedTooMuchError) else 0
