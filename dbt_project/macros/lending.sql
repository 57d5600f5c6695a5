{#- Which event it is and of which market: the columns that lending events, and their legs, begin
    with. -#}
{% macro lending_event_columns() -%}
    chain,
        block_range,
        block_number,
        block_time,
        transaction_index,
        log_index,
        transaction_hash,
        project,
        version,
        contract_address,
{%- endmacro %}

{#- What contracts say of their tokens, by range; the catalogue's word on those it lists counts more. -#}
{% macro known_tokens() -%}
    select
        chain,
        block_range,
        token_address,
        symbol,
        decimals,
    from {{ ref('int_tokens') }}
    where {{ in_range() }} and not is_trusted
{%- endmacro %}

{#- The tokens that the catalogue lists. -#}
{% macro listed_tokens() -%}
    select
        chain,
        {{ to_hex('address') }} as token_address,
        symbol,
        decimals,
        role,
        asset,
    from {{ source('raw', 'trusted_tokens') }}
{%- endmacro %}
