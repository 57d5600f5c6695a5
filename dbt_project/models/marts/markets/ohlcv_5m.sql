{{ candles_from_candles(ref('ohlcv_1m'), '5 minutes') }}
