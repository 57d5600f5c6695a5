with

borrows as (

    select * from {{ ref('stg_aave__borrows') }}
    where {{ in_range() }}

),

repayments as (

    select * from {{ ref('stg_aave__repayments') }}
    where {{ in_range() }}

),

liquidations as (

    select * from {{ ref('stg_aave__liquidations') }}
    where {{ in_range() }}

),

deficits as (

    select * from {{ ref('stg_aave__deficits') }}
    where {{ in_range() }}

),

listed_tokens as (

    {{ listed_tokens() }}

),

known_tokens as (

    {{ known_tokens() }}

),

legs as (

    -- A flash loan that is not paid back but kept as debt is a Borrow like any other.
    select
        {{ lending_event_columns() }}
        'borrow' as transaction_type,
        case interest_rate_mode when 1 then 'stable' when 2 then 'variable' end as loan_type,
        reserve_address as token_address,
        user_address as borrower,
        on_behalf_of,
        null as repayer,
        null as liquidator,
        amount_raw,
        amount_overflow,
    from borrows

    union all

    select
        {{ lending_event_columns() }}
        'repay' as transaction_type,
        null as loan_type,
        reserve_address as token_address,
        user_address as borrower,
        null as on_behalf_of,
        repayer,
        null as liquidator,
        -amount_raw as amount_raw,
        amount_overflow,
    from repayments

    union all

    select
        {{ lending_event_columns() }}
        'borrow_liquidation' as transaction_type,
        null as loan_type,
        debt_address as token_address,
        user_address as borrower,
        null as on_behalf_of,
        liquidator as repayer,
        liquidator,
        -debt_to_cover_raw as amount_raw,
        debt_to_cover_overflow as amount_overflow,
    from liquidations

    union all

    -- Debt that no collateral is left for: it is burnt, and nobody repays it.
    select
        {{ lending_event_columns() }}
        'deficit' as transaction_type,
        null as loan_type,
        debt_address as token_address,
        user_address as borrower,
        null as on_behalf_of,
        null as repayer,
        null as liquidator,
        -amount_raw as amount_raw,
        amount_overflow,
    from deficits

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
        legs.loan_type,
        legs.token_address,
        coalesce(listed_tokens.symbol, known_tokens.symbol) as symbol,
        coalesce(listed_tokens.decimals, known_tokens.decimals)::integer as decimals,
        legs.borrower,
        legs.on_behalf_of,
        legs.repayer,
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
