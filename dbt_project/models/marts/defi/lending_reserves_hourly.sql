{{ config(event_time='hour', meta={'lookahead_days': 1}) }}

with

-- Covered days, of this run and of those before it: the day before may carry its values over, and
-- the day after is built again with them.
covered_days as (

    select chain, day
    from {{ ref('blocks_daily') }}
    where {{ in_window('day', days_before=1) }}

),

updates as (

    select
        updates.*,
        date_trunc('hour', updates.block_time) as updated_hour,
    from {{ ref('int_lending_reserve_updates') }} as updates
    join covered_days
        on updates.chain = covered_days.chain and updates.block_time::date = covered_days.day
    where {{ in_window('updates.block_time', days_before=1) }}

),

-- The last update of each hour in which there was one.
closes as (

    select
        chain,
        contract_address,
        token_address,
        updated_hour,
        arg_max(
            {
                'project': project,
                'version': version,
                'symbol': symbol,
                'liquidity_rate_ray': liquidity_rate_ray,
                'stable_borrow_rate_ray': stable_borrow_rate_ray,
                'variable_borrow_rate_ray': variable_borrow_rate_ray,
                'liquidity_index_ray': liquidity_index_ray,
                'variable_borrow_index_ray': variable_borrow_index_ray,
                'updated_at': block_time,
                'updated_block': block_number
            },
            (block_number, log_index)
        ) as last_update,
        count(*) as update_count,
    from updates
    group by all

),

bounded as (

    select
        *,
        least(
            lead(updated_hour) over (
                partition by chain, contract_address, token_address order by updated_hour
            ) - interval '1 hour',
            updated_hour + interval '{{ var("reserve_max_hours") }} hours'
        ) as carried_to,
    from closes

),

-- Each value stands from its own hour until the next one, at most for so long.
hours as (

    select
        bounded.* exclude (carried_to),
        unnest(generate_series(updated_hour, carried_to, interval '1 hour')) as hour,
    from bounded

),

final as (

    select
        hours.chain,
        hours.last_update.project as project,
        hours.last_update.version as version,
        hours.contract_address as project_contract_address,
        hours.token_address as reserve,
        hours.last_update.symbol as symbol,
        hours.hour,
        {{ ray_to_decimal('hours.last_update.liquidity_rate_ray') }} as liquidity_rate,
        {{ ray_to_decimal('hours.last_update.stable_borrow_rate_ray') }} as stable_borrow_rate,
        {{ ray_to_decimal('hours.last_update.variable_borrow_rate_ray') }} as variable_borrow_rate,
        {{ ray_to_decimal('hours.last_update.liquidity_index_ray') }} as liquidity_index,
        {{ ray_to_decimal('hours.last_update.variable_borrow_index_ray') }} as variable_borrow_index,
        hours.last_update.updated_at as last_updated_at,
        hours.last_update.updated_block as last_updated_block,
        case when hours.hour = hours.updated_hour then hours.update_count else 0 end as update_count,
        hours.hour != hours.updated_hour as is_filled,
    from hours
    join covered_days
        on hours.chain = covered_days.chain and hours.hour::date = covered_days.day
    where {{ in_window('hours.hour') }}

)

select * from final
order by hour, chain, project_contract_address, reserve
