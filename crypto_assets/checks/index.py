"""Suites over the index: venues against each other, the dollar pegs, and a witness from outside.

What decides that a venue is wrong is measured over a whole day and against the other venues,
because a market may leave the others for hours and be right: in the USDC de-peg of 2023-03-11
markets in USDC were more than 40 bps away for half a day, and no daily median more than 22 bps.
"""

from __future__ import annotations

from crypto_assets.checks.suite import Suite, as_warning, is_between, is_zero

# Farther than any market of the recorded twelve days (22 bps), and what one of two venues that are
# 1 % apart cannot stay within.
_LIMIT_BPS = 40
# A median of fewer minutes says little.
_LEAST_MINUTES = 30
_HOUR_MINUTES = 10

# Minutes by which a clock is tried. The moves of a venue are nearest to those of the others without
# a shift: in the recorded days the mean distance at the best other shift was never below 0.99 of
# that, and 1.5 to 5 times smaller once the times of a liquid market had been moved by a minute.
_SHIFTS = (-60, -30, -15, -5, -2, -1, 0, 1, 2, 5, 15, 30, 60)
_CLOCK_PERCENT = 150
# With half as many, parts of the de-peg's days went beyond the limit by chance.
_LEAST_MOVES = 300
# A smaller distance counts as this much: where prices stand still, a few ticks would decide.
_STILL_BPS = 0.5

# The currencies of dbt_project.yml (`quote_currencies`) that are meant to be worth a dollar.
PEGGED = ("USDC", "USDT")
_PEG_LIMIT_BPS = 50

_COMPARED = f"""
    with priced as (
        select
            *,
            opened_at::date as day,
            date_trunc('hour', opened_at) as hour,
            date_diff('minute', opened_at::date, opened_at) as minute,
            -- Where nobody else traded, the index is the market's own price.
            count(distinct venue) filter (where price_usd is not null)
                over (partition by asset, opened_at) > 1 as has_others,
        from markets.venue_deviations_1m
        where opened_at >= $from_day and opened_at < $to_day + 1
    ),

    compared as (
        select * from priced where has_others and deviation_bps is not null
    ),

    hours as (
        select venue, market, day, hour, quantile_disc(deviation_bps, 0.5) as median_bps
        from compared
        group by all
        having count(*) >= {_HOUR_MINUTES}
    )
"""

# Distances of relative moves are estimates to be compared with each other, so doubles will do.
_CLOCKS = f"""
    others as (
        select own.venue, asset, day, minute, median(price_usd::double) as price
        from (select distinct venue from priced) as own
        join priced on own.venue <> priced.venue and price_usd is not null
        group by all
    ),

    moves_of_others as (
        select *, 10000 * ln(price / lag(price) over minutes) as move
        from others
        window minutes as (partition by venue, asset, day order by minute)
        qualify lag(minute) over minutes = minute - 1
    ),

    moves as (
        select *, 10000 * ln(price_usd::double / lag(price_usd::double) over minutes) as move
        from priced
        where price_usd is not null
        window minutes as (partition by venue, market, day order by minute)
        qualify lag(minute) over minutes = minute - 1
    ),

    shifts as (
        select
            venue,
            market,
            day,
            shift,
            greatest(avg(abs(moves.move - other.move)), {_STILL_BPS}) as distance,
        from (select *, unnest({list(_SHIFTS)}) as shift from moves) as moves
        join moves_of_others as other using (venue, asset, day)
        -- The day is taken as a circle, so that a wild last hour counts at every shift.
        where other.minute = (moves.minute + shift + 1440) % 1440
        group by all
        having count(*) >= {_LEAST_MOVES}
    ),

    clocks as (
        select
            venue,
            market,
            day,
            any_value(distance) filter (where shift = 0) as distance,
            min(distance) filter (where shift <> 0) as best_distance,
            arg_min(shift, distance) as best_shift,
        from shifts
        group by all
    )
"""

_VENUES_AGREE = Suite(
    name="venues_agree",
    asset="markets/venue_deviations_1m",
    description=(
        "Every venue's prices, in dollars, and its clock agree with those of the other venues."
    ),
    claims=(
        is_between(
            "median_bps",
            -_LIMIT_BPS,
            _LIMIT_BPS,
            "prices_are_near_the_index",
            f"the median distance from the index over a day is at most {_LIMIT_BPS} bps, counting "
            f"minutes in which another venue traded the asset too, if there are {_LEAST_MINUTES}",
        ),
        is_between(
            "clock_percent",
            0,
            _CLOCK_PERCENT,
            "clocks_agree",
            "moves from minute to minute are nearest to those of the other venues at the same "
            "time: no shift of the clock brings them nearer by more than a third",
        ),
        as_warning(
            is_zero(
                "hours_away",
                "hours_are_near_the_index",
                f"no hour has a median distance from the index of more than {_LIMIT_BPS} bps",
            )
        ),
        as_warning(
            is_between(
                "unpriced_percent",
                0,
                50,
                "most_minutes_have_a_price_in_usd",
                "the price of the quote currency is known in most minutes, if it is known at all",
            )
        ),
    ),
    metrics=f"""
        {_COMPARED},

        {_CLOCKS},

        medians as (
            select venue, market, day, round(quantile_disc(deviation_bps, 0.5))::bigint as bps
            from compared
            group by all
            having count(*) >= {_LEAST_MINUTES}
        ),

        away as (
            select venue, market, day, count(*) as hours
            from hours
            where abs(median_bps) > {_LIMIT_BPS}
            group by all
        )

        select
            venue,
            market,
            day,
            coalesce(any_value(medians.bps), 0) as median_bps,
            coalesce(round(any_value(100 * clocks.distance / clocks.best_distance))::bigint, 0)
                as clock_percent,
            coalesce(any_value(away.hours), 0) as hours_away,
            -- Nothing is known of a currency that no market of the catalogue converts.
            if(count(price_usd) = 0, 0, 100 * (count(*) - count(price_usd)) // count(*))::bigint
                as unpriced_percent,
        from priced
        left join medians using (venue, market, day)
        left join clocks using (venue, market, day)
        left join away using (venue, market, day)
        group by all
    """,
    offenders=f"""
        (
            {_COMPARED}

            select
                unnest(['prices_are_near_the_index', 'hours_are_near_the_index']) as claim,
                venue,
                market,
                day,
                strftime(hour, '%H:00') as place,
                'median ' || median_bps || ' bps' as found,
                'at most {_LIMIT_BPS} bps' as expected,
            from hours
            where abs(median_bps) > {_LIMIT_BPS}
        )
        union all
        (
            {_COMPARED},

            {_CLOCKS}

            select
                'clocks_agree',
                venue,
                market,
                day,
                'whole day',
                'moves differ by ' || round(distance, 2) || ' bps from those at the same time',
                'by ' || round(best_distance, 2) || ' bps from those ' || abs(best_shift)
                    || if(best_shift < 0, ' min before', ' min after'),
            from clocks
            where 100 * distance > {_CLOCK_PERCENT} * best_distance
        )
    """,
)

_INDEX = f"""
    with index_price as (
        select *, opened_at::date as day, date_trunc('hour', opened_at) as hour
        from markets.index_prices_1m
        where opened_at >= $from_day and opened_at < $to_day + 1
    ),

    off_peg as (
        select
            asset,
            day,
            hour,
            round(quantile_disc(price_usd, 0.5), 6) as price,
        from index_price
        where asset in {PEGGED}
        group by all
        having abs(price - 1) * 10000 > {_PEG_LIMIT_BPS}
    ),

    witnessed as (
        select
            witness.venue,
            witness.market,
            base.asset,
            base.day,
            base.hour,
            -- Both are averages of a minute, one by volume and one of four prices.
            (
                (witness.open + witness.high + witness.low + witness.close) * 0.25
                    * if(witness.quote = 'USD', 1, quote.price_usd::double) / base.price_usd - 1
            ) * 10000 as bps,
        from (
            select
                *, split_part(market, '-', 1) as base, split_part(market, '-', 2) as quote
            from staging.stg_ccxt__candles
            where opened_at >= $from_day and opened_at < $to_day + 1 and volume > 0
        ) as witness
        join index_price as base on witness.base = base.asset
            and witness.opened_at = base.opened_at
        left join index_price as quote on witness.quote = quote.asset
            and witness.opened_at = quote.opened_at
        where witness.quote = 'USD' or quote.price_usd is not null
    ),

    witness_hours as (
        select venue, market, asset, day, hour, round(median(bps), 2) as median_bps
        from witnessed
        group by all
        having count(*) >= {_HOUR_MINUTES}
    )
"""

_INDEX_IS_PLAUSIBLE = Suite(
    name="index_is_plausible",
    asset="markets/index_prices_1m",
    also_reads=("staging/stg_ccxt__candles",),
    description=(
        "Stablecoins are at their peg, and exchanges that take no part in the index agree with it. "
        "Neither proves a number wrong, so both only warn."
    ),
    claims=(
        as_warning(
            is_zero(
                "hours_off_peg",
                "currencies_are_at_their_peg",
                f"no hour has a median price of {' or '.join(PEGGED)} more than {_PEG_LIMIT_BPS} "
                "bps away from a dollar",
            )
        ),
        as_warning(
            is_zero(
                "hours_contradicted",
                "witnesses_agree",
                f"no hour of an exchange of `raw/ccxt_candles` is more than {_LIMIT_BPS} bps away",
            )
        ),
    ),
    metrics=f"""
        {_INDEX},

        pegs as (
            select asset, day, count(*) as hours from off_peg group by all
        ),

        contradictions as (
            select asset, day, count(*) as hours
            from witness_hours
            where abs(median_bps) > {_LIMIT_BPS}
            group by all
        )

        select
            'index' as venue,
            asset || '-USD' as market,
            day,
            coalesce(any_value(pegs.hours), 0) as hours_off_peg,
            coalesce(any_value(contradictions.hours), 0) as hours_contradicted,
        from index_price
        left join pegs using (asset, day)
        left join contradictions using (asset, day)
        group by all
    """,
    offenders=f"""
        (
            {_INDEX}

            select
                'currencies_are_at_their_peg' as claim,
                'index' as venue,
                asset || '-USD' as market,
                day,
                strftime(hour, '%H:00') as place,
                'median ' || price || ' USD' as found,
                '1 USD' as expected,
            from off_peg
        )
        union all
        (
            {_INDEX}

            select
                'witnesses_agree',
                'index',
                asset || '-USD',
                day,
                strftime(hour, '%H:00') || ' ' || venue || ' ' || market,
                'median ' || median_bps || ' bps',
                'at most {_LIMIT_BPS} bps',
            from witness_hours
            where abs(median_bps) > {_LIMIT_BPS}
        )
    """,
)

SUITES = (_VENUES_AGREE, _INDEX_IS_PLAUSIBLE)
