"""Recorded minute candles of March 2023 as rows of markets.ohlcv_1m.

Twelve days of three venues, with the USDC de-peg of 10 to 12 March. Binance.US
stands in for Binance. The recordings have no trades and mostly no quote volume, so the average
price of a minute is taken as (open + high + low + close) / 4.
"""

from __future__ import annotations

from pathlib import Path

import duckdb
from dbt_warehouse import Warehouse

# Sniffing the dialect of a hundred files takes ten times as long as reading them.
_CSV = (
    "read_csv('{root}/{path}/*.csv', all_varchar = true, delim = ',', quote = '', escape = '',"
    " header = true, sample_size = 5)"
)
_PARQUET = "'{root}/{path}.parquet'"
# venue, market, where it is, its column of time
_SERIES = (
    ("coinbase", "BTC-USD", _CSV, "coinbase/BTC-USD_1m", "timestamp"),
    ("coinbase", "BTC-USDT", _PARQUET, "coinbase/parquet/coinbase_btcusdt_{days}", "timestamp"),
    ("coinbase", "USDT-USD", _PARQUET, "coinbase/parquet/coinbase_usdtusd_{days}", "timestamp"),
    ("kraken", "BTC-USD", _CSV, "kraken/XBT-USD_1m", "datetime_utc"),
    ("kraken", "BTC-USDC", _CSV, "kraken/XBT-USDC_1m", "datetime_utc"),
    ("kraken", "BTC-USDT", _PARQUET, "kraken/parquet/kraken_btcusdt_{days}", "timestamp"),
    ("kraken", "USDT-USD", _PARQUET, "kraken/parquet/kraken_usdtusd_{days}", "timestamp"),
    ("kraken", "USDC-USD", _PARQUET, "kraken/parquet/kraken_usdcusd_{days}", "timestamp"),
    ("binance", "BTC-USD", _CSV, "binance_us/BTCUSD_1m", "open_time"),
    ("binance", "BTC-USDT", _CSV, "binance_us/BTCUSDT_1m", "open_time"),
    ("binance", "BTC-USDC", _CSV, "binance_us/BTCUSDC_1m", "timestamp"),
    ("binance", "USDC-USDT", _PARQUET, "binance_us/parquet/binance_usdcusdt_{days}", "timestamp"),
)
_DAYS = "2023-03-01_2023-03-12"


def add_real_candles(warehouse: Warehouse, root: Path) -> None:
    """Put every series into markets.ohlcv_1m, as if dbt had built it."""
    with duckdb.connect(warehouse.path) as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute("create schema markets")
        connection.execute(
            """
            create table markets.ohlcv_1m (
                venue varchar, market varchar, opened_at timestamp, open decimal(28,12),
                high decimal(28,12), low decimal(28,12), close decimal(28,12),
                volume decimal(38,12), quote_volume decimal(38,20), vwap decimal(28,12),
                trade_count bigint, taker_buy_volume decimal(38,12),
                taker_buy_quote_volume decimal(38,20), first_trade_id bigint, last_trade_id bigint
            )
            """
        )
        for venue, market, kind, path, time in _SERIES:
            relation = kind.format(root=root, path=path.format(days=_DAYS))
            connection.execute(
                f"""
                insert into markets.ohlcv_1m by name
                select
                    '{venue}' as venue, '{market}' as market,
                    left({time}::varchar, 19)::timestamp as opened_at,
                    open::decimal(28,12) as open, high::decimal(28,12) as high,
                    low::decimal(28,12) as low, close::decimal(28,12) as close,
                    volume::decimal(38,12) as volume,
                    ((open::decimal(28,12) + high::decimal(28,12) + low::decimal(28,12)
                        + close::decimal(28,12)) * 0.25)::decimal(28,12) as vwap
                from {relation}
                where volume::decimal(38,12) > 0
                """
            )
