with

source as (

    select * from {{ source('raw', 'coinbase_candles') }}

),

renamed as (

    select
        'coinbase' as venue,
        market,
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
