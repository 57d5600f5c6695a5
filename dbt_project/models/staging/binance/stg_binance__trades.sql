with

source as (

    select * from {{ source('raw', 'binance_trades') }}

),

renamed as (

    select
        'binance' as venue,
        market,
        date as day,
        time as traded_at,
        id as trade_id,
        price,
        qty as size,
        quote_qty as quote_size,
        -- When the buyer was the maker, the taker sold.
        case when is_buyer_maker then 'sell' else 'buy' end as taker_side,
    from source

)

select * from renamed
