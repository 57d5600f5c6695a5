with

calls as (

    select
        chain,
        "range" as block_range,
        split_part("range", '-', 1)::bigint as first_block,
        split_part("range", '-', 2)::bigint as last_block,
        address,
        as_of,
        status,
        case when status = 'returned' then {{ word('result', 0) }} end as supply_word,
    from {{ source('raw', 'chain_calls') }}
    where call = 'totalSupply()' and as_of in ('before', 'last')

),

stablecoins as (

    select chain, address, symbol, decimals
    from {{ source('raw', 'trusted_tokens') }}
    where role = 'stablecoin'

),

final as (

    select
        chain,
        calls.block_range,
        calls.first_block as block_number,
        calls.last_block,
        {{ to_hex('address') }} as token_address,
        any_value(stablecoins.symbol) as symbol,
        any_value(stablecoins.decimals)::integer as decimals,
        any_value({{ word_to_amount('calls.supply_word') }}) filter (where calls.as_of = 'before')
            as supply_before_raw,
        any_value({{ word_to_amount('calls.supply_word') }}) filter (where calls.as_of = 'last')
            as supply_after_raw,
        any_value(calls.status) filter (where calls.as_of = 'before') as status_before,
        any_value(calls.status) filter (where calls.as_of = 'last') as status_after,
    from calls
    join stablecoins using (chain, address)
    where {{ in_range('chain', 'calls.first_block') }}
    group by all

)

select * from final
order by chain, block_number, token_address
