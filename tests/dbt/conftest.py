"""Fixtures: the project parsed once, and an empty warehouse for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from dbt.cli.main import dbtRunner
from dbt.contracts.graph.manifest import Manifest
from dbt_warehouse import PROJECT, Warehouse


@pytest.fixture(scope="package")
def dbt_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Everything that dbt writes goes to a temporary folder."""
    home = tmp_path_factory.mktemp("dbt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DBT_PROJECT_DIR", str(PROJECT))
        patch.setenv("DBT_PROFILES_DIR", str(PROJECT))
        patch.setenv("DBT_TARGET_PATH", str(home / "target"))
        patch.setenv("DBT_LOG_PATH", str(home / "logs"))
        patch.setenv("DBT_QUIET", "true")
        patch.setenv("DBT_WARN_ERROR", "true")
        patch.setenv("CRYPTO_ASSETS_WAREHOUSE", str(home / "warehouse.duckdb"))
        yield home


@pytest.fixture(scope="package")
def manifest(dbt_environment: Path) -> Manifest:
    result = dbtRunner().invoke(["parse"])
    assert isinstance(result.result, Manifest), result.exception
    return result.result


@pytest.fixture
def warehouse(manifest: Manifest, tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "warehouse.duckdb", manifest)
