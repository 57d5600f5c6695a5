with

source as (

    select * from {{ source('raw', 'chain_logs') }}
    where
        topic0 in (
            {{ topic0('usdt_issue') }},
            {{ topic0('usdt_redeem') }},
            {{ topic0('usdt_destroyed_black_funds') }}
        )

),

-- Only Tether's own contracts: others use the same names, with other arguments.
tether as (

    select chain, address, symbol, decimals
    from {{ source('raw', 'trusted_tokens') }}
    where role = 'stablecoin' and symbol = 'USDT'

),

-- None of the arguments is indexed. The amount comes last: after the account whose funds were
-- destroyed, and alone in the other two.
renamed as (

    select
        chain,
        source."range" as block_range,
        source.block_number,
        source.block_timestamp as block_time,
        source.transaction_index,
        source.log_index,
        {{ to_hex('source.transaction_hash') }} as transaction_hash,
        {{ to_hex('address') }} as token_address,
        tether.symbol,
        tether.decimals,
        case source.topic0
            when {{ topic0('usdt_issue') }} then 'issue'
            when {{ topic0('usdt_redeem') }} then 'redeem'
            else 'destroyed_black_funds'
        end as event,
        case when event = 'destroyed_black_funds' then {{ word('source.data', 1) }}
            else {{ word('source.data', 0) }}
        end as amount_word,
        case when event = 'destroyed_black_funds'
            then {{ word_to_address(word('source.data', 0)) }}
        end as account,
        {{ word_to_amount('amount_word') }} as amount_raw,
        {{ word_overflow('amount_word') }} as amount_overflow,
    from source
    join tether using (chain, address)

)

select * exclude (amount_word) from renamed
