with

source as (

    select * from {{ source('raw', 'kraken_trades') }}

),

renamed as (

    select
        'kraken' as venue,
        market,
        date as day,
        time as traded_at,
        trade_id,
        price,
        volume as size,
        -- The venue gives none. Ten digits of scale and eight make eighteen: nothing is rounded.
        price * volume as quote_size,
        case side
            when 'b' then 'buy'
            when 's' then 'sell'
            else error('kraken_trades: unknown side ' || side)
        end as taker_side,
    from source

)

select * from renamed
