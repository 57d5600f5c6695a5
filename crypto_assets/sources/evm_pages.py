"""Blocks of a chain kept on disk as a node delivered them: the checkpoint of a block range.

A file holds one line of JSON that says what it is, and the results of the calls, compressed. It is
read only as a whole and under its digest: a file that a power cut tore, or anybody changed, counts
as not there. Whether what it says is true is proven anew by whoever reads it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
from msgspec import Raw, Struct

from crypto_assets.sources.partial import storing

_COMPRESSION = "zstd"
# Of hex less than half remains, in half the time that the usual level takes to leave a fifth.
_CODEC = pa.Codec(_COMPRESSION, compression_level=-20)


class Page(Struct, frozen=True, gc=False):
    """Results of calls for consecutive blocks, in block order: JSON that nobody has read yet.

    `receipts` has one list for each block; `logs` has lists that together cover the blocks.
    """

    blocks: list[Raw]
    receipts: list[Raw] = []
    logs: list[Raw] = []


class _Label(Struct, frozen=True):
    asked: str
    origin: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """A page with where it came from, and the SHA-256 and length of its JSON."""

    page: Page
    origin: str
    sha256: str
    bytes: int

    @classmethod
    def of(cls, page: Page, origin: str) -> Delivery:
        """A page that was delivered just now."""
        digest, size = hashlib.sha256(), 0
        for piece in _pieces(page):
            digest.update(piece)
            size += len(piece)
        return cls(page, origin, digest.hexdigest(), size)


def keep(path: Path, delivery: Delivery, asked: str) -> None:
    """Put a delivery at `path`, at once; raises StorageError."""
    label = _Label(asked, delivery.origin, delivery.sha256, delivery.bytes)
    temporary = path.with_name(f"{path.name}.tmp")
    with storing(path):
        with temporary.open("wb") as file:
            file.write(msgspec.json.encode(label) + b"\n")
            for piece in _pieces(delivery.page):
                file.write(_CODEC.compress(piece))
        temporary.replace(path)


def find(path: Path, asked: str) -> Delivery | None:
    """The delivery at `path`, if it is there, whole, and what was asked for then is asked now."""
    try:
        head, _, packed = path.read_bytes().partition(b"\n")
        label = msgspec.json.decode(head, type=_Label)
        body = pa.CompressedInputStream(pa.BufferReader(packed), _COMPRESSION).read()
        page = msgspec.json.decode(body, type=Page)
    except (OSError, ValueError, msgspec.DecodeError):  # pyarrow's errors are OSError, ValueError
        return None
    if label.asked != asked or hashlib.sha256(body).hexdigest() != label.sha256:
        return None
    return Delivery(page, label.origin, label.sha256, len(body))


def _pieces(page: Page) -> Iterator[Any]:
    """The JSON of a page as it lies in memory, in pieces, none of which is copied."""
    lead = b"{"
    for name, raws in (("blocks", page.blocks), ("receipts", page.receipts), ("logs", page.logs)):
        yield lead + b'"' + name.encode() + b'":['
        for at, raw in enumerate(raws):
            if at:
                yield b","
            yield memoryview(raw)
        lead = b"],"
    yield b"]}"
