with

answers as (

    select * from {{ ref('stg_calls__tokens') }}
    where {{ in_range('chain', first_block('block_range')) }}

),

trusted_tokens as (

    select
        chain,
        {{ to_hex('address') }} as token_address,
        symbol,
        decimals,
        role,
        asset,
    from {{ source('raw', 'trusted_tokens') }}

),

ranges as (

    select distinct chain, "range" as block_range
    from {{ source('raw', 'chain_logs') }}
    where {{ in_range() }}
    union
    select chain, block_range
    from answers

),

listed as (

    select
        ranges.chain,
        ranges.block_range,
        trusted_tokens.* exclude (chain),
    from ranges
    join trusted_tokens on ranges.chain = trusted_tokens.chain

),

final as (

    select
        chain,
        block_range,
        {{ first_block('block_range') }} as block_number,
        token_address,
        case when listed.role is null then answers.symbol else listed.symbol end as symbol,
        case when listed.role is null then answers.decimals else listed.decimals end as decimals,
        listed.role is not null as is_trusted,
        listed.role,
        listed.asset,
        case when listed.role is null then answers.symbol_source else 'catalogue' end
            as symbol_source,
    from answers
    full join listed using (chain, block_range, token_address)

)

select * from final
order by chain, block_range, token_address
