with

covered_days as (

    select chain, day, slot_seconds
    from {{ source('raw', 'covered_days') }}
    where {{ in_window('day') }}

),

blocks as (

    select
        *,
        block_time::date as day,
        base_fee_per_gas::hugeint * gas_used as burnt,
    from {{ ref('stg_chain__blocks') }}
    where {{ in_window('block_time') }}

),

transactions as (

    select
        chain,
        block_time::date as day,
        status,
        effective_gas_price::hugeint * gas_used as fee,
    from {{ ref('stg_chain__transactions') }}
    where {{ in_window('block_time') }}

),

-- Sums are HUGEINT: one that does not fit is an error, and so is what has more than 38 digits.
block_sums as (

    select
        chain,
        day,
        count(*) as block_count,
        min(block_number) as first_block,
        max(block_number) as last_block,
        min(block_time) as first_block_at,
        max(block_time) as last_block_at,
        sum(transaction_count) as transaction_count,
        sum(log_count) as log_count,
        -- How many logs a block has is known where its receipts are.
        bool_and(log_count is not null) as has_receipts,
        bool_and(coalesce(difficulty = 0, false)) as is_after_merge,
        epoch_us(min(block_time)) // 1000000 % 86400 as first_second,
        sum(gas_used) as gas_used,
        sum(gas_limit) as gas_limit,
        min(base_fee_per_gas) as min_base_fee_per_gas,
        max(base_fee_per_gas) as max_base_fee_per_gas,
        sum(base_fee_per_gas::hugeint) as base_fee_sum,
        count(base_fee_per_gas) as base_fee_count,
        sum(burnt) as burnt,
        sum(gas_used) filter (where burnt is not null) as burning_gas,
    from blocks
    group by all

),

transaction_sums as (

    select
        chain,
        day,
        count(*) filter (where status = 0) as failed_transaction_count,
        bool_and(status is not null) as has_statuses,
        sum(fee) as fees,
        bool_and(fee is not null) as has_fees,
    from transactions
    group by all

),

-- A day without a block, or without a transaction, has sums of nothing: NULL here, and 0 below.
days as (

    select
        covered_days.*,
        block_sums.* exclude (chain, day),
        transaction_sums.* exclude (chain, day),
        coalesce(has_receipts, true) as is_full,
        case when is_full and coalesce(has_fees, true) then coalesce(fees, 0) end as all_fees,
        coalesce(burnt, 0) as all_burnt,
        all_fees - all_burnt as all_priority_fees,
    from covered_days
    left join block_sums using (chain, day)
    left join transaction_sums using (chain, day)

)

select
    chain,
    day,
    coalesce(block_count, 0) as block_count,
    first_block,
    last_block,
    first_block_at,
    last_block_at,
    -- Since the merge a block stands at the beginning of a slot: the first one of the day tells how
    -- many slots begin before it, and how many from it on.
    case when is_after_merge
        then first_second // slot_seconds + (86399 - first_second) // slot_seconds + 1 - block_count
    end as empty_slot_count,
    coalesce(transaction_count, 0)::bigint as transaction_count,
    case when is_full and coalesce(has_statuses, true)
        then coalesce(failed_transaction_count, 0)
    end as failed_transaction_count,
    case when is_full then coalesce(log_count, 0)::bigint end as log_count,
    coalesce(gas_used, 0)::decimal(38, 0) as gas_used,
    coalesce(gas_limit, 0)::decimal(38, 0) as gas_limit,
    {{ decimal_divide('gas_used', 'gas_limit', scale=0, denominator_scale=0) }} as gas_used_ratio,
    min_base_fee_per_gas,
    max_base_fee_per_gas,
    {{ decimal_divide('base_fee_sum', 'base_fee_count', scale=0, denominator_scale=0, digits=6) }}
        as mean_base_fee_per_gas,
    {{ decimal_divide('burnt', 'burning_gas', scale=0, denominator_scale=0, digits=6) }}
        as weighted_base_fee_per_gas,
    all_fees::decimal(38, 0) as fees_wei,
    all_burnt::decimal(38, 0) as burnt_wei,
    all_priority_fees::decimal(38, 0) as priority_fees_wei,
    {{ wei_to_native('fees_wei') }} as fees,
    {{ wei_to_native('burnt_wei') }} as burnt,
    {{ wei_to_native('priority_fees_wei') }} as priority_fees,
from days
order by day, chain
