{{ candles_from_candles(ref('ohlcv_5m'), '15 minutes') }}
