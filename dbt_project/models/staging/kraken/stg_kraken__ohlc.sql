with

source as (

    select * from {{ source('raw', 'kraken_ohlc') }}

),

renamed as (

    select
        'kraken' as venue,
        market,
        date as day,
        open_time as opened_at,
        open,
        high,
        low,
        close,
        volume,
        vwap,
        count as trade_count,
    from source

)

select * from renamed
