"""The digest depends on the rows and on nothing else."""

from __future__ import annotations

import hashlib
import struct
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto_assets.catalog import BlockRange
from crypto_assets.lake.digest import ContentDigest, digest_table
from lake.chain import rows_of
from lake.days import pieces, trades

EPOCH = datetime(1970, 1, 1, tzinfo=UTC).replace(tzinfo=None)
SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("price", pa.decimal128(18, 8)),
        pa.field("qty", pa.decimal128(28, 8)),
        pa.field("wei", pa.decimal128(38, 0)),
        pa.field("at", pa.timestamp("us")),
        pa.field("is_maker", pa.bool_()),
        pa.field("side", pa.string()),
        pa.field("data", pa.binary()),
        pa.field("place", pa.int32()),
    ]
)
ROWS: list[dict[str, Any]] = [
    {
        "id": 7,
        "price": Decimal("0.00000001"),
        "qty": Decimal("-12345678901234567890.12345678"),
        "wei": Decimal(10**38 - 1),
        "at": EPOCH + timedelta(days=19_783, microseconds=1),
        "is_maker": True,
        "side": "bid é",
        "data": b"\0\1",
        "place": -1,
    },
    {
        "id": 8,
        "price": None,
        "qty": None,
        "wei": None,
        "at": None,
        "is_maker": None,
        "side": None,
        "data": None,
        "place": None,
    },
    {
        "id": 9,
        "price": Decimal(0),
        "qty": Decimal(0),
        "wei": Decimal(0),
        "at": EPOCH,
        "is_maker": False,
        "side": "",
        "data": b"",
        "place": 0,
    },
]


def _decimal(digits: int, places: int) -> st.SearchStrategy[Decimal]:
    most = 10**digits - 1
    return st.integers(-most, most).map(lambda units: Decimal((units < 0, _digits(units), -places)))


def _digits(number: int) -> tuple[int, ...]:
    return tuple(int(digit) for digit in str(abs(number)))


def _row(**values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({name: st.none() | value for name, value in values.items()})


tables = st.lists(
    _row(
        price=_decimal(18, 8),
        qty=_decimal(28, 8),
        wei=_decimal(38, 0),
        at=st.timedeltas(timedelta(-30_000), timedelta(80_000)).map(lambda since: EPOCH + since),
        is_maker=st.booleans(),
        side=st.text(max_size=4),
        data=st.binary(max_size=4),
        place=st.integers(-(2**31), 2**31 - 1),
    ),
    max_size=20,
).map(lambda rows: table_of([{"id": at, **row} for at, row in enumerate(rows)]))


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def digest(table: pa.Table) -> str:
    return digest_table(table, ("id",))


def by_definition(rows: list[dict[str, Any]]) -> str:
    """The documented definition for SCHEMA, in plain Python."""

    def units(places: int) -> Any:
        exact = Context(prec=76)
        return lambda value: int(exact.scaleb(value, places)).to_bytes(16, "little", signed=True)

    def instant(value: datetime) -> bytes:
        since = value - EPOCH
        return struct.pack("<q", (since.days * 86_400 + since.seconds) * 10**6 + since.microseconds)

    encode = {
        "id": ("int64", lambda value: struct.pack("<q", value), 8),
        "price": ("decimal128(18, 8)", units(8), 16),
        "qty": ("decimal128(28, 8)", units(8), 16),
        "wei": ("decimal128(38, 0)", units(0), 16),
        "at": ("timestamp[us]", instant, 8),
        "is_maker": ("bool", lambda value: bytes([value]), 1),
        "side": ("string", str.encode, 0),
        "data": ("binary", bytes, 0),
        "place": ("int32", lambda value: struct.pack("<i", value), 4),
    }
    whole = hashlib.sha256()
    for name, (kind, to_bytes, width) in encode.items():
        nulls = lengths = values = b""
        for number, row in enumerate(rows):
            if row[name] is None:
                nulls += struct.pack("<q", number)
            value = bytes(width) if row[name] is None else to_bytes(row[name])
            lengths += b"" if width else struct.pack("<i", len(value))
            values += value
        column = f"{name}\0{kind}\0".encode()
        for part in (nulls, lengths, values):
            column += hashlib.sha256(part).digest()
        whole.update(hashlib.sha256(column).digest())
    return whole.hexdigest()


def test_digest_is_what_its_definition_says() -> None:
    assert digest(table_of(ROWS)) == by_definition(ROWS)
    pinned = "7a18e4e768cc2ab893fd5938f274df8b528e2c939c56d79b16af262dba1043f6"
    assert digest(table_of(ROWS)) == pinned


@settings(max_examples=50, deadline=None)
@given(tables)
def test_digest_follows_the_definition_for_any_rows(table: pa.Table) -> None:
    assert digest(table) == by_definition(table.to_pylist())


@settings(max_examples=50, deadline=None)
@given(tables, st.randoms(use_true_random=False))
def test_row_order_does_not_matter(table: pa.Table, random: Any) -> None:
    order = list(range(table.num_rows))
    random.shuffle(order)
    shuffled = table.take(pa.array(order, pa.int64()))
    assert digest(shuffled) == digest(table)


@settings(max_examples=50, deadline=None)
@given(tables, st.integers(1, 7), st.integers(0, 9))
def test_batches_and_offsets_do_not_matter(table: pa.Table, rows: int, offset: int) -> None:
    # Slices of a larger array: every buffer starts somewhere in the middle of a byte or value.
    padding = table_of((ROWS * 3)[:offset])
    within = pa.concat_tables([padding, table, table_of(ROWS)]).combine_chunks()
    sliced = within.slice(offset, table.num_rows).to_batches()
    content = ContentDigest(SCHEMA)
    for batch in sliced:
        content.update(batch.slice(0, 0))
        for piece in pieces(batch, rows):
            content.update(piece)
    assert content.hexdigest() == digest(table)


@settings(max_examples=50, deadline=None)
@given(tables.filter(lambda table: table.num_rows), st.data())
def test_any_changed_value_changes_it(table: pa.Table, data: st.DataObject) -> None:
    rows = table.to_pylist()
    row = data.draw(st.integers(0, len(rows) - 1))
    name = data.draw(st.sampled_from(SCHEMA.names))
    others = [ROWS[0][name], ROWS[2][name], *([] if name == "id" else [None])]
    if name == "id":
        others = [len(rows), len(rows) + 1]
    for value in others:
        altered = [{**each, name: value} if at == row else each for at, each in enumerate(rows)]
        assert (digest(table_of(altered)) == digest(table)) == (value == rows[row][name])


@pytest.mark.parametrize("name", SCHEMA.names[1:])
def test_null_is_not_zero_and_not_empty(name: str) -> None:
    assert digest(table_of([ROWS[2]])) != digest(table_of([{**ROWS[2], name: None}]))


def test_a_text_does_not_run_into_the_next() -> None:
    one = table_of([{**ROWS[2], "side": "ab"}, {**ROWS[2], "id": 10, "side": "c"}])
    other = table_of([{**ROWS[2], "side": "a"}, {**ROWS[2], "id": 10, "side": "bc"}])
    assert digest(one) != digest(other)


@pytest.mark.parametrize(
    "other",
    [
        SCHEMA.set(8, pa.field("level", pa.int32())),
        SCHEMA.set(8, pa.field("place", pa.int64())),
        SCHEMA.set(4, pa.field("at", pa.timestamp("ms"))),
        SCHEMA.set(7, pa.field("data", pa.string())),
        SCHEMA.remove(8),
        pa.schema([SCHEMA.field(at) for at in (0, 2, 1, 3, 4, 5, 6, 7, 8)]),
    ],
)
def test_names_types_and_order_of_columns_change_it(other: pa.Schema) -> None:
    names = [name if name in SCHEMA.names else "place" for name in other.names]
    renamed = table_of(ROWS[2:]).select(names).rename_columns(other.names)
    assert digest(renamed.cast(other)) != digest(table_of(ROWS[2:]))


def test_garbage_below_a_null_does_not_matter() -> None:
    dirty = pa.Array.from_buffers(
        pa.int32(), 3, [pa.py_buffer(b"\x05"), pa.py_buffer(struct.pack("<iii", -1, 99, 0))]
    )
    table = table_of(ROWS)
    assert digest(table.set_column(8, SCHEMA.field(8), dirty)) == digest(table)


def test_no_rows_have_a_digest_of_their_own() -> None:
    empty = SCHEMA.empty_table()
    assert digest(empty) == by_definition([]) == ContentDigest(SCHEMA).hexdigest()
    content = ContentDigest(SCHEMA)
    content.update(pa.RecordBatch.from_pylist([], schema=SCHEMA))
    assert content.hexdigest() == digest(empty)


@pytest.mark.parametrize("kind", [pa.float64(), pa.list_(pa.int64()), pa.large_string()])
def test_types_without_a_definition_are_refused(kind: pa.DataType) -> None:
    with pytest.raises(TypeError, match="column x of type"):
        ContentDigest(pa.schema([("x", kind)]))


@pytest.mark.parametrize("options", ["", ", compression zstd, row_group_size 2048", ", v2"])
def test_another_writer_keeps_it(tmp_path: Path, options: str) -> None:
    rows = pa.Table.from_batches([trades(rows=10_000)])
    path = tmp_path / "copy.parquet"
    options = options.replace("v2", "parquet_version v2, compression gzip")
    with duckdb.connect() as connection:
        connection.register("rows", rows)
        connection.execute(
            f"copy (from rows order by hash(id)) to '{path}' (format parquet{options})"
        )
    assert pq.read_schema(path).field("id").nullable
    assert digest(pq.read_table(path)) == digest(rows)


def test_nulls_survive_another_writer(tmp_path: Path) -> None:
    path = tmp_path / "copy.parquet"
    with duckdb.connect() as connection:
        connection.register("rows", table_of(ROWS))
        connection.execute(f"copy rows to '{path}' (format parquet)")
    assert digest(pq.read_table(path)) == by_definition(ROWS)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.none() | st.binary(min_size=3, max_size=3), max_size=20), st.integers(1, 7))
def test_a_fixed_size_is_not_part_of_it(values: list[bytes | None], rows: int) -> None:
    """Other writers do not keep it, and a null is empty in either."""
    tables = []
    for kind in (pa.binary(), pa.binary(3)):
        padded = pa.array([b"abc", None, *values, b"xyz"], kind)
        columns = [pa.array(range(len(values)), pa.int64()), padded.slice(2, len(values))]
        tables.append(pa.table(columns, names=["id", "hash"]))
    content = ContentDigest(tables[1].schema)
    for batch in tables[1].to_batches():
        for piece in pieces(batch, rows):
            content.update(piece)
    assert content.hexdigest() == digest(tables[0]) == digest(tables[1])


def test_a_hash_survives_another_writer(tmp_path: Path) -> None:
    rows = rows_of(BlockRange(0, 99))
    path = tmp_path / "copy.parquet"
    for batch, key in ((rows.blocks, ("number",)), (rows.logs, ("block_number", "log_index"))):
        table = pa.Table.from_batches([batch])
        with duckdb.connect() as connection:
            connection.register("rows", table)
            connection.execute(f"copy (from rows order by hash(rows)) to '{path}' (format parquet)")
        assert pq.read_schema(path) != table.schema
        assert digest_table(pq.read_table(path), key) == digest_table(table, key)


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_row_groups_of_our_own_writer_do_not_matter(tmp_path: Path, rows: int) -> None:
    table = pa.Table.from_batches([trades(rows=1000)])
    path = tmp_path / "day.parquet"
    pq.write_table(table, path, row_group_size=rows, compression="gzip", use_dictionary=True)
    assert digest(pq.read_table(path)) == digest(table)
