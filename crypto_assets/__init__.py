"""Crypto market and chain data as Dagster assets; see README.md for the way of the data."""

__version__ = "0.1.0"
