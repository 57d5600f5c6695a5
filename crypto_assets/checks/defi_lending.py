"""Suites over lending: what is decoded of a range's Aave events, and the reserves of a day."""

from __future__ import annotations

from crypto_assets.catalog import Chain
from crypto_assets.checks.defi_events import (
    BORROW,
    DEFICIT,
    LIQUIDATION,
    REPAY,
    RESERVE_UPDATE,
    SUPPLY,
    WITHDRAW,
)
from crypto_assets.checks.suite import Suite, are_equal, as_warning, is_zero

# Rows that each event makes, by their transaction_type; `reserve_update` is ours. Words of the data
# are counted in bytes: the second of Repay and the fourth of LiquidationCall are booleans.
_ROWS_OF = f"""
    case topic0
        when {SUPPLY} then ['deposit']
        when {WITHDRAW} then ['withdraw']
        when {BORROW} then ['borrow']
        when {REPAY} then if(hex(data[64:64]) = '00', ['repay'], ['repay', 'repay_with_atokens'])
        when {LIQUIDATION} then if(
            hex(data[128:128]) = '00',
            ['borrow_liquidation', 'deposit_liquidation'],
            ['borrow_liquidation', 'deposit_liquidation', 'liquidation_proceeds']
        )
        when {DEFICIT} then ['deficit']
        when {RESERVE_UPDATE} then ['reserve_update']
    end
"""
_POSITIVE = "('deposit', 'liquidation_proceeds', 'borrow')"
_RAY = "1000000000000000000000000000"


def lending_decodes(chain: Chain) -> Suite:
    """The events of the chain's lending pools against the rows made of them."""
    of_range = f"chain = '{chain.name}' and block_range = $partition"
    compared = f"""
        with pool as (
            select name as market, address, '0x' || lower(hex(address)) as contract_address
            from raw.deployments
            where chain = '{chain.name}' and protocol = 'aave_v3'
        ),

        emitted as (
            select
                market, block_number, log_index, unnest({_ROWS_OF}) as kind, true as is_logged,
            from raw.chain_logs
            join pool using (address)
            where chain = '{chain.name}' and "range" = $partition
        ),

        decoded as (
            select
                contract_address,
                block_number,
                log_index,
                transaction_type as kind,
                token_address,
                depositor as account,
                amount_raw,
                amount_raw is null and amount_overflow is null as is_amount_missing,
                false as is_index_off,
            from intermediate.int_lending_supply
            where {of_range}
            union all
            select
                contract_address,
                block_number,
                log_index,
                transaction_type,
                token_address,
                borrower,
                amount_raw,
                amount_raw is null and amount_overflow is null,
                false,
            from intermediate.int_lending_borrow
            where {of_range}
            union all
            select
                contract_address,
                block_number,
                log_index,
                'reserve_update',
                token_address,
                contract_address,
                null,
                overflow is null and (
                    liquidity_rate_ray is null
                    or stable_borrow_rate_ray is null
                    or variable_borrow_rate_ray is null
                    or liquidity_index_ray is null
                    or variable_borrow_index_ray is null
                ),
                coalesce(least(liquidity_index_ray, variable_borrow_index_ray) < {_RAY}, false),
            from intermediate.int_lending_reserve_updates
            where {of_range}
        ),

        leg as (
            select
                * replace (coalesce(market, contract_address) as market),
                token_address is null or account is null or is_amount_missing as is_incomplete,
                coalesce(if(kind in {_POSITIVE}, amount_raw < 0, amount_raw > 0), false)
                    as is_sign_off,
                coalesce(amount_raw = 0, false) as is_zero,
                -- What a log gives to one side it takes from the other.
                case kind
                    when 'repay_with_atokens' then (token_address, amount_raw) is distinct from (
                        any_value(token_address) filter (where kind = 'repay') over of_log,
                        any_value(amount_raw) filter (where kind = 'repay') over of_log
                    )
                    when 'liquidation_proceeds' then (token_address, amount_raw) is distinct from (
                        any_value(token_address) filter (where kind = 'deposit_liquidation')
                            over of_log,
                        any_value(-amount_raw) filter (where kind = 'deposit_liquidation')
                            over of_log
                    )
                    else false
                end as is_pair_off,
            from (select * from decoded left join pool using (contract_address))
            window of_log as (partition by contract_address, block_number, log_index)
        ),

        held as (
            select market, block_number, log_index, kind, count(*) as row_count
            from leg
            group by all
        ),

        compared as (
            select
                market,
                block_number,
                log_index,
                kind,
                coalesce(is_logged, false) as is_emitted,
                coalesce(row_count, 0) as row_count,
                row_count is distinct from 1 or not is_emitted as is_off,
            from emitted
            full join held using (market, block_number, log_index, kind)
        )
    """
    return Suite(
        name=f"{chain.name}_lending_decodes",
        asset=f"intermediate/int_lending_supply/{chain.name}",
        also_reads=(
            f"intermediate/int_lending_borrow/{chain.name}",
            f"intermediate/int_lending_reserve_updates/{chain.name}",
        ),
        description=(
            f"Every event of the lending pools listed for {chain.name} is in the rows of supply, "
            "borrowing and reserves that it means, and what one side loses the other gets."
        ),
        claims=(
            are_equal(
                "event_rows",
                "rows_of_events",
                "rows_count_the_events",
                "the pool's logs of the range make as many rows as there are, counting two or "
                "three of a repayment with aTokens and of a liquidation",
            ),
            is_zero(
                "events_off",
                "each_event_has_its_rows",
                "each log has exactly the rows that it means: a liquidation takes debt from the "
                "borrower and collateral too, a repayment with aTokens lowers the supply",
            ),
            is_zero(
                "rows_incomplete",
                "rows_are_complete",
                "a row has its token, its account, and its numbers unless they are too large and "
                "kept as their words",
            ),
            is_zero(
                "signs_off",
                "amounts_have_their_sign",
                "deposits, loans and a liquidator's proceeds are not negative, the others not "
                "positive",
            ),
            is_zero(
                "pairs_off",
                "sides_of_an_event_agree",
                "a repayment with aTokens takes as much from the supply as from the debt, and "
                "proceeds are the collateral that was taken",
            ),
            is_zero(
                "indices_off",
                "indices_are_at_least_one",
                "indices start at one ray and only grow",
            ),
            as_warning(is_zero("amounts_zero", "amounts_are_not_zero", "no amount is zero")),
        ),
        metrics=f"""
            {compared},

            counted as (
                select
                    market,
                    sum(row_count)::bigint as event_rows,
                    count(*) filter (where is_emitted) as rows_of_events,
                    count(*) filter (where is_off) as events_off,
                from compared
                group by all
            ),

            judged as (
                select
                    market,
                    count(*) filter (where is_incomplete) as incomplete,
                    count(*) filter (where is_sign_off) as signs_off,
                    count(*) filter (where is_pair_off) as pairs_off,
                    count(*) filter (where is_index_off) as indices_off,
                    count(*) filter (where is_zero) as amounts_zero,
                from leg
                group by all
            )

            select
                venue,
                listed.market,
                partition,
                coalesce(event_rows, 0) as event_rows,
                coalesce(rows_of_events, 0) as rows_of_events,
                coalesce(events_off, 0) as events_off,
                coalesce(incomplete, 0) as rows_incomplete,
                coalesce(signs_off, 0) as signs_off,
                coalesce(pairs_off, 0) as pairs_off,
                coalesce(indices_off, 0) as indices_off,
                coalesce(amounts_zero, 0) as amounts_zero,
            from chain_ranges
            cross join (select market from pool union select market from compared) as listed
            left join counted on counted.market = listed.market
            left join judged on judged.market = listed.market
            where partition = $partition
        """,
        offenders=f"""
            {compared}

            select
                'each_event_has_its_rows' as claim,
                '{chain.name}' as venue,
                market,
                $partition as partition,
                'block ' || block_number || ' log ' || log_index as place,
                row_count || ' rows ' || kind as found,
                if(is_emitted, '1 row', 'no such event') as expected,
            from compared
            where is_off
            union all
            select
                claim,
                '{chain.name}',
                market,
                $partition,
                'block ' || block_number || ' log ' || log_index,
                kind || ' ' || coalesce(amount_raw::varchar, 'NULL') || ' of '
                    || coalesce(token_address, 'no token') || ' by '
                    || coalesce(account, 'nobody'),
                expected,
            from (
                select
                    leg.*,
                    unnest([
                        {{'claim': 'rows_are_complete', 'is_wrong': is_incomplete,
                            'expected': 'token, account and numbers'}},
                        {{'claim': 'amounts_have_their_sign', 'is_wrong': is_sign_off,
                            'expected': 'the other sign'}},
                        {{'claim': 'sides_of_an_event_agree', 'is_wrong': is_pair_off,
                            'expected': 'as much on the other side'}},
                        {{'claim': 'indices_are_at_least_one', 'is_wrong': is_index_off,
                            'expected': 'indices of one ray or more'}},
                        {{'claim': 'amounts_are_not_zero', 'is_wrong': is_zero,
                            'expected': 'more than nothing'}}
                    ], recursive := true)
                from leg
            )
            where is_wrong
        """,
    )
