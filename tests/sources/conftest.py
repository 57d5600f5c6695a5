"""Fixtures of sources."""

from __future__ import annotations

import pytest

from benchmarks.evm_blocks import blocks
from crypto_assets.sources.evm_types import Block, Receipt


@pytest.fixture(scope="session")
def made() -> tuple[Block, list[Receipt]]:
    """A block with transactions of every type, and its receipts with logs of every shape."""
    return next(blocks(1, transactions=40, logs=40))


@pytest.fixture(scope="session")
def block(made: tuple[Block, list[Receipt]]) -> Block:
    return made[0]
