{{ candles_from_candles(ref('ohlcv_15m'), '1 hour') }}
