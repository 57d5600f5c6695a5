"""Bringing the calls of block ranges into the lake: what is known already, and what to ask.

What a contract said of itself once, it is not asked again for each range: answers are taken over
from the nearest ranges that have them. No Dagster here; `calls` turns the outcomes into events.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect, insort
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from crypto_assets.catalog import CALLS, BlockRange, Chain, ChainRange
from crypto_assets.errors import (
    CryptoAssetsError,
    IntegrityError,
    LogsMissingError,
    UnansweredCallError,
)
from crypto_assets.lake import (
    Lake,
    Proof,
    SourceFile,
    commit_calls,
    committed_logs,
    find_calls,
    find_proof,
    is_part_intact,
    quarantine,
)
from crypto_assets.lake.durable import storage_errors
from crypto_assets.sources.evm import Evm
from crypto_assets.sources.evm_answers import Interview
from crypto_assets.sources.evm_calls import (
    Answer,
    ContractCall,
    asked_for,
    calls_dataset,
    is_lasting,
    pool_calls,
    read_answers,
    read_events,
    rows_of,
    token_calls,
)


@dataclass(frozen=True, slots=True)
class CollectedCalls:
    """What became of the calls of one range: a proof, or an error.

    `asked_now` is the number of calls that nodes were asked just now.
    """

    part: ChainRange
    proof: Proof | None
    error: CryptoAssetsError | None
    is_new: bool
    asked_now: int
    seconds: float


def collect_calls(
    lake: Lake,
    chain: Chain,
    source: Evm,
    ranges: Sequence[BlockRange],
    *,
    workers: int,
    refetch: bool = False,
) -> Iterator[CollectedCalls]:
    """Bring the calls of committed ranges up to date; yields each range as soon as it is done.

    A failing range does not stop the others. Those are skipped whose calls are proven and follow
    from the logs that are committed now and from what the catalogue lists now. To `refetch` is to
    ask everything anew; what is committed then stays until its successor is proven.
    """
    collector = _Collector(lake, chain, source, refetch=refetch)
    with ThreadPoolExecutor(workers, thread_name_prefix=f"{chain.name} calls") as pool:
        pending = [
            pool.submit(collector.attempt, ChainRange(chain.name, blocks)) for blocks in ranges
        ]
        try:
            for future in as_completed(pending):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class _Known(NamedTuple):
    """An answer that is committed already, and the file that it is in."""

    answer: Answer
    source: SourceFile


class _Collector:
    """What the ranges of one command share; used by several threads."""

    def __init__(self, lake: Lake, chain: Chain, source: Evm, *, refetch: bool) -> None:
        self._lake, self._chain, self._source = lake, chain, source
        self._refetch = refetch
        self._dataset = calls_dataset(chain)
        self._asked = asked_for(chain)
        self._lock = threading.Lock()
        # Those that may have answers to take over, in block order.
        self._answered = [] if refetch else lake.ranges(chain.name, CALLS)

    def attempt(self, part: ChainRange) -> CollectedCalls:
        """Bring one range up to date."""
        started = time.monotonic()
        done = partial(CollectedCalls, part)
        try:
            proof, asked_now = self._prove(part)
        except CryptoAssetsError as error:
            return done(None, error, False, 0, time.monotonic() - started)
        is_new = asked_now is not None
        return done(proof, None, is_new, asked_now or 0, time.monotonic() - started)

    def _prove(self, part: ChainRange) -> tuple[Proof, int | None]:
        """The proof of a range's calls, and how many were asked; None if it was there already."""
        calls = part.of(CALLS)
        with storage_errors(self._lake.inflight(calls)), self._lake.partition_lock(calls):
            logs = committed_logs(self._lake, part)
            if not self._refetch:
                held = find_calls(self._lake, part, logs.content_digest)
                if (
                    held is not None
                    and held.asked == self._asked
                    and is_part_intact(self._lake, calls)
                ):
                    # A run that was killed after its commit could not clean up.
                    self._lake.clear_inflight(calls)
                    return held, None
            if not is_part_intact(self._lake, part.of("logs")):
                raise LogsMissingError(
                    f"{part}: the file of its logs is not what was committed, so nobody knows "
                    "which contracts to ask; run the range again"
                )
            try:
                return self._collect(part, logs)
            except IntegrityError as error:
                kept = quarantine(self._lake, calls, error)
                raise type(error)(
                    f"{error}. Nothing was committed; the evidence is kept in {kept}. Run the "
                    "partition again; if it is refused again, take the node that is wrong out of "
                    "the settings",
                    **error.evidence,
                ) from error

    def _collect(self, part: ChainRange, logs: Proof) -> tuple[Proof, int]:
        events = read_events(str(self._lake.file(part.of("logs"))))
        known = self._known(part)
        interview = self._source.interview(part.blocks)
        wanted = pool_calls(self._chain, events)
        answers = _answered(wanted, known, interview)
        wanted |= token_calls(self._chain, part.blocks, events, answers)
        answers |= _answered(wanted - answers.keys(), known, interview)
        if answers.keys() != wanted:
            raise UnansweredCallError(
                f"{part}: {len(answers)} answers to {len(wanted)} calls", answers=len(answers)
            )
        taken_over = known.keys() & wanted
        proof = commit_calls(
            self._lake,
            self._dataset,
            part,
            rows_of(answers),
            logs_digest=logs.content_digest,
            asked_count=len(wanted),
            source=(
                *(
                    SourceFile(url=each.url, etag=None, sha256=each.sha256, bytes=each.bytes)
                    for each in interview.documents
                ),
                *dict.fromkeys(known[call].source for call in sorted(taken_over)),
            ),
            checks={"calls_are_answered": "passed", **interview.checks},
            asked=self._asked,
        )
        with self._lock:
            if not self._refetch and part not in self._answered:
                insort(self._answered, part)
        return proof, len(wanted) - len(taken_over)

    def _known(self, part: ChainRange) -> dict[ContractCall, _Known]:
        """What contracts said of themselves in the nearest ranges, and in this one before."""
        with self._lock:
            at = bisect(self._answered, part)
            nearest = [*reversed(self._answered[max(at - 2, 0) : at]), *self._answered[at : at + 1]]
        known: dict[ContractCall, _Known] = {}
        for each in nearest:
            calls = each.of(CALLS)
            proof = find_proof(self._lake, calls)
            if proof is None or not is_part_intact(self._lake, calls):
                continue
            path = self._lake.file(calls)
            try:
                answers, size = read_answers(str(path)), path.stat().st_size
            except FileNotFoundError:  # gone with its logs just now
                continue
            source = SourceFile(url=str(calls), etag=None, sha256=proof.file_sha256, bytes=size)
            for call, answer in answers.items():
                if is_lasting(call, answer):
                    known.setdefault(call, _Known(answer, source))
        return known


def _answered(
    wanted: set[ContractCall], known: Mapping[ContractCall, _Known], interview: Interview
) -> dict[ContractCall, Answer]:
    taken_over = {call: known[call].answer for call in wanted & known.keys()}
    return taken_over | interview.ask(wanted - taken_over.keys())
