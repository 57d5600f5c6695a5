"""Which block ranges of a chain are there: what is committed as one, and what has become stale.

A range is there when all its files are, each its own and all of one commit. It is stale, and so
not there, once it is known that the chain went another way: a record beside the lake says so, of
one commit only, so that the next commit of the range ends it whatever happens in between.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from crypto_assets.catalog import KINDS, BlockRange, ChainRange, Kind, RangePart
from crypto_assets.lake.durable import storage_errors, write_text
from crypto_assets.lake.layout import Lake
from crypto_assets.lake.proof import (
    UNSEALED,
    Proof,
    UnreadableProofError,
    find_proof,
    is_seal_intact,
)

_BEFORE_ALL = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class StaleRange:
    """A committed range that is no longer part of its chain, and why."""

    part: ChainRange
    message: str
    evidence: dict[str, Any]


def find_range(lake: Lake, part: ChainRange) -> dict[Kind, Proof] | None:
    """The proofs of a range by dataset; None if it is not there as a whole, or stale.

    Reads the ends of three files; that no byte of them changed says `is_range_intact`.
    """
    proofs: dict[Kind, Proof] = {}
    for kind in KINDS:
        proof = find_proof(lake, part.of(kind))
        if proof is None or proof.file_sha256 == UNSEALED:
            return None
        proofs[kind] = proof
    group = {kind: proof.content_digest for kind, proof in proofs.items()}
    if any(proof.group != group for proof in proofs.values()):
        return None
    return None if find_stale(lake, part) else proofs


def is_range_intact(lake: Lake, part: ChainRange) -> bool:
    """Whether not one byte of a range's files changed since they were committed."""
    return all(is_part_intact(lake, part.of(kind)) for kind in KINDS)


def is_part_intact(lake: Lake, part: RangePart) -> bool:
    """Whether not one byte of one of its files changed since it was committed."""
    try:
        return is_seal_intact(lake.file(part))
    except (OSError, UnreadableProofError):
        return False


def ranges_between(
    lake: Lake, chain: str, starts_at: datetime, ends_at: datetime
) -> list[dict[Kind, Proof]]:
    """Ranges that may hold a block of `[starts_at, ends_at)`, and those on either side of them.

    In block order, without those that are not there. Of a long chain only the proofs returned and
    some twenty others are read.
    """
    around = parts_between(lake, chain, starts_at, ends_at)
    return [proofs for _, proofs in around if proofs is not None]


def parts_between(
    lake: Lake, chain: str, starts_at: datetime, ends_at: datetime
) -> Iterator[tuple[ChainRange, dict[Kind, Proof] | None]]:
    """The same, with those that have a folder but are not there; their proofs are None."""
    folders = lake.range_folders(chain)

    def last_at(index: int) -> datetime:
        # Time only grows along a chain; a file without a proof takes that of the one before it.
        parts = (_part_in(chain, folders[at]) for at in range(index, -1, -1))
        proofs = (find_proof(lake, part.of("blocks")) for part in parts if part is not None)
        return next((proof.last_at for proof in proofs if proof and proof.last_at), _BEFORE_ALL)

    for folder in folders[max(bisect_left(range(len(folders)), starts_at, key=last_at) - 1, 0) :]:
        if (part := _part_in(chain, folder)) is None:
            continue
        proofs = find_range(lake, part)
        yield part, proofs
        first_at = proofs["blocks"].first_at if proofs is not None else None
        if first_at is not None and first_at >= ends_at:
            return


def mark_stale(lake: Lake, proof: Proof, message: str, **evidence: Any) -> StaleRange:
    """Note that a committed range is no longer part of its chain; `proof` is that of its blocks.

    It stays in place until it is replaced; if it was by now, there is nothing to note. Raises
    StorageError if the disk refuses.
    """
    part = ChainRange(proof.venue, BlockRange.parse(proof.partition))
    record = {
        **part.names,
        "file_sha256": proof.file_sha256,
        "message": message,
        "evidence": evidence,
        "marked_at": datetime.now(UTC).isoformat(),
    }
    # A commit takes marks of what it replaces away, and must not meet one of itself.
    with storage_errors(lake.stale(part)), lake.commit_lock(part):
        committed = find_proof(lake, part.of("blocks"))
        if committed is None or committed.file_sha256 == proof.file_sha256:
            write_text(lake.stale(part), json.dumps(record, indent=2, default=str))
    return StaleRange(part, message, evidence)


def find_stale(lake: Lake, part: ChainRange) -> StaleRange | None:
    """Why a range is stale; None if it is not, or was replaced since."""
    path = lake.stale(part)
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        stale = StaleRange(part, record["message"], record["evidence"])
        marked = record["file_sha256"]
    except FileNotFoundError:  # replaced just now
        return None
    except (ValueError, KeyError, TypeError):
        return StaleRange(part, f"{path} cannot be read; fetch the range again", {})
    proof = find_proof(lake, part.of("blocks"))
    return stale if proof is None or proof.file_sha256 == marked else None


def tidy_range(lake: Lake, part: ChainRange) -> None:
    """Remove what a run that was killed just after its commit of a range could not."""
    lake.clear_inflight(part)
    if lake.stale(part).exists():
        with lake.commit_lock(part):
            if find_stale(lake, part) is None:
                lake.stale(part).unlink(missing_ok=True)


def stale_ranges(lake: Lake, chain: str) -> list[StaleRange]:
    """Every range of a chain that is marked stale and not replaced yet, in block order."""
    found = []
    for path in sorted(lake.stale(ChainRange(chain, BlockRange(0, 0))).parent.glob("range=*.json")):
        if (part := _part_in(chain, path.stem)) is not None:
            found.append(find_stale(lake, part))
    return [stale for stale in found if stale is not None]


def _part_in(chain: str, folder: str) -> ChainRange | None:
    """The range of a folder's name; None if it is not one that we give."""
    try:
        return ChainRange(chain, BlockRange.parse(folder.removeprefix("range=")))
    except ValueError:
        return None
