with

supplies as (

    select * from {{ ref('stg_aave__supplies') }}
    where {{ in_range() }}

),

withdrawals as (

    select * from {{ ref('stg_aave__withdrawals') }}
    where {{ in_range() }}

),

repayments as (

    select * from {{ ref('stg_aave__repayments') }}
    where {{ in_range() }} and uses_atokens

),

liquidations as (

    select * from {{ ref('stg_aave__liquidations') }}
    where {{ in_range() }}

),

listed_tokens as (

    {{ listed_tokens() }}

),

known_tokens as (

    {{ known_tokens() }}

),

legs as (

    select
        {{ lending_event_columns() }}
        'deposit' as transaction_type,
        reserve_address as token_address,
        user_address as depositor,
        on_behalf_of,
        null as withdrawn_to,
        null as liquidator,
        amount_raw,
        amount_overflow,
    from supplies

    union all

    select
        {{ lending_event_columns() }}
        'withdraw' as transaction_type,
        reserve_address as token_address,
        user_address as depositor,
        null as on_behalf_of,
        recipient as withdrawn_to,
        null as liquidator,
        -amount_raw as amount_raw,
        amount_overflow,
    from withdrawals

    union all

    -- The debt is repaid out of the repayer's own deposit.
    select
        {{ lending_event_columns() }}
        'repay_with_atokens' as transaction_type,
        reserve_address as token_address,
        repayer as depositor,
        null as on_behalf_of,
        repayer as withdrawn_to,
        null as liquidator,
        -amount_raw as amount_raw,
        amount_overflow,
    from repayments

    union all

    select
        {{ lending_event_columns() }}
        'deposit_liquidation' as transaction_type,
        collateral_address as token_address,
        user_address as depositor,
        null as on_behalf_of,
        liquidator as withdrawn_to,
        liquidator,
        -liquidated_collateral_raw as amount_raw,
        liquidated_collateral_overflow as amount_overflow,
    from liquidations

    union all

    -- As aTokens the collateral stays in the pool: it is the liquidator's from here on.
    select
        {{ lending_event_columns() }}
        'liquidation_proceeds' as transaction_type,
        collateral_address as token_address,
        liquidator as depositor,
        null as on_behalf_of,
        null as withdrawn_to,
        liquidator,
        liquidated_collateral_raw as amount_raw,
        liquidated_collateral_overflow as amount_overflow,
    from liquidations
    where receives_atokens

),

final as (

    select
        legs.chain,
        legs.block_range,
        legs.block_number,
        legs.block_time,
        legs.transaction_index,
        legs.log_index,
        legs.transaction_hash,
        legs.project,
        legs.version,
        legs.contract_address,
        legs.transaction_type,
        legs.token_address,
        coalesce(listed_tokens.symbol, known_tokens.symbol) as symbol,
        coalesce(listed_tokens.decimals, known_tokens.decimals)::integer as decimals,
        legs.depositor,
        legs.on_behalf_of,
        legs.withdrawn_to,
        legs.liquidator,
        legs.amount_raw::decimal(38, 0) as amount_raw,
        legs.amount_overflow,
        {{ to_units('legs.amount_raw', 'coalesce(listed_tokens.decimals, known_tokens.decimals)') }}
            as amount,
    from legs
    left join listed_tokens using (chain, token_address)
    left join known_tokens using (chain, block_range, token_address)

)

select * from final
order by chain, block_number, log_index, transaction_type
