"""The proof is in the file, the seal covers the file, and no other file passes for a proven one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crypto_assets.lake import Lake, find_proof, read_proof
from crypto_assets.lake.proof import METADATA_KEY, Proof, UnreadableProofError, is_seal_intact, seal
from lake.days import PART, commit, trades

FOREIGN = {
    "nothing": b"",
    "text": b"id,price\n1,2\n",
    "magic only": b"PAR1PAR1",
    "a wrong footer": b"PAR1" + b"\xff" * 40 + b"PAR1",
}


def test_any_parquet_reader_sees_the_proof(lake: Lake) -> None:
    proof = commit(lake, trades())
    with duckdb.connect() as connection:
        rows = connection.execute(
            "select decode(value) from parquet_kv_metadata(?) where decode(key) = ?",
            [str(lake.file(PART)), METADATA_KEY],
        ).fetchall()
    assert json.loads(rows[0][0]) == json.loads(proof.model_dump_json())
    assert proof.file_sha256 != "0" * 64


def test_a_file_is_sealed_once(lake: Lake) -> None:
    commit(lake, trades())
    with pytest.raises(UnreadableProofError, match="sealed already"):
        seal(lake.file(PART))
    assert is_seal_intact(lake.file(PART))


def test_a_changed_seal_is_broken(lake: Lake) -> None:
    proof = commit(lake, trades())
    path = lake.file(PART)
    other = proof.file_sha256[:-1] + ("0" if proof.file_sha256[-1] != "0" else "1")
    path.write_bytes(path.read_bytes().replace(proof.file_sha256.encode(), other.encode()))
    assert not is_seal_intact(path)


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_file_has_no_proof_and_no_seal(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.parquet"
    path.write_bytes(content)
    with pytest.raises(UnreadableProofError, match=f"{path} holds no readable proof"):
        read_proof(path)
    for check in (is_seal_intact, seal):
        with pytest.raises(UnreadableProofError, match="the file"):
            check(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("metadata", [{}, {METADATA_KEY: "{"}, {METADATA_KEY: '{"dataset": "x"}'}])
def test_parquet_without_a_whole_proof_has_none(tmp_path: Path, metadata: dict[str, str]) -> None:
    path = tmp_path / "file.parquet"
    pq.write_table(pa.table({"id": [1]}).replace_schema_metadata(metadata), path)
    with pytest.raises(UnreadableProofError):
        read_proof(path)


def test_a_broken_footer_is_never_worse_than_unreadable(lake: Lake) -> None:
    commit(lake, trades(rows=3))
    path = lake.file(PART)
    sound = path.read_bytes()
    read = 0
    for at in range(len(sound)):
        flipped = bytearray(sound)
        flipped[at] ^= 0xFF
        path.write_bytes(flipped)
        try:
            read += isinstance(read_proof(path), Proof)
        except UnreadableProofError:
            assert find_proof(lake, PART) is None
    assert 0 < read < len(sound)


def test_only_a_partitions_own_proof_is_found(lake: Lake) -> None:
    assert find_proof(lake, PART) is None
    proof = commit(lake, trades())
    assert find_proof(lake, PART) == proof
    other = PART.beside(1)
    lake.file(other).parent.mkdir(parents=True)
    shutil.copy(lake.file(PART), lake.file(other))
    assert find_proof(lake, other) is None
