"""Proving committed block ranges again, from the files alone.

Finds in each file what `verify` finds in one, and beyond it: files of a range that are not of one
commit or lack one of them, ranges whose hashes do not join, a range that its neighbours remember
but that is gone, one that is marked stale, and calls whose logs are gone or are others now.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from crypto_assets.catalog import CALLS, KINDS, BlockRange, ChainRange, Kind
from crypto_assets.lake.layout import Lake
from crypto_assets.lake.proof import Proof
from crypto_assets.lake.ranges import find_range, find_stale
from crypto_assets.lake.verify import Finding, verify_file

EVERYTHING = BlockRange(0, 2**63)


def verify_ranges(
    lake: Lake, chain: str, *, within: BlockRange = EVERYTHING, workers: int = 2
) -> Iterator[tuple[ChainRange, list[Finding]]]:
    """Prove every committed range of a chain (that holds a block of `within`) again.

    Yields each as soon as it is known, with what is wrong with it; what only several ranges
    together tell comes last, and may name a range a second time or one that has no file. What a
    commit that was cut off left is not there, and no finding as long as the next run can resume it.
    """
    there = every_part(lake, chain)
    before = [part for part in there if part.blocks.last < within.first]
    after = [part for part in there if part.blocks.first > within.last]
    parts = there[len(before) : len(there) - len(after)]
    sound = {
        part: proofs["blocks"]
        for part in (*before[-1:], *after[:1])
        if (proofs := find_range(lake, part)) is not None
    }
    with ThreadPoolExecutor(workers) as pool:
        for part, (proof, findings) in zip(
            parts, pool.map(lambda part: _verify_range(lake, part), parts), strict=True
        ):
            if proof is not None:
                sound[part] = proof
            yield part, findings
    for part, finding in _across(lake, chain, sound):
        if part.blocks.overlaps(within):
            yield part, [finding]


def every_part(lake: Lake, chain: str) -> list[ChainRange]:
    """Every range of a chain that has a file, whether or not it is there as a whole, in order."""
    return sorted({part for kind in (*KINDS, CALLS) for part in lake.ranges(chain, kind)})


def _verify_range(lake: Lake, part: ChainRange) -> tuple[Proof | None, list[Finding]]:
    """What is wrong with one range, and the proof of its blocks if nothing is."""
    with suppress(OSError, pa.ArrowException):
        proof, findings = _prove_again(lake, part)
        if not findings:
            return proof, []
    # It may have been met in the middle of a commit; under its lock, it cannot be.
    with lake.commit_lock(part):
        return _prove_again(lake, part)


def _prove_again(lake: Lake, part: ChainRange) -> tuple[Proof | None, list[Finding]]:
    files = {kind: lake.file(part.of(kind)) for kind in KINDS}
    if not files["blocks"].exists() and lake.inflight(part).exists():
        return None, []
    calls = part.of(CALLS)
    if not any(path.exists() for path in files.values()):
        told = f"{lake.file(calls)} is there, but {part}, whose logs it follows from, is not"
        return None, [Finding(calls, "orphaned", told)]
    proofs: dict[Kind, Proof] = {}
    findings: list[Finding] = []
    for kind, path in files.items():
        if not path.exists():
            told = f"{path} is not there, but other files of {part} are"
            findings.append(Finding(part.of(kind), "removed", told))
            continue
        proof, found = verify_file(part.of(kind), path)
        findings += found
        if proof is not None:
            proofs[kind] = proof
    if findings:
        return None, findings
    group = {kind: proof.content_digest for kind, proof in proofs.items()}
    blocks = proofs["blocks"]
    if any(proof.group != group for proof in proofs.values()):
        findings.append(Finding(part, "torn", f"{part}: its files are not of one commit"))
    if _ends(files["blocks"]) != (blocks.parent_hash, blocks.first_hash, blocks.last_hash):
        told = f"{files['blocks']}: the hashes of its ends are not those that its proof names"
        findings.append(Finding(part.of("blocks"), "altered", told))
    if (stale := find_stale(lake, part)) is not None:
        findings.append(Finding(part, "stale", f"{part}: {stale.message}"))
    sound = None if findings else blocks
    return sound, findings + _of_calls(lake, part, proofs["logs"])


def _of_calls(lake: Lake, part: ChainRange, logs: Proof) -> list[Finding]:
    """What is wrong with a range's calls, if it has some; the range is there without them too."""
    calls = part.of(CALLS)
    path = lake.file(calls)
    if not path.exists():
        return []
    proof, findings = verify_file(calls, path)
    if proof is not None and proof.group != {"logs": logs.content_digest}:
        told = f"{path} follows from other logs than those of {part}; collect its calls again"
        findings.append(Finding(calls, "outdated", told))
    return findings


def _ends(path: Path) -> tuple[str, ...]:
    """Parent hash of the first block, its hash, and the hash of the last block."""
    rows = pq.read_table(path, columns=["parent_hash", "hash"], partitioning=None)
    ends = rows["parent_hash"][:1], rows["hash"][:1], rows["hash"][rows.num_rows - 1 :]
    return tuple(f"0x{value.as_py().hex()}" for end in ends for value in end)


def _across(
    lake: Lake, chain: str, sound: dict[ChainRange, Proof]
) -> Iterator[tuple[ChainRange, Finding]]:
    for stray, path in lake.range_strays(chain):
        told = f"{path} was not committed; only {lake.file(stray).name} belongs here"
        yield ChainRange(chain, stray.blocks), Finding(stray, "foreign", told)
    gone = {}
    for part, proof in sound.items():
        for neighbour in proof.neighbours.values():
            beside = ChainRange(chain, BlockRange.parse(neighbour))
            if not any(lake.file(beside.of(kind)).exists() for kind in KINDS):
                gone[beside] = Finding(beside, "removed", f"{beside} is not there, but {part} is")
    yield from gone.items()
    for (part, proof), (after, following) in pairwise(sorted(sound.items())):
        if part.beside(1) == after and proof.last_hash != following.parent_hash:
            told = f"{part} ends with {proof.last_hash}, {after} follows {following.parent_hash}"
            yield part, Finding(part, "disjoint", told)
