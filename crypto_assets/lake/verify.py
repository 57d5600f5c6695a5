"""Proving committed days again, from the files alone: no network, no database, no memory of runs.

Finds a changed byte (the seal), content that is not what its proof says (the digest), a file that
lies where another belongs or where none does, a file whose neighbours or sibling dataset remember
it but that is gone, and ids that do not join from day to day.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from crypto_assets.catalog import ChainRange, MarketDay, Part
from crypto_assets.lake.digest import digest_table
from crypto_assets.lake.layout import Lake
from crypto_assets.lake.proof import (
    Proof,
    UnreadableProofError,
    find_proof,
    is_seal_intact,
    read_proof,
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a committed partition. `problem` is a short name for it."""

    part: Part | ChainRange
    problem: str
    message: str


def verify(
    lake: Lake,
    siblings: Mapping[str, frozenset[str]],
    *,
    days: tuple[date, date] | None = None,
    workers: int = 2,
) -> Iterator[tuple[MarketDay, list[Finding]]]:
    """Prove every committed partition (of an inclusive range of days) again.

    `siblings` maps a dataset to those that are always fetched with it. Yields each partition as
    soon as it is known, with what is wrong with it; what only several files together tell comes
    last, and may name a partition a second time or one that has no file.
    """
    first, last = days or (date.min, date.max)
    parts: list[tuple[MarketDay, Path]] = []
    proofs: dict[MarketDay, Proof] = {}
    for part, path in lake.committed():
        if first <= part.day <= last:
            parts.append((part, path))
        elif days and (proof := _beside(lake, part, days)) is not None:
            proofs[part] = proof
    with ThreadPoolExecutor(workers) as pool:
        for (part, _), (proof, findings) in zip(
            parts, pool.map(lambda item: verify_file(*item), parts), strict=True
        ):
            if proof is not None:
                proofs[part] = proof
            yield part, findings
    for part, findings in _across(lake, proofs, siblings).items():
        if first <= part.day <= last:
            yield part, findings


def _beside(lake: Lake, part: MarketDay, days: tuple[date, date]) -> Proof | None:
    """The proof of a day just outside the range: it may remember a day that is gone from it."""
    is_beside = part.beside(1).day == days[0] or part.beside(-1).day == days[1]
    return find_proof(lake, part) if is_beside else None


def verify_file(part: Part, path: Path) -> tuple[Proof | None, list[Finding]]:
    """What is wrong with one file, and its proof if nothing is.

    A file that is not what was committed is not read any further: nothing in it can be believed.
    """
    try:
        if not is_seal_intact(path):
            return None, [_finding(part, path, "changed", "its bytes are not those committed")]
        proof = read_proof(path)
        if not proof.is_of(part):
            of = f"{proof.dataset} {proof.market} {proof.partition}"
            return None, [_finding(part, path, "swapped", f"it is {of}, put where {part} belongs")]
        table = pq.read_table(path, partitioning=None)
    except (UnreadableProofError, OSError, pa.ArrowException) as error:
        return None, [_finding(part, path, "unreadable", str(error))]
    if table.num_rows != proof.row_count:
        told = f"{table.num_rows} rows, its proof says {proof.row_count}"
        return None, [_finding(part, path, "altered", told)]
    if digest_table(table, proof.key) != proof.content_digest:
        told = "its rows are not those that its proof describes"
        return None, [_finding(part, path, "altered", told)]
    return proof, []


def _finding(part: Part, path: Path, problem: str, message: str) -> Finding:
    return Finding(part, problem, f"{path}: {message}")


def _across(
    lake: Lake, proofs: Mapping[MarketDay, Proof], siblings: Mapping[str, frozenset[str]]
) -> dict[MarketDay, list[Finding]]:
    findings: dict[MarketDay, dict[str, Finding]] = {}

    def found(part: MarketDay, problem: str, message: str) -> None:
        findings.setdefault(part, {}).setdefault(problem, Finding(part, problem, message))

    for part, path in lake.strays():
        found(
            part, "foreign", f"{path} was not committed; only {lake.file(part).name} belongs here"
        )
    for part, proof in proofs.items():
        for gone in _remembered(lake, part, proof, siblings):
            if not lake.file(gone).exists():
                found(gone, "removed", f"{lake.file(gone)} is not there, but {part} is")
    for part, last_id, following, first_id, is_sound in _joints(proofs):
        if not is_sound:
            found(
                part,
                "disjoint",
                f"{part} ends with id {last_id} but {following.day} starts with {first_id}",
            )
    return {part: list(by_problem.values()) for part, by_problem in findings.items()}


def _remembered(
    lake: Lake, part: MarketDay, proof: Proof, siblings: Mapping[str, frozenset[str]]
) -> Iterable[MarketDay]:
    for neighbour in proof.neighbours.values():
        yield MarketDay(part.dataset, part.market, date.fromisoformat(neighbour))
    for name in siblings.get(part.dataset, frozenset()):
        sibling = MarketDay(name, part.market, part.day)
        if not lake.quarantine(sibling).exists():
            yield sibling


def _joints(
    proofs: Mapping[MarketDay, Proof],
) -> Iterator[tuple[MarketDay, int, MarketDay, int, bool]]:
    """Where the ids of one day go on in another: the next day, or the one after empty days.

    The last item says whether they do, by the rule of the dataset.
    """
    for part, proof in proofs.items():
        if proof.id_rule == "none" or proof.last_id is None:
            continue
        other = part.beside(1)
        while (following := proofs.get(other)) is not None and following.status == "empty":
            other = other.beside(1)
        if following is not None and following.first_id is not None:
            step = following.first_id - proof.last_id
            is_sound = step == 1 or (step > 1 and proof.id_rule == "expected")
            yield part, proof.last_id, other, following.first_id, is_sound
