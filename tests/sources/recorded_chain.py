"""Recorded blocks and receipts of real nodes, as the JSON of the results that they gave."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CONTIGUOUS = "rpc_blocks/contiguous_22431080_22431090"
FORKS = "rpc_blocks/forks"
SINGLE = "rpc_single_blocks"


def results(folder: Path) -> Iterator[tuple[str, Any]]:
    """Name and result of each recorded reply in a folder, in order of their names."""
    for path in sorted(folder.iterdir()):
        yield path.name, result(path)


def result(path: Path) -> Any:
    """The result in a file: a bare one, or one in its JSON-RPC envelope."""
    body = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    reply = json.loads(body)
    return reply["result"] if isinstance(reply, dict) and "jsonrpc" in reply else reply


def whole_block(path: Path) -> tuple[bytes, bytes]:
    """Block and receipts recorded by mev-inspect, whose web3.py made numbers of the block."""
    recorded = result(path)
    return encoded(_as_on_the_wire(recorded["data"])), encoded(recorded["receipts"]["result"])


def exchanges(folder: Path) -> Iterator[tuple[str, Any]]:
    """Name and result of each recorded exchange (".io") of a folder; errors are left out."""
    for path in sorted(folder.glob("*.io")):
        for line in path.read_text().splitlines():
            if line.startswith("<< ") and "result" in (reply := json.loads(line[3:])):
                yield path.stem, reply["result"]


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


def _as_on_the_wire(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _as_on_the_wire(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_as_on_the_wire(each) for each in value]
    return hex(value) if type(value) is int else value
