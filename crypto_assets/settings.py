"""Settings: the only place that reads the environment (prefix CRYPTO_ASSETS_, `.env` read too).

What each setting means is in its description; README.md lists those a user meets.
"""

from __future__ import annotations

import os
import re
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from crypto_assets.errors import SettingsError

PROJECT_ROOT = Path(__file__).resolve().parent.parent


class Profile(StrEnum):
    """Where data comes from: the embedded sandbox, or the real sources."""

    SANDBOX = "sandbox"
    LIVE = "live"


class Settings(BaseSettings):
    """All settings, typed and checked; `load_settings` builds one and names what is wrong."""

    model_config = SettingsConfigDict(
        env_prefix="CRYPTO_ASSETS_", env_file=PROJECT_ROOT / ".env", extra="ignore", frozen=True
    )

    profile: Profile = Field(Profile.SANDBOX, description="sandbox (offline, default) or live")
    data_dir: Path = Field(PROJECT_ROOT / "data", description="where all data is kept")
    catalog: Path | None = Field(None, description="folder that replaces the packaged catalogue")

    binance_archive_url: str = Field(
        "https://data.binance.vision", description="root of the Binance public archive"
    )
    binance_rest_url: str = Field(
        "https://api.binance.com", description="Binance REST, used for what the archive lacks"
    )
    binance_api_key: SecretStr | None = Field(
        None, description="sent as X-MBX-APIKEY if set; market data needs none"
    )

    coinbase_url: str = Field(
        "https://api.exchange.coinbase.com", description="Coinbase Exchange REST"
    )
    kraken_url: str = Field("https://api.kraken.com", description="Kraken spot REST")
    ccxt_urls: str = Field(
        "",
        description="addresses that replace those of exchanges behind ccxt: comma-separated "
        "exchange=URL, for example bitstamp=http://127.0.0.1:8000",
    )

    fetch_workers: int = Field(
        4, ge=1, le=32, description="partitions of one asset fetched at the same time"
    )
    max_partitions_per_run: int = Field(
        31, ge=1, le=366, description="days that one run may hold, so that a retry stays cheap"
    )
    sandbox_faults: str = Field(
        "", description="comma-separated fault names switched on in the sandbox"
    )

    @field_validator("data_dir")
    @classmethod
    def _has_no_pattern(cls, folder: Path) -> Path:
        if set("*?[") & set(str(folder)):
            raise ValueError("must not hold *, ? or [, which DuckDB takes for a pattern")
        return folder.absolute()

    @field_validator("ccxt_urls")
    @classmethod
    def _is_pairs(cls, text: str) -> str:
        for item in filter(str.strip, text.split(",")):
            if not re.fullmatch(r"\s*[a-z0-9]+=https?://[^/\s]\S*\s*", item):
                raise ValueError(f"{item!r} is not exchange=URL, as bitstamp=http://127.0.0.1:8000")
        return text

    def as_environment(self) -> dict[str, str]:
        """These settings as variables, for a process that may start in another folder."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return {
            f"CRYPTO_ASSETS_{name.upper()}": (
                value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            )
            for name, value in values.items()
            if value is not None
        }

    @property
    def ccxt_url_of(self) -> dict[str, str]:
        """`ccxt_urls` by exchange."""
        items = (item.strip().partition("=") for item in self.ccxt_urls.split(",") if item.strip())
        return {exchange: url for exchange, _, url in items}

    @cached_property
    def home(self) -> Path:
        """`<data_dir>/<profile>`, absolute: everything that one profile owns."""
        return self.data_dir / self.profile.value


def load_settings() -> Settings:
    """Read the environment; raises SettingsError naming every variable that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        lines = "; ".join(
            f"CRYPTO_ASSETS_{'.'.join(str(part) for part in item['loc']).upper()}: {item['msg']}"
            for item in error.errors()
        )
        raise SettingsError(f"wrong settings: {lines}") from error


def export_to_dbt(settings: Settings) -> None:
    """Tell dbt, which reads only the environment, where the warehouse of these settings is."""
    os.environ["CRYPTO_ASSETS_WAREHOUSE"] = str(settings.home / "warehouse.duckdb")


def export_to_dagster() -> None:
    """Ask Dagster, which reads only the environment, for events in batches where it has several."""
    os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", "100")
