"""A thousand blocks of a chain, from JSON-RPC to proven and committed Parquet files.

Ours is the way a range really goes: a node on a loopback port, the HTTP client, parts kept on disk,
decoding, proofs, exact columns, digests, Parquet, seal, fsync and commit. CPU is that of the client
alone; the node has a process of its own.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import duckdb

from benchmarks.alone import alone
from benchmarks.evm_blocks import FIRST_BLOCK
from benchmarks.evm_proofs import costs
from benchmarks.peers import CRYO, ETHEREUM_ETL, Cost, Peer
from benchmarks.replay import replayed
from benchmarks.report import Line, Scale, note, rate
from crypto_assets.catalog import KINDS, BlockRange, Chain, ChainRange
from crypto_assets.lake import Lake, RangeWriter, SourceFile
from crypto_assets.sources.evm import PROOFS, Evm

_UNIT = "rows/CPU s"
_MOST_MS = 8.0
_COSTED = 100


def measure(scale: Scale, folder: Path) -> Iterator[Line]:
    """Rows per CPU second beside cryo and ethereum-etl, wall time, memory, and what proofs cost."""
    log, count = folder / "log", scale.blocks
    blocks = BlockRange(FIRST_BLOCK, FIRST_BLOCK + count - 1)
    bare: list[Cost] = []
    proven: list[Cost] = []
    pythons = {peer: peer.python() for peer in (CRYO, ETHEREUM_ETL)}
    peers: dict[str, list[Cost]] = {peer.name: [] for peer in pythons}
    with replayed(count, log) as url:
        for nth in range(scale.repeats):
            for proofs, ours in (((), bare), (PROOFS, proven)):
                home = folder / f"home-{nth}"
                rows, cost = _fetched(log, url, home, blocks, proofs)
                ours.append(cost)
                shutil.rmtree(home)
            # ethereum-etl takes eight times as long, and once is enough to tell.
            for peer, python in list(pythons.items())[: 1 if nth else 2]:
                if python:
                    target = folder / f"{peer.name}-{nth}"
                    cost = peer.fetch(python, url, blocks, target, log)
                    compare(peer, target, rows)
                    peers[peer.name].append(cost)
                    shutil.rmtree(target)
    total = sum(rows.values())
    name = f"{count:,} blocks ({total:,} rows) to committed Parquet"
    yield _beside(f"{name}, without proofs", total, bare, CRYO, peers, at_least=1.3)
    yield _beside("the same with every proof", total, proven, ETHEREUM_ETL, peers, at_least=5)
    measured = {"ours, without proofs": bare, "ours, with every proof": proven} | peers
    for whose, found in measured.items():
        if found:
            yield note(f"wall, CPU, peak memory: {whose}", _shown(found))
    added = (_cpu(proven) - _cpu(bare)) / count * 1000
    figure = f"{added:.2f} ms"
    yield Line(
        "CPU of all proofs, per block", figure, "", figure, f"<= {_MOST_MS:g} ms", added <= _MOST_MS
    )
    each, _ = alone(log, costs, min(count, _COSTED))
    for proof in ("all proofs", *PROOFS):
        what = "alone in memory, all proofs" if proof == "all proofs" else proof
        yield note(f"of which {what}" if proof in PROOFS else what, f"{each[proof]:.3f} ms")


def _beside(
    name: str,
    rows: int,
    ours: list[Cost],
    peer: Peer,
    costs_of: dict[str, list[Cost]],
    *,
    at_least: float,
) -> Line:
    if not costs_of[peer.name]:
        return Line(name, f"{rows / _cpu(ours):,.0f} {_UNIT}", f"{peer.name} {peer.absence}")
    theirs = rows / _cpu(costs_of[peer.name])
    return rate(name, rows / _cpu(ours), theirs, peer.name, unit=_UNIT, at_least=at_least)


def _cpu(found: list[Cost]) -> float:
    return min(cost.cpu for cost in found)


def _shown(found: list[Cost]) -> str:
    seconds, peak = min(cost.seconds for cost in found), max(cost.peak for cost in found)
    return f"{seconds:.2f} s, {_cpu(found):.2f} s, {peak / 1e6:,.0f} MB"


def _fetched(
    log: Path, url: str, home: Path, blocks: BlockRange, proofs: Collection[str]
) -> tuple[dict[str, int], Cost]:
    (rows, seconds, cpu), peak = alone(log, fetch, url, home, blocks, proofs)
    return rows, Cost(seconds, cpu, peak)


def fetch(
    url: str, home: Path, blocks: BlockRange, proofs: Collection[str]
) -> tuple[dict[str, int], float, float]:
    """Rows by dataset, seconds and CPU seconds of committing a range as an asset does."""
    chain = Chain(name="ethereum", chain_id=1, range_size=blocks.size)
    lake, part = Lake(home), ChainRange(chain.name, blocks)
    wall, cpu = time.perf_counter(), time.process_time()
    lake.inflight(part).mkdir(parents=True)
    evm = Evm(chain, urls=[url], proofs=proofs)
    with RangeWriter(lake, evm.datasets, part) as writer:
        extract = evm.fetch(blocks, lake.inflight(part))
        for rows in extract:
            writer.write(rows)
        writer.commit(
            source_row_counts=extract.counts,
            source=tuple(
                SourceFile(url=one.url, etag=one.etag, sha256=one.sha256, bytes=one.bytes)
                for one in extract.documents
            ),
            checks=extract.checks,
        )
    evm.close()
    return dict(extract.counts), time.perf_counter() - wall, time.process_time() - cpu


def compare(peer: Peer, folder: Path, rows: dict[str, int]) -> None:
    """Refuse a comparison with a peer that wrote other numbers of rows."""
    found = {}
    for kind in KINDS:
        files = [path for path in folder.iterdir() if kind in path.name]
        found[kind] = sum(map(_rows, files))
    if found != rows:
        raise AssertionError(f"{peer.name} wrote {found}, ours {rows}")


def _rows(file: Path) -> int:
    if file.suffix == ".csv":
        with file.open("rb") as lines:
            return sum(1 for _ in lines) - 1
    ((count,),) = duckdb.execute(f"select count(*) from '{file}'").fetchall()
    return int(count)
