with

candles as (

    {% for venue in var('venues') %}
    {{ candles_from_trades(ref('stg_' ~ venue ~ '__trades'), '1 minute') }}
    {{ 'union all' if not loop.last }}
    {% endfor %}

)

select * from candles
-- In order of time, so that row groups can be skipped by it.
order by opened_at, venue, market
