"""A suite over the hours of lending reserves: rates, indices, and how far values are carried."""

from __future__ import annotations

from crypto_assets.checks.suite import Suite, are_equal, as_warning, is_zero

# How long the values of a reserve are carried, as in lending_reserves_hourly.
CARRIED_HOURS = 24
_VALUES = (
    "liquidity_rate",
    "stable_borrow_rate",
    "variable_borrow_rate",
    "liquidity_index",
    "variable_borrow_index",
)
_LEAST = f"least({', '.join(_VALUES)})"
_HAS_NULL = " or ".join(f"{name} is null" for name in _VALUES)

_HOURS = f"""
    with covered as (
        select chain, day from network.blocks_daily where day between $from_day - 1 and $to_day
    ),

    updated as (
        select
            chain,
            contract_address,
            token_address,
            date_trunc('hour', block_time) as hour_of_update,
            max(block_time) as updated_at,
            max(block_number) as updated_block,
            count(*) as updates,
        from intermediate.int_lending_reserve_updates
        where block_time >= $from_day - 1 and block_time < $to_day + 1
        group by all
    ),

    reserve_hour as (
        select
            *,
            hour::date as day,
            lag(hour) over hours as hour_before,
            lag(liquidity_index) over hours as liquidity_index_before,
            lag(variable_borrow_index) over hours as variable_borrow_index_before,
        from defi.lending_reserves_hourly
        where hour >= $from_day - 1 and hour < $to_day + 1
        window hours as (
            partition by chain, project_contract_address, reserve order by hour
        )
    ),

    judged as (
        select
            found.*,
            updated_block,
            project || '_v' || version || ' ' || project_contract_address as market,
            coalesce(found.hour = hour_before, false) as is_double,
            {_HAS_NULL} or {_LEAST} < 0 as is_no_rate,
            coalesce(greatest(
                liquidity_rate, stable_borrow_rate, variable_borrow_rate
            ) > 1, false) as is_high,
            coalesce(
                liquidity_index < liquidity_index_before
                or variable_borrow_index < variable_borrow_index_before,
                false
            ) as is_falling,
            -- The last update of that hour or of one before it, and no older than they are carried.
            (last_updated_at, last_updated_block) is distinct from (updated_at, updated_block)
                or is_filled is distinct from (hour_of_update < found.hour)
                or update_count is distinct from if(is_filled, 0, updates)
                as is_not_last,
            date_diff('hour', date_trunc('hour', last_updated_at), found.hour) > {CARRIED_HOURS}
                or covered.day is null
                or last_updated_at < found.day and covered_before.day is null
                as is_past_a_gap,
        from reserve_hour as found
        asof left join updated
            on found.chain = updated.chain
            and found.project_contract_address = updated.contract_address
            and found.reserve = updated.token_address
            and found.hour >= updated.hour_of_update
        left join covered on covered.chain = found.chain and covered.day = found.day
        left join covered as covered_before
            on covered_before.chain = found.chain and covered_before.day = found.day - 1
        where found.hour >= $from_day
    ),

    due as (
        select updated.*, hour_of_update::date as day, reserve_hour.hour is null as is_missing
        from updated
        join covered on covered.chain = updated.chain and covered.day = hour_of_update::date
        left join reserve_hour
            on reserve_hour.chain = updated.chain
            and reserve_hour.project_contract_address = updated.contract_address
            and reserve_hour.reserve = updated.token_address
            and reserve_hour.hour = hour_of_update
            and not reserve_hour.is_filled
        where hour_of_update >= $from_day
    )
"""

RESERVES = Suite(
    name="lending_reserves_are_sound",
    asset="defi/lending_reserves_hourly",
    description=(
        "The rates of a reserve are rates, its indices only grow, and an hour has the values of "
        "the last update, carried neither too long nor past a day that is not covered."
    ),
    claims=(
        are_equal(
            "hours_updated",
            "hours_of_updates",
            "every_update_has_its_hour",
            "the day has a row that is not filled for each reserve and hour with an update",
        ),
        is_zero("doubles", "hours_are_there_once", "a reserve has one row an hour"),
        is_zero(
            "rates_missing",
            "rates_are_not_negative",
            "rates and indices are known, and none is below zero",
        ),
        is_zero(
            "indices_falling",
            "indices_never_fall",
            "neither index is lower than in the reserve's row before, of the day before too",
        ),
        is_zero(
            "hours_not_last",
            "values_are_those_of_the_last_update",
            "an hour has the last update until its end, and says whether that is an earlier hour's",
        ),
        is_zero(
            "hours_past_a_gap",
            "values_are_not_carried_past_a_gap",
            f"a value is carried at most {CARRIED_HOURS} hours, over covered days alone",
        ),
        as_warning(is_zero("rates_high", "rates_are_plausible", "no rate is above 100 % a year")),
    ),
    metrics=f"""
        {_HOURS},

        counted as (
            select
                chain,
                market,
                day,
                count(*) filter (where not is_filled and not is_double) as updated,
                count(*) filter (where is_double) as doubles,
                count(*) filter (where is_no_rate) as no_rate,
                count(*) filter (where is_falling) as falling,
                count(*) filter (where is_not_last) as not_last,
                count(*) filter (where is_past_a_gap) as past_a_gap,
                count(*) filter (where is_high) as high,
            from judged
            group by all
        ),

        counted_due as (
            select chain, contract_address, day, count(distinct (token_address, hour_of_update))
                as hours
            from due
            group by all
        ),

        listed as (
            select
                chain,
                '0x' || lower(hex(address)) as contract_address,
                project || '_v' || version || ' ' || contract_address as market,
            from raw.deployments
            where protocol = 'aave_v3'
        )

        select
            chain as venue,
            market,
            day,
            coalesce(updated, 0) as hours_updated,
            coalesce(counted_due.hours, 0) as hours_of_updates,
            coalesce(doubles, 0) as doubles,
            coalesce(no_rate, 0) as rates_missing,
            coalesce(falling, 0) as indices_falling,
            coalesce(not_last, 0) as hours_not_last,
            coalesce(past_a_gap, 0) as hours_past_a_gap,
            coalesce(high, 0) as rates_high,
        from (
            select chain, market, day
            from (select * from covered join listed using (chain))
            where day >= $from_day
            union
            select chain, market, day from counted
        )
        left join counted using (chain, market, day)
        left join listed using (chain, market)
        left join counted_due using (chain, contract_address, day)
    """,
    offenders=f"""
        {_HOURS}

        select
            claim,
            chain as venue,
            market,
            day,
            strftime(hour, '%H:00 ') || coalesce(symbol, '') || ' ' || reserve as place,
            case claim
                when 'values_are_those_of_the_last_update'
                    then 'block ' || last_updated_block || if(is_filled, ', filled', '')
                when 'values_are_not_carried_past_a_gap' then 'of ' || last_updated_at
                else 'rates ' || concat_ws(
                    ' ', liquidity_rate, stable_borrow_rate, variable_borrow_rate
                ) || ' indices ' || concat_ws(' ', liquidity_index, variable_borrow_index)
            end as found,
            case claim
                when 'values_are_those_of_the_last_update'
                    then coalesce('block ' || updated_block, 'no update')
                when 'indices_never_fall'
                    then 'at least ' || liquidity_index_before || ' '
                        || variable_borrow_index_before
                else expected
            end as expected,
        from (
            select
                judged.*,
                unnest([
                    {{'claim': 'hours_are_there_once', 'is_wrong': is_double,
                        'expected': 'one row'}},
                    {{'claim': 'rates_are_not_negative', 'is_wrong': is_no_rate,
                        'expected': 'numbers, 0 or more'}},
                    {{'claim': 'indices_never_fall', 'is_wrong': is_falling, 'expected': ''}},
                    {{'claim': 'values_are_those_of_the_last_update', 'is_wrong': is_not_last,
                        'expected': ''}},
                    {{'claim': 'values_are_not_carried_past_a_gap', 'is_wrong': is_past_a_gap,
                        'expected': 'of {CARRIED_HOURS} hours before at most, all covered'}},
                    {{'claim': 'rates_are_plausible', 'is_wrong': is_high,
                        'expected': 'at most 1 a year'}}
                ], recursive := true)
            from judged
        )
        where is_wrong
        union all
        select
            'every_update_has_its_hour',
            due.chain,
            deployment.project || '_v' || deployment.version || ' ' || contract_address,
            day,
            strftime(hour_of_update, '%H:00 ') || token_address,
            'no row that is not filled',
            updates || ' updates',
        from due
        join raw.deployments as deployment
            on deployment.chain = due.chain
            and '0x' || lower(hex(deployment.address)) = contract_address
        where is_missing
    """,
)
