"""The proof: what is claimed of a committed file, and how it is written into that file.

It is JSON under one key of the Parquet metadata. `file_sha256` seals the whole file, footer and
proof included: it is the SHA-256 of the file's bytes with its own 64 digits set to zeros.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from crypto_assets.catalog import Kind, Part
from crypto_assets.lake.layout import Lake

METADATA_KEY = "crypto_assets.proof"
UNSEALED = "0" * 64

Status = Literal["complete", "empty", "not_listed"]
GapReason = Literal[
    "no_trades",
    "venue_halt",
    "not_listed",
    "source_missing",
    "fetch_failed",
    "quarantined",
    "not_final",
]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceFile(_Model):
    """One document the rows came from: `sha256` and `bytes` are of the document as delivered."""

    url: str
    etag: str | None
    sha256: str
    bytes: int


class Gap(_Model):
    """A stretch `[started_at, ended_at)` of the partition without rows, and why."""

    started_at: datetime
    ended_at: datetime
    reason: GapReason
    evidence: str


class Proof(_Model):
    """What is proven of one file. Times are UTC; `checks` maps each claim to its result.

    `source_row_count` is counted or told by the source, apart from the parsing that gave
    `row_count`. `gaps` lists missing stretches and `gap_count` counts them. `key` is the order and
    identity of rows. `neighbours` maps "previous" and "next" to the partition on that side with
    whose ids this one's were found to join, if one was committed already: the day beside this one,
    or one that only committed days without a row lie between.

    A block range has three files, whose proofs name the content digests of all three as their
    `group`: only together do they count. For each of them `first_id` and `last_id` are the first
    and last block of the range, `first_hash` and `last_hash` the hashes of these two, `parent_hash`
    is that of the block before them, and `neighbours` are the ranges with whose hashes they link.
    `asked` says as JSON what the source was asked for; what was asked otherwise is other data.

    The calls of a range are one file, committed after the three; its `group` names the logs alone,
    from which the calls follow, and there are no hashes and no neighbours.
    """

    dataset: str
    partition: str
    market: str
    venue: str
    status: Status
    row_count: int
    source_row_count: int
    first_id: int | None
    last_id: int | None
    first_at: datetime | None
    last_at: datetime | None
    id_rule: str
    gap_count: int
    duplicate_count: int
    content_digest: str
    key: tuple[str, ...]
    source: tuple[SourceFile, ...]
    checks: dict[str, str]
    gaps: tuple[Gap, ...]
    neighbours: dict[Literal["previous", "next"], str]
    code_version: str
    fetched_at: datetime
    group: dict[Kind, str] = {}
    parent_hash: str | None = None
    first_hash: str | None = None
    last_hash: str | None = None
    asked: str | None = None
    file_sha256: str = UNSEALED

    def is_of(self, part: Part) -> bool:
        """Whether it is this partition that is proven."""
        claimed = (self.dataset, self.market, self.partition)
        return claimed == (part.dataset, part.market, part.partition)


class UnreadableProofError(Exception):
    """A file of the lake has no proof, or one that cannot be read: it was not committed by us."""


def read_proof(path: Path) -> Proof:
    """The proof in a file's metadata; raises UnreadableProofError when there is none."""
    try:
        metadata = pq.read_metadata(path).metadata or {}
        return Proof.model_validate_json(metadata[METADATA_KEY.encode()])
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise UnreadableProofError(f"{path} holds no readable proof: {error}") from error


def find_proof(lake: Lake, part: Part) -> Proof | None:
    """The proof of a committed partition; None if it has no file, or one that is not its own."""
    path = lake.file(part)
    if not path.exists():
        return None
    try:
        proof = read_proof(path)
    except UnreadableProofError:
        return None
    return proof if proof.is_of(part) else None


def seal(path: Path) -> None:
    """Write the file's own SHA-256 into the proof it carries, in place and in the same length."""
    with _mapped(path) as content:
        at = _seal_position(content)
        if content[at : at + 64] != UNSEALED.encode():
            raise UnreadableProofError(f"{path} is sealed already")
        digest = hashlib.sha256(content).hexdigest()
    # Not through the map: a disk that refuses such a write kills the process.
    with path.open("r+b") as file:
        file.seek(at)
        file.write(digest.encode())


def is_seal_intact(path: Path) -> bool:
    """Whether not one byte of the file changed since it was sealed.

    Raises UnreadableProofError when there is no seal.
    """
    with _mapped(path) as content:
        at = _seal_position(content)
        digest = hashlib.sha256(memoryview(content)[:at])
        digest.update(UNSEALED.encode())
        digest.update(memoryview(content)[at + 64 :])
        return content[at : at + 64] == digest.hexdigest().encode()


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    with path.open("rb") as file:
        if path.stat().st_size == 0:  # which cannot be mapped
            raise UnreadableProofError("the file is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield content


def _seal_position(content: mmap.mmap) -> int:
    marker = b'"file_sha256":"'
    at = content.rfind(marker)
    if at < 0:
        raise UnreadableProofError("the file carries no seal")
    return at + len(marker)
