{{ candles_from_candles(ref('ohlcv_1h'), '4 hours') }}
