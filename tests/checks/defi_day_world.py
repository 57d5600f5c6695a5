"""Two covered days of a chain's DeFi marts, and the days before them, as tables.

Swaps follow the index, candles and prices are made of them, and values of reserves are carried: all
agree until a test breaks one.
"""

from __future__ import annotations

from crypto_assets.checks import defi_events as events

from .defi_world import AAVE, DAI, FAKE, MANAGER, SCAM, USDC, V2, V3, V4, WETH

BROKEN_DAY = "2024-03-02"
_WORD = "from_hex(repeat('00', 32))"
_TOPICS = " ".join(f"when '{name}' then {topic}" for name, topic in events.SWAPS.items())
_RAY = "decimal(38, 27)"

_CATALOGUE = f"""
    create schema raw;
    create schema intermediate;
    create schema network;
    create schema markets;
    create schema defi;

    create table raw.trusted_tokens as
    select
        'ethereum' as chain, from_hex(token[3:]) as address, symbol, decimals, role, asset,
    from (values
        ('{WETH}', 'WETH', 18, 'wrapped_native', 'ETH'),
        ('{USDC}', 'USDC', 6, 'stablecoin', 'USDC'),
        ('{DAI}', 'DAI', 18, 'stablecoin', null)
    ) as t(token, symbol, decimals, role, asset);

    create table raw.deployments as
    select
        'ethereum' as chain, 'aave_v3' as protocol, 'aave' as project, '3' as version,
        from_hex('{AAVE}'[3:]) as address;

    create table raw.covered_days as
    select
        'ethereum' as chain, date '2024-03-02' + n::int as day, 1440 * (n + 1) - 30 as first_block,
    from range(2) as r(n);

    -- What is judged are two days; covered were more before them.
    create table network.blocks_daily as
    select 'ethereum' as chain, date '2024-02-22' + n::int as day, 1000 as log_count,
    from range(11) as r(n);

    create table minutes as
    select
        timestamp '2024-03-01' + to_minutes(n) as opened_at,
        n as number,
        (3000 + n % 60)::decimal(28, 12) as eth,
    from range(4320) as r(n);

    create table raw.published_index_prices_1m as
    select asset, opened_at, if(asset = 'ETH', eth, 1) as price_usd, false as is_contested,
    from minutes, (values ('ETH'), ('USDC')) as a(asset)
    -- Now and then nobody trades.
    where number % 100 <> 7;
"""

_SWAPS = f"""
    create table swaps as
    -- A trade a minute for 1000 USDC, each way in turn, at the index less a fee of 5 bps.
    select
        number, opened_at as block_time, 0 as log_index, '{V3}' as pool, 'uniswap_v3' as protocol,
        '3' as version, 500 as fee_pips, number % 2 = 0 as buys, 1000 as usdc,
        1000 / eth * if(buys, 0.9995, 1.0005) as weth,
    from minutes
    union all
    select
        number, opened_at, 1, '{V2}', 'uniswap_v2', '2', 3000, true, 20, 20 / eth * 0.997,
    from minutes
    where number % 60 = 30
    union all
    select number, opened_at, 2, '{V4}', 'uniswap_v4', '4', 500, true, 0, 0
    from minutes
    where number % 60 = 40
    union all
    select number, opened_at, 3, '{FAKE}', 'uniswap_v2', '2', 3000, true, 5000, 1
    from minutes
    where number % 60 = 50;

    create table intermediate.int_dex_swaps as
    select
        'ethereum' as chain, 'range' as block_range, number as block_number, block_time, log_index,
        pool,
        if(pool = '{V4}', '{MANAGER}', pool) as contract_address, protocol,
        'uniswap' as project, version, pool <> '{FAKE}' as is_genuine, usdc = 0 as is_empty,
        '{USDC}' as token0_address, '{WETH}' as token1_address, 'USDC' as token0_symbol,
        'WETH' as token1_symbol, 6 as token0_decimals, 18 as token1_decimals,
        if(buys, usdc * 1e6, 0)::decimal(38, 0) as amount0_in_raw,
        if(buys, 0, usdc * 1e6)::decimal(38, 0) as amount0_out_raw,
        if(buys, 0, weth * 1e18)::decimal(38, 0) as amount1_in_raw,
        if(buys, weth * 1e18, 0)::decimal(38, 0) as amount1_out_raw,
        if(buys, '{WETH}', '{USDC}') as token_bought_address,
        if(buys, '{USDC}', '{WETH}') as token_sold_address,
        if(buys, weth, usdc)::decimal(38, 18) as token_bought_amount,
        if(buys, usdc, weth)::decimal(38, 18) as token_sold_amount,
        fee_pips,
    from swaps
    where number >= 1440;

    create table intermediate.int_dex_pools as
    select distinct
        chain, block_range, contract_address, pool, '0x' || repeat('0', 40) as hooks_address,
    from intermediate.int_dex_swaps;

    create table raw.chain_logs as
    select
        chain, block_time as block_timestamp, case protocol {_TOPICS} end as topic0,
        {_WORD} as topic1, {_WORD} as topic2, null::blob as topic3,
        from_hex(repeat('00', 192)) as data,
    from intermediate.int_dex_swaps;
"""

_POOLS = f"""
    create table trades as
    select *, (usdc / weth)::decimal(38, 18) as price
    from swaps
    where pool in ('{V2}', '{V3}');

    create table defi.dex_trades as
    select
        chain as blockchain, block_time, block_number, log_index as evt_index, pool,
        token_bought_address, token_sold_address, token_bought_amount, token_sold_amount,
        if(token_bought_address = '{USDC}', token_bought_amount, token_sold_amount)
            ::decimal(38, 12) as amount_usd,
        'venue_index' as amount_usd_source,
    from intermediate.int_dex_swaps
    where is_genuine and not is_empty;

    create table defi.dex_ohlcv_1h as
    select
        'ethereum' as chain, pool, pool as contract_address,
        date_trunc('hour', block_time) as opened_at, arg_min(price, number) as open,
        max(price) as high, min(price) as low, arg_max(price, number) as close,
        count(*) as swap_count, 0::bigint as unpriced_swap_count,
        '{WETH}' as base_token_address, '{USDC}' as quote_token_address,
    from trades
    where number >= 1440
    group by all;

    create table defi.dex_pools_daily as
    select
        'ethereum' as chain, pool, pool as contract_address, 'uniswap' as project, version,
        block_time::date as day, '{WETH}' as base_token_address, '{USDC}' as quote_token_address,
        arg_min(price, number) as open, max(price) as high, min(price) as low,
        arg_max(price, number) as close, count(*) as swap_count,
        sum(usdc)::decimal(38, 18) as volume_quote, sum(usdc)::decimal(38, 12) as volume_usd,
        if(version = '2', 5e4, null)::decimal(38, 18) as reserve0_at_close,
        if(version = '2', 20, null)::decimal(38, 18) as reserve1_at_close,
    from trades
    group by all;

    -- Days before, alike.
    insert into defi.dex_pools_daily
    select * exclude (n) replace (day - n::int as day)
    from defi.dex_pools_daily, range(1, 9) as r(n)
    where day = date '2024-03-01';
"""

_PRICES = f"""
    create table defi.token_prices_1m as
    select
        'ethereum' as chain, token_address, symbol, minute.opened_at,
        index_price.price_usd, 'venue_index' as source, asset as source_detail,
        index_price.opened_at as priced_at, null::varchar as unpriced_reason,
    from (from minutes where number >= 1440) as minute
    cross join (values ('{WETH}', 'WETH', 'ETH'), ('{USDC}', 'USDC', 'USDC'))
        as t(token_address, symbol, wanted)
    asof join raw.published_index_prices_1m as index_price
        on index_price.asset = wanted and minute.opened_at >= index_price.opened_at
    union all
    -- A pool prices DAI every two hours, for one.
    select
        'ethereum', '{DAI}', 'DAI', opened_at, if(number % 120 <= 60, 0.9995, null),
        if(number % 120 <= 60, 'dex_pool', null), if(number % 120 <= 60, '{V2}', null),
        if(number % 120 <= 60, opened_at - to_minutes(number % 120), null),
        if(number % 120 <= 60, null, 'no_pool_price'),
    from minutes
    where number >= 1440
    union all
    select
        'ethereum', '{SCAM}', 'SCAM', opened_at, 0.5, 'dex_pool', '{V2}', opened_at, null,
    from minutes
    where number >= 1440 and number % 10 = 0;

    alter table defi.token_prices_1m add column age_minutes bigint;
    update defi.token_prices_1m set age_minutes = date_diff('minute', priced_at, opened_at);
"""

_LENDING = f"""
    create table intermediate.int_lending_reserve_updates as
    select
        'ethereum' as chain, number as block_number, opened_at as block_time,
        '{AAVE}' as contract_address, '{USDC}' as token_address,
    from minutes
    where number % 180 = 20 or number % 180 = 21;

    create table defi.lending_reserves_hourly as
    select
        'ethereum' as chain, 'aave' as project, '3' as version,
        '{AAVE}' as project_contract_address, '{USDC}' as reserve, 'USDC' as symbol, hour,
        0.03::{_RAY} as liquidity_rate, 0::{_RAY} as stable_borrow_rate,
        0.05::{_RAY} as variable_borrow_rate,
        (1 + last_updated_block * 0.000001)::{_RAY} as liquidity_index,
        (1 + last_updated_block * 0.000002)::{_RAY} as variable_borrow_index,
        timestamp '2024-03-01' + to_minutes(last_updated_block) as last_updated_at,
        last_updated_block, if(nth % 3 = 0, 2, 0) as update_count, nth % 3 <> 0 as is_filled,
    from (
        select
            nth, timestamp '2024-03-01' + to_hours(nth::int) as hour,
            nth // 3 * 180 + 21 as last_updated_block,
        from range(72) as r(nth)
    );
"""

_STABLECOINS = f"""
    create table intermediate.int_stablecoin_changes as
    select
        'ethereum' as chain, number as block_number, opened_at as block_time,
        '{USDC}' as token_address, kind, event, count as event_count,
        amount::decimal(38, 0) as amount_raw,
    from minutes, (values
        ('mint', 'transfer', 1, 7), ('burn', 'transfer', 1, 3), ('burn', 'redeem', 1, 1),
        ('transfer', 'transfer', 3, 900)
    ) as k(kind, event, count, amount)
    where number % 600 = 0;

    create table defi.stablecoin_flows_daily as
    select
        'ethereum' as chain, token_address, symbol, date '2024-03-01' + nth::int as day,
        (7 * events)::decimal(38, 0) as minted_raw, (4 * events)::decimal(38, 0) as burned_raw,
        (3 * events)::decimal(38, 0) as net_issuance_raw,
        events as mint_count, 2 * events as burn_count, 3 * events as transfer_count,
        1000::decimal(38, 0) as supply_raw,
        if(symbol = 'USDC', 3 * events, null)::decimal(38, 0) as supply_change_raw,
    from range(3) as r(nth)
    cross join (values ('{USDC}', 'USDC'), ('{DAI}', 'DAI')) as t(token_address, symbol)
    cross join lateral (
        select count(*) as events
        from minutes
        where number % 600 = 0 and number // 1440 = nth and symbol = 'USDC'
    );
"""

DAY_WORLD = "".join((_CATALOGUE, _SWAPS, _POOLS, _PRICES, _LENDING, _STABLECOINS))
