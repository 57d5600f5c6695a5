"""Suites over stablecoins: what was minted and burned, against what the contracts say they owe."""

from __future__ import annotations

from crypto_assets.catalog import Chain
from crypto_assets.checks.defi_events import TRANSFER
from crypto_assets.checks.defi_prices import TRUSTED
from crypto_assets.checks.suite import Suite, are_equal, as_warning, is_zero

_USUAL_PERCENT = 10

# DAI and USDT let anyone transfer tokens to the zero address. That is the event of a burn, but
# total supply stays as it was: it may be larger than the events say, by at most all such transfers.
# What is larger by more, or smaller, is wrong.
_BURNED_BY_TRANSFER = """
    sum(amount_raw) filter (where kind = 'burn' and event = 'transfer') as burned_by_transfer
"""


def _is_off(excess: str, bound: str) -> str:
    """Whether supply grew by less than the events say, or by more than they can explain."""
    return f"coalesce({excess} not between 0 and coalesce({bound}, 0), false)"


def supplies_agree(chain: Chain) -> Suite:
    """The supply of each trusted stablecoin before and after a range, against its events."""
    of_range = f"chain = '{chain.name}' and block_range = $partition"
    compared = f"""
        with coin as (
            select
                address,
                '0x' || lower(hex(address)) as token_address,
                -- A bridged token may have the symbol of the one it stands for.
                symbol || if(count(*) over (partition by symbol) = 1, '', ' ' || token_address)
                    as market,
            from raw.trusted_tokens
            where chain = '{chain.name}' and role = 'stablecoin'
        ),

        emitted as (
            select market, count(*) as transfer_logs
            from raw.chain_logs
            join coin using (address)
            where chain = '{chain.name}' and "range" = $partition and topic0 = {TRANSFER}
            group by all
        ),

        changed as (
            select
                market,
                true as has_changes,
                sum(event_count) filter (where event = 'transfer') as transfers,
                sum(overflow_count) as overflows,
                bool_or(kind not in ('mint', 'burn', 'transfer') or amount_raw < 0) as is_odd,
                -- Unknown where an amount is: NULL is not left out.
                case when count(*) filter (where kind <> 'transfer' and amount_raw is null) = 0
                    then coalesce(sum(
                        case kind when 'mint' then amount_raw when 'burn' then -amount_raw end
                    ), 0)
                end as issued_raw,
                {_BURNED_BY_TRANSFER},
            from intermediate.int_stablecoin_changes
            join coin using (token_address)
            where {of_range}
            group by all
        ),

        compared as (
            select
                market,
                coalesce(transfer_logs, 0) as transfer_logs,
                coalesce(transfers, 0)::bigint as transfers,
                coalesce(overflows, 0)::bigint as overflows,
                coalesce(is_odd, false) as is_odd,
                supply_before_raw,
                supply_after_raw,
                -- Without a row nothing was minted or burned.
                if(has_changes, changed.issued_raw, 0) as issued_raw,
                coalesce(burned_by_transfer, 0) as burned_by_transfer,
                supply_after_raw - supply_before_raw - if(has_changes, changed.issued_raw, 0)
                    as excess,
                {_is_off("excess", "burned_by_transfer")} as is_off,
                coalesce(excess <> 0, false) and not is_off as is_unburned,
            from coin
            left join emitted using (market)
            left join changed using (market)
            left join (
                select token_address, supply_before_raw, supply_after_raw
                from intermediate.int_stablecoin_supplies
                where {of_range}
            ) using (token_address)
        )
    """
    return Suite(
        name=f"{chain.name}_stablecoin_supplies_agree",
        asset=f"intermediate/int_stablecoin_changes/{chain.name}",
        also_reads=(f"intermediate/int_stablecoin_supplies/{chain.name}",),
        description=(
            f"The supply of every trusted stablecoin of {chain.name} grows over a range by what "
            "was minted less what was burned in it."
        ),
        claims=(
            is_zero(
                "supplies_off",
                "supply_changes_by_what_was_issued",
                "total supply after the last block less that before the first is what was minted "
                "less what was burned, or more by at most what was transferred to the zero "
                "address; not compared where a node has no state that old",
            ),
            as_warning(
                is_zero(
                    "burns_unburned",
                    "burns_change_the_supply",
                    "nobody sent tokens to the zero address without burning them",
                )
            ),
            are_equal(
                "transfers",
                "transfer_logs",
                "transfers_are_counted",
                "every Transfer log of the contract is counted, as a transfer, a mint or a burn",
            ),
            is_zero(
                "kinds_odd",
                "changes_are_of_a_kind",
                "an amount is minted, burned or transferred, and is not negative",
            ),
            as_warning(
                is_zero(
                    "amounts_unknown",
                    "amounts_are_known",
                    "no amount is too large to be counted, which would leave its day without a sum",
                )
            ),
        ),
        metrics=f"""
            {compared}

            select
                venue,
                compared.market,
                partition,
                is_off::bigint as supplies_off,
                is_unburned::bigint as burns_unburned,
                transfers,
                transfer_logs,
                is_odd::bigint as kinds_odd,
                overflows as amounts_unknown,
            from chain_ranges
            cross join compared
            where partition = $partition
        """,
        offenders=f"""
            {compared}

            select
                if(is_off, 'supply_changes_by_what_was_issued', 'burns_change_the_supply')
                    as claim,
                '{chain.name}' as venue,
                market,
                $partition as partition,
                'whole range' as place,
                'minted less burned ' || issued_raw as found,
                (supply_after_raw - supply_before_raw) || ', from ' || supply_before_raw || ' to '
                    || supply_after_raw as expected,
            from compared
            where is_off or is_unburned
            union all
            select
                if(change.overflow_count > 0, 'amounts_are_known', 'changes_are_of_a_kind'),
                '{chain.name}',
                market,
                $partition,
                'block ' || change.block_number,
                change.kind || ' ' || coalesce(change.amount_raw::varchar, 'NULL'),
                'an amount that is not negative, of a known kind',
            from intermediate.int_stablecoin_changes as change
            join coin using (token_address)
            where {of_range} and (
                change.overflow_count > 0
                or change.kind not in ('mint', 'burn', 'transfer')
                or change.amount_raw < 0
            )
        """,
    )


_DAYS = f"""
    with {TRUSTED},

    listed as (
        select chain, market, token_address, day
        from trusted
        join network.blocks_daily using (chain)
        -- Of a chain in the light mode only days with events have a row.
        where role = 'stablecoin' and day between $from_day and $to_day and log_count is not null
    ),

    changed as (
        select
            chain,
            token_address,
            block_time::date as day,
            coalesce(sum(event_count) filter (where kind = 'mint'), 0) as mints,
            coalesce(sum(event_count) filter (where kind = 'burn'), 0) as burns,
            coalesce(sum(event_count) filter (where kind = 'transfer'), 0) as transfers,
        from intermediate.int_stablecoin_changes
        where block_time >= $from_day and block_time < $to_day + 1
        group by all
    ),

    -- Supply at midnight is brought forward from before the range that midnight is in: what looks
    -- like a burn may be in that range before the day.
    sent_to_zero as (
        select chain, token_address, day, {_BURNED_BY_TRANSFER},
        from raw.covered_days
        join intermediate.int_stablecoin_changes using (chain)
        where
            day between $from_day and $to_day
            and block_number >= first_block
            and block_time < day + 1
        group by all
    ),

    flow as (
        select
            *,
            true as has_row,
            row_number() over (partition by chain, token_address, day) > 1 as is_double,
            coalesce(net_issuance_raw <> minted_raw - burned_raw, false)
                or (net_issuance_raw is null) <> (minted_raw is null or burned_raw is null)
                as is_net_off,
            supply_change_raw - net_issuance_raw as excess,
            {_is_off("excess", "burned_by_transfer")} as is_supply_off,
            coalesce(excess <> 0, false) and not is_supply_off as is_unburned,
            coalesce(abs(net_issuance_raw) > supply_raw * {_USUAL_PERCENT} // 100, false)
                as is_large,
        from defi.stablecoin_flows_daily
        left join sent_to_zero using (chain, token_address, day)
        where day between $from_day and $to_day
    ),

    judged as (
        select
            chain,
            coalesce(listed.market, trusted.market, token_address) as market,
            token_address,
            day,
            mint_count,
            burn_count,
            transfer_count,
            minted_raw,
            burned_raw,
            net_issuance_raw,
            supply_raw,
            supply_change_raw,
            coalesce(has_row, false) as has_row,
            coalesce(is_double, false) as is_double,
            coalesce(is_net_off, false) as is_net_off,
            coalesce(is_supply_off, false) as is_supply_off,
            coalesce(is_unburned, false) as is_unburned,
            coalesce(is_large, false) as is_large,
            coalesce(changed.mints, 0) as mints,
            coalesce(changed.burns, 0) as burns,
            coalesce(changed.transfers, 0) as transfers,
            coalesce(
                mint_count <> coalesce(changed.mints, 0)
                or burn_count <> coalesce(changed.burns, 0)
                or transfer_count <> coalesce(changed.transfers, 0),
                false
            ) as is_count_off,
        from listed
        full join flow using (chain, token_address, day)
        left join trusted using (chain, token_address)
        left join changed using (chain, token_address, day)
    )
"""

FLOWS = Suite(
    name="stablecoin_flows_add_up",
    asset="defi/stablecoin_flows_daily",
    description=(
        "Every trusted stablecoin has a row for a covered day, of all its events, and its supply "
        "grows by what was minted less what was burned."
    ),
    claims=(
        is_zero(
            "rows_off",
            "covered_days_have_a_row",
            "a trusted stablecoin has one row on a day that its chain covers",
        ),
        is_zero(
            "counts_off",
            "rows_count_the_events",
            "mints, burns and transfers are as many as in the blocks of the day",
        ),
        is_zero(
            "nets_off",
            "net_issuance_is_mints_less_burns",
            "net issuance is what was minted less what was burned, and unknown if one of them is",
        ),
        is_zero(
            "supplies_off",
            "supply_changes_by_net_issuance",
            "total supply at the end of the day less that of the day before is net issuance, or "
            "more by at most what was transferred to the zero address, where both are known",
        ),
        as_warning(
            is_zero(
                "burns_unburned",
                "burns_change_the_supply",
                "nobody sent tokens to the zero address without burning them",
            )
        ),
        as_warning(
            is_zero(
                "issuance_large",
                "issuance_is_plausible",
                f"net issuance of a day is at most {_USUAL_PERCENT} % of the supply",
            )
        ),
    ),
    metrics=f"""
        {_DAYS}

        select
            chain as venue,
            market,
            day,
            count(*) filter (where is_double or not has_row) as rows_off,
            count(*) filter (where is_count_off) as counts_off,
            count(*) filter (where is_net_off) as nets_off,
            count(*) filter (where is_supply_off) as supplies_off,
            count(*) filter (where is_unburned) as burns_unburned,
            count(*) filter (where is_large) as issuance_large,
        from judged
        group by all
    """,
    offenders=f"""
        {_DAYS}

        select
            claim, chain as venue, market, day, token_address as place, found, expected,
        from (
            select
                judged.*,
                unnest([
                    {{'claim': 'covered_days_have_a_row', 'is_wrong': is_double or not has_row,
                        'found': if(has_row, 'another row', 'no row'), 'expected': 'one row'}},
                    {{'claim': 'rows_count_the_events', 'is_wrong': is_count_off,
                        'found': concat_ws(' ', mint_count, burn_count, transfer_count),
                        'expected': concat_ws(' ', mints, burns, transfers)}},
                    {{'claim': 'net_issuance_is_mints_less_burns', 'is_wrong': is_net_off,
                        'found': coalesce(net_issuance_raw::varchar, 'NULL'),
                        'expected': coalesce((minted_raw - burned_raw)::varchar, 'NULL')}},
                    {{'claim': 'supply_changes_by_net_issuance', 'is_wrong': is_supply_off,
                        'found': net_issuance_raw::varchar,
                        'expected': supply_change_raw::varchar}},
                    {{'claim': 'burns_change_the_supply', 'is_wrong': is_unburned,
                        'found': net_issuance_raw::varchar,
                        'expected': supply_change_raw::varchar}},
                    {{'claim': 'issuance_is_plausible', 'is_wrong': is_large,
                        'found': net_issuance_raw::varchar,
                        'expected': 'at most {_USUAL_PERCENT} % of ' || supply_raw}}
                ], recursive := true)
            from judged
        )
        where is_wrong
    """,
)
