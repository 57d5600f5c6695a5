"""Settings: the only place that reads the environment (prefix CRYPTO_ASSETS_, `.env` read too).

What each setting means is in its description; README.md lists those a user meets.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from crypto_assets.errors import SettingsError

PROJECT_ROOT = Path(__file__).resolve().parent.parent

_PREFIX = "CRYPTO_ASSETS_"
_RPC_URLS = re.compile(rf"{_PREFIX}([A-Z][A-Z0-9_]*)_RPC_URLS")


class Profile(StrEnum):
    """Where data comes from: the embedded sandbox, or the real sources."""

    SANDBOX = "sandbox"
    LIVE = "live"


def _separate(urls: Any) -> Any:
    return tuple(filter(None, map(str.strip, urls.split(",")))) if isinstance(urls, str) else urls


def _check_urls(urls: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    for number, url in enumerate(urls, start=1):
        parts = urlsplit(url.get_secret_value())
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"number {number} is no http or https URL")
    return urls


_Urls = Annotated[tuple[SecretStr, ...], BeforeValidator(_separate), AfterValidator(_check_urls)]


class Settings(BaseSettings):
    """All settings, typed and checked; `load_settings` builds one and names what is wrong."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_file=PROJECT_ROOT / ".env",
        extra="ignore",
        frozen=True,
        # A value that is wrong may be a secret all the same.
        hide_input_in_errors=True,
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

    rpc_urls: Annotated[dict[str, _Urls], NoDecode] = Field(
        {},
        description="nodes by chain, from <CHAIN>_RPC_URLS, comma-separated; they may carry keys. "
        "The sandbox has its own",
    )
    chain_proofs: str = Field(
        "all", description="comma-separated proofs of a chain's blocks that run; `all`, or none"
    )
    blocks_per_request: int = Field(
        50, ge=1, le=1000, description="blocks fetched at a time; what bounds a chain's memory"
    )
    rpc_calls_per_second: int | None = Field(
        None, ge=1, description="calls that each node is asked in a second; none is no limit"
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

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment before `.env`; the nodes of chains from variables named after them."""
        return init_settings, _Nodes(settings_cls), env_settings, dotenv_settings

    def urls_of(self, chain: str) -> tuple[SecretStr, ...]:
        """The nodes of a chain in the order given; raises SettingsError if there is none.

        In the sandbox those that it has for every chain, whatever is set for the live profile.
        """
        if self.profile is Profile.SANDBOX:
            return tuple(SecretStr(f"http://sandbox/{chain}{node}") for node in ("", "-b"))
        if not (urls := self.rpc_urls.get(chain)):
            raise SettingsError(f"set {_PREFIX}{chain.upper()}_RPC_URLS to the nodes of {chain}")
        return urls

    def has_nodes(self, chain: str) -> bool:
        """Whether there is a node to ask about a chain."""
        return self.profile is Profile.SANDBOX or bool(self.rpc_urls.get(chain))

    def proofs_among(self, known: Collection[str]) -> frozenset[str]:
        """The proofs that run; raises SettingsError for a name that is not among `known`."""
        if self.chain_proofs == "all":
            return frozenset(known)
        chosen = frozenset(filter(None, map(str.strip, self.chain_proofs.split(","))))
        if unknown := sorted(chosen - set(known)):
            raise SettingsError(
                f"{_PREFIX}CHAIN_PROOFS names {', '.join(unknown)}; "
                f"known are {', '.join(known)}, or `all`"
            )
        return chosen

    def as_environment(self) -> dict[str, str]:
        """These settings as variables, for a process that may start in another folder."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        nodes = values.pop("rpc_urls")
        return {
            **{_variable(name): _as_text(v) for name, v in values.items() if v is not None},
            **{_variable("rpc_urls", chain): _as_text(urls) for chain, urls in nodes.items()},
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


class _Nodes(PydanticBaseSettingsSource):
    """Reads <CHAIN>_RPC_URLS for whatever chain there is; the environment goes before `.env`."""

    def __call__(self) -> dict[str, Any]:
        read = {
            **DotEnvSettingsSource(self.settings_cls).env_vars,
            **EnvSettingsSource(self.settings_cls).env_vars,
        }
        found = {_RPC_URLS.fullmatch(name.upper()): urls for name, urls in read.items()}
        return {
            "rpc_urls": {match[1].lower(): urls for match, urls in found.items() if match and urls}
        }

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Not asked: the whole source is read at once."""
        raise NotImplementedError


def _variable(name: str, *inside: str) -> str:
    """The variable that a field, or an item inside it, was read from."""
    if name == "rpc_urls" and inside:
        name = f"{inside[0]}_rpc_urls"
    return f"{_PREFIX}{name.upper()}"


def _as_text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_as_text, value))
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def load_settings() -> Settings:
    """Read the environment; raises SettingsError naming every variable that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        lines = "; ".join(
            f"{_variable(*map(str, item['loc']))}: {item['msg']}" for item in error.errors()
        )
        raise SettingsError(f"wrong settings: {lines}") from error


def export_to_dbt(settings: Settings) -> None:
    """Tell dbt, which reads only the environment, where the warehouse of these settings is."""
    os.environ["CRYPTO_ASSETS_WAREHOUSE"] = str(settings.home / "warehouse.duckdb")


def export_to_dagster() -> None:
    """Ask Dagster, which reads only the environment, for events in batches where it has several."""
    os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", "100")
