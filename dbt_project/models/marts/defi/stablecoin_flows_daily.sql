{{ config(event_time='day') }}

with

-- Of a chain in the light mode it is not known whether all logs are there.
covered_days as (

    select
        covered_days.chain,
        covered_days.day,
        covered_days.first_block,
        covered_days.last_block,
        blocks_daily.log_count is not null as has_all_logs,
    from {{ source('raw', 'covered_days') }} as covered_days
    join {{ ref('blocks_daily') }} as blocks_daily
        on covered_days.chain = blocks_daily.chain and covered_days.day = blocks_daily.day
    where {{ in_window('covered_days.day') }}

),

stablecoins as (

    select chain, token_address, symbol, decimals
    from ({{ listed_tokens() }})
    where role = 'stablecoin'

),

-- All of the ranges that the days are in, however long before midnight one begins.
covered_blocks as (

    select chain, min(first_block) as first_block, max(last_block) as last_block
    from covered_days
    group by all

),

changes as (

    select changes.*
    from {{ ref('int_stablecoin_changes') }} as changes
    join covered_blocks
        on changes.chain = covered_blocks.chain
        and changes.block_number between covered_blocks.first_block and covered_blocks.last_block

),

sums as (

    select
        changes.chain,
        changes.block_time::date as day,
        changes.token_address,
        sum(changes.amount_raw::hugeint) filter (where changes.kind = 'mint') as minted,
        sum(changes.amount_raw::hugeint) filter (where changes.kind = 'burn') as burned,
        sum(changes.amount_raw::hugeint) filter (where changes.kind = 'transfer') as transferred,
        -- What has no number, or no sum, must not make a sum smaller.
        bool_and(changes.amount_raw is not null) filter (where changes.kind = 'mint')
            as has_minted,
        bool_and(changes.amount_raw is not null) filter (where changes.kind = 'burn')
            as has_burned,
        bool_and(changes.amount_raw is not null) filter (where changes.kind = 'transfer')
            as has_transferred,
        sum(changes.event_count) filter (where changes.kind = 'mint') as mint_count,
        sum(changes.event_count) filter (where changes.kind = 'burn') as burn_count,
        sum(changes.event_count) filter (where changes.kind = 'transfer') as transfer_count,
    from changes
    group by all

),

-- Total supply is known at the ends of ranges. At midnight, which is inside of one, it is what it
-- was before that range and what the range's own events changed until then.
edges as (

    select covered_days.chain, covered_days.day, edge.*
    from covered_days
    cross join (values ('open', 0), ('close', 1)) as edge (edge, days_later)

),

supplies_at_edges as (

    select
        edges.chain,
        edges.day,
        edges.edge,
        supplies.token_address,
        any_value(supplies.supply_before_raw::hugeint)
            + coalesce(
                sum(
                    case changes.kind
                        when 'mint' then changes.amount_raw::hugeint
                        when 'burn' then -changes.amount_raw::hugeint
                    end
                ),
                0
            ) as supply,
        bool_and(changes.amount_raw is not null or changes.chain is null) as is_known,
    from edges
    join covered_days
        on edges.chain = covered_days.chain and edges.day = covered_days.day
    join {{ ref('int_stablecoin_supplies') }} as supplies
        on edges.chain = supplies.chain
        and case edges.edge when 'open' then covered_days.first_block else covered_days.last_block end
            between supplies.block_number and supplies.last_block
    left join changes
        on supplies.chain = changes.chain
        and supplies.token_address = changes.token_address
        and changes.block_number between supplies.block_number and supplies.last_block
        and changes.kind != 'transfer'
        and changes.block_time < edges.day + interval (edges.days_later) day
    group by all

),

supplies as (

    select
        chain,
        day,
        token_address,
        any_value(supply) filter (where edge = 'open' and is_known) as supply_at_open,
        any_value(supply) filter (where edge = 'close' and is_known) as supply_at_close,
    from supplies_at_edges
    group by all

),

flows as (

    select
        covered_days.chain,
        stablecoins.token_address,
        stablecoins.symbol,
        stablecoins.decimals,
        covered_days.day,
        case when coalesce(has_minted, true) then coalesce(minted, 0) end as minted_amount,
        case when coalesce(has_burned, true) then coalesce(burned, 0) end as burned_amount,
        case when coalesce(has_transferred, true) then coalesce(transferred, 0) end
            as transferred_amount,
        minted_amount - burned_amount as net_amount,
        coalesce(mint_count, 0)::bigint as mint_count,
        coalesce(burn_count, 0)::bigint as burn_count,
        coalesce(transfer_count, 0)::bigint as transfer_count,
        supply_at_close,
        supply_at_close - supply_at_open as change,
    from covered_days
    join stablecoins on covered_days.chain = stablecoins.chain
    left join sums
        on covered_days.chain = sums.chain
        and covered_days.day = sums.day
        and stablecoins.token_address = sums.token_address
    left join supplies
        on covered_days.chain = supplies.chain
        and covered_days.day = supplies.day
        and stablecoins.token_address = supplies.token_address
    where covered_days.has_all_logs or sums.chain is not null

),

final as (

    select
        chain,
        token_address,
        symbol,
        day,
        try_cast(minted_amount as decimal(38, 0)) as minted_raw,
        try_cast(burned_amount as decimal(38, 0)) as burned_raw,
        try_cast(transferred_amount as decimal(38, 0)) as transferred_raw,
        try_cast(net_amount as decimal(38, 0)) as net_issuance_raw,
        {{ to_units('minted_raw', 'decimals') }} as minted,
        {{ to_units('burned_raw', 'decimals') }} as burned,
        {{ to_units('transferred_raw', 'decimals') }} as transferred,
        {{ to_units('net_issuance_raw', 'decimals') }} as net_issuance,
        mint_count,
        burn_count,
        transfer_count,
        try_cast(supply_at_close as decimal(38, 0)) as supply_raw,
        try_cast(change as decimal(38, 0)) as supply_change_raw,
        {{ to_units('supply_raw', 'decimals') }} as supply,
        {{ to_units('supply_change_raw', 'decimals') }} as supply_change,
    from flows

)

select * from final
order by day, chain, token_address
