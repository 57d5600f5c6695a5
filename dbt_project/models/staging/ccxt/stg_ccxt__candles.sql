with

source as (

    select * from {{ source('raw', 'ccxt_candles') }}

),

renamed as (

    select
        split_part(market, '@', 2) as venue,
        split_part(market, '@', 1) as market,
        date as day,
        open_time as opened_at,
        open,
        high,
        low,
        close,
        volume,
    from source

)

select * from renamed
