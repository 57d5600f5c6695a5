"""A day of five million trades, from Binance's zip to a proven and committed Parquet file.

Ours is the way a partition really goes: download (from a folder, through the same HTTP client),
checksum, inflating, parsing into exact types, checks, digest, Parquet, seal, fsync and commit.
"""

from __future__ import annotations

import hashlib
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import duckdb
import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from isal import isal_zlib

from benchmarks.alone import alone
from benchmarks.peers import FREQTRADE, Cost
from benchmarks.report import Line, Scale, note, ratio, speedup
from benchmarks.trades import trades_query
from crypto_assets.assets.collect import Collector
from crypto_assets.catalog import Catalog, Listing, MarketDay
from crypto_assets.lake import Lake
from crypto_assets.sources.binance import TRADES, Binance

_DAY = date(2024, 3, 5)
_ZIP = f"BTCUSDT-trades-{_DAY}.zip"
_AGGREGATED_ZIP = f"BTCUSDT-aggTrades-{_DAY}.zip"
_MARKET = "BTC-USDT"
_MEMORY_LIMIT = 600_000_000
# What DuckDB reads fastest: DECIMAL(28,8), which ours has room for, costs it fifteen times as much.
_COLUMNS = {
    "id": "BIGINT",
    "price": "DECIMAL(18,8)",
    "qty": "DECIMAL(18,8)",
    "quote_qty": "DECIMAL(18,8)",
    "time": "BIGINT",
    "is_buyer_maker": "BOOLEAN",
    "is_best_match": "BOOLEAN",
}
# Trades that filled one order at one price are one row of these; here each trade is one.
_AGGREGATED = (
    "id, price, qty, id as first_id, id as last_id, time_ms, is_buyer_maker, is_best_match"
)


def measure(scale: Scale, folder: Path) -> Iterator[Line]:
    """Time, memory and speedup of ingesting one archive."""
    log, served, bare_file = folder / "log", folder / "served", folder / "bare.parquet"
    count = scale.archive_trades
    alone(log, write_archive, served, count)
    python = FREQTRADE.python()
    if python:
        alone(log, write_aggregated, folder / _AGGREGATED_ZIP, count)
    ours: list[tuple[float, int]] = []
    bare: list[tuple[float, int]] = []
    bare_isal: list[tuple[float, int]] = []
    freqtrade: list[Cost] = []
    for nth in range(scale.repeats):
        home = folder / f"home-{nth}"
        ours.append(alone(log, ingest, served, home))
        bare.append(alone(log, ingest_bare, served / _ZIP, bare_file, inflate_zlib))
        alone(log, compare, home, bare_file, count)
        bare_isal.append(alone(log, ingest_bare, served / _ZIP, bare_file, inflate_isal))
        shutil.rmtree(home)
        if python:
            stored = folder / f"{FREQTRADE.name}-{nth}"
            archive = str(folder / _AGGREGATED_ZIP)
            freqtrade.append(FREQTRADE.run(python, stored, log, archive=archive))
            alone(log, compare_freqtrade, stored, bare_file)
            shutil.rmtree(stored)

    seconds, peak = min(ours)[0], max(peak for _, peak in ours)
    peaks = {"bare DuckDB": bare[0][1]}
    name = f"Binance archive of {count:,} trades to proven, committed Parquet"
    yield ratio(name, seconds, min(bare)[0], "bare DuckDB", at_most=1.5)
    yield note("bare DuckDB that inflates with isal", "", f"{min(bare_isal)[0]:.2f} s")
    beside = "the same trades to freqtrade's Feather"
    if freqtrade:
        peaks[FREQTRADE.name] = max(cost.peak for cost in freqtrade)
        best = min(cost.seconds for cost in freqtrade)
        yield speedup(beside, seconds, best, FREQTRADE.name, at_least=10)
    else:
        yield Line(beside, f"{seconds:.2f} s", f"{FREQTRADE.name} {FREQTRADE.absence}")
    yield Line(
        "peak memory",
        f"{peak / 1e6:.0f} MB",
        ", ".join(f"{peer} {peak / 1e6:,.0f} MB" for peer, peak in peaks.items()),
        f"{peak / 1e6:.0f} MB",
        f"< {_MEMORY_LIMIT / 1e6:.0f} MB",
        peak < _MEMORY_LIMIT,
    )


def write_archive(folder: Path, count: int) -> None:
    """The zip and its .CHECKSUM as Binance publishes them: no header, deflated by zlib."""
    folder.mkdir()
    _write_zip(folder / _ZIP, "*", count)
    with (folder / _ZIP).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    (folder / f"{_ZIP}.CHECKSUM").write_text(f"{digest}  {_ZIP}\n")


def write_aggregated(archive: Path, count: int) -> None:
    """The same trades as Binance publishes aggregated ones, which are what freqtrade reads."""
    _write_zip(archive, _AGGREGATED, count)


def _write_zip(archive: Path, columns: str, count: int) -> None:
    csv = archive.with_suffix(".csv")
    duckdb.execute(
        f"""
        copy (
            select {columns} from (
                select * replace (
                    if(is_buyer_maker, 'True', 'False') as is_buyer_maker,
                    if(is_best_match, 'True', 'False') as is_best_match,
                )
                from ({trades_query(_DAY, count)})
            )
        ) to '{csv}' (format csv, header false)
        """
    )
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.write(csv, csv.name)
    csv.unlink()


class _FolderTransport(httpx.BaseTransport):
    """Answers with the files of a folder, in pieces as a socket would give them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        path = self._folder / Path(request.url.path).name
        if not path.exists():
            return httpx.Response(404)
        size = {"Content-Length": str(path.stat().st_size)}
        return httpx.Response(200, headers=size, stream=_Pieces(path))


class _Pieces(httpx.SyncByteStream):
    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            while piece := file.read(1 << 16):
                yield piece


def ingest(served: Path, home: Path) -> float:
    """Seconds that the real collector takes for the day."""
    listing = Listing("binance", _MARKET, "BTCUSDT", since=date(2017, 8, 17))
    address = "https://archive.invalid"
    binance = Binance(archive_url=address, rest_url=address, transport=_FolderTransport(served))
    collector = Collector(Lake(home), Catalog((listing,)), lambda _: binance, workers=1)
    started = time.perf_counter()
    (day,) = collector.collect(TRADES, [_DAY])
    seconds = time.perf_counter() - started
    for failure in day.failures:
        raise failure.error
    return seconds


def ingest_bare(archive: Path, target: Path, inflate: Callable[[Path, Path], None]) -> float:
    """Seconds that DuckDB takes with nothing around it: no check, no proof, no flush to disk."""
    csv = target.with_suffix(".csv")
    started = time.perf_counter()
    inflate(archive, csv)
    duckdb.execute(
        f"""
        copy (from read_csv('{csv}', header = false, auto_detect = false, columns = {_COLUMNS}))
        to '{target}' (format parquet, compression zstd)
        """
    )
    seconds = time.perf_counter() - started
    csv.unlink()
    return seconds


def inflate_zlib(archive: Path, target: Path) -> None:
    """Inflate the archive's only member as the standard library does."""
    with zipfile.ZipFile(archive) as opened, target.open("wb") as file:
        shutil.copyfileobj(opened.open(*opened.namelist()), file, 1 << 20)


def inflate_isal(archive: Path, target: Path) -> None:
    """Inflate the archive's only member with Intel's library, without checking its CRC."""
    with zipfile.ZipFile(archive) as opened:
        (info,) = opened.infolist()
    inflater = isal_zlib.decompressobj(wbits=-15)
    with archive.open("rb") as source, target.open("wb") as file:
        # The local header: 30 bytes of which the last four are the lengths of what follows.
        source.seek(info.header_offset + 26)
        lengths = np.frombuffer(source.read(4), "<u2")
        source.seek(int(lengths.sum()), 1)
        left = info.compress_size
        while left and (piece := source.read(min(1 << 20, left))):
            left -= len(piece)
            file.write(inflater.decompress(piece))


def compare(home: Path, bare: Path, count: int) -> None:
    """Both sides hold the same trades, and as many as the archive."""
    part = MarketDay(TRADES.name, _MARKET, _DAY)
    ours = Lake(home).file(part)
    if pq.read_metadata(ours).num_rows != count:
        raise AssertionError(f"{ours} does not hold {count} trades")
    columns = "id, price, qty, quote_qty, is_buyer_maker, is_best_match"
    trades = duckdb.sql(f"select {columns}, epoch_ms(time) as time from '{ours}'")
    _refuse_others(ours, trades, bare, f"{columns}, time")


def compare_freqtrade(folder: Path, bare: Path) -> None:
    """What freqtrade stored are the same trades, as far as it keeps them."""
    (feather,) = folder.glob("*.feather")
    stored = duckdb.from_arrow(pa.ipc.open_file(feather).read_all())
    trades = stored.select(
        "id::bigint as id, price::decimal(18, 8) as price, amount::decimal(18, 8) as qty, "
        "side = 'sell' as is_buyer_maker, timestamp as time"
    )
    _refuse_others(feather, trades, bare, "id, price, qty, is_buyer_maker, time")


def _refuse_others(file: Path, trades: duckdb.DuckDBPyRelation, bare: Path, columns: str) -> None:
    different = trades.query(
        "ours",
        f"""
        select count(*)
        from ours full join (select {columns} from '{bare}') as bare using (id)
        where ours is distinct from bare
        """,
    ).fetchall()
    if different != [(0,)]:
        raise AssertionError(f"{different[0][0]} trades differ between {file} and {bare}")
