{{ config(meta={'dagster': {'ref': {'name': 'blocks_daily'}}}) }}

-- Since the merge all blocks of a day are a whole number of slots apart; fails when the catalogue
-- gives a chain another slot_seconds than it has, so that its empty slots are counted wrong.
with

days as (

    select chain, first_block, last_block, first_block_at, slot_seconds
    from {{ ref('blocks_daily') }}
    join (select chain, day, slot_seconds from {{ source('raw', 'covered_days') }})
        using (chain, day)
    where empty_slot_count is not null and {{ in_window('day') }}

)

select days.chain, block_number, block_time, first_block_at, slot_seconds
from days
join {{ ref('stg_chain__blocks') }} as block
    on block.chain = days.chain and block.block_number between first_block and last_block
where epoch_us(block_time - first_block_at) % (slot_seconds * 1000000) != 0
