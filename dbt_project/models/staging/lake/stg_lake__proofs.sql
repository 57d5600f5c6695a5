{#- Proofs are in the files of all of these; without a dependency on what Dagster can materialize, a
    backfill would build this before they are there (1.13.27). -#}
-- depends_on: {{ source('raw', 'binance_klines') }}
-- depends_on: {{ source('raw', 'binance_rest_klines') }}
-- depends_on: {{ source('raw', 'binance_trades') }}
-- depends_on: {{ source('raw', 'ccxt_candles') }}
-- depends_on: {{ source('raw', 'coinbase_candles') }}
-- depends_on: {{ source('raw', 'coinbase_trades') }}
-- depends_on: {{ source('raw', 'kraken_ohlc') }}
-- depends_on: {{ source('raw', 'kraken_trades') }}
with

source as (

    select * from {{ source('raw', 'proofs') }}

),

renamed as (

    select
        dataset,
        partition,
        -- A chain's partition is a block range and has no day.
        case when regexp_full_match(partition, '\d{4}-\d{2}-\d{2}') then partition::date end as day,
        venue,
        market,
        status,
        row_count,
        content_digest,
        gaps,
    from source

)

select * from renamed
