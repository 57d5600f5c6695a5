with

source as (

    select * from {{ source('raw', 'coinbase_trades') }}

),

renamed as (

    select
        'coinbase' as venue,
        market,
        date as day,
        time as traded_at,
        trade_id,
        price,
        size,
        -- The venue gives none. Ten digits of scale each make twenty: nothing is rounded.
        price * size as quote_size,
        -- The venue gives the maker's side.
        case side
            when 'buy' then 'sell'
            when 'sell' then 'buy'
            else error('coinbase_trades: unknown side ' || side)
        end as taker_side,
    from source

)

select * from renamed
