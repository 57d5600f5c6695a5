"""Archives made by hand, broken in every way, against the reader that trusts none of them."""

from __future__ import annotations

import io
import random
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pyarrow as pa
import pytest
from collecting import zipped

from crypto_assets.errors import BadArchiveError, MalformedRowError
from crypto_assets.sources.zipped_csv import ZippedCsv

COLUMNS = pa.schema([("id", pa.int64()), ("price", pa.decimal128(18, 8))])
LINES = [f"{at},{at}.5\n" for at in range(3000)]
CSV = "".join(LINES).encode()


def rows_of(path: Path, member: str = "a.csv") -> tuple[pa.Table, int]:
    stream = ZippedCsv(path, member).rows(COLUMNS, has_header=False)
    table = pa.Table.from_batches(list(stream), COLUMNS)
    return table, stream.row_count


def saved(tmp_path: Path, archive: bytes) -> Path:
    path = tmp_path / "a.zip"
    path.write_bytes(archive)
    return path


def entry(content: bytes, **lies: int) -> bytes:
    """A zip of `a.csv` whose directory may lie about sizes, checksum or the member's place."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    stream = deflate.compress(content) + deflate.flush()
    true = {"crc": zlib.crc32(content), "packed": len(stream), "size": len(content), "offset": 0}
    told = true | lies
    fields = struct.pack(
        "<5H3I2H", 20, 0, 8, 0, 33, told["crc"], told["packed"], told["size"], 5, 0
    )  # fmt: skip
    local = b"PK\3\4" + fields + b"a.csv"
    central = (
        b"PK\1\2" + struct.pack("<H", 20) + fields + bytes(10) + struct.pack("<I", told["offset"])
    ) + b"a.csv"
    end = struct.pack("<4H2IH", 0, 0, 1, 1, len(central), len(local) + len(stream), 0)
    return local + stream + central + b"PK\5\6" + end


def test_rows_come_through_and_are_counted_apart(tmp_path: Path) -> None:
    for archive in (zipped(("a.csv", CSV)), zipped(("a.csv", CSV.rstrip(b"\n"))), entry(CSV)):
        table, row_count = rows_of(saved(tmp_path, archive))
        assert table.num_rows == row_count == 3000
        assert table["id"].to_pylist() == list(range(3000))


def test_stored_members_are_read_too(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a.csv", CSV)
    assert rows_of(saved(tmp_path, buffer.getvalue()))[1] == 3000


def test_head_gives_the_first_lines_only(tmp_path: Path) -> None:
    for content, head in (
        (b"", []),
        (b"x", ["x"]),
        (b"x\r\n", ["x"]),
        (b"x\ny\nz\n", ["x", "y"]),
    ):
        assert ZippedCsv(saved(tmp_path, zipped(("a.csv", content))), "a.csv").head(2) == head


@pytest.mark.parametrize(
    ("archive", "words"),
    [
        (b"", "not a complete zip archive"),
        (b"PK", "not a complete zip archive"),
        (zipped(("a.csv", CSV))[:-30], "not a complete zip archive"),
        (zipped(("a.csv", CSV))[: len(zipped(("a.csv", CSV))) // 2], "it was cut or replaced"),
        (zipped(), "holds nothing, expected exactly a.csv"),
        (zipped(("b.csv", CSV)), r"holds \['b.csv'\]"),
        (zipped(("a.csv", CSV), ("b.csv", b"")), r"holds \['a.csv', 'b.csv'\]"),
        (zipped(("a.csv", CSV), ("a.csv/", b"")), "expected exactly a.csv"),
        (zipped(("../a.csv", CSV)), r"holds \['../a.csv'\]"),
        (zipped(("/a.csv", CSV)), r"holds \['/a.csv'\]"),
        (entry(CSV, crc=1), "with CRC"),
        (entry(CSV, size=len(CSV) - 1), "its directory says"),
        (entry(CSV, size=len(CSV) + 1), "its directory says"),
        (entry(CSV, size=0), "its directory says 0 bytes"),
        (entry(CSV, packed=100), "its directory says"),
        (entry(CSV, offset=7), "no local header|not a complete zip"),
        (entry(CSV, size=2**31, packed=2**30), "claims to inflate to 2147483648 bytes"),
    ],
)
def test_archive_that_is_not_what_it_says_is_refused(
    tmp_path: Path, archive: bytes, words: str
) -> None:
    with pytest.raises(BadArchiveError, match=words):
        rows_of(saved(tmp_path, archive))


def test_bomb_with_a_small_declared_size_stops_at_that_size(tmp_path: Path) -> None:
    path = saved(tmp_path, entry(b"1,1.5\n" * 50_000_000, size=6000))
    tracemalloc.start()
    with pytest.raises(BadArchiveError, match="its directory says 6000 bytes"):
        rows_of(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20  # of the 300 MB that it would inflate to


def test_any_damage_is_noticed(tmp_path: Path) -> None:
    """Flipped, cut or inserted bytes give the very same rows, or an error with a name."""
    sound, dice = zipped(("a.csv", CSV)), random.Random(0)
    expected = rows_of(saved(tmp_path, sound))
    refused = 0
    for _ in range(400):
        at, damaged = dice.randrange(len(sound)), bytearray(sound)
        match dice.randrange(3):
            case 0:
                damaged[at] ^= 1 << dice.randrange(8)
            case 1:
                del damaged[at : at + dice.randrange(1, 50)]
            case _:
                damaged[at:at] = dice.randbytes(dice.randrange(1, 50))
        try:
            assert rows_of(saved(tmp_path, bytes(damaged))) == expected
        except (BadArchiveError, MalformedRowError):
            refused += 1
    assert refused > 300


@pytest.mark.parametrize("at", [0, 1, 1499, 2998, 2999])
def test_misfit_is_found_by_its_row(tmp_path: Path, at: int) -> None:
    lines = [*LINES]
    lines[at] = f"{at},1.123456789\n"
    with pytest.raises(MalformedRowError, match=rf"row {at + 1}, '{at},1\.123456789': price: "):
        rows_of(saved(tmp_path, zipped(("a.csv", "".join(lines).encode()))))


def test_misfit_far_into_a_large_file_is_found_by_its_row(tmp_path: Path) -> None:
    lines = b"1,1.5\n" * 4_000_000 + b"1,x\n" + b"1,1.5\n" * 1000
    with pytest.raises(MalformedRowError, match="row 4000001, '1,x'"):
        rows_of(saved(tmp_path, zipped(("a.csv", lines))))


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a.csv", b"1234567,12345.67890000\n" * 4_000_000)
    before, rows = pa.total_allocated_bytes(), 0
    highest = 0
    for batch in ZippedCsv(path, "a.csv").rows(COLUMNS, has_header=False):
        rows += batch.num_rows
        highest = max(highest, pa.total_allocated_bytes() - before)
    assert rows == 4_000_000
    assert highest < 96 << 20  # all of it would be 92 MB of text and 92 MB of columns


def test_reader_may_be_left_half_way(tmp_path: Path) -> None:
    path = saved(tmp_path, zipped(("a.csv", b"1,1.5\n" * 4_000_000)))
    rows = iter(ZippedCsv(path, "a.csv").rows(COLUMNS, has_header=False))
    assert next(rows).num_rows
    del rows
