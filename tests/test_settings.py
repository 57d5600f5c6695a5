"""Settings: read from the environment, and every wrong one named by its variable."""

from __future__ import annotations

import traceback
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
    assert settings.rpc_calls_per_second is None
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
        ("BLOCKS_PER_REQUEST", "0"),
        ("BLOCKS_PER_REQUEST", "1001"),
        ("RPC_CALLS_PER_SECOND", "0"),
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


def test_nodes_of_any_chain_are_read_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "CRYPTO_ASSETS_ETHEREUM_RPC_URLS", "https://a.example/s3cret, http://b:8545,"
    )
    monkeypatch.setenv("CRYPTO_ASSETS_BASE_RPC_URLS", "")
    monkeypatch.setenv("CRYPTO_ASSETS_PROFILE", "live")
    settings = load_settings()
    assert "s3cret" not in repr(settings)
    assert [url.get_secret_value() for url in settings.urls_of("ethereum")] == [
        "https://a.example/s3cret",
        "http://b:8545",
    ]
    for chain in ("base", "gnosis_2"):
        with pytest.raises(SettingsError, match=f"set CRYPTO_ASSETS_{chain.upper()}_RPC_URLS to"):
            settings.urls_of(chain)


def test_the_sandbox_has_nodes_of_its_own_whatever_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CRYPTO_ASSETS_ETHEREUM_RPC_URLS", "https://a.example/s3cret")
    for chain in ("ethereum", "base"):
        assert [url.get_secret_value() for url in load_settings().urls_of(chain)] == [
            f"http://sandbox/{chain}",
            f"http://sandbox/{chain}-b",
        ]


def test_nodes_in_the_environment_go_before_those_of_the_env_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text(
        "CRYPTO_ASSETS_ETHEREUM_RPC_URLS=http://file\nCRYPTO_ASSETS_BASE_RPC_URLS=http://base\n"
    )
    monkeypatch.setitem(Settings.model_config, "env_file", tmp_path / ".env")
    monkeypatch.setenv("CRYPTO_ASSETS_ETHEREUM_RPC_URLS", "http://environment")
    monkeypatch.setenv("CRYPTO_ASSETS_PROFILE", "live")
    settings = load_settings()
    assert [url.get_secret_value() for url in settings.urls_of("ethereum")] == [
        "http://environment"
    ]
    assert [url.get_secret_value() for url in settings.urls_of("base")] == ["http://base"]


@pytest.mark.parametrize("url", ["ftp://s3cret", "s3cret", "https://", "http:///s3cret"])
def test_what_is_no_url_is_named_by_its_variable_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("CRYPTO_ASSETS_ETHEREUM_RPC_URLS", f"http://a,{url}")
    with pytest.raises(
        SettingsError, match=r"CRYPTO_ASSETS_ETHEREUM_RPC_URLS: .*number 2"
    ) as caught:
        load_settings()
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_another_process_gets_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRYPTO_ASSETS_ETHEREUM_RPC_URLS", "http://a/key,http://b")
    monkeypatch.setenv("CRYPTO_ASSETS_BINANCE_API_KEY", "key")
    monkeypatch.setenv("CRYPTO_ASSETS_RPC_CALLS_PER_SECOND", "25")
    settings = load_settings()
    assert settings.rpc_calls_per_second == 25
    for name, value in settings.as_environment().items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings


@pytest.mark.parametrize(
    ("value", "chosen"), [("all", {"a", "b"}), ("", set()), ("b", {"b"}), (" b, a ,", {"a", "b"})]
)
def test_proofs_are_chosen_by_name(value: str, chosen: set[str]) -> None:
    assert Settings(chain_proofs=value).proofs_among(("a", "b")) == chosen


def test_an_unknown_proof_is_named_with_those_there_are() -> None:
    with pytest.raises(
        SettingsError, match="CRYPTO_ASSETS_CHAIN_PROOFS names c; known are a, b, or"
    ):
        Settings(chain_proofs="a,c").proofs_among(("a", "b"))


def test_dbt_is_told_where_the_warehouse_is(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setenv("CRYPTO_ASSETS_WAREHOUSE", "replaced")
    settings = load_settings()
    export_to_dbt(settings)
    assert os.environ["CRYPTO_ASSETS_WAREHOUSE"] == str(settings.home / "warehouse.duckdb")
