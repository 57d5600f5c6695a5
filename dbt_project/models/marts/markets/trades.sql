{{ config(materialized='view', event_time='traded_at') }}

{% for venue in var('venues') %}
select
    venue,
    market,
    traded_at,
    trade_id,
    price::decimal(28, 12) as price,
    size::decimal(28, 12) as size,
    quote_size::decimal(38, 20) as quote_size,
    taker_side,
    day,
from {{ ref('stg_' ~ venue ~ '__trades') }}
{{ 'union all' if not loop.last }}
{% endfor %}
