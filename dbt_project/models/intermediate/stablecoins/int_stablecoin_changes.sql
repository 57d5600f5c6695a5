with

transfers as (

    select
        *,
        case
            -- Anyone may transfer nothing from or to anyone.
            when amount_raw = 0 or sender = recipient then 'transfer'
            when sender = '0x{{ '0' * 40 }}' then 'mint'
            when recipient = '0x{{ '0' * 40 }}' then 'burn'
            else 'transfer'
        end as kind,
    from {{ ref('stg_tokens__transfers') }}
    where {{ in_range() }}

),

supply_changes as (

    select *, case event when 'issue' then 'mint' else 'burn' end as kind
    from {{ ref('stg_tether__supply_changes') }}
    where {{ in_range() }}

),

-- Tether's contracts on other chains emit a Transfer as well: then that one counts.
silent_changes as (

    select supply_changes.*
    from supply_changes
    anti join transfers
        on supply_changes.chain = transfers.chain
        and supply_changes.block_number = transfers.block_number
        and supply_changes.transaction_index = transfers.transaction_index
        and supply_changes.token_address = transfers.token_address
        and supply_changes.kind = transfers.kind
        and supply_changes.amount_raw = transfers.amount_raw

),

changes as (

    select
        chain,
        block_range,
        block_number,
        block_time,
        token_address,
        symbol,
        decimals,
        kind,
        'transfer' as event,
        amount_raw,
    from transfers

    union all

    select
        chain,
        block_range,
        block_number,
        block_time,
        token_address,
        symbol,
        decimals,
        kind,
        event,
        amount_raw,
    from silent_changes

),

final as (

    select
        chain,
        block_range,
        block_number,
        block_time,
        token_address,
        symbol,
        decimals::integer as decimals,
        kind,
        event,
        count(*) as event_count,
        -- An amount that has no number makes the sum unknown, not smaller.
        count(*) filter (where amount_raw is null) as overflow_count,
        case when overflow_count = 0
            then try_cast(sum(amount_raw::hugeint) as decimal(38, 0))
        end as amount_raw,
    from changes
    group by all

)

select * from final
order by chain, block_number, token_address, kind, event
