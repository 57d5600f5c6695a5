{#- Prices in USD, the index over them, and which of them are in it: one row per candle.

    candles: relation with venue, market, asset, quote, opened_at, price, volume.
    currencies: relation with asset, opened_at, price_usd, by which quotes other than USD are
    converted; a quote that is not there, or not within conversion_max_minutes, leaves NULLs.
    peg_usd: what the asset is meant to be worth, if anything.

    The method is in docs/index.md. Each step is DECIMAL and rounded once, in its last digit. -#}
{% macro usd_prices(candles, currencies, peg_usd=none) -%}
    with

    converted as (

        select
            candle.*,
            case
                when candle.quote = 'USD' then 1::decimal(28, 12)
                when {{ is_young('candle.opened_at', 'currency.opened_at') }} then currency.price_usd
            end as conversion_price_usd,
            case when conversion_price_usd is not null then currency.opened_at end
                as conversion_priced_at,
            (candle.price * conversion_price_usd)::decimal(28, 12) as price_usd,
        from {{ candles }} as candle
        asof left join {{ currencies }} as currency
            on candle.quote = currency.asset
            and candle.opened_at >= currency.opened_at

    ),

    -- One vote per venue, that of its most traded market: a thin one cannot bend it.
    votes as (

        select
            asset,
            opened_at,
            venue,
            arg_max(price_usd, (volume, market)) as price_usd,
        from converted
        where price_usd is not null
        group by all

    ),
    {%- if peg_usd is not none %}

    -- What is carried as a conversion price is carried as a vote too: otherwise a venue that is
    -- wrong decides alone in each minute in which no other traded.
    voters as (

        select asset, opened_at, venue
        from (select distinct asset, opened_at from votes)
        join (select distinct asset, venue from votes) using (asset)

    ),

    carried_votes as (

        select voters.asset, voters.opened_at, voters.venue, votes.price_usd
        from voters
        asof join votes
            on voters.asset = votes.asset
            and voters.venue = votes.venue
            and voters.opened_at >= votes.opened_at
        where {{ is_young('voters.opened_at', 'votes.opened_at') }}

    ),
    {%- endif %}

    ballots as (

        select
            asset,
            opened_at,
            list_sort(list(price_usd)) as prices,
            -- The middle one, or half way between the two in the middle.
            ((prices[(len(prices) + 1) // 2] + prices[len(prices) // 2 + 1]) * 0.5)
                ::decimal(28, 12) as median_price,
        from {{ 'votes' if peg_usd is none else 'carried_votes' }}
        group by all

    ),

    decided as (

        select
            asset,
            opened_at,
            {%- if peg_usd is none %}
            median_price as reference_price_usd,
            {%- else %}
            -- Two venues that contradict each other: if one of them is at the peg, it decides.
            case
                when len(prices) != 2 or {{ is_near('prices[1]', 'median_price') }}
                    then median_price
                when {{ is_near('prices[1]', peg_usd) }} then prices[1]
                when {{ is_near('prices[2]', peg_usd) }} then prices[2]
                else median_price
            end as reference_price_usd,
            {%- endif %}
            len(list_filter(prices, lambda price: {{ is_near('price', 'reference_price_usd') }})) = 0
                as is_contested,
        from ballots

    ),

    judged as (

        select
            converted.*,
            reference_price_usd,
            is_contested,
            coalesce(
                {{ is_near('price_usd', 'reference_price_usd') }}
                or is_contested and price_usd is not null,
                false
            ) as is_in_index,
        from converted
        left join decided using (asset, opened_at)

    ),

    sums as (

        select
            asset,
            opened_at,
            sum(price_usd::decimal(38, 12) * volume) as turnover_usd,
            sum(volume) as volume,
        from judged
        where is_in_index
        group by all

    ),

    indexed as (

        select
            asset,
            opened_at,
            {{ decimal_divide('turnover_usd', 'volume', scale=24) }} as index_price_usd,
        from sums

    )

    select judged.*, index_price_usd
    from judged
    left join indexed using (asset, opened_at)
{%- endmacro %}

{#- Whether a price is at most index_tolerance_bps away from another. -#}
{% macro is_near(price, reference) -%}
    abs({{ price }} - {{ reference }}) * 10000 <= {{ var('index_tolerance_bps') }} * {{ reference }}
{%- endmacro %}

{#- Whether a price may still stand for its currency: at most conversion_max_minutes later. -#}
{% macro is_young(now, priced_at) -%}
    {{ now }} <= {{ priced_at }} + interval '{{ var('conversion_max_minutes') }} minutes'
{%- endmacro %}
