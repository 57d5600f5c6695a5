"""Settings: read from the environment, and every wrong one named by its variable."""

from __future__ import annotations

from pathlib import Path

import pytest

from crypto_assets.errors import SettingsError
from crypto_assets.settings import PROJECT_ROOT, Profile, Settings, export_to_dbt, load_settings


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable and no `.env` of whoever runs the tests."""
    import os

    for name in os.environ:
        if name.startswith("CRYPTO_ASSETS_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_default_is_the_sandbox_in_the_project() -> None:
    settings = load_settings()
    assert settings.profile is Profile.SANDBOX
    assert settings.home == PROJECT_ROOT / "data" / "sandbox"


def test_environment_and_env_file_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("CRYPTO_ASSETS_PROFILE=live\nCRYPTO_ASSETS_FETCH_WORKERS=7\n")
    monkeypatch.setitem(Settings.model_config, "env_file", tmp_path / ".env")
    monkeypatch.setenv("CRYPTO_ASSETS_FETCH_WORKERS", "9")
    monkeypatch.setenv("CRYPTO_ASSETS_DATA_DIR", "elsewhere")
    settings = load_settings()
    assert settings.profile is Profile.LIVE
    assert settings.fetch_workers == 9
    assert settings.home == tmp_path / "elsewhere" / "live"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PROFILE", "production"),
        ("FETCH_WORKERS", "0"),
        ("FETCH_WORKERS", "33"),
        ("FETCH_WORKERS", "many"),
        ("MAX_PARTITIONS_PER_RUN", "0"),
        ("MAX_PARTITIONS_PER_RUN", "367"),
    ],
)
def test_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"CRYPTO_ASSETS_{name}", value)
    with pytest.raises(SettingsError, match=f"wrong settings: CRYPTO_ASSETS_{name}: Input should"):
        load_settings()


def test_addresses_behind_ccxt_are_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "CRYPTO_ASSETS_CCXT_URLS", "bitstamp=http://127.0.0.1:8000, okx=https://eea.okx.com/x,"
    )
    urls = {"bitstamp": "http://127.0.0.1:8000", "okx": "https://eea.okx.com/x"}
    assert load_settings().ccxt_url_of == urls
    monkeypatch.setenv(
        "CRYPTO_ASSETS_CCXT_URLS", load_settings().as_environment()["CRYPTO_ASSETS_CCXT_URLS"]
    )
    assert load_settings().ccxt_url_of == urls
    for wrong in ("bitstamp", "http://127.0.0.1", "bitstamp=127.0.0.1:8000", "bitstamp=http://"):
        monkeypatch.setenv("CRYPTO_ASSETS_CCXT_URLS", wrong)
        with pytest.raises(SettingsError, match=r"CRYPTO_ASSETS_CCXT_URLS: .*is not exchange=URL"):
            load_settings()


def test_every_wrong_variable_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRYPTO_ASSETS_PROFILE", "production")
    monkeypatch.setenv("CRYPTO_ASSETS_FETCH_WORKERS", "0")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "CRYPTO_ASSETS_PROFILE" in str(caught.value)
    assert "CRYPTO_ASSETS_FETCH_WORKERS" in str(caught.value)


def test_key_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRYPTO_ASSETS_BINANCE_API_KEY", "s3cret-key")
    settings = load_settings()
    assert "s3cret-key" not in repr(settings)
    assert settings.binance_api_key is not None
    assert settings.binance_api_key.get_secret_value() == "s3cret-key"


def test_dbt_is_told_where_the_warehouse_is(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setenv("CRYPTO_ASSETS_WAREHOUSE", "replaced")
    settings = load_settings()
    export_to_dbt(settings)
    assert os.environ["CRYPTO_ASSETS_WAREHOUSE"] == str(settings.home / "warehouse.duckdb")
