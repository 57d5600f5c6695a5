with

updates as (

    select * from {{ ref('stg_aave__reserve_updates') }}
    where {{ in_range() }}

),

listed_tokens as (

    {{ listed_tokens() }}

),

known_tokens as (

    {{ known_tokens() }}

),

final as (

    select
        updates.chain,
        updates.block_range,
        updates.block_number,
        updates.block_time,
        updates.transaction_index,
        updates.log_index,
        updates.transaction_hash,
        updates.project,
        updates.version,
        updates.contract_address,
        updates.reserve_address as token_address,
        coalesce(listed_tokens.symbol, known_tokens.symbol) as symbol,
        updates.liquidity_rate_ray,
        updates.stable_borrow_rate_ray,
        updates.variable_borrow_rate_ray,
        updates.liquidity_index_ray,
        updates.variable_borrow_index_ray,
        updates.overflow,
    from updates
    left join listed_tokens
        on updates.chain = listed_tokens.chain
        and updates.reserve_address = listed_tokens.token_address
    left join known_tokens
        on updates.chain = known_tokens.chain
        and updates.block_range = known_tokens.block_range
        and updates.reserve_address = known_tokens.token_address

)

select * from final
order by chain, block_number, log_index
