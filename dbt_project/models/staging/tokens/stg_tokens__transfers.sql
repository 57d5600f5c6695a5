with

source as (

    select * from {{ source('raw', 'chain_logs') }}
    where topic0 = {{ topic0('erc20_transfer') }}

),

stablecoins as (

    select chain, address, symbol, decimals
    from {{ source('raw', 'trusted_tokens') }}
    where role = 'stablecoin'

),

renamed as (

    select
        chain,
        source."range" as block_range,
        source.block_number,
        source.block_timestamp as block_time,
        source.transaction_index,
        source.log_index,
        {{ to_hex('source.transaction_hash') }} as transaction_hash,
        {{ to_hex('address') }} as token_address,
        stablecoins.symbol,
        stablecoins.decimals,
        {{ word_to_address(topic_word('source.topic1')) }} as sender,
        {{ word_to_address(topic_word('source.topic2')) }} as recipient,
        {{ word_to_amount(word('source.data', 0)) }} as amount_raw,
        {{ word_overflow(word('source.data', 0)) }} as amount_overflow,
    from source
    join stablecoins using (chain, address)

)

select * from renamed
