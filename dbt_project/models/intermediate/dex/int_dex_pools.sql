with

deployments as (

    select
        chain,
        name as deployment,
        protocol,
        project,
        version,
        {{ to_hex('address') }} as address,
        fee_pips,
    from {{ source('raw', 'deployments') }}

),

creations as (

    {%- for protocol, model, contract, pool, columns in [
        (
            'uniswap_v2', 'stg_uniswap__v2_pairs', 'pair', 'pair',
            ['deployments.fee_pips', 'null::bigint as tick_spacing', 'null::varchar as hooks_address'],
        ),
        (
            'uniswap_v3', 'stg_uniswap__v3_pools', 'pool', 'pool',
            ['created.fee_pips', 'created.tick_spacing', 'null::varchar as hooks_address'],
        ),
        (
            'uniswap_v4', 'stg_uniswap__v4_pools', 'contract_address', 'pool',
            ['created.fee_pips', 'created.tick_spacing', 'created.hooks_address'],
        ),
    ] %}
    {{- 'union all' if not loop.first }}

    select
        created.chain,
        created.block_range,
        deployments.protocol,
        deployments.deployment,
        created.{{ contract }} as contract_address,
        created.{{ pool }} as pool,
        created.token0_address,
        created.token1_address,
        {%- for column in columns %}
        {{ column }},
        {%- endfor %}
        created.block_number,
        created.block_time,
        created.transaction_hash,
    from {{ ref(model) }} as created
    join deployments
        on created.chain = deployments.chain
        and created.contract_address = deployments.address
        and deployments.protocol = '{{ protocol }}'
    where {{ in_range('created.chain', 'created.block_number') }}
    {% endfor %}
),

-- What tells of a pool: its swaps, and its creation by a listed factory or pool manager. Of a creation
-- by any other contract nothing follows: it may name a pool that is not its own.
events as (

    {%- for protocol, model, pool in [
        ('uniswap_v2', 'stg_uniswap__v2_swaps', 'contract_address'),
        ('uniswap_v3', 'stg_uniswap__v3_swaps', 'contract_address'),
        ('uniswap_v4', 'stg_uniswap__v4_swaps', 'pool'),
    ] %}

    select
        chain,
        block_range,
        '{{ protocol }}' as protocol,
        contract_address,
        {{ pool }} as pool,
        block_number,
        block_time,
    from {{ ref(model) }}
    where {{ in_range() }}

    union all
    {%- endfor %}

    select
        chain,
        block_range,
        protocol,
        contract_address,
        pool,
        block_number,
        block_time,
    from creations

),

seen as (

    select
        chain,
        block_range,
        protocol,
        contract_address,
        pool,
        min(block_number) as block_number,
        min(block_time) as block_time,
        max(block_number) as last_block_number,
        max(block_time) as last_block_time,
    from events
    where pool is not null
    group by all

),

derived as (

    select
        derived_pools.chain,
        derived_pools."range" as block_range,
        derived_pools.address as pool,
        deployments.deployment,
        deployments.protocol,
        case when deployments.protocol = 'uniswap_v4' then deployments.address end as manager_address,
    from {{ source('raw', 'derived_pools') }} as derived_pools
    join deployments
        on derived_pools.chain = deployments.chain
        and derived_pools.deployment = deployments.deployment

),

contracts as (

    select * from {{ ref('stg_calls__pools') }}

),

pool_keys as (

    select distinct on (chain, block_range, pool_prefix) *
    from {{ ref('stg_calls__pool_keys') }}
    order by chain, block_range, pool_prefix, contract_address

),

judged as (

    select
        seen.*,
        creations.deployment is not null as is_created,
        derived.deployment is not null as is_derived,
        coalesce(creations.deployment, derived.deployment) as deployment,
        case
            when is_created then 'factory_event'
            when is_derived and seen.protocol = 'uniswap_v4' then 'pool_key'
            when is_derived then 'create2'
            when seen.protocol = 'uniswap_v4' and managers.address is not null then 'unknown'
            when factories.address is not null then 'imitation'
            else 'unlisted'
        end as origin,
        coalesce(creations.token0_address, pool_keys.token0_address, contracts.token0_address)
            as token0_address,
        coalesce(creations.token1_address, pool_keys.token1_address, contracts.token1_address)
            as token1_address,
        coalesce(creations.fee_pips, pool_keys.fee_pips, contracts.fee_pips) as said_fee_pips,
        coalesce(creations.tick_spacing, pool_keys.tick_spacing) as tick_spacing,
        coalesce(creations.hooks_address, pool_keys.hooks_address) as hooks_address,
        creations.block_time as created_at,
        creations.block_number as created_block_number,
        creations.transaction_hash as creation_transaction_hash,
    from seen
    left join creations
        on seen.chain = creations.chain
        and seen.block_range = creations.block_range
        and seen.protocol = creations.protocol
        and seen.contract_address = creations.contract_address
        and seen.pool = creations.pool
    left join derived
        on seen.chain = derived.chain
        and seen.block_range = derived.block_range
        and seen.protocol = derived.protocol
        and seen.pool = derived.pool
        and seen.contract_address = coalesce(derived.manager_address, derived.pool)
    left join contracts
        on seen.chain = contracts.chain
        and seen.block_range = contracts.block_range
        and seen.contract_address = contracts.contract_address
        and seen.protocol <> 'uniswap_v4'
    left join pool_keys
        on seen.chain = pool_keys.chain
        and seen.block_range = pool_keys.block_range
        and seen.pool[1:52] = pool_keys.pool_prefix
        and derived.manager_address is not null
    left join deployments as factories
        on contracts.chain = factories.chain and contracts.factory_address = factories.address
    left join deployments as managers
        on seen.chain = managers.chain
        and seen.contract_address = managers.address
        and managers.protocol = 'uniswap_v4'

),

final as (

    select
        judged.chain,
        judged.block_range,
        judged.block_number,
        judged.block_time,
        judged.last_block_number,
        judged.last_block_time,
        judged.pool,
        judged.protocol,
        deployments.project,
        deployments.version,
        judged.deployment,
        judged.contract_address,
        judged.token0_address,
        judged.token1_address,
        -- A V4 pool whose fee its hooks decide has a flag there; each swap says what it paid.
        case
            when judged.protocol = 'uniswap_v2' then deployments.fee_pips
            when judged.said_fee_pips <= 1000000 then judged.said_fee_pips
        end as fee_pips,
        judged.tick_spacing,
        judged.hooks_address,
        judged.created_at,
        judged.created_block_number,
        judged.creation_transaction_hash,
        judged.origin,
        judged.is_created or judged.is_derived as is_genuine,
    from judged
    left join deployments
        on judged.chain = deployments.chain and judged.deployment = deployments.deployment
    -- A contract that emits the events of two protocols is what it was proven to be, if anything.
    qualify
        row_number() over (
            partition by judged.chain, judged.block_range, judged.contract_address, judged.pool
            order by is_genuine desc, judged.protocol, judged.created_block_number
        ) = 1

)

select * from final
order by chain, block_range, pool, contract_address
