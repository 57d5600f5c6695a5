"""Two ranges of a chain with swaps of three protocols, a lending pool and stablecoins, as tables.

Rows are written first and logs are made of them, so both agree until a test breaks one.
"""

from __future__ import annotations

from typing import Final

from sources.chain_node import CHAIN

from crypto_assets.catalog import BlockRange
from crypto_assets.checks import defi_events as events

RANGES: Final = [BlockRange(0, 999), BlockRange(1000, 1999)]
BROKEN: Final = RANGES[1]
# The first block of the range that tests break.
A_BLOCK: Final = 1000


def address(name: str) -> str:
    """An address as the marts have it: it begins with the name's bytes."""
    return "0x" + name.encode().hex().ljust(40, "0")


WETH, USDC, SCAM, DAI = (address(name) for name in ("WETH", "USDC", "SCAM", "DAI"))
V2, V3, FAKE, MANAGER, AAVE = (address(name) for name in ("v2", "v3", "fake", "manager", "aave"))
V4, LOST = "0x" + "44" * 32, "0x" + "55" * 32

_WORD = "from_hex(repeat('00', 32))"
_TOPICS = " ".join(f"when '{name}' then {topic}" for name, topic in events.SWAPS.items())

RANGE_WORLD = f"""
    create schema raw;
    create schema intermediate;

    create table raw.deployments as
    select '{CHAIN.name}' as chain, name, name as protocol, from_hex(contract[3:]) as address,
    from (values ('uniswap_v4', '{MANAGER}'), ('aave_v3', '{AAVE}')) as d(name, contract);

    create table raw.trusted_tokens as
    select
        '{CHAIN.name}' as chain, from_hex(token[3:]) as address, symbol, decimals, role, asset,
    from (values
        ('{WETH}', 'WETH', 18, 'wrapped_native', 'ETH'),
        ('{USDC}', 'USDC', 6, 'stablecoin', 'USDC'),
        ('{DAI}', 'DAI', 18, 'stablecoin', null)
    ) as t(token, symbol, decimals, role, asset);

    create table blocks as
    select
        n as number,
        printf('%09d-%09d', n // 1000 * 1000, n // 1000 * 1000 + 999) as block_range,
    from (from range(10) union all from range({A_BLOCK}, {A_BLOCK} + 10)) as r(n);

    create table intermediate.int_dex_pools as
    select distinct '{CHAIN.name}' as chain, block_range, min(number) as block_number, p.*,
    from blocks, (values
        ('{V2}', 'uniswap_v2', '{V2}', '{USDC}', '{WETH}', 'create2', true),
        ('{V3}', 'uniswap_v3', '{V3}', '{USDC}', '{WETH}', 'factory_event', true),
        ('{V4}', 'uniswap_v4', '{MANAGER}', '{USDC}', '{WETH}', 'pool_key', true),
        ('{FAKE}', 'uniswap_v2', '{FAKE}', '{SCAM}', '{WETH}', 'imitation', false),
        ('{LOST}', 'uniswap_v4', '{MANAGER}', null, null, 'unknown', false)
    ) as p(pool, protocol, contract_address, token0_address, token1_address, origin, is_genuine)
    group by all;

    -- Six swaps a block, of which hooks made one; in one block an imitation and a lost pool too.
    create table intermediate.int_dex_swaps as
    select
        '{CHAIN.name}' as chain, block_range, number as block_number, nth as log_index,
        '0x' || md5(number || '-' || nth) as transaction_hash,
        pool, contract_address, protocol, is_genuine, token0_address, token1_address,
        amount0_in::decimal(38, 0) as amount0_in_raw,
        amount1_in::decimal(38, 0) as amount1_in_raw,
        amount0_out::decimal(38, 0) as amount0_out_raw,
        amount1_out::decimal(38, 0) as amount1_out_raw,
        null::varchar as amount_overflow,
        amount0_in + amount1_in + amount0_out + amount1_out = 0 as is_empty,
        case when not is_genuine or is_empty then null when amount0_out > 0 then token0_address
            else token1_address end as token_bought_address,
        case when not is_genuine or is_empty then null when amount0_in > 0 then token0_address
            else token1_address end as token_sold_address,
        if(amount0_out > 0, amount0_out_raw, amount1_out_raw) as token_bought_amount_raw,
        if(amount0_in > 0, amount0_in_raw, amount1_in_raw) as token_sold_amount_raw,
    from blocks
    join (values
        (0, '{V2}', 2000, 0, 0, 1), (1, '{V2}', 0, 1, 1990, 0), (2, '{V3}', 2000, 0, 0, 1),
        (3, '{V3}', 0, 1, 1990, 0), (4, '{V4}', 2000, 0, 0, 1), (5, '{V4}', 0, 0, 0, 0),
        (7, '{FAKE}', 5, 0, 0, 5), (8, '{LOST}', 5, 0, 0, 5)
    ) as s(nth, pool, amount0_in, amount1_in, amount0_out, amount1_out)
        on nth < 6 or number % 1000 = 3
    join intermediate.int_dex_pools using (block_range, pool);

    create table raw.chain_logs as
    select
        chain, block_range as "range", block_number, log_index,
        from_hex(contract_address[3:]) as address,
        case protocol {_TOPICS} end as topic0, {_WORD} as topic1, {_WORD} as topic2,
        null::blob as topic3, from_hex(repeat('00', 192)) as data,
    from intermediate.int_dex_swaps
    union all
    -- Others call their events Swap too, and index or leave out other arguments.
    select '{CHAIN.name}', block_range, number, 9 + len(topics), from_hex('{SCAM}'[3:]),
        {events.SWAPS["uniswap_v2"]}, topics[1], topics[2], topics[3], data,
    from blocks, (values
        ([{_WORD}], from_hex(repeat('00', 128))),
        ([{_WORD}, {_WORD}], from_hex(repeat('00', 127))),
        ([{_WORD}, {_WORD}, {_WORD}], from_hex(repeat('00', 128)))
    ) as s(topics, data);
"""

# Rows of lending: block, log, event, and what it means to supply and to debt.
_EVENTS = (
    (10, events.SUPPLY, 0, [("supply", "deposit", 500)]),
    (11, events.WITHDRAW, 0, [("supply", "withdraw", -400)]),
    (12, events.BORROW, 0, [("borrow", "borrow", 300)]),
    (13, events.REPAY, 0, [("borrow", "repay", -200)]),
    (14, events.REPAY, 1, [("borrow", "repay", -70), ("supply", "repay_with_atokens", -70)]),
    (15, events.LIQUIDATION, 0,
     [("borrow", "borrow_liquidation", -50), ("supply", "deposit_liquidation", -60)]),
    (16, events.LIQUIDATION, 1,
     [("borrow", "borrow_liquidation", -50), ("supply", "deposit_liquidation", -60),
      ("supply", "liquidation_proceeds", 60)]),
    (17, events.DEFICIT, 0, [("borrow", "deficit", -5)]),
)  # fmt: skip


def _rows(table: str) -> str:
    return ", ".join(
        f"({index}, '{kind}', {amount})"
        for index, _, _, legs in _EVENTS
        for side, kind, amount in legs
        if side == table
    )


def _lending(table: str, account: str) -> str:
    return f"""
        create table intermediate.int_lending_{table} as
        select
            '{CHAIN.name}' as chain, block_range, number as block_number, log_index,
            '{AAVE}' as contract_address, kind as transaction_type, '{USDC}' as token_address,
            '{SCAM}' as {account}, amount::decimal(38, 0) as amount_raw,
            null::varchar as amount_overflow,
        from blocks, (values {_rows(table)}) as e(log_index, kind, amount);
    """


_LOGS = ", ".join(
    # The flag is the last word of both events that have one.
    f"({index}, {topic}, from_hex('{(flag).to_bytes(64 if topic == events.REPAY else 128).hex()}'))"
    for index, topic, flag, _ in _EVENTS
)

LENDING_WORLD = f"""
    {_lending("supply", "depositor")}
    {_lending("borrow", "borrower")}

    create table intermediate.int_lending_reserve_updates as
    select
        '{CHAIN.name}' as chain, block_range, number as block_number, 18 as log_index,
        '{AAVE}' as contract_address, '{USDC}' as token_address,
        (0.03 * 1e27)::decimal(38, 0) as liquidity_rate_ray,
        0::decimal(38, 0) as stable_borrow_rate_ray,
        (0.05 * 1e27)::decimal(38, 0) as variable_borrow_rate_ray,
        (1e27 + number * 1e20)::decimal(38, 0) as liquidity_index_ray,
        (1e27 + number * 2e20)::decimal(38, 0) as variable_borrow_index_ray,
        null::varchar as overflow,
    from blocks;

    insert into raw.chain_logs
    select
        '{CHAIN.name}', block_range, number, log_index, from_hex(contract[3:]), topic0,
        null, null, null, data,
    from blocks, (values {_LOGS}, (18, {events.RESERVE_UPDATE}, ''::blob)) as e(
        log_index, topic0, data
    ),
    -- Another market's events are not decoded.
    (values ('{AAVE}', 0), ('{SCAM}', 100)) as c(contract, later)
    where later = 0 or log_index < 12;
"""

STABLECOIN_WORLD = f"""
    create table intermediate.int_stablecoin_changes as
    select
        '{CHAIN.name}' as chain, block_range, number as block_number,
        '2024-03-02'::timestamp + to_hours(number::int % 24) as block_time, token as token_address,
        kind, event, count as event_count, 0::bigint as overflow_count,
        amount::decimal(38, 0) as amount_raw,
    from blocks, (values
        ('{USDC}', 'mint', 'transfer', 2, 700), ('{USDC}', 'burn', 'transfer', 1, 300),
        ('{USDC}', 'transfer', 'transfer', 3, 9000), ('{USDC}', 'burn', 'redeem', 1, 50)
    ) as e(token, kind, event, count, amount);

    create table intermediate.int_stablecoin_supplies as
    select
        '{CHAIN.name}' as chain, block_range, token as token_address, min(number) as block_number,
        case when block_range like '%999' and token = '{USDC}'
            then (1000000 + min(number))::decimal(38, 0) end as supply_before_raw,
        -- 350 a block; a node that has forgotten the state before answers only for the one after.
        case when token = '{USDC}' then (1000000 + min(number) + 350 * count(*))::decimal(38, 0)
            else 5 end as supply_after_raw,
    from blocks, (values ('{USDC}'), ('{DAI}')) as t(token)
    group by block_range, token;

    insert into raw.chain_logs
    select
        '{CHAIN.name}', block_range, number, 20 + nth, from_hex('{USDC}'[3:]), {events.TRANSFER},
        null, null, null, ''::blob,
    from blocks, range(6) as r(nth);
"""
