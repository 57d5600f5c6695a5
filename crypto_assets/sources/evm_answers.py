"""Asking contracts through the nodes of a chain, where what they answer cannot be proven.

A block is proven by its hash, but what a contract answers is the word of a node. So two nodes are
asked, if there are two, each about the state of the same block. A difference is an error if the
catalogue names the contract. Any other may be made to answer each node differently, and would stop
its range for ever: what it says then counts as no answer.
"""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Self

import msgspec
from msgspec import Raw

from crypto_assets.catalog import BlockRange, Chain
from crypto_assets.errors import (
    EndpointsDisagreeError,
    HistoryPrunedError,
    NotFinalError,
    UnexpectedReplyError,
)
from crypto_assets.sources.evm_calls import (
    DISPUTED,
    FINALIZED,
    RETURNED,
    REVERTED,
    UNAVAILABLE,
    Answer,
    ContractCall,
    block_of,
    listed_contracts,
)
from crypto_assets.sources.evm_encoding import unhex
from crypto_assets.sources.evm_endpoints import Endpoints
from crypto_assets.sources.evm_node import Node
from crypto_assets.sources.evm_rpc import Refused
from crypto_assets.sources.venue import Document

_log = logging.getLogger(__name__)

_WITNESSES = 2
_SHOWN = 5


class Interview:
    """The calls of one range, all that are not about its own blocks as of one finalized block.

    `checks` and `documents` tell of all that was asked so far. Share it with no other thread.
    """

    def __init__(self, chain: Chain, nodes: Endpoints[Node], blocks: BlockRange) -> None:
        self._chain, self._nodes, self._blocks = chain, nodes, blocks
        self._finalized: int | None = None
        self._origins: dict[tuple[str, int], _Origin] = {}
        self._alone: set[int] = set()
        self._listed = listed_contracts(chain)
        self._disputed = 0

    def ask(self, calls: Iterable[ContractCall]) -> dict[ContractCall, Answer]:
        """The answer of each call.

        Raises EndpointsDisagreeError if two nodes differ on a contract of the catalogue; on any
        other its answer is disputed. Raises SourceError if too few of them answer, which for calls
        as of a block of the range itself their lack of its state is not.
        """
        by_time: defaultdict[str, list[ContractCall]] = defaultdict(list)
        for call in sorted(calls):
            by_time[call.as_of].append(call)
        answers: dict[ContractCall, Answer] = {}
        for as_of, of_time in by_time.items():
            finalized = self._newest() if as_of == FINALIZED else 0
            number = block_of(as_of, self._blocks, finalized)
            answers |= self._ask(of_time, number, may_lack=as_of != FINALIZED)
        return answers

    @property
    def checks(self) -> dict[str, str]:
        """Whether two nodes said the same, or how many answers are disputed."""
        if not self._origins and not self._alone:
            return {"nodes_agree": "nothing was asked"}
        if len(self._nodes.all) < _WITNESSES:
            return {"nodes_agree": "not computable: one node is configured"}
        notes = ["passed"]
        if self._disputed:
            notes = [f"{self._disputed} answers disputed"]
        if self._alone:
            numbers = ", ".join(map(str, sorted(self._alone)))
            notes.append(f"but fewer than two have the state of block {numbers}")
        return {"nodes_agree": ", ".join(notes)}

    @property
    def documents(self) -> tuple[Document, ...]:
        """One for each node and block: `https://host eth_call@21525935`, over results in order."""
        return tuple(
            Document(f"{node} eth_call@{number}", None, origin.digest.hexdigest(), origin.size)
            for (node, number), origin in self._origins.items()
        )

    def _newest(self) -> int:
        """The newest block that is final for all that are asked, and has all that the range has."""
        if self._finalized is None:
            found = self._nodes.ask_several(Node.finalized, _WITNESSES)
            self._finalized = min(number for _, number in found)
            if self._finalized < self._blocks.last:
                raise NotFinalError(
                    f"{self._chain.name} {self._blocks}: finalized is block {self._finalized}; "
                    "contracts are asked once its last block is, so run this one again later"
                )
        return self._finalized

    def _ask(
        self, calls: Sequence[ContractCall], number: int, *, may_lack: bool
    ) -> dict[ContractCall, Answer]:
        """Answers as of one block, whose state, if they `may_lack` it, no node need have."""
        asked = [(call.address, call.data) for call in calls]

        def question(node: Node) -> _Said:
            outcomes = node.contract_calls(asked, number)
            for outcome in outcomes:
                if isinstance(outcome, HistoryPrunedError):
                    raise outcome
            return _Said.of(node, calls, outcomes)

        excused = HistoryPrunedError if may_lack else ()
        told = self._nodes.ask_several(question, _WITNESSES, excused=excused)
        if len(told) < _WITNESSES:
            self._alone.add(number)
        if not told:
            return dict.fromkeys(calls, Answer(UNAVAILABLE, None))
        said = {node.name: each.answers for node, each in told}
        answers = self._compare(calls, number, said)
        for node, each in told:
            self._origins.setdefault((node.name, number), _Origin()).add(each)
        return answers

    def _compare(
        self, calls: Sequence[ContractCall], number: int, said: Mapping[str, Sequence[Answer]]
    ) -> dict[ContractCall, Answer]:
        """What all said alike; what they did not is disputed, or EndpointsDisagreeError."""
        told = {call: each for call, *each in zip(calls, *said.values(), strict=True)}
        differing = {call: each for call, each in told.items() if len(set(each)) > 1}
        answers = {call: each[0] for call, each in told.items()}
        if not differing:
            return answers
        fatal = [call for call in differing if call.address in self._listed]
        call = (fatal or list(differing))[0]
        shown = dict(zip(said, map(_shown, differing[call]), strict=True))
        found = (
            f"{self._chain.name} {self._blocks}: nodes do not agree on {len(differing)} of "
            f"{len(calls)} calls as of block {number}; one is {call.call} of "
            f"0x{call.address.hex()}: "
            + "; ".join(f"{node} says {answer}" for node, answer in shown.items())
        )
        if not fatal:
            _log.warning("%s; what the catalogue does not name counts as not answered", found)
            self._disputed += len(differing)
            return answers | dict.fromkeys(differing, Answer(DISPUTED, None))
        raise EndpointsDisagreeError(
            found,
            block=number,
            calls=[
                {
                    "address": f"0x{call.address.hex()}",
                    "call": call.call,
                    "argument": call.argument.hex(),
                    "said": dict(zip(said, map(_shown, differing[call]), strict=True)),
                }
                for call in fatal[:_SHOWN]
            ],
        )


class _Said(NamedTuple):
    """What one node answers, and the JSON that it did so in."""

    answers: list[Answer]
    delivered: bytes

    @classmethod
    def of(
        cls, node: Node, calls: Sequence[ContractCall], outcomes: Sequence[Raw | Refused]
    ) -> Self:
        """From the outcomes of calls; raises UnexpectedReplyError for one that is not hex data."""
        answers = [_answer(node, *each) for each in zip(calls, outcomes, strict=True)]
        pieces = (b"null" if isinstance(each, Refused) else bytes(each) for each in outcomes)
        return cls(answers, b"[" + b",".join(pieces) + b"]")


class _Origin:
    """What came from one node about one block, in the order of the requests."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self.size = 0

    def add(self, said: _Said) -> None:
        """Count in what it said."""
        self.digest.update(said.delivered)
        self.size += len(said.delivered)


def _answer(node: Node, call: ContractCall, outcome: Raw | Refused) -> Answer:
    if isinstance(outcome, Refused):
        return Answer(REVERTED, None)
    try:
        text = msgspec.json.decode(outcome, type=str)
        if not text.startswith("0x"):
            raise ValueError("it lacks its prefix")  # noqa: TRY301 - one cause of several
        return Answer(RETURNED, unhex(text))
    except (ValueError, msgspec.DecodeError) as error:
        raise UnexpectedReplyError(
            f"{node.name}: {call.call} of 0x{call.address.hex()} is answered with "
            f"{bytes(outcome)[:80]!r}, which is no hex data"
        ) from error


def _shown(answer: Answer) -> str:
    return answer.status if answer.result is None else f"0x{answer.result.hex()}"
