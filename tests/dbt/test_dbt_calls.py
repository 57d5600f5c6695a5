"""What contracts answered, as staging reads it."""

from __future__ import annotations

from pathlib import Path

from chain_logs import ChainTables
from dbt.contracts.graph.manifest import Manifest
from dbt_warehouse import Warehouse


def test_unit_tests_of_these_models_pass(manifest: Manifest, tmp_path: Path) -> None:
    tables = ChainTables(Warehouse(tmp_path / "warehouse.duckdb", manifest), manifest)
    tables.run_range(None, "path:models/staging/calls")
    tables.run_range(None, "path:models/staging/calls,test_type:unit", command="test")
