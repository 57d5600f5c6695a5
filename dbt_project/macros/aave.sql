{#- The logs of one event that listed Aave V3 pools emitted: nobody else's logs are Aave's, whatever
    their topics say. event: a name of macro topic0. -#}
{% macro aave_v3_logs(event) -%}
    select
        logs.chain,
        logs."range" as block_range,
        logs.block_number,
        logs.block_timestamp as block_time,
        logs.transaction_index,
        logs.log_index,
        {{ to_hex('logs.transaction_hash') }} as transaction_hash,
        deployments.project,
        deployments.version,
        {{ to_hex('logs.address') }} as contract_address,
        logs.topic1,
        logs.topic2,
        logs.topic3,
        logs.data,
    from {{ source('raw', 'chain_logs') }} as logs
    join {{ source('raw', 'deployments') }} as deployments
        on logs.chain = deployments.chain and logs.address = deployments.address
    where logs.topic0 = {{ topic0(event) }} and deployments.protocol = 'aave_v3'
{%- endmacro %}

{#- A ray (an integer in units of 10^-27) as a number, exactly: DECIMAL(38,27). Any DECIMAL(38,0) fits. -#}
{% macro ray_to_decimal(ray) -%}
    ({{ ray }} * 0.000000000000000000000000001)::decimal(38, 27)
{%- endmacro %}
