{{ config(materialized='view', tags=['range']) }}

with

pools as (

    select
        chain,
        block_number,
        block_time,
        last_block_number,
        last_block_time,
        pool,
        protocol,
        project,
        version,
        deployment,
        contract_address,
        token0_address,
        token1_address,
        fee_pips,
        tick_spacing,
        hooks_address,
        created_at,
        created_block_number,
        creation_transaction_hash,
        origin,
        is_genuine,
    from {{ ref('int_dex_pools') }}

),

-- What the range that knows most about a pool says; of two that know as much, the first.
pool_facts as (

    select distinct on (chain, contract_address, pool)
        *,
        list_position(
            ['factory_event', 'create2', 'pool_key', 'imitation', 'unlisted', 'unknown'], origin
        ) as origin_rank,
    from pools
    order by chain, contract_address, pool, origin_rank, block_number

),

sightings as (

    select
        chain,
        contract_address,
        pool,
        min(block_number) as first_seen_block_number,
        min(block_time) as first_seen_at,
        max(last_block_number) as last_seen_block_number,
        max(last_block_time) as last_seen_at,
    from pools
    group by all

),

-- The newest answer of a token: an upgrade may have changed it.
tokens as (

    select distinct on (chain, token_address)
        chain,
        token_address,
        symbol,
        decimals,
        role,
    from {{ ref('int_tokens') }}
    order by chain, token_address, is_trusted desc, block_number desc

),

final as (

    select
        pool_facts.chain,
        pool_facts.pool,
        pool_facts.protocol,
        pool_facts.project,
        pool_facts.version,
        pool_facts.deployment,
        pool_facts.contract_address,
        pool_facts.origin,
        pool_facts.is_genuine,
        pool_facts.token0_address,
        token0.symbol as token0_symbol,
        token0.decimals as token0_decimals,
        pool_facts.token1_address,
        token1.symbol as token1_symbol,
        token1.decimals as token1_decimals,
        {{ is_token0_quote('token0.role', 'token1.role') }} as is_token0_quote,
        pool_facts.fee_pips,
        pool_facts.tick_spacing,
        pool_facts.hooks_address,
        pool_facts.created_at,
        pool_facts.created_block_number,
        pool_facts.creation_transaction_hash,
        sightings.first_seen_at,
        sightings.first_seen_block_number,
        sightings.last_seen_at,
        sightings.last_seen_block_number,
    from pool_facts
    join sightings using (chain, contract_address, pool)
    left join tokens as token0
        on pool_facts.chain = token0.chain and pool_facts.token0_address = token0.token_address
    left join tokens as token1
        on pool_facts.chain = token1.chain and pool_facts.token1_address = token1.token_address

)

select * from final
