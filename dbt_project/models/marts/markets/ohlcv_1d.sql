{{ candles_from_candles(ref('ohlcv_4h'), '1 day') }}
