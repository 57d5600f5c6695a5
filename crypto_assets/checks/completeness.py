"""Suites over the trades of a venue whose ids seem to have no holes, but are not promised to."""

from __future__ import annotations

from crypto_assets.checks.suite import Suite, are_equal, as_warning, is_zero


def trades_are_complete(venue: str) -> Suite:
    """Whether `raw/<venue>_trades` holds what its proofs say, and every listed day has one."""
    trades = f"{venue}_trades"
    return Suite(
        name=f"{venue}_trades_are_complete",
        asset=f"raw/{trades}",
        description=(
            f"Every trade of {venue} is there, once: the file, its proof and its ids tell of the "
            "same trades."
        ),
        claims=(
            is_zero(
                "missing_proofs",
                "listed_days_are_proven",
                "a proof exists for each market that the catalogue lists on the day",
            ),
            are_equal(
                "rows_in_file",
                "rows_proven",
                "files_hold_the_proven_rows",
                "the file holds as many rows as its proof says",
            ),
            are_equal(
                "rows_in_file",
                "rows_at_source",
                "rows_equal_source",
                "the file holds as many rows as the source counted",
            ),
            are_equal(
                "ids_spanned",
                "ids_proven",
                "ids_are_the_proven_ones",
                "the file spans as many ids as its proof says",
            ),
            as_warning(
                are_equal(
                    "rows_in_file",
                    "ids_spanned",
                    "ids_leave_no_hole",
                    "last id - first id + 1 is the number of rows; the venue promises no such "
                    "thing, and its candles tell whether a trade is missing",
                )
            ),
        ),
        metrics=f"""
            with proof as (
                select *, try_cast(partition as date) as day
                from raw.proofs
                where dataset = '{trades}' and day between $from_day and $to_day
            ),

            market_day as (
                select market, day from market_days where venue = '{venue}'
                union
                select market, day from proof
            ),

            counted as (
                select
                    market,
                    date as day,
                    count(*) as row_count,
                    max(trade_id) - min(trade_id) + 1 as ids,
                from raw.{trades}
                where date between $from_day and $to_day
                group by all
            )

            select
                '{venue}' as venue,
                market,
                day,
                (proof.day is null)::bigint as missing_proofs,
                coalesce(counted.row_count, 0) as rows_in_file,
                coalesce(proof.row_count, 0) as rows_proven,
                coalesce(proof.source_row_count, 0) as rows_at_source,
                coalesce(counted.ids, 0) as ids_spanned,
                coalesce(proof.last_id - proof.first_id + 1, 0) as ids_proven,
            from market_day
            left join proof using (market, day)
            left join counted using (market, day)
        """,
        offenders=f"""
            select
                'ids_leave_no_hole' as claim,
                '{venue}' as venue,
                market,
                date as day,
                time::varchar as place,
                'id ' || trade_id || ' after ' || previous_id as found,
                'id ' || (previous_id + 1) as expected,
            from (
                select
                    *,
                    lag(trade_id) over (partition by market, date order by trade_id) as previous_id,
                from raw.{trades}
                where date between $from_day and $to_day
            )
            where trade_id <> previous_id + 1
        """,
    )
