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
import pyarrow.parquet as pq
from isal import isal_zlib

from benchmarks.alone import alone
from benchmarks.report import Line, Scale, note, ratio, speedup
from benchmarks.trades import trades_query
from crypto_assets.assets.collect import Collector
from crypto_assets.catalog import Catalog, Listing, MarketDay
from crypto_assets.lake import Lake
from crypto_assets.sources.binance import TRADES, Binance

_DAY = date(2024, 3, 5)
_MEMBER = f"BTCUSDT-trades-{_DAY}.csv"
_ZIP = f"BTCUSDT-trades-{_DAY}.zip"
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
# What freqtrade keeps of a trade, in its order.
_FREQTRADE_COLUMNS = ["timestamp", "id", "type", "side", "price", "amount", "cost"]


def measure(scale: Scale, folder: Path) -> Iterator[Line]:
    """Time, memory and speedup of ingesting one archive."""
    log, served, bare_file = folder / "log", folder / "served", folder / "bare.parquet"
    count = scale.archive_trades
    alone(log, write_archive, served, count)
    ours: list[tuple[float, int]] = []
    bare: list[tuple[float, int]] = []
    bare_isal: list[tuple[float, int]] = []
    for nth in range(scale.repeats):
        home = folder / f"home-{nth}"
        ours.append(alone(log, ingest, served, home))
        bare.append(alone(log, ingest_bare, served / _ZIP, bare_file, inflate_zlib))
        alone(log, compare, home, bare_file, count)
        bare_isal.append(alone(log, ingest_bare, served / _ZIP, bare_file, inflate_isal))
        shutil.rmtree(home)
    freqtrade = alone(log, ingest_as_freqtrade, served / _ZIP, folder / "trades.feather")

    seconds, peak = min(ours)[0], max(peak for _, peak in ours)
    name = f"Binance archive of {count:,} trades to proven, committed Parquet"
    yield ratio(name, seconds, min(bare)[0], "bare DuckDB", at_most=1.5)
    yield note("bare DuckDB that inflates with isal", "", f"{min(bare_isal)[0]:.2f} s")
    yield speedup("beside freqtrade", seconds, freqtrade[0], "its pandas steps", at_least=10)
    yield Line(
        "peak memory",
        f"{peak / 1e6:.0f} MB",
        f"bare DuckDB {bare[0][1] / 1e6:.0f} MB, pandas steps {freqtrade[1] / 1e6:,.0f} MB",
        f"{peak / 1e6:.0f} MB",
        f"< {_MEMORY_LIMIT / 1e6:.0f} MB",
        peak < _MEMORY_LIMIT,
    )


def write_archive(folder: Path, count: int) -> None:
    """The zip and its .CHECKSUM as Binance publishes them: no header, deflated by zlib."""
    folder.mkdir()
    csv = folder / _MEMBER
    duckdb.execute(
        f"""
        copy (
            select * replace (
                if(is_buyer_maker, 'True', 'False') as is_buyer_maker,
                if(is_best_match, 'True', 'False') as is_best_match,
            )
            from ({trades_query(_DAY, count)})
        ) to '{csv}' (format csv, header false)
        """
    )
    with zipfile.ZipFile(folder / _ZIP, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(csv, _MEMBER)
    csv.unlink()
    with (folder / _ZIP).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    (folder / f"{_ZIP}.CHECKSUM").write_text(f"{digest}  {_ZIP}\n")


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
        shutil.copyfileobj(opened.open(_MEMBER), file, 1 << 20)


def inflate_isal(archive: Path, target: Path) -> None:
    """Inflate the archive's only member with Intel's library, without checking its CRC."""
    with zipfile.ZipFile(archive) as opened:
        info = opened.getinfo(_MEMBER)
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


def ingest_as_freqtrade(archive: Path, target: Path) -> float:
    """Seconds of freqtrade's steps on the same archive, with the pandas of this environment.

    As freqtrade 2025.x does for `download-data --dl-trades`: read_csv into floats, the cost, the
    side, a list of tuples, a frame of these, types, duplicates, Feather (`parse_trades_from_zip`,
    `trades_list_to_df`, `trades_df_remove_duplicates`, `trades_store`). Its download, its merge
    with what is stored, and its per-page REST path are left out, so it is really slower.
    """
    # It takes 60 MB, which would count as our memory.
    import pandas as pd  # noqa: PLC0415

    names = ["id", "price", "amount", "quote", "timestamp", "is_buyer_maker", "is_best_match"]
    started = time.perf_counter()
    with zipfile.ZipFile(archive) as opened, opened.open(_MEMBER) as csv:
        read = pd.read_csv(csv, names=names)
    read["cost"] = read["price"] * read["amount"]
    read["side"] = np.where(read["is_buyer_maker"], "sell", "buy")
    read["type"] = None
    read["timestamp"] = np.where(
        read["timestamp"] > 1e13, read["timestamp"] // 1000, read["timestamp"]
    )
    rows = read[_FREQTRADE_COLUMNS].to_records(index=False).tolist()
    del read
    trades = pd.DataFrame(rows, columns=_FREQTRADE_COLUMNS)
    trades = trades.astype({"id": "str", "type": "str", "side": "str"})
    trades["date"] = pd.to_datetime(trades["timestamp"], unit="ms", utc=True)
    trades = trades.drop_duplicates(subset=["timestamp", "id"])
    trades[_FREQTRADE_COLUMNS].reset_index(drop=True).to_feather(
        target, compression="lz4", compression_level=9
    )
    return time.perf_counter() - started


def compare(home: Path, bare: Path, count: int) -> None:
    """Both sides hold the same trades, and as many as the archive."""
    part = MarketDay(TRADES.name, _MARKET, _DAY)
    ours = Lake(home).file(part)
    if pq.read_metadata(ours).num_rows != count:
        raise AssertionError(f"{ours} does not hold {count} trades")
    columns = "id, price, qty, quote_qty, is_buyer_maker, is_best_match"
    different = duckdb.execute(
        f"""
        select count(*)
        from (select {columns}, epoch_ms(time) as time from '{ours}') as ours
        full join (select {columns}, time from '{bare}') as bare using (id)
        where ours is distinct from bare
        """
    ).fetchall()
    if different != [(0,)]:
        raise AssertionError(f"{different[0][0]} trades differ between {ours} and {bare}")
