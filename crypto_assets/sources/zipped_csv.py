"""Zip archives of one CSV file, as exchanges publish them: opened with suspicion, read as a stream.

The archive is inflated, counted and parsed in pieces, so memory does not grow with the file. Every
number goes from its text into an exact type; digits that do not fit are an error.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.csv as pa_csv
from isal import isal_zlib

from crypto_assets.errors import BadArchiveError, MalformedRowError

_CHUNK = 1 << 20
# What Arrow parses at a time, and so the longest line that it takes.
# Larger blocks are freed too late by the C library: 8 MB took 600 MB at its peak, 2 MB take 390.
_MAX_BLOCK = 2 << 20
# Trades inflate by a factor of 4, a day of empty candles by 40; a bomb by thousands.
_MAX_RATIO = 200
_MAX_SMALL = 64 << 20
_MAX_HEAD = 64 << 10
_LOCAL_HEADER = struct.Struct("<4s22xHH")


class ZippedCsv:
    """The single CSV member of an archive. Raises BadArchiveError for any other kind of archive."""

    def __init__(self, path: Path, member: str) -> None:
        self._path = path
        self._info = _only_member(path, member)

    def head(self, lines: int) -> list[str]:
        """Up to so many lines from the start, without their ends, to sniff what the file is."""
        with self._path.open("rb") as file:
            for block in _inflate(file, self._info):
                found = block[:_MAX_HEAD].decode("utf-8", "replace").split("\n", lines)[:lines]
                return [line.rstrip("\r") for line in found if line]
        return []

    def rows(self, columns: pa.Schema, *, has_header: bool) -> RowStream:
        """Stream the rows as record batches of exactly these columns."""
        return RowStream(self._path, self._info, columns, has_header=has_header)


class RowStream:
    """Record batches of one CSV; `row_count` is counted from its bytes, apart from the parser."""

    def __init__(
        self, path: Path, info: zipfile.ZipInfo, columns: pa.Schema, *, has_header: bool
    ) -> None:
        self._path = path
        self._info = info
        self._columns = columns
        self._has_header = has_header
        self._lines = 0

    @property
    def row_count(self) -> int:
        """Lines of data in the file; known once the stream is exhausted."""
        return self._lines - self._has_header

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        delivered = 0
        with self._path.open("rb") as file:
            inflated = _Inflated(_inflate(file, self._info))
            try:
                for batch in self._parse(inflated, skip=int(self._has_header)):
                    yield batch
                    delivered += batch.num_rows
            except pa.ArrowInvalid as error:
                raise self._misfit(delivered, error) from error
            self._lines = inflated.line_count

    def _parse(self, source: io.RawIOBase | io.BytesIO, skip: int = 0) -> Iterator[pa.RecordBatch]:
        yield from pa_csv.open_csv(
            pa.PythonFile(source, mode="r"),
            read_options=pa_csv.ReadOptions(
                column_names=self._columns.names, skip_rows=skip, block_size=_MAX_BLOCK
            ),
            # No quotes and no empty lines, so that every newline ends a row and rows can be
            # counted without parsing them.
            parse_options=pa_csv.ParseOptions(quote_char=False, ignore_empty_lines=False),
            convert_options=pa_csv.ConvertOptions(
                column_types=self._columns,
                # An empty or "NaN" number must not become NULL.
                null_values=[],
                true_values=["True", "true", "TRUE"],
                false_values=["False", "false", "FALSE"],
            ),
        )

    def _misfit(self, delivered: int, error: pa.ArrowInvalid) -> MalformedRowError:
        """The error that names the first row that does not parse, which Arrow's own does not.

        It is in the block after the rows delivered; the parser itself finds it by halving.
        """
        suspects: list[bytes] = []
        size = 0
        with self._path.open("rb") as file:
            lines = _lines(_inflate(file, self._info))
            for line in islice(lines, delivered + self._has_header, None):
                suspects.append(line)
                size += len(line)
                if size > 2 * _MAX_BLOCK:
                    break
        row = delivered + 1
        while len(suspects) > 1:
            half = len(suspects) // 2
            if self._complaint(suspects[:half]) is None:
                suspects, row = suspects[half:], row + half
            else:
                suspects = suspects[:half]
        complaint = self._complaint(suspects) or str(error)
        text = b"".join(suspects)[:200].decode("utf-8", "replace")
        return MalformedRowError(
            f"{self._path.name}: row {row}, {text!r}: {complaint}. The columns must be "
            f"{', '.join(f'{field.name} {field.type}' for field in self._columns)}; if the source "
            "changed its format, this version cannot read it",
            row=row,
            text=text,
        )

    def _complaint(self, lines: list[bytes]) -> str | None:
        """What the parser has against these lines, with the column's name for its number."""
        try:
            for _ in self._parse(io.BytesIO(b"\n".join([*lines, b""]))):
                pass
        except pa.ArrowInvalid as error:
            return re.sub(
                r"In CSV column #(\d+)", lambda at: self._columns.names[int(at[1])], str(error)
            )
        return None


class _Inflated(io.RawIOBase):
    """File-like view of inflated blocks for Arrow, counting lines as they pass."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = b""
        self._ends_in_newline = True
        self._newlines = 0

    @property
    def line_count(self) -> int:
        return self._newlines + (not self._ends_in_newline)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        pieces, wanted = [self._rest], size - len(self._rest)
        while wanted > 0:
            block = next(self._blocks, b"")
            if not block:
                break
            self._newlines += block.count(b"\n")
            self._ends_in_newline = block.endswith(b"\n")
            pieces.append(block)
            wanted -= len(block)
        data = b"".join(pieces)
        self._rest = data[size:]
        return data[:size]


def _lines(blocks: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for block in blocks:
        *whole, rest = (rest + block).split(b"\n")
        yield from whole
    if rest:
        yield rest


def _only_member(path: Path, member: str) -> zipfile.ZipInfo:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    # ValueError: names that are no UTF-8, offsets below zero.
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
        raise BadArchiveError(
            f"{path.name} is not a complete zip archive ({error}); it was cut or replaced on the "
            "way, run the partition again"
        ) from error
    names = [info.filename for info in members]
    if names != [member]:
        raise BadArchiveError(
            f"{path.name} holds {names or 'nothing'}, expected exactly {member}", members=names
        )
    info = members[0]
    if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BadArchiveError(f"{path.name}: {member} is encrypted or not deflated")
    # Against the size on disk: what the archive says of its own compressed size proves nothing.
    size = path.stat().st_size
    if info.file_size > max(_MAX_SMALL, _MAX_RATIO * size):
        raise BadArchiveError(
            f"{path.name}: {member} claims to inflate to {info.file_size} bytes, more than "
            f"{_MAX_RATIO} times the archive's {size}",
            inflated=info.file_size,
        )
    return info


def _inflate(file: IO[bytes], info: zipfile.ZipInfo) -> Iterator[bytes]:
    """Inflated blocks of a member; raises BadArchiveError where size or CRC-32 do not match."""
    file.seek(max(0, info.header_offset))  # below zero in an archive that lost bytes
    header = file.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size or not header.startswith(b"PK\x03\x04"):
        raise BadArchiveError(f"{info.filename}: no local header where the directory points")
    _, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    file.seek(name_length + extra_length, io.SEEK_CUR)
    decoder = isal_zlib.decompressobj(wbits=-15) if info.compress_type else None
    left, size, crc = info.compress_size, 0, 0
    try:
        while left > 0 and (raw := file.read(min(_CHUNK, left))):
            left -= len(raw)
            while raw and size <= info.file_size:
                block = decoder.decompress(raw, _MAX_BLOCK) if decoder else raw
                raw = decoder.unconsumed_tail if decoder else b""
                size += len(block)
                crc = isal_zlib.crc32(block, crc)
                if block:
                    yield block
    except isal_zlib.error as error:  # type: ignore[misc]  # its stub calls the class an instance
        raise BadArchiveError(f"{info.filename}: the deflated data is broken ({error})") from error
    if size != info.file_size or crc != info.CRC:
        raise BadArchiveError(
            f"{info.filename}: inflates to {size} bytes with CRC {crc:08x}, its directory says "
            f"{info.file_size} bytes with CRC {info.CRC:08x}"
        )
