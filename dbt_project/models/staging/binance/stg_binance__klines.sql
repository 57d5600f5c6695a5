with

source as (

    select * from {{ source('raw', 'binance_klines') }}

),

renamed as (

    select
        'binance' as venue,
        market,
        date as day,
        open_time as opened_at,
        close_time as closed_at,
        open,
        high,
        low,
        close,
        volume,
        quote_volume,
        count as trade_count,
        taker_buy_volume,
        taker_buy_quote_volume,
    from source

)

select * from renamed
